package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/piv"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

// glance is how often a reader is looked at for a card that is waited for.
const glance = 500 * time.Millisecond

// openCard opens the token that an officer's key is in. Where a person is there, a card that is not in a reader is asked for and waited for, now and at
// each use, until Ctrl-C; a program that reads answers from a file fails after half a minute.
func openCard(ctx context.Context, uri hsm.URI, ask term.Prompter) (hsm.Token, error) {
	var asked hsm.TokenInfo
	pin := hsm.PINFromURI(uri, pinPrompt(ask))
	c := open.Config{URI: uri, Tell: tellPeople, PIN: func(ctx context.Context, t hsm.TokenInfo) ([]byte, error) {
		asked = t
		return pin(ctx, t)
	}}
	if !term.Live(ask) || !hotPlugged(uri) {
		token, err := open.Token(ctx, c)
		return token, withTries(err, asked)
	}
	c.Wait = ctx
	said := ""
	for {
		token, err := open.Token(ctx, c)
		if !errors.Is(err, hsm.ErrNoToken) {
			return token, withTries(err, asked)
		}
		if now := err.Error(); now != said {
			said = now
			tellPeople("put the card in: " + now)
		}
		select {
		case <-time.After(glance):
		case <-ctx.Done():
			return nil, advice.Wrap(advice.Failed, err, "start again with the card in a reader")
		}
	}
}

// withTries adds to a refused PIN what the card says of its tries, which its library does not.
func withTries(err error, t hsm.TokenInfo) error {
	if !errors.Is(err, hsm.ErrPIN) {
		return err
	}
	n, known := triesLeft(t)
	if !known {
		return err
	}
	return advice.New(advice.KindOf(err), advice.Hint(err), "%w; asked itself, the card says: %s left", err, piv.TriesText(n))
}

// hotPlugged says whether a token comes and goes while the program runs: those of OpenSC, which are cards.
func hotPlugged(u hsm.URI) bool { return strings.Contains(u.ModulePath, "opensc") }

// tellPeople tells those in the room what they should do, below whatever is on the screen.
func tellPeople(said string) {
	if strings.HasPrefix(said, "waiting") || strings.HasPrefix(said, "put") {
		said += ". Ctrl-C stops"
	}
	fmt.Fprintf(os.Stderr, "\n%s\n", term.Wrap("hanaper: "+show.Line(said)+".", ""))
}

// pinPrompt asks for a PIN, and says first how many tries are left where the card tells. A PIN that is locked is not asked for.
func pinPrompt(ask term.Prompter) hsm.PINSource {
	return func(ctx context.Context, t hsm.TokenInfo) ([]byte, error) {
		before := ""
		if n, known := triesLeft(t); known && n == 0 {
			return nil, advice.New(advice.Refused, "its holder can unblock it with the PUK: `hanaper token unblock`", "%s: %w", t.Name(), hsm.ErrPINLocked)
		} else if known {
			before = fmt.Sprintf("%s left before the PIN of this card locks.\n", piv.TriesText(n))
		}
		return hsm.PINPrompt(func(prompt string) ([]byte, error) { return ask.Secret(before + prompt) })(ctx, t)
	}
}

// isPIV says whether a token is a PIV card, which OpenSC says of it.
func isPIV(t hsm.TokenInfo) bool { return t.Manufacturer == "piv_II" && t.Reader != "" }

// triesLeft asks a PIV card itself, which spends no try: PKCS#11 says no more than that tries are low.
func triesLeft(t hsm.TokenInfo) (n int, known bool) {
	if !isPIV(t) {
		return 0, false
	}
	c, err := piv.Open(t.Reader)
	if err != nil {
		return 0, false
	}
	defer c.Close()
	return triesIn(c)
}

// triesIn is triesLeft for a card that is open; nil is none.
func triesIn(c *piv.Card) (n int, known bool) {
	if c == nil {
		return 0, false
	}
	n, err := c.Tries()
	return n, err == nil
}

// triesText is what is known of a token's tries, in words.
func triesText(t hsm.TokenInfo, n int, known bool) string {
	switch {
	case t.PINPad:
		return "the PIN is typed at the token's own keys, which may show the tries left"
	case known && n == 0:
		return "none: the PIN is LOCKED"
	case known:
		return fmt.Sprint(n)
	case t.PINWarning() != "":
		return t.PINWarning()
	}
	return "the token does not say; it reports no wrong PIN"
}
