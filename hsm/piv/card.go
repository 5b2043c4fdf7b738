package piv

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// ErrHeld: the card is not to be had.
var ErrHeld = errors.New("another program has held the card")

// ErrNoCard: the reader is empty.
var ErrNoCard = errors.New("no card is in the reader")

// Card is a PIV card in a reader. Nobody else uses the card until Close. It is for one goroutine.
type Card struct {
	reader string
	link   interface {
		transmit(command []byte) ([]byte, error)
		close()
	}
}

// Open selects the PIV application of the card in a reader. A PIN that was given before is still given.
//
// A card that was reset a moment ago, as pcscd does when a program was killed while it used the card, is tried again.
func Open(reader string) (*Card, error) {
	for again := openings; ; again-- {
		c, err := openOnce(reader)
		if again == 0 || !errors.Is(err, errReset) {
			return c, err
		}
		time.Sleep(openingPause)
	}
}

const openings, openingPause = 5, 300 * time.Millisecond

var errReset = errors.New("the card was reset, or has no power yet")

func openOnce(reader string) (*Card, error) {
	link, err := connect(reader)
	if err != nil {
		return nil, err
	}
	c := &Card{reader: reader, link: link}
	if _, err := c.send(apdu{ins: 0xa4, p1: 4, data: []byte{0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0}}); err != nil {
		c.Close()
		return nil, advice.New(advice.Failed, "is it a PIV card?", "%s: no PIV application: %w", c.name(), err)
	}
	return c, nil
}

// Close lets others use the card again. What was given, a PIN say, is taken back by the next program, or when the card is pulled.
func (c *Card) Close() { c.link.close() }

func (c *Card) name() string { return "the card in reader " + show.Text(c.reader) }

// apdu is a command (ISO/IEC 7816-4, section 5.1).
type apdu struct {
	ins, p1, p2 byte
	data        []byte
}

// status is an answer's last two bytes, where they are not 0x9000.
type status uint16

func (s status) Error() string {
	means := map[status]string{
		0x6700: "wrong length", 0x6982: "not authorised", 0x6983: "blocked", 0x6985: "not now", 0x6a80: "it does not take these data", 0x6a81: "it cannot do that",
		0x6a82: "no such object", 0x6a84: "it is full", 0x6a86: "it does not take these parameters", 0x6a88: "no such key", 0x6d00: "it does not know this command",
	}[s]
	if means == "" {
		means = "it failed"
	}
	return fmt.Sprintf("%s (status 0x%04x)", means, uint16(s))
}

// block is how much of a command goes at once; longer ones are chained.
const block = 255

// send sends a command, in as many blocks as it takes, and gathers the whole answer. The buffers that carried the data are wiped.
func (c *Card) send(a apdu) ([]byte, error) {
	data := a.data
	for len(data) > block {
		if _, err := c.exchange(0x10, a, data[:block], false); err != nil {
			return nil, err
		}
		data = data[block:]
	}
	return c.exchange(0, a, data, true)
}

func (c *Card) exchange(class byte, a apdu, data []byte, answers bool) ([]byte, error) {
	command := []byte{class, a.ins, a.p1, a.p2}
	if len(data) > 0 {
		command = append(append(command, byte(len(data))), data...)
	}
	if answers && !(a.ins == 0x20 || a.ins == 0x24 || a.ins == 0x2c) {
		command = append(command, 0)
	}
	defer clear(command)
	var whole []byte
	for range maxParts {
		answer, err := c.link.transmit(command)
		if err != nil {
			return nil, err
		}
		if len(answer) == 0 {
			return nil, advice.New(advice.Failed, "put it in again", "the card gave no answer: was it pulled?")
		}
		if len(answer) < 2 || len(whole)+len(answer) > maxAnswer {
			return nil, errors.New("an answer of a length that no card gives")
		}
		s := status(answer[len(answer)-2])<<8 | status(answer[len(answer)-1])
		whole = append(whole, answer[:len(answer)-2]...)
		switch {
		case s == 0x9000:
			return whole, nil
		case s>>8 != 0x61:
			return nil, s
		}
		command = []byte{0, 0xc0, 0, 0, byte(s)}
	}
	return nil, errors.New("an answer in more parts than any card gives")
}

// Answered says whether an error is the card's own answer, and not one of the way to it.
func Answered(err error) bool {
	var s status
	return errors.As(err, &s)
}

// fail names the card and what was tried.
func (c *Card) fail(err error, what string) error {
	if err == nil {
		return nil
	}
	var s status
	hint := advice.Hint(err)
	if hint == "" && errors.As(err, &s) && s == 0x6982 {
		hint = "give the PIN, or the management key, first"
	}
	return advice.New(advice.KindOf(err), hint, "%s: %s: %w", c.name(), what, err)
}

// object reads a data object; hsm.ErrNoKey where there is none.
func (c *Card) object(tag uint32) ([]byte, error) {
	answer, err := c.send(apdu{ins: 0xcb, p1: 0x3f, p2: 0xff, data: encode(0x5c, bytesOf(tag))})
	if errors.Is(err, status(0x6a82)) {
		return nil, hsm.ErrNoKey
	}
	if err != nil {
		return nil, err
	}
	value, err := inside(answer, 0x53)
	if err == nil && len(value) == 0 {
		return nil, hsm.ErrNoKey // emptied
	}
	return value, err
}

// put writes a data object; the management key was given.
func (c *Card) put(tag uint32, value []byte) error {
	_, err := c.send(apdu{ins: 0xdb, p1: 0x3f, p2: 0xff, data: append(encode(0x5c, bytesOf(tag)), encode(0x53, value)...)})
	return err
}

func bytesOf(tag uint32) []byte { return []byte{byte(tag >> 16), byte(tag >> 8), byte(tag)} }

const chuid = 0x5fc102

// GUID is the card's own number, 32 hexadecimal digits, from its CHUID (SP 800-73-4, part 1, section 3.1.2). OpenSC makes the token's serial of it.
// A card without a CHUID answers hsm.ErrNoKey.
func (c *Card) GUID() (string, error) {
	value, err := c.object(chuid)
	if err != nil {
		return "", err
	}
	guid, err := inside(value, 0x34)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(guid), nil
}
