// Package open opens the token or key that a URI names, whatever holds it: the one place where a program learns which
// kinds of tokens it can use. It links no net/http: the key stores that need it are served by another program, as a child.
//
// An attacker who can change a URI can have another token or key opened, which label, serial and public key give away, and
// another library loaded, which has the PIN: URIs come from the machine's own configuration, never from what travels.
package open

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Config says which token to open and how.
type Config struct {
	// URI names the token; its object is ignored.
	URI hsm.URI
	// Module is the PKCS#11 library of pkcs11: URIs; the URI's module-path is used where it is empty.
	Module string
	// PIN gives the PIN; the URI's pin-source is used where it is nil.
	PIN hsm.PINSource
	// Apart runs a PKCS#11 library in a process of its own, with these limits; nil runs it in this one. What opens tokens apart calls
	// apart.Main first in its main.
	Apart *apart.Limits
	// Tell is given, in words for people, what happens to a library that runs apart and, of one that does not, what a person should do
	// now: put back a token that is waited for, type the PIN at the token's own keys. nil tells nobody.
	Tell func(said string)
	// Wait, where it is not nil, has every call wait for a token that went away until this context ends, instead of half a minute. It is
	// for libraries in this process.
	Wait context.Context
	// Stores is the program that serves other key stores (Stores), which needs the network; where it is empty they are refused.
	Stores string
	// Sessions bounds the signatures under way at once; 0 leaves it to the token.
	Sessions int
}

// Stores is the program that serves other key stores (cmd/hanaper-kms), where it lies beside this one. Only programs that may be
// online use it.
func Stores() string {
	self, err := os.Executable()
	if err != nil {
		return "hanaper-kms"
	}
	return filepath.Join(filepath.Dir(self), "hanaper-kms")
}

// Token opens a token.
func Token(ctx context.Context, c Config) (hsm.Token, error) {
	switch c.URI.Scheme {
	case "", hsm.SchemePKCS11:
		if c.Apart != nil {
			return asToken(apart.Open(ctx, apart.Config{Module: c.Module, URI: c.URI, PIN: c.PIN, Sessions: c.Sessions, Limits: *c.Apart, Tell: c.Tell}))
		}
		p := pkcs11.Config{Module: c.Module, URI: c.URI, PIN: c.PIN, Sessions: c.Sessions, Tell: c.Tell, AskAgain: c.URI.PINPolicy == hsm.AskEach}
		if c.Wait != nil {
			p.Patience, p.Within = -1, c.Wait
		}
		return asToken(pkcs11.Open(ctx, p))
	case hsm.SchemeTPM:
		return asToken(tpm.Open(ctx, tpm.Config{URI: c.URI, PIN: c.PIN}))
	}
	if c.Stores != "" && slices.Contains(hsm.KMSSchemes(), c.URI.Scheme) {
		if _, err := os.Stat(c.Stores); err != nil {
			return nil, advice.New(advice.Failed, "install hanaper-kms beside this program", "key URI: %s: keys need the program %s: %w", show.Text(c.URI.Scheme), show.Text(c.Stores), err)
		}
		limits := apart.Limits{}
		if c.Apart != nil {
			limits = *c.Apart
		}
		return asToken(apart.Open(ctx, apart.Config{Program: c.Stores, URI: c.URI, PIN: c.PIN, Sessions: c.Sessions, Limits: limits, Tell: c.Tell}))
	}
	return nil, advice.New(advice.Usage, "write a pkcs11: or tpm: URI", "key URI: this program opens no %s: keys", show.Text(c.URI.Scheme))
}

// NamesKey refuses a URI that names a token and no key in it.
func NamesKey(u hsm.URI) error {
	if u.Opaque == "" && u.Object == "" && len(u.ID) == 0 {
		return advice.New(advice.Usage, "add object=LABEL or id=ID; `hanaper token show` lists the keys", "key URI %s names no key", u)
	}
	return nil
}

// Key opens the token that a key URI names, and the one key in it. Closing the closer closes the token.
func Key(ctx context.Context, u hsm.URI, pin hsm.PINSource) (hsm.Key, io.Closer, error) {
	if err := NamesKey(u); err != nil {
		return nil, nil, err
	}
	t, err := Token(ctx, Config{URI: u, PIN: hsm.PINFromURI(u, pin)})
	if err != nil {
		return nil, nil, err
	}
	k, err := t.Key(ctx, u.Query())
	if err != nil {
		return nil, nil, errors.Join(err, t.Close())
	}
	return k, t, nil
}

// asToken keeps a nil pointer from becoming a token that is not nil.
func asToken[T hsm.Token](t T, err error) (hsm.Token, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}
