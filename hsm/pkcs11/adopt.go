package pkcs11

import (
	"context"
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// Adopt takes over the key pair that an earlier call of Generate with the same spec made, in this process or in one that is no more,
// and whose answer was lost. It is held to everything that Generate holds a fresh key to. The spec must have an id.
//
// The answer is nil without an error if there is no such pair. Half a pair, or two pairs, are what a generation leaves that was cut
// short or went wrong: they are removed, and the answer is nil as well. A pair that is otherwise than the spec says is removed and refused.
// A key with the label and another id is somebody else's, and is refused untouched.
func (t *Token) Adopt(ctx context.Context, spec hsm.GenerateSpec) (hsm.Key, error) {
	spec, kind, err := t.checkSpec(spec)
	if err != nil {
		return nil, err
	}
	q := hsm.Query{Label: spec.Label, ID: spec.ID}
	if len(spec.ID) == 0 {
		return nil, advice.New(advice.Usage, "give the id that it was to have", "%s: take over key %q: it has no id", t.Info().Name(), spec.Label)
	}
	var key *Key
	whole := false
	err = t.do(ctx, func(s session) error {
		key, whole = nil, false
		others, err := t.search(s, p11.CKO_PRIVATE_KEY, hsm.Query{Label: spec.Label})
		if err != nil {
			return err
		}
		privates, err := t.search(s, p11.CKO_PRIVATE_KEY, q)
		if err != nil {
			return err
		}
		if len(others) > len(privates) {
			return advice.New(advice.Refused, "find out who made it", "%s: a private key %q that this generation did not make: %w", t.Info().Name(), spec.Label, hsm.ErrExists)
		}
		publics, err := t.search(s, p11.CKO_PUBLIC_KEY, q)
		if err != nil || len(privates) != 1 || len(publics) != 1 {
			return err
		}
		whole = true
		key, err = t.inspect(s, spec, kind, publics[0], privates[0])
		return err
	})
	if err == nil && !whole {
		_, err := t.Remove(ctx, q)
		return nil, err
	}
	if err == nil {
		err = t.confirm(ctx, key)
	}
	if err == nil {
		err = t.prove(ctx, key, spec.Use)
	}
	if err == nil {
		return key, nil
	}
	if !whole || lost(err) {
		return nil, t.fail(err, "take over key %q", spec.Label)
	}
	_, gone := t.Remove(context.WithoutCancel(ctx), q)
	return nil, t.fail(errors.Join(err, gone), "take over key %q, which %s", spec.Label, fate(gone))
}

// fate says what became of a key that was to be destroyed.
func fate(err error) string {
	if err != nil {
		return "may still be in the token"
	}
	return "was destroyed"
}
