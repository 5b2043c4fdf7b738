package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/signature"
)

// TestPSSSaltIsAsLongAsTheHash: TUF clients differ in which salts they take; all take 32 bytes, and we make and take no other.
func TestPSSSaltIsAsLongAsTheHash(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("metadata")
	digest := sha256.Sum256(message)
	sig, err := signature.Sign(key, message, signature.Scheme(key.Public()))
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: 32}); err != nil {
		t.Errorf("our own salt has not 32 bytes: %v", err)
	}
	for _, salt := range []int{1, 20, 31, 33, rsa.PSSSaltLengthAuto} {
		sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if verifyBytes(&key.PublicKey, message, sig) {
			t.Errorf("a salt of length %d is taken", salt)
		}
	}
}

// TestKeyHasOneSpelling: a key in another form than ours, under the id of that form, would be another key to some clients.
func TestKeyHasOneSpelling(t *testing.T) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		key    crypto.PublicKey
		change func(*metadata.Key)
	}{
		{"upper-case hex", ed, func(k *metadata.Key) { k.Value.PublicKey = strings.ToUpper(k.Value.PublicKey) }},
		{"a line more", ec.Public(), func(k *metadata.Key) { k.Value.PublicKey += "\n" }},
		{"text before the PEM", ec.Public(), func(k *metadata.Key) { k.Value.PublicKey = "key\n" + k.Value.PublicKey }},
		{"an unknown field", ed, func(k *metadata.Key) { k.UnrecognizedFields = map[string]any{"x": 1} }},
	} {
		k, id, err := tufKey(knownAt{}, c.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkTUFKey(knownAt{}, id, k); err != nil {
			t.Fatalf("%s: our own form: %v", c.name, err)
		}
		again := *k
		c.change(&again)
		if _, err := checkTUFKey(knownAt{}, id, &again); err == nil {
			t.Errorf("%s: taken under the id of our form", c.name)
		}
		if id, err = again.ID(); err != nil {
			t.Fatal(err)
		}
		if _, err := checkTUFKey(knownAt{}, id, &again); err == nil {
			t.Errorf("%s: taken under its own id", c.name)
		}
	}
}

func TestRoleShape(t *testing.T) {
	keys := map[string]crypto.PublicKey{}
	for _, id := range []string{"a", "b"} {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = pub
	}
	for _, c := range []struct {
		ids       []string
		threshold int
		ok        bool
	}{
		{[]string{"a", "b"}, 1, true}, {[]string{"a", "b"}, 2, true}, {[]string{"a", "b"}, 3, false}, {[]string{"a", "b"}, 0, false}, {[]string{"a", "b"}, -1, false},
		{nil, 1, false}, {[]string{"a", "a"}, 2, false}, {[]string{"a", "c"}, 1, false},
	} {
		if err := checkRole(c.ids, c.threshold, keys); (err == nil) != c.ok {
			t.Errorf("%v with a threshold of %d: %v", c.ids, c.threshold, err)
		}
	}
}
