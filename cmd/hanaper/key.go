package main

import (
	"context"
	"crypto"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

func officerFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "officer", Required: true,
		Usage: "signing `KEY` of an officer or witness present: a pkcs11: or tpm: URI, or an encrypted key file, with ?pin-source=FILE after it for its passphrase"}
}

// openOfficer opens the signing keys that --officer names. The function it returns closes their tokens.
func openOfficer(ctx context.Context, keys []string, ask term.Prompter) (signers []crypto.Signer, done func(), err error) {
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	for _, text := range keys {
		if hsm.IsURI(text) {
			uri, err := hsm.ParseURI(text)
			if err != nil {
				return nil, nil, err
			}
			key, c, err := openInCard(ctx, uri, ask)
			if err != nil {
				return nil, nil, err
			}
			closers = append(closers, func() { _ = c.Close() })
			signers = append(signers, key)
			continue
		}
		key, err := openKeyFile(ctx, text, ask)
		if err != nil {
			return nil, nil, err
		}
		signers = append(signers, key)
	}
	return signers, closeAll, nil
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
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return hsm.PINFile(path)
}
