package attest_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
)

// TestChallenge: the TPM that holds both keys gives the secret of a challenge back, which shows that the challenge was made for them; no
// other secret, challenge or pair of keys does.
func TestChallenge(t *testing.T) {
	maker, stranger := attesttest.NewMaker(t, "Acme"), attesttest.NewMaker(t, "Other")
	pinned := attesttest.Pin(t, attest.TPM, maker)
	chip := maker.NewChip(t)
	ak, second := chip.New(t, attesttest.AKTemplate(), "ak"), chip.New(t, attesttest.AKTemplate(), "second")
	now := time.Now()
	a := &attest.Attestor{Label: "roots", Serial: "00", EKChain: chip.EKChain, EKPublic: chip.EKPublic, AKPublic: ak.Public}
	data, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = attest.ParseAttestor("attestor", data); err != nil {
		t.Fatal(err)
	}
	c, err := pinned.NewChallenge(rand.Reader, "ada", a, now)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = c.Encode(); err != nil {
		t.Fatal(err)
	}
	if c, err = attest.ParseChallenge("challenge", data); err != nil {
		t.Fatal(err)
	}
	secret, err := chip.Activate(ak, c.Blob, c.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest.ByChallenges(a, []*attest.Challenge{c}, [][]byte{secret}); err != nil {
		t.Fatal(err)
	}
	other := *a
	other.AKPublic = second.Public
	forged := *c
	forged.Blob = bytes.Clone(c.Blob)
	forged.Blob[len(forged.Blob)-1] ^= 1
	relabelled, err := pinned.NewChallenge(rand.Reader, "ada", &other, now)
	if err != nil {
		t.Fatal(err)
	}
	relabelled.Keys = c.Keys
	for name, c := range map[string]struct {
		a      *attest.Attestor
		c      *attest.Challenge
		secret []byte
	}{
		"another secret":                         {a, c, bytes.Repeat([]byte{1}, 32)},
		"no secret":                              {a, c, nil},
		"another attestation key":                {&other, c, secret},
		"a challenge that was changed":           {a, &forged, secret},
		"a challenge that says it is for others": {a, relabelled, secret},
	} {
		if _, err := attest.ByChallenges(c.a, []*attest.Challenge{c.c}, [][]byte{c.secret}); !errors.Is(err, attest.ErrNotActivated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := attest.ByChallenges(a, nil, nil); !errors.Is(err, attest.ErrNotActivated) {
		t.Errorf("no challenge at all: %v", err)
	}
	if _, err := attesttest.Pin(t, attest.TPM, stranger).NewChallenge(rand.Reader, "ada", a, now); !errors.Is(err, attest.ErrManufacturer) {
		t.Errorf("another manufacturer: %v", err)
	}
	open := attesttest.AKTemplate()
	open.ObjectAttributes.Restricted = false
	second.Unload(t)
	unrestricted := *a
	unrestricted.AKPublic = chip.New(t, open, "open").Public
	if _, err := pinned.VerifyAttestor(&unrestricted, now); !errors.Is(err, attest.ErrAK) {
		t.Errorf("an attestation key that is not restricted: %v", err)
	}
}
