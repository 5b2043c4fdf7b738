package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/piv"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/journal"
)

// changeLeaf is an entry of the log of the verbs that change a token and keep no transcript, which nobody signs: the intent before the
// token is touched, then the result. It holds no secret.
type changeLeaf struct {
	// Kind is "pin-change-intent", "pin-change" or "pin-change-failed"; and the same of puk-change, pin-unblock and card-setup.
	Kind string `json:"kind"`
	// Clock is the machine's, which at an air gap nobody vouches for.
	Clock string         `json:"machine_clock"`
	Tool  string         `json:"tool"`
	Token *hsm.TokenInfo `json:"token,omitempty"`
	// Reader, Officer and Keys are of card-setup: Keys are the SHA-256 of the public keys made, by slot.
	Reader  string            `json:"reader,omitempty"`
	Officer string            `json:"officer,omitempty"`
	Keys    map[string]string `json:"keys,omitempty"`
	Error   string            `json:"error,omitempty"`
}

// change notes the intent, acts, and notes what came of it. Nothing is done if the intent cannot be noted.
func change(log *journal.Log, l changeLeaf, act func(done *changeLeaf) error) error {
	write := func(l changeLeaf) error {
		l.Clock, l.Tool = time.Now().UTC().Format(time.RFC3339), shell.Version
		data, err := json.Marshal(l)
		if err != nil {
			return err
		}
		_, err = log.Append(data)
		return err
	}
	kind := l.Kind
	l.Kind = kind + "-intent"
	if err := write(l); err != nil {
		return err
	}
	l.Kind = kind
	if err := act(&l); err != nil {
		l.Kind, l.Error = kind+"-failed", err.Error()
		return errors.Join(err, write(l))
	}
	return write(l)
}

var transcriptFlag = &cli.StringFlag{Name: "transcript", Required: true, Usage: "the log `FILE` to add to, or to begin: a journal that nobody signs, which proves nothing"}

func tokenChangePINCommand() *cli.Command {
	return &cli.Command{
		Name: "change-pin", Usage: "change a token's user PIN, or a PIV card's PUK; keeps a log", ArgsUsage: "URI", HideHelpCommand: true,
		Description: "The old one is tried once. How many tries are left is said before it is asked for, where the token tells.\n\n" +
			"Example:\n  hanaper token change-pin --transcript tokens.log \"pkcs11:token=ada?module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so\"",
		Flags: []cli.Flag{moduleFlag, transcriptFlag, answersFlag,
			&cli.BoolFlag{Name: "puk", Usage: "change the PUK instead, the PIN unblocking key of a PIV card"}},
		Action: func(c *cli.Context) error { return withToken(c, changePIN) },
	}
}

func tokenUnblockCommand() *cli.Command {
	return &cli.Command{
		Name: "unblock", Usage: "set a new user PIN with the PUK of a PIV card, or with the SO PIN; keeps a log", ArgsUsage: "URI", HideHelpCommand: true,
		Description: "For a PIN that is locked or forgotten. The PUK or SO PIN is tried once: when its own tries are used up, the card's keys are lost.\n\n" +
			"Example:\n  hanaper token unblock --transcript tokens.log \"pkcs11:token=ada?module-path=/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so\"",
		Flags:  []cli.Flag{moduleFlag, transcriptFlag, answersFlag},
		Action: func(c *cli.Context) error { return withToken(c, unblock) },
	}
}

// tokenAt is a token that a verb works on, with who answers.
type tokenAt struct {
	c    *cli.Context
	uri  hsm.URI
	info hsm.TokenInfo
	ask  term.Prompter
	log  *journal.Log
	card *piv.Card // nil where it is no PIV card
}

// withToken finds the one token that the argument names, without a login.
func withToken(c *cli.Context, act func(tokenAt) error) error {
	args, err := shell.Args(c, "URI")
	if err != nil {
		return err
	}
	u, err := hsm.ParseURI(args[0])
	if err != nil {
		return err
	}
	module, err := moduleOf(c, u)
	if err != nil {
		return err
	}
	u = u.TokenURI().InLibrary(module)
	t, err := pkcs11.Open(c.Context, pkcs11.Config{URI: u, Public: true})
	if err != nil {
		return err
	}
	info := t.Info()
	if err := t.Close(); err != nil {
		return err
	}
	if !info.Initialized {
		return advice.New(advice.Usage, "initialise it with `hanaper token init`", "%s is blank", info.Name())
	}
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	log, err := openTranscript(c.String("transcript"), info.Label)
	if err != nil {
		return err
	}
	defer log.Close()
	uri := info.URI().OnMachine(u)
	at := tokenAt{c: c, uri: uri, info: info, ask: ask, log: log}
	if isPIV(info) {
		// It is held until the end: another card that is put in its place meanwhile, whatever it says of itself, is given nothing.
		if at.card, err = piv.Open(info.Reader); err != nil {
			return err
		}
		defer at.card.Close()
	}
	return act(at)
}

