package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func keysCommand() *cli.Command {
	out := &cli.StringFlag{Name: "out", Value: ".", Usage: "`FOLDER` for the public keys, LABEL.pem each"}
	return &cli.Command{
		Name: "keys", Usage: "the online keys, in this program's own token",
		Subcommands: []*cli.Command{
			{
				Name: "generate", Usage: "make the three online keys (P-256, sealed) and export their public halves for the ceremony",
				Description: "Example:\n  hanaper-repo keys generate --config hanaper-repo.yaml --out requests",
				Flags:       []cli.Flag{configFlag, out}, Before: shell.NoArgs,
				Action: func(c *cli.Context) error { return exportKeys(c, true) },
			},
			{
				Name: "export", Usage: "export the public halves again",
				Description: "Example:\n  hanaper-repo keys export --config hanaper-repo.yaml --out requests",
				Flags:       []cli.Flag{configFlag, out}, Before: shell.NoArgs,
				Action: func(c *cli.Context) error { return exportKeys(c, false) },
			},
		},
	}
}

// exportKeys refuses existing files before it touches the token, so that a key is never made whose public half has no place.
func exportKeys(c *cli.Context, generate bool) error {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	dir := c.String("out")
	labels := []string{cfg.Keys.Snapshot, cfg.Keys.Timestamp, cfg.Keys.CRL}
	for i, l := range labels {
		if l != filepath.Base(l) || l == labels[(i+1)%3] {
			return advice.New(advice.Usage, "use three different plain names", "keys: label %q", l)
		}
		if _, err := os.Lstat(filepath.Join(dir, l+".pem")); !errors.Is(err, fs.ErrNotExist) {
			return advice.New(advice.Usage, "name an empty folder with --out", "%s is in the way", show.Text(filepath.Join(dir, l+".pem")))
		}
	}
	token, err := openToken(c.Context, cfg)
	if err != nil {
		return err
	}
	defer token.Close()
	if generate {
		keys, err := token.Keys(c.Context)
		if err != nil {
			return err
		}
		for _, k := range keys {
			for _, l := range labels {
				if k.Attributes().Label == l {
					return advice.New(advice.Refused, "'hanaper-repo keys export' exports existing keys", "token %q has a key %q already", token.Info().Label, l)
				}
			}
		}
	}
	var publics []crypto.PublicKey
	for _, l := range labels {
		var key hsm.Key
		if generate {
			key, err = token.Generate(c.Context, hsm.GenerateSpec{Label: l, Algorithm: hsm.P256, Class: hsm.Sealed})
		} else {
			key, err = token.Key(c.Context, hsm.Query{Label: l})
		}
		if err != nil {
			return err
		}
		publics = append(publics, key.Public())
	}
	made := func(err error) error {
		if generate && err != nil {
			return advice.Wrap(advice.KindOf(err), err, "the keys are made, and stay in the token: mend that (is the disk full?), then 'hanaper-repo keys export' into an empty folder")
		}
		return err
	}
	if err := durable.Mkdir(dir, 0o755); err != nil {
		return made(err)
	}
	for i, l := range labels {
		der, err := x509.MarshalPKIXPublicKey(publics[i])
		if err != nil {
			return err
		}
		at := filepath.Join(dir, l+".pem")
		if err := durable.Create(at, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
			return made(err)
		}
		shell.Wrote(c, "public key", at)
	}
	return nil
}
