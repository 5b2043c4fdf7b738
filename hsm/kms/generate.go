package kms

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Generate makes a key in the store, of class hsm.Unread: what another class promises nobody could read back.
func (t *Token) Generate(ctx context.Context, s hsm.GenerateSpec) (hsm.Key, error) {
	name, err := t.name(hsm.Query{Label: s.Label, ID: s.ID})
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("generate key %s", show.Text(name))
	switch {
	case s.Class != hsm.Unread:
		return nil, advice.New(advice.Refused, "generate it in a PKCS#11 token or a TPM, or say that class unread is enough", "%w",
			t.fail(fmt.Errorf("%w %s: the store tells no attributes", hsm.ErrAttributes, show.Text(s.Class)), "%s", what))
	case s.Use != "" && s.Use != hsm.Signing:
		return nil, t.fail(fmt.Errorf("%w: keys that do not sign", hsm.ErrUnsupported), "%s", what)
	case !slices.Contains(hsm.Algorithms(), s.Algorithm):
		return nil, t.fail(fmt.Errorf("%w: algorithm %s", hsm.ErrUnsupported, show.Text(s.Algorithm)), "%s", what)
	case !t.address.scheme.creates:
		return nil, t.fail(fmt.Errorf("%w: keys are made with the store's own tools", hsm.ErrUnsupported), "%s", what)
	}
	switch _, err := t.key(ctx, name); {
	case err == nil:
		return nil, t.fail(hsm.ErrExists, "%s", what)
	case !errors.Is(err, hsm.ErrNoKey):
		return nil, err
	}
	err = t.within(ctx, what, func(ctx context.Context) error {
		m, err := t.manager(ctx)
		if err != nil {
			return err
		}
		name, err = m.create(name, s.Algorithm)
		return err
	})
	if err != nil {
		return nil, err
	}
	k, err := t.key(ctx, name)
	if err != nil {
		return nil, err
	}
	if have := k.Attributes().Algorithm; have != s.Algorithm {
		return nil, t.fail(fmt.Errorf("it came out as %s, not %s", show.Text(have), show.Text(s.Algorithm)), "%s", what)
	}
	return k, nil
}

// Destroy removes a key where the store can be asked to, and proves its absence.
func (t *Token) Destroy(ctx context.Context, q hsm.Query) error {
	name, err := t.name(q)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("destroy key %s", show.Text(name))
	if _, err := t.key(ctx, name); err != nil {
		return err
	}
	err = t.within(ctx, what, func(ctx context.Context) error {
		m, err := t.manager(ctx)
		if err != nil {
			return err
		}
		return m.destroy(name)
	})
	if err != nil {
		return err
	}
	if _, err := t.key(ctx, name); !errors.Is(err, hsm.ErrNoKey) {
		return t.fail(fmt.Errorf("it may still be there: %w", err), "%s", what)
	}
	return nil
}

// PutCertificate is refused: certificates of keys in a store are kept in files.
func (t *Token) PutCertificate(context.Context, string, []byte, *x509.Certificate) error {
	return t.fail(fmt.Errorf("%w: certificates are kept in files", hsm.ErrUnsupported), "store a certificate")
}

// Certificate is refused for the same reason.
func (t *Token) Certificate(context.Context, []byte) (*x509.Certificate, error) {
	return nil, t.fail(fmt.Errorf("%w: certificates are kept in files", hsm.ErrUnsupported), "find a certificate")
}
