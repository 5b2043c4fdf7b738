package main

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

// signedJSON is any JSON with signatures around it.
type signedJSON struct {
	Signatures []uptane.Signature `json:"signatures"`
	Signed     json.RawMessage    `json:"signed"`
}

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
			canonical, err := uptane.Canonical(b)
			if err != nil {
				return advice.Wrap(advice.Refused, err, "")
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
			sig, err := signBytes(signer, pub, canonical)
			if err != nil {
				return err
			}
			out, err := json.MarshalIndent(signedJSON{[]uptane.Signature{sig}, canonical}, "", "  ")
			if err == nil {
				_, err = show.Raw(c.App.Writer, append(out, '\n'))
			}
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
			// The canonical form first: it refuses repeated members, of which another reader would take the other one.
			if b, err = uptane.Canonical(b); err != nil {
				return advice.Wrap(advice.Unverified, err, "")
			}
			var doc signedJSON
			dec := json.NewDecoder(bytes.NewReader(b))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&doc); err != nil || doc.Signed == nil {
				return advice.New(advice.Unverified, "it must hold signatures and signed", "%s is not signed JSON", c.String("input"))
			}
			for _, s := range doc.Signatures {
				if s.KeyID == pub.ID() {
					if err := verifyBytes(pub, doc.Signed, s); err != nil {
						return err
					}
					say(c, "signed by key %s", pub.ID())
					return nil
				}
			}
			return advice.New(advice.Unverified, "name the key that signed it", "%s is not signed by key %s", c.String("input"), pub.ID())
		},
	}
}

func signBytes(signer crypto.Signer, pub uptane.Key, message []byte) (uptane.Signature, error) {
	s := uptane.Signature{KeyID: pub.ID(), Method: pub.Method()}
	var err error
	if pub.Type() == uptane.Ed25519 {
		s.Sig, err = signer.Sign(rand.Reader, message, crypto.Hash(0))
	} else {
		s.Sig, err = signer.Sign(rand.Reader, digest(message), &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256})
	}
	if err != nil {
		return s, err
	}
	return s, verifyBytes(pub, message, s)
}

func verifyBytes(pub uptane.Key, message []byte, s uptane.Signature) error {
	ok := false
	switch key := pub.Public().(type) {
	case ed25519.PublicKey:
		ok = s.Method == uptane.MethodEd25519 && ed25519.Verify(key, message, s.Sig)
	case *rsa.PublicKey:
		ok = (s.Method == uptane.RSASSAPSSSHA256 || s.Method == "rsassa-pss") &&
			rsa.VerifyPSS(key, crypto.SHA256, digest(message), s.Sig, &rsa.PSSOptions{SaltLength: sha256.Size}) == nil
	}
	if !ok {
		return advice.Wrap(advice.Unverified, fmt.Errorf("key %s: %w", s.KeyID, uptane.ErrSignature), "")
	}
	return nil
}
