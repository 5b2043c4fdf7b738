package main

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

// custodians are the officers present with their decryption keys.
type custodians struct {
	keys     []crypto.Signer
	bindings *bindings
	ask      term.Prompter
	// tell gets what people in the room should see.
	tell io.Writer
	// first are the first PINs of tokens that this process initialised, by token and "user" or "so": they were typed twice
	// a moment ago, and are not asked for again until shares take their place.
	first map[string][]byte
}

// forget wipes what was kept.
func (p *custodians) forget() {
	for _, pin := range p.first {
		clear(pin)
	}
	p.first = nil
}

// Secret puts the secret together from the shares of those present. What is wrong with a share is found before a
// token sees a PIN.
func (p *custodians) Secret(ctx context.Context, shares *quorum.Shares) (*quorum.Secret, error) {
	var opened []*quorum.Share
	defer func() {
		for _, s := range opened {
			s.Wipe()
		}
	}()
	var failed []string
	for _, k := range p.keys {
		if len(opened) == shares.Threshold() {
			break
		}
		s, err := shares.Open(k)
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		opened = append(opened, s)
	}
	if len(opened) < shares.Threshold() {
		why := ""
		if len(failed) > 0 {
			why = ": " + strings.Join(failed, "; ")
		}
		return nil, advice.New(advice.Refused, fmt.Sprintf("name the decryption keys of %d of %s with --custodian", shares.Threshold(), strings.Join(shares.Holders(), ", ")),
			"%d of %d shares of the %s secret of token %s could be opened%s", len(opened), shares.Threshold(), show.Text(shares.Purpose()), show.Text(shares.TokenSerial()), why)
	}
	return shares.Combine(opened...)
}

// Test asks that every holder is present and opens their share.
func (p *custodians) Test(ctx context.Context, shares *quorum.Shares) error {
	var holders []string
	for _, k := range p.keys {
		if s, err := shares.Open(k); err == nil {
			holders = append(holders, s.Holder())
			fmt.Fprintf(p.tell, "  %s has opened their new share of the %s secret of token %s\n", show.Text(s.Holder()), show.Text(shares.Purpose()), show.Text(shares.TokenSerial()))
			s.Wipe()
		}
	}
	for _, h := range shares.Holders() {
		if !slices.Contains(holders, h) {
			return advice.New(advice.Refused, "every holder of a new share opens it once before it is relied on: name all their keys with --custodian",
				"%s has not opened the new share", show.Text(h))
		}
	}
	return nil
}

// Holds says whether the decryption key of an officer is among those named.
func (p *custodians) Holds(o quorum.Officer) bool {
	return slices.ContainsFunc(p.keys, func(k crypto.Signer) bool {
		own, ok := k.Public().(interface{ Equal(crypto.PublicKey) bool })
		return ok && own.Equal(o.DecryptionKey)
	})
}

// PIN reads a PIN that no quorum holds: from the file that the bindings name, or from the terminal.
func (p *custodians) PIN(ctx context.Context, token, which string, info hsm.TokenInfo) ([]byte, error) {
	if path := p.bindings.PINs[token][which]; path != "" {
		return pinFile(path)(ctx, info)
	}
	if pin := p.first[token+" "+which]; pin != nil {
		return bytes.Clone(pin), nil
	}
	prompt := ceremony.AskPIN(token, which, info.Label)
	if info.Initialized {
		return p.ask.Secret(prompt)
	}
	blank, err := pkcs11.Blank(ctx, p.bindings.moduleOf(token), info.Serial, info.Label)
	if err != nil {
		return nil, err
	}
	pin, err := firstPIN(p.ask, prompt, blank)
	if err != nil {
		return nil, err
	}
	if p.first == nil {
		p.first = map[string][]byte{}
	}
	p.first[token+" "+which] = bytes.Clone(pin)
	return pin, nil
}

// firstPIN asks for the first PIN of a blank token twice: one that was mistyped unseen would lock everybody out of it. People
// who mistyped, or chose one that the token does not take, are asked again; the token knows nothing of it yet.
func firstPIN(ask term.Prompter, prompt string, blank hsm.TokenInfo) ([]byte, error) {
	return newSecret(ask, prompt, func(pin []byte) error { return hsm.CheckNewPIN(pin, blank) })
}

// newSecret asks twice for a secret that is new, until it is one that may be.
func newSecret(ask term.Prompter, prompt string, check func([]byte) error) ([]byte, error) {
	before := ""
	for {
		first, err := ask.Secret(before + prompt)
		if err != nil {
			return nil, err
		}
		if err := check(first); err != nil {
			clear(first)
			before = "Choose another: " + err.Error() + ".\n"
			continue
		}
		second, err := ask.Secret(ceremony.AskAgain)
		same := err == nil && bytes.Equal(first, second)
		clear(second)
		if same {
			return first, nil
		}
		clear(first)
		if err != nil {
			return nil, err
		}
		before = "They differ.\n"
	}
}

// initialiser makes blank tokens, in the module that the bindings name.
func (b *bindings) initialiser() ceremony.Initialiser {
	return func(ctx context.Context, name string, uri hsm.URI, so, user []byte) (hsm.TokenInfo, error) {
		return pkcs11.Init(ctx, b.moduleOf(name), uri.Serial, uri.Token, so, user)
	}
}

// userPIN gives the PIN of a token whose PIN a quorum holds when the ceremony begins; nil where none does.
func (p *custodians) userPIN(s *ceremony.Script, name string) (hsm.PINSource, error) {
	shares, err := s.Shares(name, quorum.PurposeUser)
	if err != nil || shares == nil {
		return nil, err
	}
	return func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
		if info.Serial != shares.TokenSerial() {
			return nil, advice.New(advice.Refused, "", "the shares are for the token with serial %s, not for %s", show.Text(shares.TokenSerial()), info.Name())
		}
		secret, err := p.Secret(ctx, shares)
		if err != nil {
			return nil, err
		}
		defer secret.Wipe()
		return secret.PIN(info.MinPIN, info.MaxPIN)
	}, nil
}
