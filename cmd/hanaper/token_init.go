package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/journal"
)

// initLeaf is an entry of the log of `token init`, which nobody signs: the intent before the token is touched, then the result.
type initLeaf struct {
	// Kind is "token-init-intent", "token-init" or "token-init-failed".
	Kind string `json:"kind"`
	// Clock is the machine's, which at an air gap nobody vouches for.
	Clock  string         `json:"machine_clock"`
	Tool   string         `json:"tool"`
	Module string         `json:"module"`
	Label  string         `json:"label"`
	Blank  string         `json:"blank,omitempty"`
	Token  *hsm.TokenInfo `json:"token,omitempty"`
	Error  string         `json:"error,omitempty"`
}

func tokenInitCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "initialise a blank token: label, SO PIN, user PIN; or make the store of a TPM; keeps a log", HideHelpCommand: true,
		Description: "A token that is initialised already is refused, for initialising destroys its keys. The PINs are asked for twice each, or read from files.\n\n" +
			"Example:\n  hanaper token init --module /usr/lib/softhsm/libsofthsm2.so --label roots --transcript tokens.log\n  hanaper token init --store /var/lib/hanaper/roots --label roots --transcript tokens.log",
		Flags: []cli.Flag{moduleFlag, storeFlag, deviceFlag, jsonFlag,
			&cli.StringFlag{Name: "pcrs", Usage: "of a TPM: bind its keys to the `REGISTERS` of now, such as 0,2,7, besides the PIN"},
			&cli.BoolFlag{Name: "persistent", Usage: "of a TPM: keep the keys in it, too, not in files alone; it has room for a few"},
			&cli.StringFlag{Name: "label", Usage: "the new token's `LABEL`, up to 32 bytes"},
			&cli.StringFlag{Name: "blank", Usage: "which blank token: its `SERIAL` or slot number; the first blank one otherwise"},
			&cli.StringFlag{Name: "transcript", Usage: "the log `FILE` to add to, or to begin: a journal that nobody signs, which proves nothing"},
			&cli.StringFlag{Name: "pin-source", Usage: "read the new user PIN from `FILE` (mode 0600) instead of asking"},
			&cli.StringFlag{Name: "so-pin-source", Usage: "read the new SO PIN from `FILE` (mode 0600) instead of asking"}},
		Action: initToken,
	}
}

func initToken(c *cli.Context) error {
	if err := shell.NoArgs(c); err != nil {
		return err
	}
	if onTPM(c) {
		return initTPM(c)
	}
	for _, flag := range []string{"pcrs", "persistent"} {
		if c.IsSet(flag) {
			return advice.New(advice.Usage, "add --store FOLDER for a TPM", "--%s is of TPMs", flag)
		}
	}
	module, err := moduleOf(c, hsm.URI{})
	if err != nil {
		return err
	}
	label, transcript := c.String("label"), c.String("transcript")
	switch {
	case label == "":
		return advice.New(advice.Usage, "add --label LABEL", "the new token needs a label")
	case transcript == "":
		return advice.New(advice.Usage, "add --transcript FILE; it is begun if it is not there", "every change of a token keeps a log, and none is named")
	}
	soPIN, err := newPIN(c, "so-pin-source", "SO PIN", module)
	if err != nil {
		return err
	}
	defer clear(soPIN)
	pin, err := newPIN(c, "pin-source", "user PIN", module)
	if err != nil {
		return err
	}
	defer clear(pin)
	if bytes.Equal(pin, soPIN) {
		return advice.New(advice.Usage, "choose two different PINs: the SO PIN can reset the user PIN, and belongs to other people", "SO PIN and user PIN are the same")
	}
	log, err := openTranscript(transcript, label)
	if err != nil {
		return err
	}
	defer log.Close()
	write := func(l initLeaf) error {
		l.Clock, l.Tool, l.Module, l.Label, l.Blank = time.Now().UTC().Format(time.RFC3339), shell.Version, module, label, c.String("blank")
		data, err := json.Marshal(l)
		if err != nil {
			return err
		}
		_, err = log.Append(data)
		return err
	}
	if err := write(initLeaf{Kind: "token-init-intent"}); err != nil {
		return err
	}
	made, err := pkcs11.Init(c.Context, module, c.String("blank"), label, soPIN, pin)
	if err != nil {
		return errors.Join(err, write(initLeaf{Kind: "token-init-failed", Error: err.Error()}))
	}
	if err := write(initLeaf{Kind: "token-init", Token: &made}); err != nil {
		return err
	}
	u := made.URI().InLibrary(module)
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, listedToken{TokenInfo: made, URI: u.String()})
	}
	fmt.Fprintf(c.App.Writer, "initialised %s\n%s\nlog %s: %d entries; nobody signs it, and it proves nothing\n", made.Name(), u, transcript, log.Size())
	return nil
}

func openTranscript(path, label string) (*journal.Log, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return journal.Create(path, "hanaper.invalid/token/"+url.PathEscape(label))
	}
	return journal.Open(path)
}

// newPIN reads a PIN from a file, or asks for it.
func newPIN(c *cli.Context, flag, what, module string) ([]byte, error) {
	if file := c.String(flag); file != "" {
		return pinFile(file)(c.Context, hsm.TokenInfo{Label: c.String("label"), Serial: "new"})
	}
	blank, err := pkcs11.Blank(c.Context, module, c.String("blank"), c.String("label"))
	if err != nil {
		return nil, err
	}
	return firstPIN(term.TTY(), fmt.Sprintf("New %s of token %q: ", what, c.String("label")), blank)
}
