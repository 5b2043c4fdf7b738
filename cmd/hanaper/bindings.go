package main

import (
	"context"
	"slices"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// bindings say of this machine what a script may not: the module and PIN source of each token.
type bindings struct {
	// Tokens are URIs by the script's token names; label and serial may stand in them and must then be the script's.
	Tokens map[string]string `yaml:"tokens"`
	// PINs are files that hold the "so" PIN, or for a token to be initialised the first "user" PIN, by token name.
	PINs map[string]map[string]string `yaml:"pins"`

	module string
	uris   map[string]hsm.URI
}

func loadBindings(path, module string) (*bindings, error) {
	b := &bindings{module: module, uris: map[string]hsm.URI{}}
	if path != "" {
		if err := strict.ReadFile(path, b); err != nil {
			return nil, advice.Wrap(advice.Usage, err, "it holds `tokens:` and `pins:`, and below them the names of the script's tokens; see --bindings in docs/spec/script.md")
		}
	}
	for name, text := range b.Tokens {
		u, err := hsm.ParseURI(text)
		if err != nil {
			return nil, advice.New(advice.Usage, advice.Hint(err), "%s: token %q: %w", path, name, err)
		}
		b.uris[name] = u
	}
	return b, nil
}

// fit refuses bindings that do not fit the script's tokens, and gives those that are of no token of it: a machine's bindings serve for all
// its scripts, and a name that was mistyped is seen.
func (b *bindings) fit(s *ceremony.Script) (idle []string, err error) {
	known := map[string]bool{}
	for _, n := range s.TokenNames() {
		known[n] = true
		if local, uri := b.uris[n], s.TokenURI(n); uri.Scheme == hsm.SchemeTPM {
			if local.Scheme != hsm.SchemeTPM || local.Store == "" {
				return nil, advice.New(advice.Usage, "give --bindings FILE, with `tokens:` and below it `"+n+": \"tpm:?store=/FOLDER\"`", "the bindings do not say where the keys of TPM %q are", n)
			}
		} else if local.Scheme != "" {
			return nil, advice.New(advice.Usage, "name it as the script does", "the bindings name token %q as one of another kind than the script", n)
		} else if local.ModulePath == "" && b.module == "" {
			return nil, advice.New(advice.Usage, "name it with --module, or with module-path in --bindings", "no PKCS#11 module is named for token %q", n)
		}
		if local, uri := b.uris[n], s.TokenURI(n); local.Token != "" && local.Token != uri.Token || local.Serial != "" && uri.Serial != "" && local.Serial != uri.Serial {
			return nil, advice.New(advice.Usage, "bindings say where a token is, not which", "the bindings name another token than the script")
		}
	}
	for n := range b.uris {
		if !known[n] {
			idle = append(idle, n)
		}
	}
	for n := range b.PINs {
		if !known[n] && !slices.Contains(idle, n) {
			idle = append(idle, n)
		}
	}
	slices.Sort(idle)
	return idle, nil
}

// moduleOf is the PKCS#11 library of a token.
func (b *bindings) moduleOf(name string) string {
	if m := b.uris[name].Library(); m != "" {
		return m
	}
	return b.module
}

// opener opens the script's tokens with this machine's modules and PIN sources, or with the PIN that a quorum holds.
func (b *bindings) opener(s *ceremony.Script, people *custodians) ceremony.Opener {
	return func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		if pin == nil {
			var err error
			if pin, err = b.userPIN(s, people, name); err != nil {
				return nil, err
			}
		}
		return open.Token(ctx, open.Config{Module: b.moduleOf(name), URI: b.here(name, uri), PIN: pin, Tell: tellPeople})
	}
}

// here is a script's URI with what the bindings say of where the token is.
func (b *bindings) here(name string, uri hsm.URI) hsm.URI {
	if uri.Scheme == hsm.SchemeTPM {
		return uri.OnMachine(b.uris[name])
	}
	return uri
}

// list lists, without a PIN, the tokens that are where the bindings say that one is.
func (b *bindings) list(ctx context.Context, name string) ([]hsm.TokenInfo, error) {
	if u := b.uris[name]; u.Scheme == hsm.SchemeTPM {
		return tpmTokens(ctx, u)
	}
	return pkcs11.List(b.moduleOf(name))
}

// userPIN says where a token's PIN comes from: the quorum that holds it, a file that the bindings name, or a person.
func (b *bindings) userPIN(s *ceremony.Script, people *custodians, name string) (hsm.PINSource, error) {
	pin, err := people.userPIN(s, name)
	if pin != nil || err != nil {
		return pin, err
	}
	if path := b.PINs[name]["user"]; path != "" {
		return pinFile(path), nil
	}
	if pin := people.first[name+" user"]; pin != nil {
		return hsm.PINBytes(pin), nil
	}
	return hsm.PINFromURI(b.uris[name], pinPrompt(people.ask)), nil
}
