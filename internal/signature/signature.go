// Package signature verifies signatures in software, for every type of key and every scheme that the rooms use, and asks
// tokens for them. Which scheme a key must use is the caller's decision: an attacker who can choose it for the caller
// chooses a weaker one. What a document says about its scheme is therefore compared with the key before it comes here.
//
// Nothing here panics, whatever the key and the bytes are; what is not understood does not verify.
package signature

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
)

// PSS256 is RSA-PSS over SHA-256 with a salt of 32 bytes, the only one that other implementations read everywhere.
var PSS256 = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

// Scheme is how a key of this type signs by default: Ed25519 the message, RSA by PSS256, ECDSA over SHA-256.
func Scheme(pub crypto.PublicKey) crypto.SignerOpts {
	switch pub.(type) {
	case ed25519.PublicKey:
		return crypto.Hash(0)
	case *rsa.PublicKey:
		return PSS256
	}
	return crypto.SHA256
}

// Verify reports whether sig is a signature of digest by pub, in the scheme that opts name as for crypto.Signer: for
// Ed25519 no hash, and digest is the message; for ECDSA the hash, and sig is ASN.1 DER; for RSA *rsa.PSSOptions, or
// the hash alone for PKCS #1 v1.5.
//
// A PSS salt must be exactly as long as opts say: as the hash (PSSSaltLengthEqualsHash), or a number of bytes.
// PSSSaltLengthAuto verifies nothing, because Go takes a salt of any length for it: see VerifyAnySalt.
func Verify(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts, sig []byte) bool {
	if pss, ok := opts.(*rsa.PSSOptions); ok && (pss == nil || pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength <= 0) {
		return false
	}
	return verify(pub, digest, opts, sig)
}

// VerifyAnySalt is Verify for RSA-PSS over SHA-256 with a salt of any length: for what others signed who do not agree
// with anybody on its length.
func VerifyAnySalt(pub crypto.PublicKey, digest, sig []byte) bool {
	return verify(pub, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: crypto.SHA256}, sig)
}

func verify(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts, sig []byte) bool {
	if opts == nil {
		return false
	}
	hash := opts.HashFunc()
	if k, ok := pub.(ed25519.PublicKey); ok {
		return hash == 0 && len(k) == ed25519.PublicKeySize && ed25519.Verify(k, digest, sig)
	}
	if !hash.Available() || len(digest) != hash.Size() {
		return false
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		_, pss := opts.(*rsa.PSSOptions)
		return k != nil && k.Curve != nil && !pss && ecdsa.VerifyASN1(k, digest, sig)
	case *rsa.PublicKey:
		if k == nil || k.N == nil || k.N.Sign() <= 0 {
			return false
		}
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(k, hash, digest, sig, pss) == nil
		}
		return rsa.VerifyPKCS1v15(k, hash, digest, sig) == nil
	}
	return false
}

// Digest is what is signed of a message: its hash by the scheme, or for Ed25519 the message itself.
func Digest(message []byte, opts crypto.SignerOpts) []byte {
	if opts == nil || opts.HashFunc() == 0 {
		return message
	}
	if !opts.HashFunc().Available() {
		return nil
	}
	h := opts.HashFunc().New()
	h.Write(message)
	return h.Sum(nil)
}

// VerifyMessage is Verify for a message.
func VerifyMessage(pub crypto.PublicKey, message []byte, opts crypto.SignerOpts, sig []byte) bool {
	return Verify(pub, Digest(message, opts), opts, sig)
}

// Ask has a key sign as crypto.Signer says, within a context where the key can (hsm.Key has SignContext). Any other key is not
// asked any more once the context is over, but a signature that has begun is waited for. The result is not verified here.
func Ask(ctx context.Context, rand io.Reader, key crypto.Signer, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if k, ok := key.(interface {
		SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	}); ok {
		return k.SignContext(ctx, digest, opts)
	}
	return key.Sign(rand, digest, opts)
}

// ErrWrong means that a key answered with something that is no signature of its own.
var ErrWrong = errors.New("the key answered with a signature that its public half does not verify")

// Sign signs a message and verifies the result before anybody relies on it: a token that answers without an error may
// still have signed nothing useful.
func Sign(key crypto.Signer, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := key.Sign(rand.Reader, Digest(message, opts), opts)
	if err != nil {
		return nil, err
	}
	if !VerifyMessage(key.Public(), message, opts, sig) {
		return nil, ErrWrong
	}
	return sig, nil
}
