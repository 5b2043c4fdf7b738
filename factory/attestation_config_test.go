package factory_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestAttestationConfig: what the configuration may say of evidence, and what is refused, before anything is written.
func TestAttestationConfig(t *testing.T) {
	maker := attesttest.NewMaker(t, "Acme")
	p := newPlant(t)
	dir := t.TempDir()
	path, _ := p.writeConfig(t, dir)
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", maker.Root.Raw)
	writePEM(t, filepath.Join(dir, "leaf.pem"), "CERTIFICATE", p.server.cert.Raw)
	load := func(section string, make bool) (*factory.Attestation, error) {
		t.Helper()
		if err := os.WriteFile(path, append(append([]byte(nil), base...), section...), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := factory.LoadConfig(path)
		if err != nil {
			return nil, err
		}
		return c.LoadAttestation(make)
	}
	const acme = "manufacturers: [{name: Acme, kind: tpm, roots: [root.pem]}]"
	for name, c := range map[string]struct{ section, says string }{
		"no policy":                {"attestation: {" + acme + "}", "attestation.policy is missing"},
		"another word":             {"attestation: {policy: maybe, " + acme + "}", "maybe is not required, accepted or ignored"},
		"nobody is pinned":         {"attestation: {policy: required}", "no manufacturer is pinned"},
		"an unknown key":           {"attestation: {policy: required, roots: [root.pem]}", "roots"},
		"an unknown kind":          {"attestation: {policy: required, kinds: [tmp], " + acme + "}", "kind tmp is not known"},
		"a kind without maker":     {"attestation: {policy: required, kinds: [piv], " + acme + "}", "no manufacturer of it is pinned"},
		"a maker of unknown kind":  {"attestation: {policy: required, manufacturers: [{name: Acme, kind: tmp, roots: [root.pem]}]}", "kind tmp, which is not known"},
		"no roots":                 {"attestation: {policy: required, manufacturers: [{name: Acme, kind: tpm}]}", "has no root"},
		"a file that is not there": {"attestation: {policy: required, manufacturers: [{name: Acme, kind: tpm, roots: [gone.pem]}]}", "gone.pem"},
		"a leaf as root":           {"attestation: {policy: required, manufacturers: [{name: Acme, kind: tpm, roots: [leaf.pem]}]}", "is no CA certificate"},
		"a weaker lot":             {"attestation: {policy: required, " + acme + ", lots: {a: {policy: ignored}}}", "get round the default"},
		"a lot without policy":     {"attestation: {policy: required, " + acme + ", lots: {a: {kinds: [tpm]}}}", "is not required, accepted or ignored"},
		"a short lifetime":         {"attestation: {policy: required, challenge_lifetime: 1s, " + acme + "}", "challenge_lifetime"},
		"a bad register":           {`attestation: {policy: required, ` + acme + `, states: [{name: a, bank: sha256, registers: {"07": "00"}}]}`, "is no number"},
		"a register too high":      {`attestation: {policy: required, ` + acme + `, states: [{name: a, bank: sha256, registers: {"24": "` + strings.Repeat("0", 64) + `"}}]}`, "not 0 to 23"},
		"a short value":            {`attestation: {policy: required, ` + acme + `, states: [{name: a, bank: sha256, registers: {"7": "00"}}]}`, "has not 32 octets"},
		"a weak bank":              {`attestation: {policy: required, ` + acme + `, states: [{name: a, bank: sha1, registers: {"7": "00"}}]}`, "not sha256, sha384 or sha512"},
		"states of other registers": {`attestation: {policy: required, ` + acme + `, states: [{name: a, bank: sha256, registers: {"7": "` + strings.Repeat("0", 64) +
			`"}}, {name: b, bank: sha256, registers: {"8": "` + strings.Repeat("0", 64) + `"}}]}`, "other registers"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := load(c.section, true)
			if a != nil || err == nil || !strings.Contains(err.Error(), c.says) || advice.Hint(err) == "" && name != "an unknown key" {
				t.Errorf("%v, %v (hint %q); want %q", a, err, advice.Hint(err), c.says)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); err == nil {
		t.Error("a refusal wrote a key for challenges")
	}
	if a, err := load("", true); a != nil || err != nil {
		t.Errorf("without a section: %v, %v", a, err)
	}
	good := "attestation: {policy: required, " + acme + "}"
	if a, err := load(good, false); err != nil || a == nil || a.Challenger != nil {
		t.Errorf("not to make a key: %+v, %v", a, err)
	}
	a, err := load(good, true)
	if err != nil || a.Challenger == nil || a.Policy.Rule("x").Level != attest.Required {
		t.Fatalf("%+v, %v", a, err)
	}
	refuseChallengeKey(t, filepath.Join(dir, "state", "challenge.key"), func() error { _, err := load(good, true); return err })
}

func refuseChallengeKey(t *testing.T, key string, load func() error) {
	t.Helper()
	was, err := os.ReadFile(key)
	if err != nil || len(was) != 65 {
		t.Fatalf("%d octets, %v", len(was), err)
	}
	if err := load(); err != nil {
		t.Errorf("a second start: %v", err)
	}
	if again, err := os.ReadFile(key); err != nil || string(again) != string(was) {
		t.Errorf("a second start made another key: %v", err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := load(); !says(err, "lets group or others in") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.WriteFile(key, []byte("00\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := load(); !says(err, "no key for challenges") || strings.Contains(err.Error(), "00\n") {
		t.Errorf("a short key: %v", err)
	}
}
