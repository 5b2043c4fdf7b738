package piv_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/piv"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
)

func TestMain(m *testing.M) { os.Exit(cardtest.Main{Tests: m}.Run()) }

func open(t *testing.T, reader string) *piv.Card {
	t.Helper()
	c, err := piv.Open(reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Tries are counted without spending one; each PIN and PUK is sent once; a locked PIN is unblocked by the PUK, and a locked PUK by nobody.
func TestTriesAndUnblock(t *testing.T) {
	r := cardtest.New(t)
	plastic := cardtest.NewCard()
	r.Insert(t, 0, plastic)
	c := open(t, r.Name(0))
	left := func(pin, puk int) {
		t.Helper()
		for range 2 {
			if n, err := c.Tries(); err != nil || n != pin {
				t.Errorf("%d tries, %v; not %d", n, err, pin)
			}
		}
		if p, u := plastic.TriesLeft(); p != pin || u != puk {
			t.Errorf("really %d and %d, not %d and %d", p, u, pin, puk)
		}
	}
	left(3, 3)
	for _, bad := range []string{"", "12345", "123456789", "12345a"} {
		if err := c.VerifyPIN([]byte(bad)); err == nil || !strings.Contains(err.Error(), "digits") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	left(3, 3)
	for n := 2; n >= 1; n-- {
		if err := c.VerifyPIN([]byte("654321")); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), piv.TriesText(n)+" left") {
			t.Error(err)
		}
		left(n, 3)
	}
	if err := c.ChangePIN([]byte("654321"), []byte("111222")); !errors.Is(err, hsm.ErrPINLocked) {
		t.Error(err)
	}
	left(0, 3)
	if err := c.Unblock([]byte("87654321"), []byte("111222")); !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), "the PUK") {
		t.Error(err)
	}
	left(0, 2)
	if err := c.Unblock([]byte(cardtest.DefaultPUK), []byte("short")); err == nil {
		t.Error("a PIN that is too short")
	}
	left(0, 2)
	if err := c.Unblock([]byte(cardtest.DefaultPUK), []byte("111222")); err != nil {
		t.Error(err)
	}
	left(3, 3)
	if err := errors.Join(c.ChangePIN([]byte("111222"), []byte("22223333")), c.ChangePUK([]byte(cardtest.DefaultPUK), []byte("abcdefgh")), c.VerifyPIN([]byte("22223333"))); err != nil {
		t.Error(err)
	}
	if _, err := c.Tries(); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("after a login: %v", err)
	}
	for range 3 {
		_ = c.Unblock([]byte("87654321"), []byte("111222"))
	}
	if err := c.Unblock([]byte("abcdefgh"), []byte("111222")); !errors.Is(err, hsm.ErrPINLocked) || !strings.Contains(err.Error(), "the PUK") {
		t.Error(err)
	}
}

// A card gets keys, certificates and a number from who has its management key, and from nobody else.
func TestManage(t *testing.T) {
	r := cardtest.New(t)
	plastic := cardtest.NewCard()
	r.Insert(t, 0, plastic)
	c := open(t, r.Name(0))
	if _, err := c.Generate(piv.Signature, hsm.P256); err == nil || plastic.Public(cardtest.Signature) != nil {
		t.Error("a key without the management key")
	}
	if err := c.PutGUID([16]byte{1}); err == nil {
		t.Error("a number without the management key")
	}
	wrong, err := piv.ParseManagementKey([]byte(strings.Repeat("42", 24)))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range [][]byte{wrong, wrong[:16], nil} {
		if err := c.Manage(key); err == nil || !strings.Contains(err.Error(), "management key") {
			t.Errorf("%d bytes: %v", len(key), err)
		}
	}
	if _, err := c.GUID(); !errors.Is(err, hsm.ErrNoKey) {
		t.Error(err)
	}
	if err := c.Manage(piv.MakersKey()); err != nil {
		t.Fatal(err)
	}
	if err := c.PutGUID([16]byte{0xab, 15: 0xcd}); err != nil {
		t.Fatal(err)
	}
	if guid, err := c.GUID(); err != nil || guid != "ab0000000000000000000000000000cd" {
		t.Errorf("%s, %v", guid, err)
	}
	for _, a := range piv.Algorithms() {
		pub, err := c.Generate(piv.Signature, a)
		if err != nil || hsm.AlgorithmOf(pub) != a || !pub.(interface{ Equal(crypto.PublicKey) bool }).Equal(plastic.Public(cardtest.Signature)) {
			t.Fatalf("%s: %v", a, err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ada"}}
		if a == hsm.RSA2048 {
			template.SignatureAlgorithm = x509.SHA256WithRSA
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, pub, c.Signer(piv.Signature, pub, []byte(cardtest.DefaultPIN)))
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		if err := c.PutCertificate(piv.Signature, der); err != nil {
			t.Fatal(err)
		}
		if cert, err := c.Certificate(piv.Signature); err != nil || !bytes.Equal(cert.Raw, der) {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := c.Generate(piv.KeyManagement, hsm.Ed25519); err == nil || plastic.Public(cardtest.KeyManagement) != nil {
		t.Error("Ed25519")
	}
	if _, err := c.Certificate(piv.KeyManagement); !errors.Is(err, hsm.ErrNoKey) {
		t.Error(err)
	}
}

// What is not there is said in words: a reader, a card, PIV.
func TestNoCard(t *testing.T) {
	r := cardtest.New(t)
	list, err := piv.Readers()
	if err != nil || !slices.Equal(list, []string{r.Name(0), r.Name(1), r.Name(2), r.Name(3)}) {
		t.Errorf("%q, %v", list, err)
	}
	for reader, says := range map[string]string{"no such reader": "no such reader", r.Name(0): "no card is in the reader"} {
		if _, err := piv.Open(reader); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", reader, err)
		}
	}
	plastic := cardtest.NewCard()
	r.Insert(t, 0, plastic)
	c := open(t, r.Name(0))
	r.Pull(t, 0)
	if _, err := c.Tries(); err == nil || !strings.Contains(err.Error(), r.Name(0)) {
		t.Error(err)
	}
}

func TestParseManagementKey(t *testing.T) {
	for text, size := range map[string]int{strings.Repeat("01", 24): 24, strings.Repeat("01:", 15) + "ff\n": 16, strings.Repeat("01 ", 32): 32, "": 0, "0": 0, strings.Repeat("0g", 24): 0, strings.Repeat("01", 20): 0} {
		key, err := piv.ParseManagementKey([]byte(text))
		if (err == nil) != (size > 0) || err == nil && len(key) != size {
			t.Errorf("%q: %d bytes, %v", text, len(key), err)
		}
		if err != nil && len(text) > 1 && strings.Contains(err.Error(), text) {
			t.Error("the key is in the error")
		}
	}
}
