package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

func tokenKeyCommand() *cli.Command {
	return &cli.Command{
		Name: "key", Usage: "make a key in a TPM, outside of ceremonies: an officer's, or that of a service; keeps a log", HideHelpCommand: true, ArgsUsage: "URI",
		Description: "Roots are made in ceremonies, and an issuing key by hanaperd csr. An officer needs two keys: one to sign, one to agree (P-256, P-384) or decrypt (RSA).\n\n" +
			"Example:\n  hanaper token key --label signing --algorithm P-256 --transcript ada.log \"tpm:token=ada?store=/home/ada/keys\"",
		Flags: []cli.Flag{pinFlag,
			&cli.StringFlag{Name: "label", Usage: "the key's `LABEL`", Required: true},
			&cli.StringFlag{Name: "algorithm", Usage: "P-256, P-384, RSA-2048 or RSA-3072", Value: "P-256"},
			&cli.StringFlag{Name: "use", Usage: "sign, agree or decrypt", Value: string(hsm.Signing)},
			&cli.StringFlag{Name: "transcript", Usage: "the log `FILE` to add to, or to begin: a journal that nobody signs, which proves nothing", Required: true}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "URI")
			if err != nil {
				return err
			}
			if err := hsm.TPMCan(hsm.Algorithm(c.String("algorithm")), hsm.Sealed); err != nil {
				return err
			}
			t, err := openTPM(c, args[0])
			if err != nil {
				return err
			}
			defer t.Close()
			log, err := openTokenLog(c.String("transcript"), t.Info().Label)
			if err != nil {
				return err
			}
			defer log.Close()
			info := t.Info()
			var key hsm.Key
			if err := change(log, changeLeaf{Kind: "key-generate", Token: &info}, func(done *changeLeaf) error {
				if key, err = t.Generate(c.Context, hsm.GenerateSpec{Label: c.String("label"), Algorithm: hsm.Algorithm(c.String("algorithm")), Use: hsm.Use(c.String("use"))}); err != nil {
					return err
				}
				spki, err := x509.MarshalPKIXPublicKey(key.Public())
				done.Keys = map[string]string{c.String("label"): hexSHA256(spki)}
				return err
			}); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s\nlog %s: %d entries; nobody signs it, and it proves nothing\n", key.URI(), show.Text(c.String("transcript")), log.Size())
			return nil
		},
	}
}

// openTokenLog opens the log of a token's changes, or begins it.
func openTokenLog(path, label string) (*journal.Log, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return journal.Create(path, "hanaper.invalid/token/"+url.PathEscape(label))
	}
	return journal.Open(path)
}
