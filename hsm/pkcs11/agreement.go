package pkcs11

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"encoding/asn1"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// exchanger is an elliptic-curve key for Diffie-Hellman, as crypto/hpke takes it.
type exchanger struct {
	k      *Key
	public *ecdh.PublicKey
}

var _ ecdh.KeyExchanger = (*exchanger)(nil)

// KeyExchanger is the key as crypto/hpke and others take it. Only keys of hsm.Agreement (CKA_DERIVE) have it.
func (k *Key) KeyExchanger() (ecdh.KeyExchanger, error) {
	pub, ok := k.public.(*ecdsa.PublicKey)
	if !ok || !k.attributes.Derive {
		return nil, advice.New(advice.Usage, "generate one for agreement, on P-256 or P-384", "%s: %s is not for key agreement", k.t.Info().Name(), k.name())
	}
	if !k.t.can(p11.CKM_ECDH1_DERIVE, p11.CKF_DERIVE) {
		return nil, k.t.lacks("CKM_ECDH1_DERIVE", "key agreement")
	}
	public, err := pub.ECDH()
	if err != nil {
		return nil, k.t.fail(err, "%s", k.name())
	}
	return &exchanger{k: k, public: public}, nil
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.public }
func (e *exchanger) Curve() ecdh.Curve          { return e.public.Curve() }

// ECDH is the x-coordinate of the shared point (CKD_NULL), which leaves the token by its nature. It waits for a token that
// went away as long as Config.Patience.
func (e *exchanger) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	secret, err := e.k.agree(e.k.t.within, remote)
	if err != nil {
		return nil, e.k.t.fail(err, "agree with %s", e.k.name())
	}
	return secret, nil
}

// agree derives the shared secret in the token. The other side's point is written raw, and in DER for tokens that want it so.
func (k *Key) agree(ctx context.Context, remote *ecdh.PublicKey) ([]byte, error) {
	own, err := k.public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return nil, err
	}
	if remote == nil || remote.Curve() != own.Curve() {
		return nil, advice.New(advice.Usage, "use a key of the same curve", "the other key is not on the curve of %s", k.name())
	}
	size := agreementSize(own)
	point := remote.Bytes() // raw, as the standard prefers; some tokens take DER only
	wrapped, err := asn1.Marshal(point)
	if err != nil {
		return nil, err
	}
	pin, err := k.ownPIN(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	var secret []byte
	err = k.use(ctx, func(s session, o p11.ObjectHandle) error {
		secret, err = k.t.derive(s, o, point, size)
		if refusesMechanism(err) {
			secret, err = k.t.derive(s, o, wrapped, size)
		}
		return err
	})
	return secret, err
}

// derive makes the shared secret as a session object, reads it and destroys the object.
func (t *Token) derive(s session, o p11.ObjectHandle, point []byte, size int) ([]byte, error) {
	c := t.m.ctx
	mechanism := p11.NewMechanism(p11.CKM_ECDH1_DERIVE, p11.NewECDH1DeriveParams(p11.CKD_NULL, nil, point))
	object, err := c.DeriveKey(s.h, []*p11.Mechanism{mechanism}, o, []*p11.Attribute{
		attr(p11.CKA_CLASS, p11.CKO_SECRET_KEY), attr(p11.CKA_KEY_TYPE, p11.CKK_GENERIC_SECRET), attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true),
		attr(p11.CKA_SENSITIVE, false), attr(p11.CKA_EXTRACTABLE, true), attr(p11.CKA_VALUE_LEN, size),
	})
	if err != nil {
		return nil, err
	}
	v, err := t.attributes(s, object, p11.CKA_VALUE)
	if e := c.DestroyObject(s.h, object); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return hsm.LeftPad(v[p11.CKA_VALUE], size)
}

// proveAgreement has the key agree once, as hsm.ProveAgreement says.
func (k *Key) proveAgreement(ctx context.Context) error {
	return hsm.ProveAgreement(k.public.(*ecdsa.PublicKey), func(remote *ecdh.PublicKey) ([]byte, error) { return k.agree(ctx, remote) })
}
