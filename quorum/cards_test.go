package quorum

import (
	"context"
	"crypto"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

func openToken(t *testing.T, b softhsm.Board, pin hsm.PINSource) (*pkcs11.Token, error) {
	t.Helper()
	uri, err := hsm.ParseURI(b.URI)
	if err != nil {
		t.Fatal(err)
	}
	return pkcs11.Open(t.Context(), pkcs11.Config{Module: b.Module, URI: uri, PIN: pin})
}

// card is an officer whose two keys were born in a token and never leave it.
func card(t *testing.T, name string, sign, decrypt hsm.Algorithm, use hsm.Use, s Scheme, d Decryption) person {
	t.Helper()
	b, err := softhsm.ForTest(t).Create("card-" + name)
	if err != nil {
		t.Fatal(err)
	}
	token, err := openToken(t, b, hsm.PINBytes(b.PIN))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	signing, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "sign", ID: []byte{1}, Algorithm: sign})
	if err != nil {
		t.Fatal(err)
	}
	shares, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "shares", ID: []byte{2}, Algorithm: decrypt, Use: use})
	if err != nil {
		t.Fatal(err)
	}
	return newPerson(t, name, RoleOfficer, signing, s, shares.(crypto.Signer), d)
}

// Three cards, two of which approve and open a token whose PIN is derived from what they hold together.
func TestCardsOpenAToken(t *testing.T) {
	list := []person{
		card(t, "Ada", hsm.P256, hsm.P256, hsm.Agreement, "", ""),
		card(t, "Berta", hsm.RSA2048, hsm.RSA2048, hsm.Decryption, "", OAEPSHA1),
		card(t, "Clara", hsm.Ed25519, hsm.P384, hsm.Agreement, "", ""),
		card(t, "Dora", hsm.P384, hsm.P256, hsm.Agreement, "", ""),
		card(t, "Emmy", hsm.RSA2048, hsm.P256, hsm.Agreement, RSAPKCS1SHA256, ""),
	}
	for _, p := range list {
		if d, err := DecryptionOf(t.Context(), p.decrypt); err != nil || d != p.Decryption {
			t.Errorf("%s: %s, %v", p.Name, d, err)
		}
		if err := ProbeDecryption(p.Decryption, p.decrypt); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	r := newRoster(t, 2, list)
	st := statement(t, r)
	if q, err := Verify(st, r, approve(t, st, list...), issued, nil); err != nil || len(q.Officers()) != 5 {
		t.Fatalf("approvals by cards: %v", err)
	}
	b, err := softhsm.ForTest(t).Create("root")
	if err != nil {
		t.Fatal(err)
	}
	token, err := openToken(t, b, hsm.PINBytes(b.PIN))
	if err != nil {
		t.Fatal(err)
	}
	info := token.Info()
	shares, secret, err := Split(ShareConfig{Purpose: PurposeUser, TokenSerial: info.Serial}, r)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := secret.PIN(info.MinPIN, info.MaxPIN)
	if err != nil {
		t.Fatal(err)
	}
	secret.Wipe()
	opened := open(t, shares, list) // every owner test-decrypts before anything is changed
	if err := token.AsSecurityOfficer(t.Context(), b.SOPIN, func(so hsm.SecurityOfficer) error { return so.InitPIN(pin) }); err != nil {
		t.Fatal(err)
	}
	clear(pin)
	token.Close()

	login := func(some ...*Share) error {
		asked := false
		again, err := openToken(t, b, func(_ context.Context, info hsm.TokenInfo) ([]byte, error) {
			asked = true
			x, err := shares.Combine(some...)
			if err != nil {
				return nil, err
			}
			defer x.Wipe()
			return x.PIN(info.MinPIN, info.MaxPIN)
		})
		if !asked {
			t.Error("the PIN was not asked for")
		}
		if err == nil {
			again.Close()
		}
		return err
	}
	subsets(5, 2, func(idx []int) {
		if err := login(opened[idx[0]], opened[idx[1]]); err != nil {
			t.Errorf("cards %v: %v", idx, err)
		}
	})
	forged := &Share{index: 2, holder: "Berta", value: opened[0].value.Copy(), of: shares.digest}
	for name, some := range map[string][]*Share{"one card": opened[:1], "one card twice": {opened[0], opened[0]}, "a corrupted share": {opened[0], forged}} {
		if err := login(some...); err == nil || strings.Contains(err.Error(), "CKR_PIN") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// No PIN try was burnt on the way.
	after, err := pkcs11.List(b.Module)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range after {
		if i.Serial == b.Serial && (i.PINLow || i.PINFinalTry || i.PINLocked) {
			t.Errorf("tries were burnt: %+v", i)
		}
	}
	// SHA-256 OAEP on a token that has only SHA-1: refused with the owner's name.
	list[1].Decryption = OAEPSHA256
	other, err := NewRoster(RosterConfig{Environment: "production", Threshold: 1, Issued: issued, Officers: officersOf(list[1:2])})
	if err != nil {
		t.Fatal(err)
	}
	shares, _, err = Split(ShareConfig{Purpose: PurposeUser, TokenSerial: info.Serial}, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shares.Open(list[1].decrypt); err == nil || !strings.Contains(err.Error(), "share of Berta") {
		t.Errorf("OAEP with SHA-256: %v", err)
	}
}
