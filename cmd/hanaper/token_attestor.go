package main

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	attestation "github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func tokenAttestorCommand() *cli.Command {
	return &cli.Command{
		Name: "attestor", Usage: "write down what a TPM shows of itself, for challenges and for a script", HideHelpCommand: true, ArgsUsage: "URI",
		Description: "It makes the store's attestation key if there is none yet.\n\nExample:\n  hanaper token attestor --out attestor.json \"tpm:token=roots?store=/var/lib/hanaper/roots\"",
		Flags:       []cli.Flag{pinFlag, &cli.StringFlag{Name: "out", Usage: "write the attestor to `FILE`", Required: true}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "URI")
			if err != nil {
				return err
			}
			if err := absent(c.String("out")); err != nil {
				return err
			}
			t, err := openTPM(c, args[0])
			if err != nil {
				return err
			}
			defer t.Close()
			a := &attestation.Attestor{Label: t.Info().Label, Serial: t.Info().Serial}
			if a.EKChain, a.EKPublic, a.AKPublic, err = t.Attestor(c.Context); err != nil {
				return err
			}
			data, err := a.Encode()
			if err == nil {
				err = durable.Create(c.String("out"), data, 0o644)
			}
			if err != nil {
				return err
			}
			cert, err := x509.ParseCertificate(a.EKChain[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s\nendorsement certificate by %s, SHA-256 %s\nwritten to %s, SHA-256 %s\n", t.Info().Name(), show.Text(cert.Issuer.String()), hexSHA256(cert.Raw), show.Text(c.String("out")), hexSHA256(data))
			return nil
		},
	}
}

func tokenChallengeCommand() *cli.Command {
	return &cli.Command{
		Name: "challenge", Usage: "make a challenge for a TPM, on a machine of your own", HideHelpCommand: true,
		Description: "The TPM answers it at the ceremony, and every reader of the transcript sees that the answer is right. It says nothing if it is made on the\nceremony's own machine. Nothing secret is kept.\n\n" +
			"Example:\n  hanaper token challenge --attestor attestor.json --manufacturers ek-roots.pem --maker ada --out challenge-ada.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "attestor", Usage: "a `FILE` that 'hanaper token attestor' wrote", Required: true},
			&cli.StringFlag{Name: "manufacturers", Usage: "certificates of the manufacturers whose TPMs you believe, a PEM `FILE`", Required: true},
			&cli.StringFlag{Name: "maker", Usage: "your `NAME`", Required: true},
			&cli.StringFlag{Name: "out", Usage: "write the challenge to `FILE`", Required: true}},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			if err := absent(c.String("out")); err != nil {
				return err
			}
			pem, err := readFile(c.String("manufacturers"))
			if err != nil {
				return err
			}
			makers, err := ceremony.Manufacturers(pem)
			if err != nil {
				return advice.Wrap(advice.Usage, fmt.Errorf("%s: %w", show.Text(c.String("manufacturers")), err), "get the roots from the manufacturer's own pages, and compare their fingerprints")
			}
			data, err := readFile(c.String("attestor"))
			if err != nil {
				return err
			}
			a, err := attestation.ParseAttestor(c.String("attestor"), data)
			if err != nil {
				return err
			}
			v, err := makers.VerifyAttestor(a, time.Now())
			if err != nil {
				return err
			}
			ch, err := makers.NewChallenge(rand.Reader, c.String("maker"), a, time.Now())
			if err != nil {
				return err
			}
			if data, err = ch.Encode(); err == nil {
				err = durable.Create(c.String("out"), data, 0o644)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "for store %s (serial %s) in a TPM of %s (%s)\nwritten to %s, SHA-256 %s\n", show.Text(a.Label), show.Text(a.Serial), show.Text(v.Manufacturer),
				show.Line(strings.Join([]string{v.Fact("tpm manufacturer"), v.Fact("tpm model"), v.Fact("tpm version")}, ", ")), show.Text(c.String("out")), hexSHA256(data))
			return nil
		},
	}
}