// old asks for a secret that the token has already. PINs are not checked here: what the token takes, it knows.
func (t tokenAt) old(what string) ([]byte, error) {
	return t.ask.Secret(fmt.Sprintf("%s of %s now, which is tried once: ", what, t.info.Name()))
}

func (t tokenAt) fresh(what string, check func([]byte) error) ([]byte, error) {
	return newSecret(t.ask, fmt.Sprintf("New %s of %s: ", what, t.info.Name()), check)
}

// told says what was done.
func (t tokenAt) told(what string) error {
	fmt.Fprintf(t.c.App.Writer, "%s: %s\nlog %s: %d entries; nobody signs it, and it proves nothing\n", t.info.Name(), what, show.Text(t.c.String("transcript")), t.log.Size())
	return nil
}

func changePIN(t tokenAt) error {
	if t.c.Bool("puk") {
		return changePUK(t)
	}
	n, known := triesIn(t.card)
	fmt.Fprintf(t.c.App.ErrWriter, "Tries left: %s.\n", show.Line(triesText(t.info, n, known)))
	if t.info.PINLocked || known && n == 0 {
		return advice.New(advice.Refused, "`hanaper token unblock` sets a new one", "%s: %w", t.info.Name(), hsm.ErrPINLocked)
	}
	var before, after []byte
	var err error
	if !t.info.PINPad {
		if before, err = t.old("PIN"); err != nil {
			return err
		}
		defer clear(before)
		if after, err = t.fresh("PIN", t.takes); err != nil {
			return err
		}
		defer clear(after)
	}
	err = change(t.log, changeLeaf{Kind: "pin-change", Token: &t.info}, func(*changeLeaf) error {
		if isPIV(t.info) {
			return t.card.ChangePIN(before, after)
		}
		token, err := pkcs11.Open(t.c.Context, pkcs11.Config{URI: t.uri, PIN: hsm.PINBytes(before), Tell: tellPeople})
		if err != nil {
			return err
		}
		return errors.Join(token.SetPIN(t.c.Context, before, after), token.Close())
	})
	if err != nil {
		return err
	}
	return t.told("the PIN is changed")
}

func changePUK(t tokenAt) error {
	if !isPIV(t.info) {
		return advice.New(advice.Usage, "a token's SO PIN is changed in a ceremony, or with its maker's tool", "%s is no PIV card and has no PUK", t.info.Name())
	}
	fmt.Fprintln(t.c.App.ErrWriter, pukTries)
	before, err := t.old("PUK")
	if err != nil {
		return err
	}
	defer clear(before)
	after, err := t.fresh("PUK", piv.CheckPUK)
	if err != nil {
		return err
	}
	defer clear(after)
	err = change(t.log, changeLeaf{Kind: "puk-change", Token: &t.info}, func(*changeLeaf) error {
		return t.card.ChangePUK(before, after)
	})
	if err != nil {
		return err
	}
	return t.told("the PUK is changed")
}

const pukTries = "How many tries of the PUK are left, no PIV card says before one is spent. When none is left, the card's keys are lost."

func unblock(t tokenAt) error {
	which, warning := "SO PIN", "How many tries of the SO PIN are left, the token does not say."
	if isPIV(t.info) {
		which, warning = "PUK", pukTries
	}
	n, known := triesIn(t.card)
	fmt.Fprintf(t.c.App.ErrWriter, "Tries of the PIN left: %s. %s\n", show.Line(triesText(t.info, n, known)), warning)
	key, err := t.old(which)
	if err != nil {
		return err
	}
	defer clear(key)
	pin, err := t.fresh("PIN", t.takes)
	if err != nil {
		return err
	}
	defer clear(pin)
	err = change(t.log, changeLeaf{Kind: "pin-unblock", Token: &t.info}, func(*changeLeaf) error {
		if isPIV(t.info) {
			return t.card.Unblock(key, pin)
		}
		return t.asOfficer(t.c.Context, key, func(so hsm.SecurityOfficer) error { return so.InitPIN(pin) })
	})
	if err != nil {
		return err
	}
	return t.told("the PIN is new, and no wrong one is counted")
}

// asOfficer logs the security officer in on a token that no user is logged in to.
func (t tokenAt) asOfficer(ctx context.Context, soPIN []byte, act func(hsm.SecurityOfficer) error) error {
	token, err := pkcs11.Open(ctx, pkcs11.Config{URI: t.uri, Public: true})
	if err != nil {
		return err
	}
	return errors.Join(token.AsSecurityOfficer(ctx, soPIN, act), token.Close())
}

// takes says whether the token takes a new PIN.
func (t tokenAt) takes(pin []byte) error {
	if isPIV(t.info) {
		return piv.CheckPIN(pin)
	}
	return hsm.CheckNewPIN(pin, t.info)
}
