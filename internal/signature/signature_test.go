package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha512"
	"errors"
	"io"
	"math/big"
	"testing"
)

func keys(t *testing.T) (ed ed25519.PrivateKey, p256, p384 *ecdsa.PrivateKey, r *rsa.PrivateKey) {
	t.Helper()
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	p256, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err3 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	r, err4 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return ed, p256, p384, r
}

func pss(salt int, h crypto.Hash) *rsa.PSSOptions { return &rsa.PSSOptions{SaltLength: salt, Hash: h} }

// TestVerify: each scheme verifies its own signatures, and those of no other scheme, key, message or salt.
func TestVerify(t *testing.T) {
	ed, p256, p384, r := keys(t)
	message := []byte("message")
	schemes := []struct {
		name string
		key  crypto.Signer
		opts crypto.SignerOpts
	}{
		{"Ed25519", ed, crypto.Hash(0)},
		{"ECDSA P-256", p256, crypto.SHA256},
		{"ECDSA P-384", p384, crypto.SHA384},
		{"PSS SHA-256", r, PSS256},
		{"PSS SHA-384", r, pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA384)},
		{"PSS SHA-256 salt 20", r, pss(20, crypto.SHA256)},
		{"PKCS1 SHA-256", r, crypto.SHA256},
		{"PKCS1 SHA-512", r, crypto.SHA512},
	}
	for i, s := range schemes {
		sig, err := Sign(s.key, message, s.opts)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for j, other := range schemes {
			if got := VerifyMessage(other.key.Public(), message, other.opts, sig); got != (i == j) {
				t.Errorf("a signature by %s verifies as %s: %v", s.name, other.name, got)
			}
		}
		if VerifyMessage(s.key.Public(), []byte("messagf"), s.opts, sig) {
			t.Errorf("%s: another message verifies", s.name)
		}
		for at := range sig {
			bad := append([]byte{}, sig...)
			bad[at] ^= 1
			if VerifyMessage(s.key.Public(), message, s.opts, bad) {
				t.Errorf("%s: byte %d changed unnoticed", s.name, at)
			}
		}
		for _, bad := range [][]byte{nil, {}, sig[:len(sig)-1], append(append([]byte{}, sig...), 0)} {
			if VerifyMessage(s.key.Public(), message, s.opts, bad) {
				t.Errorf("%s: a signature of %d bytes verifies", s.name, len(bad))
			}
		}
	}
}

// TestSalt: a PSS salt is exactly as long as the scheme says; only VerifyAnySalt takes any, and that one nothing but PSS.
func TestSalt(t *testing.T) {
	_, p256, _, r := keys(t)
	digest := Digest([]byte("message"), crypto.SHA256)
	for _, salt := range []int{1, 20, 31, 32, 33, 100, rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto} {
		sig, err := r.Sign(rand.Reader, digest, pss(salt, crypto.SHA256))
		if err != nil {
			t.Fatal(err)
		}
		want := salt == 32 || salt == rsa.PSSSaltLengthEqualsHash
		if got := Verify(&r.PublicKey, digest, PSS256, sig); got != want {
			t.Errorf("salt %d as PSS256: %v, want %v", salt, got, want)
		}
		if got := Verify(&r.PublicKey, digest, pss(32, crypto.SHA256), sig); got != want {
			t.Errorf("salt %d as 32: %v, want %v", salt, got, want)
		}
		if Verify(&r.PublicKey, digest, pss(rsa.PSSSaltLengthAuto, crypto.SHA256), sig) {
			t.Errorf("salt %d: automatic verifies", salt)
		}
		if !VerifyAnySalt(&r.PublicKey, digest, sig) {
			t.Errorf("salt %d: refused by VerifyAnySalt", salt)
		}
	}
	if sig, err := r.Sign(rand.Reader, digest, crypto.SHA256); err != nil || VerifyAnySalt(&r.PublicKey, digest, sig) {
		t.Errorf("PKCS #1 v1.5 as PSS: %v", err)
	}
	if sig, err := p256.Sign(rand.Reader, digest, crypto.SHA256); err != nil || VerifyAnySalt(&p256.PublicKey, digest, sig) {
		t.Errorf("ECDSA as PSS: %v", err)
	}
}

// TestLength: a digest is as long as its hash, and Ed25519 signs messages, not digests.
func TestLength(t *testing.T) {
	ed, p256, _, _ := keys(t)
	for _, size := range []int{0, 20, 31, 33, 64} {
		digest := make([]byte, size)
		sig, err := ecdsa.SignASN1(rand.Reader, p256, digest)
		if err != nil || !ecdsa.VerifyASN1(&p256.PublicKey, digest, sig) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if Verify(&p256.PublicKey, digest, crypto.SHA256, sig) {
			t.Errorf("a digest of %d bytes verifies as SHA-256", size)
		}
	}
	digest := make([]byte, 32)
	if sig := ed25519.Sign(ed, digest); Verify(ed.Public(), digest, crypto.SHA256, sig) || !Verify(ed.Public(), digest, crypto.Hash(0), sig) {
		t.Error("an Ed25519 signature of a digest verifies, or one of a message does not")
	}
}

// TestNoPanic: keys and options that no honest caller has verify nothing.
func TestNoPanic(t *testing.T) {
	ed, p256, _, r := keys(t)
	digest := make([]byte, 32)
	for _, pub := range []crypto.PublicKey{nil, "key", ed25519.PublicKey(nil), ed25519.PublicKey{1}, (*ecdsa.PublicKey)(nil), &ecdsa.PublicKey{}, &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)},
		(*rsa.PublicKey)(nil), &rsa.PublicKey{}, &rsa.PublicKey{N: big.NewInt(0), E: 3}, &rsa.PublicKey{N: big.NewInt(-5), E: 3}, &rsa.PublicKey{N: big.NewInt(15), E: 0}, ed.Public(), p256.Public(), r.Public()} {
		for _, opts := range []crypto.SignerOpts{nil, crypto.Hash(0), crypto.Hash(99), crypto.SHA256, PSS256, (*rsa.PSSOptions)(nil), &rsa.PSSOptions{}, pss(1<<30, crypto.SHA256), pss(-7, crypto.SHA256)} {
			for _, sig := range [][]byte{nil, digest, make([]byte, 64), make([]byte, 256)} {
				if Verify(pub, digest, opts, sig) || Verify(pub, nil, opts, sig) || VerifyAnySalt(pub, digest, sig) {
					t.Errorf("%T %v verifies", pub, opts)
				}
			}
		}
	}
}

// wrong is a key that signs something else.
type wrong struct{ crypto.Signer }

func (w wrong) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return w.Signer.Sign(r, append(digest[:len(digest)-1:len(digest)-1], digest[len(digest)-1]^1), opts)
}

// shortSalt is a token that makes its PSS salt shorter than it was told.
type shortSalt struct{ *rsa.PrivateKey }

func (k shortSalt) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(r, digest, pss(20, opts.HashFunc()))
}

// TestSignReadsBack: what a key answers is verified before it is handed on.
func TestSignReadsBack(t *testing.T) {
	ed, p256, _, r := keys(t)
	for _, key := range []crypto.Signer{wrong{ed}, wrong{p256}, wrong{r}, shortSalt{r}} {
		if sig, err := Sign(key, []byte("message"), Scheme(key.Public())); !errors.Is(err, ErrWrong) || sig != nil {
			t.Errorf("%T: %x, %v", key, sig, err)
		}
	}
	for _, key := range []crypto.Signer{ed, p256, r} {
		if _, err := Sign(key, []byte("message"), Scheme(key.Public())); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
}
