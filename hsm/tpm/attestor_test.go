package tpm_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
)

// pinned are the manufacturers of a chip.
func pinned(t testing.TB, c *tpmtest.Chip) *attest.Manufacturers {
	t.Helper()
	data, err := os.ReadFile(c.Roots)
	if err != nil {
		t.Fatal(err)
	}
	m := attest.ManufacturerConfig{Name: "Acme", Kind: attest.TPM}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if cert.CheckSignatureFrom(cert) == nil {
			m.Roots = append(m.Roots, cert)
		} else {
			m.Intermediates = append(m.Intermediates, cert)
		}
	}
	all, err := attest.NewManufacturers(m)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAttestor: what a store says of its keys is what package attest believes, of this TPM and for this purpose alone.
func TestAttestor(t *testing.T) {
	maker := tpmtest.NewManufacturer(t)
	c, other := maker.New(t), maker.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "root", Algorithm: hsm.P384})
	if err != nil {
		t.Fatal(err)
	}
	chain, ek, ak, err := tok.Attestor(bg)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, again, err := open(t, u).Attestor(bg); err != nil || string(again) != string(ak) {
		t.Fatalf("another attestation key at the second call: %v", err)
	}
	makers := pinned(t, c)
	secrets := attest.SecretsFrom(make([]byte, 32), []byte("nonce"))
	cred, _, err := makers.MakeCredential(rand.Reader, chain, ek, ak, secrets, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := tok.Activate(bg, cred.Blob, cred.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	q := attest.Qualifying("test", []byte("nonce"))
	public, statement, sig, err := tok.Certify(bg, k, q)
	if err != nil {
		t.Fatal(err)
	}
	e := attest.TPMEvidence{EKChain: chain, EKPublic: ek, AKPublic: ak, KeyPublic: public, Attest: statement, Signature: sig, Secret: secret}
	w := attest.Want{Key: k.Public(), Qualifying: q, Activation: attest.BySecret(secrets), At: time.Now().Add(time.Minute)}
	if _, err := makers.VerifyTPM(&e, w); err != nil {
		t.Fatal(err)
	}
	w.Qualifying = attest.Qualifying("test", []byte("another nonce"))
	if _, err := makers.VerifyTPM(&e, w); !errors.Is(err, attest.ErrStale) {
		t.Errorf("a replayed nonce: %v", err)
	}
	u2, _ := newStore(t, other, tpm.NewStore{})
	if _, err := open(t, u2).Activate(bg, cred.Blob, cred.Encrypted); advice.KindOf(err) != advice.Refused {
		t.Errorf("another TPM's credential: %v", err)
	}
}
