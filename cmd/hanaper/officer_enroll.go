package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

const keyUsage = "a pkcs11: or tpm: URI of a key that is in a card or token already, or a key file; a file that does not exist is made. " +
	"?pin-source=FILE after a file names the file with its passphrase"

func officerEnrollCommand() *cli.Command {
	return &cli.Command{
		Name:        "enroll",
		Usage:       "make the public document by which a roster will know an officer",
		Description: "Example:\n  hanaper officer enroll --name ada --key ada.key --decryption-key ada-decryption.key --out ada.json\n  hanaper officer enroll --name grace --key \"pkcs11:token=grace;object=signing?module-path=/usr/lib/softhsm/libsofthsm2.so\" --out grace.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "the officer's `NAME`", Required: true},
			&cli.StringFlag{Name: "role", Usage: "officer, witness or auditor", Value: string(quorum.RoleOfficer)},
			&cli.StringFlag{Name: "key", Usage: "signing `KEY`: " + keyUsage, Required: true},
			&cli.StringFlag{Name: "algorithm", Usage: "of a signing key file that is made: Ed25519, P-256, P-384, RSA-3072 or RSA-4096", Value: "Ed25519"},
			&cli.StringFlag{Name: "scheme", Usage: "how the signing key signs; rsa-pkcs1-sha256 for a card that cannot do PSS"},
			&cli.StringFlag{Name: "decryption-key", Usage: "`KEY` to which shares are encrypted, another one than the signing key"},
			&cli.StringFlag{Name: "decryption-algorithm", Usage: "of a decryption key file that is made: P-256, P-384, RSA-3072 or RSA-4096", Value: "P-256"},
			&cli.StringFlag{Name: "decryption", Usage: "how shares are encrypted; by default the best that the key is found to do"},
			&cli.StringFlag{Name: "out", Usage: "write the enrolment to `FILE`", Required: true},
			answersFlag,
		},
		Before: shell.NoArgs,
		Action: enroll,
	}
}

func enroll(c *cli.Context) error {
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	if err := absent(c.String("out")); err != nil {
		return err
	}
	ring := &keyring{ask: ask}
	defer ring.close()
	sign, err := obtainKey(c.Context, c.String("key"), c.String("algorithm"), ring)
	if err != nil {
		return err
	}
	var decrypt *obtained
	if ref := c.String("decryption-key"); ref != "" {
		if decrypt, err = obtainKey(c.Context, ref, c.String("decryption-algorithm"), ring); err != nil {
			return err
		}
	}
	return enrolKeys(c, sign, decrypt)
}

// enrolKeys has an officer's keys prove what they can do, and writes the enrolment. decrypt is nil for who holds no shares.
func enrolKeys(c *cli.Context, sign, decrypt *obtained) (err error) {
	o := quorum.Officer{Name: c.String("name"), Role: quorum.Role(c.String("role"))}
	written := []*obtained{sign}
	if decrypt != nil {
		o.DecryptionKey, o.Decryption = decrypt.key.Public(), quorum.Decryption(c.String("decryption"))
		if o.Decryption == "" {
			if o.Decryption, err = quorum.DecryptionOf(c.Context, decrypt.key); err != nil {
				return err
			}
		}
		// A key that cannot open what is encrypted to it would be noticed only when a share is lost to it.
		if err := quorum.ProbeDecryption(o.Decryption, decrypt.key); err != nil {
			return err
		}
		written = append(written, decrypt)
	}
	signer, err := quorum.NewSigner(sign.key, quorum.Scheme(c.String("scheme")))
	if err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	env, err := quorum.Enrol(o, signer)
	if err != nil {
		return err
	}
	if o, err = quorum.ParseEnrolment(env); err != nil {
		return err
	}
	if err := writeEnrolment(c.String("out"), env, written); err != nil {
		return err
	}
	showOfficer(c.App.Writer, o)
	fmt.Fprintf(c.App.Writer, "\nenrolment written to %s\n", c.String("out"))
	for _, k := range written {
		if k.sealed != nil {
			fmt.Fprintf(c.App.Writer, "new key written to %s, encrypted under its passphrase: keep both, apart from each other\n", k.path)
		}
	}
	return nil
}

// writeEnrolment writes the new key files, then the enrolment; after a failure none of them is left.
func writeEnrolment(out string, env []byte, keys []*obtained) (err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range made {
				_ = durable.Remove(path)
			}
		}
	}()
	create := func(path string, data []byte, perm os.FileMode) error {
		if err := durable.Create(path, data, perm); err != nil {
			return err
		}
		made = append(made, path)
		return nil
	}
	for _, k := range keys {
		if k.sealed != nil {
			if err := create(k.path, k.sealed, 0o600); err != nil {
				return err
			}
		}
	}
	return create(out, env, 0o644)
}

// obtained is an officer's key: opened where it was, or new and not yet written (sealed is what to write at path).
type obtained struct {
	key    crypto.Signer
	path   string
	sealed []byte
}

// obtainKey opens the key that ref names, or makes the key file that it names. A key in a token is never made here: that
// is a ceremony step.
func obtainKey(ctx context.Context, ref, algorithm string, ring *keyring) (*obtained, error) {
	path, source, _ := strings.Cut(strings.TrimPrefix(ref, "file:"), "?pin-source=")
	exists := hsm.IsURI(ref)
	if !exists {
		if _, err := os.Lstat(path); err == nil {
			exists = true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
	}
	if exists {
		keys, err := ring.open(ctx, []string{ref})
		if err != nil {
			return nil, err
		}
		return &obtained{key: keys[0]}, nil
	}
	passphrase, err := newPassphrase(ctx, path, source, ring.ask)
	if err != nil {
		return nil, err
	}
	defer clear(passphrase)
	key, err := quorum.GenerateKey(algorithm)
	if err != nil {
		return nil, err
	}
	sealed, err := quorum.SealKey(key, passphrase)
	if err != nil {
		return nil, err
	}
	return &obtained{key: key, path: path, sealed: sealed}, nil
}

// newPassphrase takes the passphrase of a new key file from its source, or asks for it twice.
func newPassphrase(ctx context.Context, path, source string, ask term.Prompter) ([]byte, error) {
	if source != "" {
		return pinFile(source)(ctx, hsm.TokenInfo{Label: path})
	}
	first, err := ask.Secret("New passphrase for " + path + ": ")
	if err != nil {
		return nil, err
	}
	second, err := ask.Secret("The same again: ")
	if err != nil {
		clear(first)
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, advice.New(advice.Usage, "start again", "the two passphrases differ")
	}
	return first, nil
}

// absent refuses an output that is there already, before anything is done for it.
func absent(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return advice.New(advice.Usage, "name another file, or move that one away", "%s exists already", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return advice.Wrap(advice.Usage, err, "")
	}
	return nil
}

// inFile puts a file's name before an error and keeps its kind and hint.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	return advice.New(advice.KindOf(err), advice.Hint(err), "%s: %w", path, err)
}
