package main

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

// An officer whose keys are in a card enrols them; nothing is made in the card, and nothing is left after a refusal.
func TestEnrollWithACard(t *testing.T) {
	d := desk{t, t.TempDir()}
	b, err := softhsm.ForTest(t).Create("enroll")
	if err != nil {
		t.Fatal(err)
	}
	uri, err := hsm.ParseURI(b.URI)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri, PIN: hsm.PINBytes(b.PIN)})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []hsm.GenerateSpec{{Label: "sign", Algorithm: hsm.P256}, {Label: "shares", Algorithm: hsm.RSA2048, Use: hsm.Decryption}, {Label: "other", Algorithm: hsm.P384}} {
		s.ID = []byte{byte(i + 1)}
		if _, err := token.Generate(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	token.Close()
	key := func(label string) string {
		u := uri
		u.Object = label
		return u.String()
	}
	out := d.ok("officer", "enroll", "--name", "Ada", "--key", key("sign"), "--decryption-key", key("shares"), "--out", d.path("ada.json"))
	// SoftHSM's OAEP has SHA-1 only, which the enrolment finds out.
	if !strings.Contains(out, "ecdsa-p256-sha256") || !strings.Contains(out, "rsa-oaep-sha1") {
		t.Error(out)
	}
	d.refused(2, "", "m.json", "officer", "enroll", "--name", "M", "--key", key("sign"), "--decryption-key", key("other"), "--out", d.path("m.json"))
	d.refused(1, "", "m.json", "officer", "enroll", "--name", "M", "--key", key("absent"), "--out", d.path("m.json"))
}
