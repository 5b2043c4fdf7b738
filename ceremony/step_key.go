package ceremony

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/hsm"
)

// GenerateKey makes a key pair in a token.
type GenerateKey struct {
	// Name by which later steps use the key.
	Name string `yaml:"name"`
	// Token by its name in tokens.
	Token string `yaml:"token"`
	// Label in the token; the name where it is empty.
	Label string `yaml:"label"`
	// Algorithm: P-256, P-384, RSA-2048, RSA-3072, RSA-4096 or Ed25519.
	Algorithm string `yaml:"algorithm"`
	// Class: sealed (the default) or backup.
	Class string `yaml:"class"`
}

func (g *GenerateKey) label() string {
	if g.Label == "" {
		return g.Name
	}
	return g.Label
}

func (g *GenerateKey) class() hsm.Class {
	if g.Class == "" {
		return hsm.Sealed
	}
	return hsm.Class(g.Class)
}

func (g *GenerateKey) people() people { return byProgram }

func (g *GenerateKey) needs(*Plan) []need {
	return []need{{token: g.Token, label: g.label(), able: func(t hsm.Token) error {
		if able, ok := t.(interface{ CanGenerate(hsm.Algorithm) error }); ok {
			if err := able.CanGenerate(hsm.Algorithm(g.Algorithm)); err != nil {
				return refuse(RuleToken, "%w", err)
			}
		}
		return nil
	}}}
}

func (g *GenerateKey) left(o *leftover, own []entry) { o.leaves(own) }

func (g *GenerateKey) describe(*Session) string {
	return fmt.Sprintf("generate the %s key %q in token %q, label %q, class %s", g.Algorithm, g.Name, g.Token, g.label(), g.class())
}

func (g *GenerateKey) perform(s *Session) error {
	if err := s.claimNew(g.Name); err != nil {
		return err
	}
	if !labelForm.MatchString(g.label()) {
		return malformed("label %q: use 1 to 64 letters, digits, spaces and . _ : -", g.label())
	}
	if _, ok := s.infos[g.Token]; !ok {
		return refuse(RuleReference, "there is no token %q at this step", g.Token)
	}
	if !slices.Contains(hsm.Algorithms(), hsm.Algorithm(g.Algorithm)) {
		return malformed("algorithm %q is unknown; known are %v", g.Algorithm, hsm.Algorithms())
	}
	if c := g.class(); c != hsm.Sealed && c != hsm.Backup {
		return malformed("class %q is none of sealed and backup", c)
	}
	if err := s.checkTPM(g.Token, hsm.Algorithm(g.Algorithm), g.class()); err != nil {
		return err
	}
	for _, k := range s.state.keys {
		if k.token == g.Token && k.label == g.label() && !k.destroyed {
			return refuse(RuleLabel, "token %q holds the label %q already", g.Token, g.label())
		}
	}
	k, err := s.generate(g.Name, g.Token, hsm.GenerateSpec{Label: g.label(), Algorithm: hsm.Algorithm(g.Algorithm), Class: g.class()})
	if err != nil {
		return err
	}
	s.state.keys[g.Name] = k
	return s.artefact("artefacts/"+g.Name+".pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki}), func(data []byte) error {
		if block, rest := pem.Decode(data); block == nil || len(rest) > 0 || block.Type != "PUBLIC KEY" || !bytes.Equal(block.Bytes, k.spki) {
			return fmt.Errorf("it is not the public key of %q", k.name)
		}
		return nil
	})
}
