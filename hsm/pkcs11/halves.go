package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// publicOf finds the public half of a private key: in the private object itself (RSA), in a public key object of the same id, or in a
// certificate of the same id (cards). An id is no proof: where several keys share one, the key itself decides, by a signature or an
// agreement that only its own public half fits.
func (t *Token) publicOf(s session, private p11.ObjectHandle, a hsm.Attributes) (crypto.PublicKey, error) {
	pub, err := t.readPublic(s, private)
	if err == nil {
		return pub, nil
	}
	if !errors.Is(err, errNoPublic) {
		return nil, err
	}
	q := hsm.Query{ID: a.ID}
	if len(a.ID) == 0 {
		q = hsm.Query{Label: a.Label}
	}
	candidates, err := t.candidates(s, q)
	if err != nil {
		return nil, err
	}
	sharers, err := t.search(s, p11.CKO_PRIVATE_KEY, q)
	if err != nil {
		return nil, err
	}
	switch {
	case len(candidates) == 0:
		return nil, errNoPublic
	case len(candidates) == 1 && len(sharers) <= 1:
		return candidates[0], nil
	}
	kind, err := t.attributes(s, private, p11.CKA_KEY_TYPE, p11.CKA_EC_PARAMS)
	if err != nil {
		return nil, err
	}
	var last error
	for _, c := range candidates {
		if !sameKind(kind, c) {
			continue // asked for a signature of another kind, some tokens answer that they are ill
		}
		fits, err := t.fits(s, private, a, c)
		if err != nil {
			last = err
		}
		if fits {
			return c, nil
		}
	}
	if code(last) != p11.CKR_OK && lost(last) {
		return nil, last
	}
	err = fmt.Errorf("public keys %w %s, and none is shown to be this key's", hsm.ErrAmbiguous, q)
	if last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return nil, err
}

// sameKind says whether a public key is of the key type, and on the curve, that a private key's attributes name.
func sameKind(private map[uint][]byte, pub crypto.PublicKey) bool {
	k, known := kinds[hsm.AlgorithmOf(pub)]
	if !known || number(private[p11.CKA_KEY_TYPE]) != k.keyType {
		return false
	}
	params := private[p11.CKA_EC_PARAMS]
	return len(params) == 0 || slices.ContainsFunc(k.params, func(p []byte) bool { return bytes.Equal(p, params) })
}

// candidates are the different public keys that objects and certificates of this name hold.
func (t *Token) candidates(s session, q hsm.Query) ([]crypto.PublicKey, error) {
	found, err := t.search(s, p11.CKO_PUBLIC_KEY, q)
	if err != nil {
		return nil, err
	}
	var all []crypto.PublicKey
	add := func(pub crypto.PublicKey) {
		for _, have := range all {
			if samePublic(have, pub) {
				return
			}
		}
		all = append(all, pub)
	}
	var unreadable error
	for _, o := range found {
		pub, err := t.readPublic(s, o)
		if code(err) != p11.CKR_OK {
			return nil, err
		}
		if err != nil {
			unreadable = err // perhaps of a kind that is not used here; another may fit
			continue
		}
		add(pub)
	}
	if len(all) == 0 && unreadable != nil {
		return nil, unreadable
	}
	if len(found) == 0 {
		certs, err := t.certificates(s, q.ID)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			add(c.PublicKey)
		}
	}
	return all, nil
}

// errUntried: the key cannot be asked which public half is its own.
var errUntried = errors.New("the key cannot be asked without its PIN, or is for nothing that shows it")

// fits asks the private key whether pub is its public half.
func (t *Token) fits(s session, private p11.ObjectHandle, a hsm.Attributes, pub crypto.PublicKey) (bool, error) {
	algorithm := hsm.AlgorithmOf(pub)
	kind, known := kinds[algorithm]
	switch {
	case !known || a.AlwaysAuthenticate:
		return false, errUntried
	case a.Sign && kind.family == familyEC:
		digest := make([]byte, 32)
		rand.Read(digest)
		raw, err := t.signRaw(s, private, p11.CKM_ECDSA, digest)
		if err != nil {
			return false, err
		}
		key := pub.(*ecdsa.PublicKey)
		sig, err := ecdsaDER(raw, key.Params().N)
		return err == nil && ecdsa.VerifyASN1(key, digest, sig), nil // of another length: of another curve
	case a.Sign && kind.family == familyEd25519:
		message := make([]byte, 32)
		rand.Read(message)
		sig, err := t.signRaw(s, private, ckmEDDSA, message)
		return err == nil && verifySignature(pub, message, sig, crypto.Hash(0)) == nil, err
	case a.Derive && kind.family == familyEC:
		return t.agrees(s, private, pub.(*ecdsa.PublicKey))
	}
	return false, errUntried
}

// agrees compares an agreement in the token with one made here.
func (t *Token) agrees(s session, private p11.ObjectHandle, pub *ecdsa.PublicKey) (bool, error) {
	own, err := pub.ECDH()
	if err != nil {
		return false, err
	}
	other, err := own.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return false, err
	}
	want, err := other.ECDH(own)
	if err != nil {
		return false, err
	}
	point, size := other.PublicKey().Bytes(), agreementSize(own)
	got, err := t.derive(s, private, point, size)
	return err == nil && bytes.Equal(got, want), err
}

// agreementSize is the length of what an agreement gives: of one coordinate.
func agreementSize(pub *ecdh.PublicKey) int { return (len(pub.Bytes()) - 1) / 2 }

// signRaw makes one signature in this very session, and gives it as the token does.
func (t *Token) signRaw(s session, private p11.ObjectHandle, mechanism uint, data []byte) ([]byte, error) {
	if err := t.m.ctx.SignInit(s.h, []*p11.Mechanism{p11.NewMechanism(mechanism, nil)}, private); err != nil {
		return nil, err
	}
	return t.m.ctx.Sign(s.h, data)
}
