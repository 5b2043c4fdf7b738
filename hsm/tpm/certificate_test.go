package tpm_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
)

// TestRemoveCertificate: the certificate that is named by its bytes goes, and makes way for the next; another one under the same id stays.
func TestRemoveCertificate(t *testing.T) {
	u, _ := newStore(t, tpmtest.New(t), tpm.NewStore{})
	tok, id := open(t, u), []byte{1}
	first, second := someCertificate(t, 1), someCertificate(t, 2)
	for range 2 {
		if err := tok.PutCertificate(bg, "device", id, first); err != nil {
			t.Fatal(err)
		}
	}
	if err := tok.PutCertificate(bg, "device", id, second); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("another one: %v", err)
	}
	if err := tok.RemoveCertificate(bg, id, second); err != nil {
		t.Error(err)
	}
	if have, err := tok.Certificate(bg, id); err != nil || !have.Equal(first) {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := tok.RemoveCertificate(bg, id, first); err != nil {
			t.Error(err)
		}
	}
	if _, err := tok.Certificate(bg, id); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("after it was removed: %v", err)
	}
	if err := tok.PutCertificate(bg, "device", id, second); err != nil {
		t.Error(err)
	}
	if have, err := tok.Certificate(bg, id); err != nil || !have.Equal(second) {
		t.Errorf("%v", err)
	}
}

func someCertificate(t testing.TB, serial int64) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(serial)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
