package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// pssShape is one way of padding, whose support by the token is found out once a key.
type pssShape struct {
	hash crypto.Hash
	salt int
}

var pssHashes = map[crypto.Hash]struct{ hash, mgf uint }{
	crypto.SHA256: {p11.CKM_SHA256, p11.CKG_MGF1_SHA256},
	crypto.SHA384: {p11.CKM_SHA384, p11.CKG_MGF1_SHA384},
	crypto.SHA512: {p11.CKM_SHA512, p11.CKG_MGF1_SHA512},
}

// signPSS lets the token pad where it can and its salt has the length asked for (a TPM may choose its own); otherwise it pads here
// (EMSA-PSS) and lets the token do the bare RSA operation.
func (k *Key) signPSS(ctx context.Context, pub *rsa.PublicKey, digest []byte, opts *rsa.PSSOptions) ([]byte, error) {
	if opts.Hash == 0 {
		return nil, advice.New(advice.Usage, "set Hash in rsa.PSSOptions", "the PSS hash is not named")
	}
	h, err := checkDigest(digest, opts)
	if err != nil {
		return nil, err
	}
	numbers := pssHashes[h]
	longest := (pub.N.BitLen()-1+7)/8 - 2 - h.Size()
	shape := pssShape{hash: h, salt: opts.SaltLength}
	switch opts.SaltLength {
	case rsa.PSSSaltLengthEqualsHash:
		shape.salt = h.Size()
	case rsa.PSSSaltLengthAuto:
		shape.salt = longest
	}
	if shape.salt < 0 || shape.salt > longest {
		return nil, advice.New(advice.Usage, "use a salt as long as the hash", "a PSS salt of %d bytes does not fit", shape.salt)
	}
	exact := &rsa.PSSOptions{Hash: h, SaltLength: shape.salt}
	k.mu.Lock()
	inToken, known := k.pss[shape]
	k.mu.Unlock()
	if !known {
		inToken = k.t.can(p11.CKM_RSA_PKCS_PSS, p11.CKF_SIGN)
	}
	if inToken {
		sig, err := k.operate(ctx, p11.NewMechanism(p11.CKM_RSA_PKCS_PSS, p11.NewPSSParams(numbers.hash, numbers.mgf, uint(shape.salt))), digest)
		switch {
		case err == nil && (known || verifySignature(pub, digest, sig, exact) == nil):
			k.remember(shape, true)
			return sig, nil
		case err != nil && known, err != nil && !refusesMechanism(err):
			return nil, err
		}
	}
	if !k.t.can(p11.CKM_RSA_X_509, p11.CKF_SIGN) {
		return nil, k.t.lacks("it does neither CKM_RSA_PKCS_PSS with this hash and salt nor CKM_RSA_X_509", "sign with PSS, %s, salt of %d bytes", h, shape.salt)
	}
	salt := make([]byte, shape.salt)
	rand.Read(salt)
	em, err := emsaPSS(digest, pub.N.BitLen()-1, salt, h)
	if err != nil {
		return nil, err
	}
	padded := make([]byte, pub.Size()) // one byte longer than em where the modulus has 8k+1 bits
	copy(padded[len(padded)-len(em):], em)
	sig, err := k.operate(ctx, p11.NewMechanism(p11.CKM_RSA_X_509, nil), padded)
	if err != nil {
		return nil, err
	}
	if !known {
		if err := verifySignature(pub, digest, sig, exact); err != nil {
			return nil, err
		}
		k.remember(shape, false)
	}
	return sig, nil
}

func (k *Key) remember(s pssShape, inToken bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pss[s] = inToken
}

// refusesMechanism says whether the token cannot do it this way, so that another way may be tried.
func refusesMechanism(err error) bool {
	if errors.Is(err, hsm.ErrUnsupported) {
		return true
	}
	switch code(err) {
	case p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_ARGUMENTS_BAD, p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_KEY_FUNCTION_NOT_PERMITTED:
		return true
	}
	return false
}

// emsaPSS is EMSA-PSS-ENCODE with MGF1 over the same hash (RFC 8017, section 9.1.1).
func emsaPSS(digest []byte, bits int, salt []byte, h crypto.Hash) ([]byte, error) {
	size, length := h.Size(), (bits+7)/8
	if length < size+len(salt)+2 {
		return nil, fmt.Errorf("key of %d bits is too short for PSS with %s and a salt of %d bytes", bits+1, h, len(salt))
	}
	hash := h.New()
	hash.Write(make([]byte, 8))
	hash.Write(digest)
	hash.Write(salt)
	sum := hash.Sum(nil)
	em := make([]byte, length)
	db := em[:length-size-1]
	db[len(db)-len(salt)-1] = 1
	copy(db[len(db)-len(salt):], salt)
	var counter [4]byte
	mask := new(bytes.Buffer)
	for mask.Len() < len(db) {
		hash.Reset()
		hash.Write(sum)
		hash.Write(counter[:])
		mask.Write(hash.Sum(nil))
		counter[3]++ // 255 blocks are enough for 65,000 bits
	}
	for i := range db {
		db[i] ^= mask.Bytes()[i]
	}
	db[0] &= 0xff >> (8*length - bits)
	copy(em[length-size-1:], sum)
	em[length-1] = 0xbc
	return em, nil
}
