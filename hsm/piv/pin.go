package piv

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// Tries says how many wrong PINs in a row the card still takes; 0 is a locked PIN. No try is spent. It answers hsm.ErrUnsupported where the
// card does not say (the PIN was given already, for one).
func (c *Card) Tries() (int, error) {
	_, err := c.send(apdu{ins: 0x20, p2: 0x80})
	if n, says := left(err); says {
		return n, nil
	}
	if err == nil {
		err = hsm.ErrUnsupported
	}
	return 0, c.fail(err, "how many tries are left")
}

// left reads the tries left from an answer to a PIN (ISO/IEC 7816-4: 0x63Cn, and 0x6983 for none).
func left(err error) (n int, says bool) {
	var s status
	switch {
	case !errors.As(err, &s):
		return 0, false
	case s == 0x6983:
		return 0, true
	}
	return int(s & 0xf), s&0xfff0 == 0x63c0
}

// CheckPIN refuses what no PIV card takes as its PIN: 6 to 8 digits (SP 800-73-4, part 2, section 2.4.3).
func CheckPIN(pin []byte) error {
	for _, b := range pin {
		if b < '0' || b > '9' {
			return errors.New("a PIV card's PIN has digits only")
		}
	}
	if len(pin) < 6 || len(pin) > 8 {
		return errors.New("a PIV card's PIN has 6 to 8 digits")
	}
	return nil
}

// CheckPUK refuses what no PIV card takes as its PUK: 8 bytes. (The standard takes 6 to 8 on some cards; 8 is what all take.)
func CheckPUK(puk []byte) error {
	if len(puk) != 8 || bytes.IndexByte(puk, 0xff) >= 0 {
		return errors.New("a PIV card's PUK has 8 characters")
	}
	return nil
}

// filled fills a PIN up to 8 bytes.
func filled(pin []byte) []byte {
	return append(bytes.Clone(pin), bytes.Repeat([]byte{0xff}, max(0, 8-len(pin)))...)
}

// VerifyPIN gives the PIN, once.
func (c *Card) VerifyPIN(pin []byte) error {
	if err := CheckPIN(pin); err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	data := filled(pin)
	defer clear(data)
	_, err := c.send(apdu{ins: 0x20, p2: 0x80, data: data})
	return c.answered(err, "PIN")
}

// ChangePIN changes the PIN; the old one is tried once.
func (c *Card) ChangePIN(before, after []byte) error {
	return c.pair(0x24, 0x80, before, after, "PIN", errors.Join(lengthOf(before), CheckPIN(after)))
}

// ChangePUK changes the PUK; the old one is tried once.
func (c *Card) ChangePUK(before, after []byte) error {
	return c.pair(0x24, 0x81, before, after, "PUK", errors.Join(lengthOf(before), CheckPUK(after)))
}

// Unblock sets a new PIN with the PUK, which is tried once.
func (c *Card) Unblock(puk, pin []byte) error {
	return c.pair(0x2c, 0x80, puk, pin, "PUK", errors.Join(lengthOf(puk), CheckPIN(pin)))
}

func lengthOf(secret []byte) error {
	if len(secret) == 0 || len(secret) > 8 {
		return errors.New("a PIV card's PIN or PUK has at most 8 characters")
	}
	return nil
}

// pair sends two references, the first of which is tried once. Nothing is sent where bad says that one of them cannot be right.
func (c *Card) pair(ins, p2 byte, first, second []byte, tried string, bad error) error {
	if bad != nil {
		return advice.New(advice.Usage, "no try was spent; type it again", "%s: %w", c.name(), bad)
	}
	data := append(filled(first), filled(second)...)
	defer clear(data)
	_, err := c.send(apdu{ins: ins, p2: p2, data: data})
	return c.answered(err, tried)
}

// answered turns the answer to a PIN or PUK into an error that says how many tries are left.
func (c *Card) answered(err error, tried string) error {
	n, says := left(err)
	switch {
	case err == nil:
		return nil
	case says && n == 0 && tried == "PIN":
		return advice.New(advice.Refused, "unblock it with the PUK: `hanaper token unblock`", "%s: the PIN: %w", c.name(), hsm.ErrPINLocked)
	case says && n == 0:
		return advice.New(advice.Refused, "no PUK unlocks it any more: the card's maker may have a command that empties it, with all its keys", "%s: the PUK: %w", c.name(), hsm.ErrPINLocked)
	case says:
		return advice.New(advice.Failed, "it is not tried again by itself: think, look at the paper that came with the card, then run this again", "%s: the %s: %w: %s left", c.name(), tried, hsm.ErrPIN, TriesText(n))
	case errors.Is(err, status(0x6a80)):
		return advice.New(advice.Usage, "choose another", "%s: it does not take the new PIN or PUK, and counted no try: %w", c.name(), err)
	}
	return c.fail(err, tried)
}

// TriesText is a number of tries in words.
func TriesText(n int) string {
	if n == 1 {
		return "1 try is"
	}
	return fmt.Sprintf("%d tries are", n)
}
