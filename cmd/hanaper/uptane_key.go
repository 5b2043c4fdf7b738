package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/uptane"
)

// uptaneKeyCommand makes an officer's own Uptane key, and gives its public half to those who list it in a root. The private
// half never leaves the token.
func uptaneKeyCommand() *cli.Command {
	transcript := &cli.StringFlag{Name: "transcript", Required: true, Usage: "the log `FILE` to add to, or to begin, which nobody signs"}
	return &cli.Command{
		Name: "key", Usage: "an officer's Uptane key: make it in a token, and write its public half for others to list",
		Subcommands: []*cli.Command{
			{
				Name: "generate", Usage: "make a key in a token, which must prove that it can sign Uptane metadata; keeps a log", HideHelpCommand: true,
				Description: "Example:\n  hanaper uptane key generate --token \"pkcs11:token=ada?module-path=/usr/lib/softhsm/libsofthsm2.so\" --label uptane --algorithm Ed25519 --out ada.pub --transcript ada.log",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "token", Required: true, Usage: "the token's `URI`, pkcs11:..."},
					&cli.StringFlag{Name: "label", Required: true, Usage: "the new key's `LABEL`"},
					&cli.StringFlag{Name: "algorithm", Value: string(hsm.Ed25519), Usage: "`ALGORITHM`: Ed25519, RSA-2048, RSA-3072 or RSA-4096"},
					outFlag("write the public half to `FILE` (.pub)"), transcript, uptaneTimeFlag, answersFlag,
				},
				Before: shell.NoArgs, Action: generateUptaneKey,
			},
			{
				Name: "export", Usage: "write the public half of a key that is in a token, once it has proved that it can sign; keeps a log", HideHelpCommand: true,
				Description: "Example:\n  hanaper uptane key export --key \"pkcs11:token=ada;object=uptane?module-path=/usr/lib/softhsm/libsofthsm2.so\" --out ada.pub --transcript ada.log",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "key", Required: true, Usage: "the key's `URI`, pkcs11:..."},
					outFlag("write the public half to `FILE` (.pub)"), transcript, uptaneTimeFlag, answersFlag,
				},
				Before: shell.NoArgs,
				Action: func(c *cli.Context) error {
					uri, err := hsm.ParseURI(c.String("key"))
					if err != nil {
						return err
					}
					if uri.Object == "" && uri.ID == nil {
						return advice.New(advice.Usage, "name it as pkcs11:token=...;object=...", "--key names a token, and no key in it")
					}
					if err := nothingThere(c.String("out")); err != nil {
						return err
					}
					return exportUptaneKey(c, uri)
				},
			},
		},
	}
}

// uptaneAlgorithms are the keys that devices accept.
var uptaneAlgorithms = map[hsm.Algorithm]bool{hsm.Ed25519: true, hsm.RSA2048: true, hsm.RSA3072: true, hsm.RSA4096: true}

func generateUptaneKey(c *cli.Context) error {
	uri, err := hsm.ParseURI(c.String("token"))
	if err != nil {
		return err
	}
	alg, label := hsm.Algorithm(c.String("algorithm")), c.String("label")
	if !uptaneAlgorithms[alg] {
		return advice.New(advice.Usage, "use Ed25519, RSA-2048, RSA-3072 or RSA-4096", "devices accept no %q key", c.String("algorithm"))
	}
	if uri.Object != "" || uri.ID != nil {
		return advice.New(advice.Usage, "name the token alone, and the key with --label", "--token names a key")
	}
	if err := nothingThere(c.String("out")); err != nil {
		return err
	}
	opened, err := openKeyLog(c, c.String("transcript"), uptaneLogOrigin)
	if err != nil {
		return err
	}
	log := uptaneLog{opened}
	leaf := uptaneLeaf{Kind: "uptane-key-generate-intent", Title: string(alg) + " key " + label, Token: uri.Token, Keys: []string{}}
	made, err := func() (hsm.URI, error) {
		defer log.Close()
		ask, scripted, done, err := prompter(c)
		if err != nil {
			return uri, err
		}
		defer done()
		token, err := open.Token(c.Context, open.Config{URI: uri, PIN: hsm.PINFromURI(uri, hsm.PINPrompt(ask.Secret))})
		if err != nil {
			return uri, err
		}
		defer token.Close()
		leaf.Scripted = scripted
		if err := log.write(leaf); err != nil {
			return uri, err
		}
		leaf.Kind = "uptane-key-generate"
		key, err := token.Generate(c.Context, hsm.GenerateSpec{Label: label, Algorithm: alg, Class: hsm.Sealed})
		if err == nil {
			var public uptane.Key
			if public, err = uptane.NewKey(key.Public()); err == nil {
				leaf.Keys = []string{public.ID()}
			}
		}
		if err := log.outcome(leaf, err); err != nil {
			return uri, err
		}
		return key.URI(), nil
	}()
	if err != nil {
		return err
	}
	made = made.OnMachine(uri)
	return advice.Wrap(advice.Failed, exportUptaneKey(c, made), "the key is in the token; hanaper uptane key export writes its public half once what is wrong is mended")
}

// exportUptaneKey has a key prove that it can sign, and writes its public half.
func exportUptaneKey(c *cli.Context, uri hsm.URI) error {
	keys, err := newKeys(c, []string{uri.String()})
	if err != nil {
		return err
	}
	b, err := keys[0].MarshalJSON()
	if err != nil {
		return err
	}
	digest, err := hex.DecodeString(keys[0].ID())
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), indent(b)); err != nil {
		return err
	}
	uri = uri.OnMachine(hsm.URI{})
	fmt.Fprintf(c.App.Writer, "%s key %s\nkey id %s\n  %s\npublic half: %s; read the key id to those who list it, by voice\nlog %s, which nobody signs and which proves nothing\n",
		keys[0].Type(), show.Text(uri.String()), keys[0].ID(), quorum.Words(digest), show.Text(c.String("out")), show.Text(c.String("transcript")))
	return nil
}

// nothingThere refuses a result's name before a token is touched for its sake.
func nothingThere(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Refused, "name a file that does not exist", "%s is in the way", path)
	}
	return nil
}
