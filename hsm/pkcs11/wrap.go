package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// wrappingKey finds the trusted AES key that q names.
func (t *Token) wrappingKey(s session, q hsm.Query) (p11.ObjectHandle, error) {
	if q.Label == "" && len(q.ID) == 0 {
		return 0, advice.New(advice.Usage, "name it by label or id", "%s: no wrapping key is named", t.Info().Name())
	}
	found, err := t.search(s, p11.CKO_SECRET_KEY, q)
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, advice.New(advice.Failed, "the security officer must import it first", "%s: wrapping key %s: %w", t.Info().Name(), q, hsm.ErrNoKey)
	case len(found) > 1:
		return 0, advice.New(advice.Failed, "name it by label and id", "%s: wrapping keys %s: %d of them: %w", t.Info().Name(), q, len(found), hsm.ErrAmbiguous)
	}
	return found[0], t.checkWrapping(s, found[0])
}

// WrapKey gives a key of class backup, or restored-backup, wrapped by AES key wrap with padding (RFC 5649) under a trusted wrapping key. Keys of other classes
// are refused here, before the token refuses them.
func (t *Token) WrapKey(ctx context.Context, wrapping, key hsm.Query) ([]byte, error) {
	k, err := t.key(ctx, key)
	if err != nil {
		return nil, t.fail(err, "wrap key %s", key)
	}
	if err := t.CanWrap(k.attributes.Algorithm); err != nil {
		return nil, err
	}
	if a := k.attributes; !a.Extractable || !a.WrapWithTrusted {
		return nil, advice.New(advice.Refused, "only a key of class backup is wrapped, and only until it is sealed after its backup", "%s: wrap %s: extractable is %t and wrap-with-trusted %t",
			t.Info().Name(), k.name(), a.Extractable, a.WrapWithTrusted)
	}
	var wrapped []byte
	err = k.use(ctx, func(s session, o p11.ObjectHandle) error {
		w, err := t.wrappingKey(s, wrapping)
		if err != nil {
			return err
		}
		wrapped, err = t.m.ctx.WrapKey(s.h, []*p11.Mechanism{p11.NewMechanism(ckmAESKeyWrapPad, nil)}, w, o)
		return err
	})
	if err == nil && (len(wrapped) < 24 || len(wrapped)%8 != 0) {
		err = fmt.Errorf("the token answered with %d bytes, which RFC 5649 never makes", len(wrapped))
	}
	return wrapped, t.fail(err, "wrap %s under wrapping key %s", k.name(), wrapping)
}

// SealAfterBackup makes a key of class backup unextractable for good, reads it back, and tries to take it out (probe.go).
func (t *Token) SealAfterBackup(ctx context.Context, q hsm.Query) (hsm.Attributes, error) {
	k, err := t.key(ctx, q)
	if err != nil {
		return hsm.Attributes{}, t.fail(err, "seal key %s", q)
	}
	var a hsm.Attributes
	err = k.use(ctx, func(s session, o p11.ObjectHandle) error {
		if err := t.m.ctx.SetAttributeValue(s.h, o, []*p11.Attribute{attr(p11.CKA_EXTRACTABLE, false)}); err != nil {
			return err
		}
		a, err = t.readPrivate(s, o)
		if err == nil && a.Extractable {
			err = fmt.Errorf("%w: it still reads back as extractable", hsm.ErrAttributes)
		}
		a.Algorithm = k.attributes.Algorithm
		if err == nil {
			// The trusted wrapping key under which it was backed up is there as a rule, and is among those tried.
			err = t.probe(s, o, a, hsm.Sealed)
		}
		return err
	})
	return a, t.fail(err, "seal %s", k.name())
}

// UnwrapKey restores a signing key as class restored, or restored-backup. The result must have the attributes of its class and sign for the public key
// that was recorded when it was generated, it must not come out again under any wrapping key that is not trusted (probe.go), and of class restored under no other either, and it must outlive the session;
// otherwise it is destroyed.
func (t *Token) UnwrapKey(ctx context.Context, spec hsm.RestoreSpec) (hsm.Key, error) {
	a := hsm.AlgorithmOf(spec.Public)
	if spec.Label == "" || len(spec.ID) == 0 || a == "" || len(spec.Wrapped) == 0 {
		return nil, advice.New(advice.Usage, "give label, id, public key and the wrapped key", "%s: restore key %q: something is missing", t.Info().Name(), spec.Label)
	}
	if err := t.CanWrap(a); err != nil {
		return nil, err
	}
	var key *Key
	acted := false
	err := t.do(ctx, func(s session) error {
		if err := t.refuseExisting(s, hsm.Query{Label: spec.Label}, hsm.Query{ID: spec.ID}); err != nil {
			return err
		}
		w, err := t.wrappingKey(s, spec.Wrapping)
		if err != nil {
			return err
		}
		s.act()
		acted = true
		if key, err = t.unwrapIn(s, w, spec, kinds[a]); err != nil {
			return err
		}
		return errCloseSession
	})
	if err == nil {
		if err = t.confirm(ctx, key); err == nil {
			err = t.prove(ctx, key, hsm.Signing)
		}
	}
	switch {
	case err == nil:
		return key, nil
	case !acted:
		return nil, t.fail(err, "restore key %q", spec.Label)
	}
	gone := t.removeFresh(ctx, spec.ID, nil)
	return nil, t.fail(errors.Join(err, gone), "restore key %q: what came out is refused, and %s", spec.Label, fate(gone))
}

