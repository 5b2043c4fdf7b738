package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

// TestOnTokens runs root, factory CA, device and CRL with every key but the device's in a SoftHSM token.
func TestOnTokens(t *testing.T) {
	board, err := softhsm.ForTest(t).Create("ca-test")
	if err != nil {
		t.Fatal(err)
	}
	uri, err := hsm.ParseURI(board.URI)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	token, err := pkcs11.Open(ctx, pkcs11.Config{URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	generate := func(label string, alg hsm.Algorithm) hsm.Key {
		k, err := token.Generate(ctx, hsm.GenerateSpec{Label: label, Algorithm: alg})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, alg := range []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA3072, hsm.Ed25519} {
		t.Run(string(alg), func(t *testing.T) {
			rootKey, caKey, device := generate("root "+string(alg), alg), generate("factory "+string(alg), alg), generate("device "+string(alg), alg)
			root := mustRoot(t, mustProfile(t, "fleet-root"), "Root in a token", rootKey)
			fac := mustIssue(t, mustIssuer(t, root, rootKey), mustProfile(t, "factory-ca"), Template{Subject: cn("CA in a token"), PublicKey: caKey.Public(), NotBefore: t0, NotAfter: years(20)})
			der, err := csr.Create(rand.Reader, device, csr.Template{Subject: pkix.Name{CommonName: "dev-1"}})
			if err != nil {
				t.Fatal(err)
			}
			r, err := csr.Parse(der, csr.DevicePolicy())
			if err != nil {
				t.Fatal(err)
			}
			issuer := mustIssuer(t, fac, caKey, root)
			leaf := mustIssue(t, issuer, mustProfile(t, "device"), Template{RawSubject: r.RawSubject(), PublicKey: r.PublicKey(), NotBefore: t0, NotAfter: years(5)})
			if err := Verify([]*x509.Certificate{leaf, fac}, []*x509.Certificate{root}, years(1)); err != nil {
				t.Error(err)
			}
			prep, err := issuer.PrepareCRL(CRLTemplate{Number: big.NewInt(1), ThisUpdate: t0, NextUpdate: years(1)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := prep.Sign(context.Background(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckCRL(crl, fac, nil); err != nil {
				t.Error(err)
			}
		})
	}
}
