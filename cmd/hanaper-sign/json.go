package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

func pubKeyFlag() cli.Flag {
	return &cli.StringFlag{Name: "pub-key", Aliases: []string{"p"}, Required: true, Usage: "public key `FILE`"}
}

func signJSONCommand() *cli.Command {
	return &cli.Command{
		Name: "sign-json", Usage: "sign any JSON with a key and print it",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "priv-key", Aliases: []string{"k"}, Required: true, Usage: "private key `FILE`, which may name a key in a token, or a key's URI"},
			pubKeyFlag(), inputFlag("the JSON `FILE` to sign"),
		},
		Action: func(c *cli.Context) error {
			pub, err := publicKey(c.String("pub-key"))
			if err != nil {
				return err
			}
			b, err := readInput(c.String("input"))
			if err != nil {
				return err
			}
			keys := repo.NewKeys(".", openKey)
			open := keys.OpenSecret
			if repo.IsURI(c.String("priv-key")) {
				open = keys.Signer
			}
			signer, closer, err := open(c.Context, c.String("priv-key"))
			if err != nil {
				return err
			}
			defer closer.Close()
			if have, err := uptane.NewKey(signer.Public()); err != nil {
				return err
			} else if have.ID() != pub.ID() {
				return advice.New(advice.Refused, "give the two halves of one key", "the private key is not that of %s", c.String("pub-key"))
			}
			signed, err := uptane.SignJSON(b, signer)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, signed, "", "  "); err != nil {
				return err
			}
			_, err = show.Raw(c.App.Writer, append(out.Bytes(), '\n'))
			return err
		},
	}
}

func verifyJSONCommand() *cli.Command {
	return &cli.Command{
		Name: "verify-json", Usage: "verify that JSON is signed with a key",
		Flags: []cli.Flag{pubKeyFlag(), inputFlag("the signed JSON `FILE`")},
		Action: func(c *cli.Context) error {
			pub, err := publicKey(c.String("pub-key"))
			if err != nil {
				return err
			}
			b, err := readInput(c.String("input"))
			if err != nil {
				return err
			}
			if _, err := uptane.VerifyJSON(b, pub); errors.Is(err, uptane.ErrThreshold) {
				return advice.New(advice.Unverified, "name the key that signed it", "%s is not signed by key %s", c.String("input"), pub.ID())
			} else if err != nil {
				return fmt.Errorf("%s: %w", c.String("input"), err)
			}
			say(c, "signed by key %s", pub.ID())
			return nil
		},
	}
}
