package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
)

func TestECPublic(t *testing.T) {
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	raw, _ := k.PublicKey.Bytes()
	der, _ := asn1.Marshal(raw)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	edDER, _ := asn1.Marshal([]byte(ed))
	for name, c := range map[string]struct {
		params, point []byte
		want          crypto.PublicKey
	}{
		"DER": {oidP256, der, &k.PublicKey}, "raw": {oidP256, raw, &k.PublicKey},
		"Ed25519 OID, DER": {oidEd25519, edDER, ed}, "Ed25519 name, raw": {nameEd25519, ed, ed},
	} {
		got, err := ecPublic(c.params, c.point)
		if err != nil || !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	off := bytes.Clone(raw)
	off[64] ^= 1
	compressed := append([]byte{2 | raw[64]&1}, raw[1:33]...)
	for name, c := range map[string]struct{ params, point []byte }{
		"off the curve": {oidP256, off}, "other curve": {oidP384, der}, "compressed": {oidP256, compressed}, "infinity": {oidP256, []byte{0}},
		"empty": {oidP256, nil}, "unknown curve": {[]byte{6, 1, 42}, der}, "short Ed25519": {oidEd25519, ed[:31]}, "explicit parameters": {[]byte{0x30, 0}, der},
	} {
		if got, err := ecPublic(c.params, c.point); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzECPublic(f *testing.F) {
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	raw, _ := k.PublicKey.Bytes()
	der, _ := asn1.Marshal(raw)
	f.Add(oidP256, der)
	f.Add(oidP256, raw)
	f.Add(oidEd25519, make([]byte, 34))
	f.Add(oidP384, []byte{4, 1, 4})
	f.Fuzz(func(t *testing.T, params, point []byte) {
		pub, err := ecPublic(params, point)
		if err != nil {
			return
		}
		if hsm.AlgorithmOf(pub) == "" {
			t.Fatalf("%T of no known algorithm", pub)
		}
		if k, ok := pub.(*ecdsa.PublicKey); ok {
			if _, err := k.ECDH(); err != nil {
				t.Fatalf("not on the curve: %v", err)
			}
		}
	})
}

func TestRSAPublic(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	n.SetBit(n, 0, 1)
	even := new(big.Int).Lsh(big.NewInt(1), 2047)
	if _, err := rsaPublic(n.Bytes(), []byte{1, 0, 1}); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct{ n, e []byte }{
		"even modulus": {even.Bytes(), []byte{1, 0, 1}}, "short": {[]byte{0xff, 1}, []byte{1, 0, 1}}, "e 1": {n.Bytes(), []byte{1}}, "e even": {n.Bytes(), []byte{4}},
		"e huge": {n.Bytes(), bytes.Repeat([]byte{0xff}, 9)}, "e 0": {n.Bytes(), []byte{0}},
	} {
		if _, err := rsaPublic(c.n, c.e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzECDSASignature(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1}, 64))
	f.Add(make([]byte, 64))
	f.Add([]byte{1, 2, 3})
	order := elliptic.P256().Params().N
	f.Fuzz(func(t *testing.T, raw []byte) {
		der, err := ecdsaDER(raw, order)
		if err != nil {
			return
		}
		var s struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(der, &s); err != nil || len(rest) > 0 || s.R.Sign() <= 0 || s.S.Cmp(order) >= 0 {
			t.Fatalf("%x -> %x: %v", raw, der, err)
		}
		if got := append(s.R.FillBytes(make([]byte, 32)), s.S.FillBytes(make([]byte, 32))...); !bytes.Equal(got, raw) {
			t.Fatalf("%x became %x", raw, got)
		}
	})
}

// TestEMSAPSS pads here and lets crypto/rsa do the bare operation by hand; crypto/rsa verifies. Odd sizes reach the case where the
// encoded message is a byte shorter than the modulus.
func TestEMSAPSS(t *testing.T) {
	sum := sha256.Sum256([]byte("m"))
	for _, bits := range []int{1024, 1025, 1031, 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 20, 32} {
			salt := make([]byte, n)
			rand.Read(salt)
			em, err := emsaPSS(sum[:], bits-1, salt, crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			sig := new(big.Int).Exp(new(big.Int).SetBytes(em), k.D, k.N).FillBytes(make([]byte, k.Size()))
			if err := rsa.VerifyPSS(&k.PublicKey, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: max(n, 0), Hash: crypto.SHA256}); err != nil && n > 0 {
				t.Errorf("%d bits, salt of %d: %v", bits, n, err)
			}
		}
		if _, err := emsaPSS(sum[:], bits-1, make([]byte, bits/8), crypto.SHA256); err == nil {
			t.Error("a salt that does not fit was taken")
		}
	}
}

func TestGuard(t *testing.T) {
	var g callGuard
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.lock(ctx); err == nil {
		t.Fatal("locked with somebody inside")
	}
	if err := g.enter(t.Context()); err != nil {
		t.Fatal("the guard stayed locked after lock gave up")
	}
	g.leave()
	g.leave()
	if err := g.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.enter(ctx); err == nil {
		t.Fatal("entered while somebody had the lock")
	}
	g.unlock()
	// Many of each; whoever has the lock is alone.
	var wg sync.WaitGroup
	n := 0
	for i := range 16 {
		wg.Go(func() {
			for range 500 {
				if i%4 == 0 {
					if g.lock(bg) == nil {
						n++ // the race detector judges
						g.unlock()
					}
				} else if g.enter(bg) == nil {
					_ = n
					g.leave()
				}
			}
		})
	}
	wg.Wait()
	if n != 4*500 {
		t.Error(n)
	}
}

func TestKeyIDIsStable(t *testing.T) {
	spki, _ := hex.DecodeString("3059301306072a8648ce3d020106082a8648ce3d03010703420004" +
		"6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
	x, _ := new(big.Int).SetString("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296", 16)
	y, _ := new(big.Int).SetString("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5", 16)
	id, err := keyID(&ecdsa.PublicKey{Curve: elliptic.P256(), X: x, Y: y})
	want := sha256.Sum256(spki)
	if err != nil || !bytes.Equal(id, want[:20]) {
		t.Errorf("%x, want %x", id, want[:20])
	}
	_ = hsm.P256
}
