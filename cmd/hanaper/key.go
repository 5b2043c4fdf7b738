package main

import (
	"context"
	"crypto"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

func officerFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "officer", Required: true,
		Usage: "signing `KEY` of an officer or witness present: a pkcs11: or tpm: URI, or an encrypted key file, with ?pin-source=FILE after it for its passphrase"}
}

// keyring is the keys of people that are open, and their tokens: a card whose two keys are named is opened once, and its PIN asked for once.
type keyring struct {
	ask    term.Prompter
	tokens map[string]hsm.Token // by the URI that named the token
}

// openOfficer opens the signing keys that --officer names. The function it returns closes their tokens.
func openOfficer(ctx context.Context, keys []string, ask term.Prompter) (signers []crypto.Signer, done func(), err error) {
	ring := &keyring{ask: ask}
	signers, err = ring.open(ctx, keys)
	if err != nil {
		ring.close()
		return nil, nil, err
	}
	return signers, ring.close, nil
}

// open opens keys beside those that are open already. After an error close is still to be called.
func (r *keyring) open(ctx context.Context, keys []string) (signers []crypto.Signer, err error) {
	for _, text := range keys {
		var key crypto.Signer
		if hsm.IsURI(text) {
			key, err = r.inToken(ctx, text)
		} else {
			key, err = openKeyFile(ctx, text, r.ask)
		}
		if err != nil {
			return nil, err
		}
		signers = append(signers, key)
	}
	return signers, nil
}

func (r *keyring) inToken(ctx context.Context, text string) (crypto.Signer, error) {
	uri, err := hsm.ParseURI(text)
	if err != nil {
		return nil, err
	}
	if err := open.NamesKey(uri); err != nil {
		return nil, err
	}
	name := uri.TokenURI().String()
	token := r.tokens[name]
	if token == nil {
		if token, err = openCard(ctx, uri, r.ask); err != nil {
			return nil, err
		}
		if r.tokens == nil {
			r.tokens = map[string]hsm.Token{}
		}
		r.tokens[name] = token
	}
	key, err := token.Key(ctx, uri.Query())
	if err != nil {
		return nil, err
	}
	return key, nil
}

func (r *keyring) close() {
	for _, t := range r.tokens {
		_ = t.Close()
	}
	r.tokens = nil
}

// openKeyFile opens an encrypted key file; the passphrase comes from the file after ?pin-source=, or from a prompt.
func openKeyFile(ctx context.Context, text string, ask term.Prompter) (crypto.Signer, error) {
	path, source, _ := strings.Cut(strings.TrimPrefix(text, "file:"), "?pin-source=")
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var passphrase []byte
	if source != "" {
		passphrase, err = pinFile(source)(ctx, hsm.TokenInfo{Label: path})
	} else {
		passphrase, err = ask.Secret("Passphrase of " + path + ": ")
	}
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	key, err := quorum.OpenKey(data, passphrase)
	if err != nil {
		return nil, advice.New(advice.KindOf(err), advice.Hint(err), "%s: %w", path, err)
	}
	return key, nil
}

// pinFile reads a PIN or passphrase from a file that the command line names, from where the caller stands.
func pinFile(path string) hsm.PINSource {
	path, sealed := strings.CutPrefix(path, hsm.SealedPrefix)
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if sealed {
		path = hsm.SealedPrefix + path
	}
	return hsm.PINFile(path)
}
