package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

// tokenFlag is not garage-sign's. The variable lets scripts that were written for garage-sign make their keys in a token.
func tokenFlag() cli.Flag {
	return &cli.StringFlag{Name: "token", EnvVars: []string{"HANAPER_SIGN_TOKEN"}, Usage: "make the key in the token that this pkcs11: `URI` names, so that it never leaves it"}
}

func keyCommand() *cli.Command {
	name := &cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "base `NAME` of the key's files (NAME.pub, NAME.sec), and its label in a token"}
	return &cli.Command{
		Name: "key", Usage: "the keys of a local repository",
		Subcommands: []*cli.Command{
			{
				Name: "generate", Usage: "make a key, in a token or in files",
				Flags: []cli.Flag{repoFlag(), name, keyTypeFlag(), keySizeFlag(), tokenFlag()},
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					return makeKey(c, r.Keys(), c.String("name"))
				},
			},
			{
				Name: "link", Usage: "give a name to a key that is in a token already (not in garage-sign)",
				Flags: []cli.Flag{repoFlag(), name, &cli.StringFlag{Name: "uri", Required: true, Usage: "the key's pkcs11: `URI`"}},
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					key, err := r.Keys().Link(c.Context, c.String("name"), c.String("uri"))
					if err != nil {
						return err
					}
					say(c, "linked %s, key id %s", c.String("name"), key.ID())
					return nil
				},
			},
		},
	}
}

func makeKey(c *cli.Context, keys *repo.Keys, name string) error {
	typ, err := keyType(c)
	if err != nil {
		return err
	}
	if bits := c.Int("keysize"); c.IsSet("keysize") && typ == uptane.RSA && bits != 2048 && bits != 3072 && bits != 4096 {
		return usagef("an RSA key must have 2048, 3072 or 4096 bits, not %d", bits)
	}
	if uri := c.String("token"); uri != "" {
		return makeTokenKey(c, keys, name, typ, uri)
	}
	key, err := keys.Generate(name, typ, c.Int("keysize"), nil)
	if err != nil {
		return err
	}
	warn(c, "the private key lies in clear in %s/%s.sec; --token keeps it in a token", keys.Dir(), name)
	say(c, "made %s, key id %s", name, key.ID())
	return nil
}

// makeTokenKey generates a key in a token and writes its public half and a stub with its URI. What can be wrong with the
// name is found out before the token is touched.
func makeTokenKey(c *cli.Context, keys *repo.Keys, name string, typ uptane.KeyType, text string) error {
	uri, err := hsm.ParseURI(text)
	if err != nil {
		return err
	}
	if err := repo.CheckKeyName(name); err != nil {
		return err
	}
	for _, existing := range []func(string) error{
		func(n string) error { _, err := keys.Public(n); return err },
		func(n string) error { _, err := keys.URI(n); return err },
	} {
		if existing(name) == nil {
			return advice.New(advice.Refused, "choose another name, or move the old files away", "the key %s exists", name)
		}
	}
	alg := hsm.Ed25519
	if typ == uptane.RSA {
		bits := c.Int("keysize")
		if bits == 0 {
			bits = 2048
		}
		alg = hsm.Algorithm(fmt.Sprintf("RSA-%d", bits))
	}
	made, err := generateInToken(c.Context, uri, name, alg)
	if err != nil {
		return err
	}
	made = made.OnMachine(uri)
	key, err := keys.Link(c.Context, name, made.String())
	if err != nil {
		return fmt.Errorf("the key was made in the token, but cannot be used: %w", err)
	}
	say(c, "made %s in token %q, key id %s", name, made.Token, key.ID())
	return nil
}

func generateInToken(ctx context.Context, uri hsm.URI, label string, alg hsm.Algorithm) (hsm.URI, error) {
	token, err := open.Token(ctx, open.Config{URI: uri, PIN: hsm.PINFromURI(uri, askPIN)})
	if err != nil {
		return hsm.URI{}, err
	}
	defer token.Close()
	key, err := token.Generate(ctx, hsm.GenerateSpec{Label: label, Algorithm: alg, Class: hsm.Sealed})
	if err != nil {
		return hsm.URI{}, err
	}
	return key.URI(), nil
}

func userKeysCommand() *cli.Command {
	return &cli.Command{
		Name: "user-keys", Usage: "keys outside of any repository",
		Flags: []cli.Flag{keysPathFlag()},
		Subcommands: []*cli.Command{
			{
				Name: "gen", Usage: "make a key, in a token or in files",
				Flags:  []cli.Flag{keyTypeFlag(), keySizeFlag(), tokenFlag(), &cli.StringFlag{Name: "key-name", Aliases: []string{"k"}, Required: true, Usage: "base `NAME` of the key's files"}},
				Action: func(c *cli.Context) error { return makeKey(c, userKeys(c), c.String("key-name")) },
			},
			{
				Name: "id", Usage: "print the Uptane key id of a public key",
				Flags: []cli.Flag{inputFlag("`FILE` with the public key")},
				Action: func(c *cli.Context) error {
					key, err := publicKey(c.String("input"))
					if err == nil {
						_, err = io.WriteString(c.App.Writer, key.ID())
					}
					return err
				},
			},
			{
				Name: "importpub", Usage: "put a public key into a repository",
				Flags: []cli.Flag{repoFlag(), keyNamesFlag(true), inputFlag("`FILE` with the public key, PEM or JSON")},
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					key, err := publicKey(c.String("input"))
					if err != nil {
						return err
					}
					for _, n := range c.StringSlice("key-name") {
						if err := r.Keys().Import(n, key); err != nil {
							return err
						}
						say(c, "imported %s, key id %s", n, key.ID())
					}
					return nil
				},
			},
		},
	}
}

func keysPathFlag() cli.Flag {
	return &cli.StringFlag{Name: "keys-path", Aliases: []string{"p"}, Usage: "`DIR` of the keys; user-keys in the home directory by default"}
}

// publicKey reads a public key as .pub file (JSON) or PEM.
func publicKey(path string) (uptane.Key, error) {
	b, err := readInput(path)
	if err != nil {
		return uptane.Key{}, err
	}
	key, err := uptane.ParsePublic(b)
	if err != nil {
		return uptane.Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// fileOrName reads a public key by its file's path or by its name in a folder.
func fileOrName(keys *repo.Keys, name string) (uptane.Key, error) {
	if strings.ContainsAny(name, "/\\") || strings.HasSuffix(name, ".pub") || strings.HasSuffix(name, ".pem") {
		return publicKey(name)
	}
	return keys.Public(name)
}
