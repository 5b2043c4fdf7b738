package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func tokenSealPINCommand() *cli.Command {
	return &cli.Command{
		Name: "seal-pin", Usage: "seal a token's PIN to this machine as it started, for a service that starts with nobody there", HideHelpCommand: true, ArgsUsage: "URI",
		Description: "The PIN is tried once on the token, then sealed. The file is for pin-source=sealed:/FILE in the service's key URI; this machine's TPM opens it as long\n" +
			"as the registers have the values of now. Who is root on the machine, started as it is now, can have the PIN. After a change of firmware, boot loader\nor kernel the service says which register changed: seal again with --replace.\n\n" +
			"Example:\n  hanaper token seal-pin --pcrs 0,2,4,7 --out /etc/hanaper/issuing.pin \"pkcs11:token=issuing?module-path=/usr/lib/softhsm/libsofthsm2.so\"",
		Flags: []cli.Flag{moduleFlag, pinFlag, deviceFlag,
			&cli.StringFlag{Name: "pcrs", Usage: "the `REGISTERS` to seal to: 0 firmware, 2 option ROMs, 4 boot loader, 7 Secure Boot, 8 and 9 what GRUB loads", Required: true},
			&cli.StringFlag{Name: "out", Usage: "write the sealed PIN to `FILE` (mode 0600)", Required: true},
			&cli.BoolFlag{Name: "replace", Usage: "replace the file that is there"}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "URI")
			if err != nil {
				return err
			}
			u, err := hsm.ParseURI(args[0])
			if err != nil {
				return err
			}
			s := tpm.Seal{Device: c.String("device"), File: c.String("out"), Replace: c.Bool("replace")}
			if s.PCRs, err = tpm.ParsePCRs(c.String("pcrs")); err != nil {
				return advice.Wrap(advice.Usage, err, "write them as --pcrs 0,2,4,7")
			}
			if !s.Replace {
				if err := absent(s.File); err != nil {
					return advice.Wrap(advice.KindOf(err), err, "add --replace to seal anew")
				}
			}
			var pin []byte
			defer func() { clear(pin) }()
			source := pinOf(c, u)
			token, err := open.Token(c.Context, open.Config{URI: u.TokenURI(), Module: c.String("module"), PIN: func(ctx context.Context, t hsm.TokenInfo) ([]byte, error) {
				given, err := source(ctx, t)
				pin = bytes.Clone(given)
				return given, err
			}})
			if err != nil {
				return err
			}
			s.For = token.Info().Name()
			if err := token.Close(); err != nil {
				return err
			}
			if pin == nil {
				return advice.New(advice.Usage, "", "%s asks for no PIN", s.For)
			}
			if err := tpm.SealPIN(c.Context, s, pin); err != nil {
				return err
			}
			path, err := filepath.Abs(s.File)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "sealed the PIN of %s\nuse it as pin-source=%s%s\n", show.Line(s.For), hsm.SealedPrefix, show.Text(path))
			return nil
		},
	}
}