// unwrapIn unwraps the private key, stores the public one beside it, and looks at both. What was made is destroyed when anything is otherwise
// than it should be.
func (t *Token) unwrapIn(s session, wrapping p11.ObjectHandle, spec hsm.RestoreSpec, kind kind) (*Key, error) {
	c := t.m.ctx
	if spec.Class == "" {
		spec.Class = hsm.Restored
	}
	private := []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), attr(p11.CKA_KEY_TYPE, kind.keyType), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_LABEL, spec.Label), attr(p11.CKA_ID, spec.ID), attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, spec.Class.Wrappable()),
		attr(p11.CKA_SIGN, true), attr(p11.CKA_DECRYPT, false), attr(p11.CKA_DERIVE, false), attr(p11.CKA_UNWRAP, false),
	}
	if spec.Class.Wrappable() {
		private = append(private, attr(p11.CKA_WRAP_WITH_TRUSTED, true))
	}
	priv, err := c.UnwrapKey(s.h, []*p11.Mechanism{p11.NewMechanism(ckmAESKeyWrapPad, nil)}, wrapping, spec.Wrapped, private)
	if err != nil {
		return nil, fmt.Errorf("unwrap: %w", err)
	}
	made := []p11.ObjectHandle{priv}
	undo := func(err error) (*Key, error) {
		for _, o := range made {
			err = errors.Join(err, t.m.destroy(s, o))
		}
		return nil, err
	}
	template, err := publicTemplate(spec, kind)
	if err != nil {
		return undo(err)
	}
	pub, err := c.CreateObject(s.h, template)
	if err != nil {
		return undo(fmt.Errorf("store the public key: %w", err))
	}
	made = append(made, pub)
	a, err := t.readPrivate(s, priv)
	if err != nil {
		return undo(fmt.Errorf("read the attributes back: %w", err))
	}
	a.Algorithm = hsm.AlgorithmOf(spec.Public)
	if err := a.CheckFresh(spec.Class); err != nil {
		return undo(err)
	}
	if a.Label != spec.Label || !bytes.Equal(a.ID, spec.ID) {
		return undo(fmt.Errorf("%w: it reads back as %s", hsm.ErrAttributes, hsm.Query{Label: a.Label, ID: a.ID}))
	}
	stored, err := t.readPublic(s, pub)
	if err == nil && !stored.(interface{ Equal(crypto.PublicKey) bool }).Equal(spec.Public) {
		err = errors.New("the public key reads back otherwise than it was stored")
	}
	if err = errors.Join(err, t.checkPublic(s, pub, a)); err != nil {
		return undo(err)
	}
	if err := t.probe(s, priv, a, spec.Class); err != nil {
		return undo(err)
	}
	k := newKey(t, a, spec.Public)
	k.handle, k.epoch, k.before = priv, s.epoch, t.m.destroyed.Load()
	return k, nil
}

// publicTemplate is the public key object that UnwrapKey puts beside the private one.
func publicTemplate(spec hsm.RestoreSpec, kind kind) ([]*p11.Attribute, error) {
	template := []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), attr(p11.CKA_KEY_TYPE, kind.keyType), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
		attr(p11.CKA_LABEL, spec.Label), attr(p11.CKA_ID, spec.ID), attr(p11.CKA_VERIFY, true), attr(p11.CKA_ENCRYPT, false), attr(p11.CKA_WRAP, false),
	}
	switch pub := spec.Public.(type) {
	case *rsa.PublicKey:
		return append(template, attr(p11.CKA_MODULUS, pub.N.Bytes()), attr(p11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(pub.E)).Bytes())), nil
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			return nil, err
		}
		wrapped, err := asn1.Marshal(point)
		if err != nil {
			return nil, err
		}
		return append(template, attr(p11.CKA_EC_PARAMS, kind.params[0]), attr(p11.CKA_EC_POINT, wrapped)), nil
	}
	return nil, fmt.Errorf("public keys of type %T are not stored here", spec.Public)
}

// DestroyWrappingKey removes the AES key that q names and proves its absence.
func (t *Token) DestroyWrappingKey(ctx context.Context, q hsm.Query) error {
	err := t.do(ctx, func(s session) error {
		o, err := t.wrappingKey(s, q)
		if err != nil {
			return err
		}
		s.act()
		return t.m.ctx.DestroyObject(s.h, o)
	})
	if err == nil {
		err = t.do(ctx, func(s session) error {
			left, err := t.search(s, p11.CKO_SECRET_KEY, q)
			if err == nil && len(left) > 0 {
				err = errors.New("it is still there after it was destroyed")
			}
			return err
		})
	}
	return t.fail(err, "destroy wrapping key %s", q)
}
