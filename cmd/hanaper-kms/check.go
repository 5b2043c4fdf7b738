package main

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/kms"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/internal/term"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "open a key in a store, sign with it once, and verify that",
		Description: "What the services would meet, without one of them: run it as their user, with their environment.\n\n" +
			"Example:\n  hanaper-kms check --key \"awskms:key-id=alias/plant-7;region=eu-central-1\"",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Required: true, Usage: "key `URI`"},
			&cli.DurationFlag{Name: "timeout", Value: kms.DefaultTimeout, Usage: "how long the store may take for an answer"},
		},
		Before: shell.NoArgs, Action: check,
	}
}

func check(c *cli.Context) error {
	u, err := hsm.ParseURI(c.String("key"))
	if err != nil {
		return err
	}
	if u.Opaque == "" {
		return advice.New(advice.Usage, "'hanaper token show' looks at PKCS#11 tokens and TPMs", "key URI: of scheme %s, which needs no other store", show.Text(u.String()[:6]))
	}
	t, err := kms.Open(c.Context, kms.Config{URI: u, PIN: hsm.PINPrompt(term.TTY().Secret), Timeout: c.Duration("timeout")})
	if err != nil {
		return err
	}
	defer t.Close()
	k, err := t.Key(c.Context, u.Query())
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return err
	}
	message := make([]byte, 32)
	_, _ = rand.Read(message)
	begun := time.Now()
	scheme := signature.Scheme(k.Public())
	if k.Attributes().Algorithm == hsm.P384 { // clouds sign with one hash a key
		scheme = crypto.SHA384
	}
	if _, err := signature.Sign(k, message, scheme); err != nil {
		return err
	}
	took := time.Since(begun)
	id := sha256.Sum256(spki)
	shell.Table(c.App.Writer, []string{"what", "is"}, [][]string{
		{"key", show.Text(k.URI().String())}, {"algorithm", string(k.Attributes().Algorithm)}, {"public key, SHA-256", hex.EncodeToString(id[:])},
		{"signature", "verified, after " + took.Round(time.Microsecond).String()}, {"attributes", "unread: the store tells none"},
	})
	return nil
}
