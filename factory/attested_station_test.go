package factory_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/hanaper/hanaper/attest/attesttest"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/softhsm"
)

// tpmBoard is a device whose TPM a station reaches, with a store of keys.
func tpmBoard(t *testing.T, c *tpmtest.Chip) (uri string) {
	t.Helper()
	dir := t.TempDir()
	info, err := tpm.Init(context.Background(), tpm.NewStore{Device: c.Socket, Folder: filepath.Join(dir, "store"), Label: "board"}, []byte("123456"))
	if err != nil {
		t.Fatal(err)
	}
	u := info.URI()
	u.Device, u.Store, u.PINSource = c.Socket, filepath.Join(dir, "store"), filepath.Join(dir, "pin")
	if err := os.WriteFile(u.PINSource, []byte("123456"), 0o600); err != nil {
		t.Fatal(err)
	}
	return u.String()
}

// attested makes a line's hanaperd ask for evidence, and writes a station's configuration for devices with TPMs.
func (l *line) attested(t *testing.T, section string) (config string) {
	t.Helper()
	l.daemon.stop()
	old, err := os.ReadFile(l.daemonConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.daemonConfig, append(old, section...), 0o600); err != nil {
		t.Fatal(err)
	}
	l.daemon = start(t, l.bin, l.daemonConfig)
	text, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(l.dir, "attested.yaml")
	changed := strings.Replace(string(text), "device: {", "device: {key_store: tpm, attestation: tpm, ", 1)
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// TestStationAttestsTPM: a station enrols a device by its TPM, end to end with the programs: key, attestation key, activation, certification,
// request; the evidence is fetched and verified offline. Another maker's TPM, a device without one, and a machine in another state are refused, and
// nothing is written, neither in the record nor in the import folder.
func TestStationAttestsTPM(t *testing.T) {
	maker, other := tpmtest.NewManufacturer(t), tpmtest.NewManufacturer(t)
	chip, foreign := maker.New(t), other.New(t)
	l := newLine(t)
	zero := strings.Repeat("0", 64)
	config := l.attested(t, `attestation:
  policy: required
  kinds: [tpm]
  manufacturers: [{name: Acme, kind: tpm, roots: ["`+rootOf(t, l.dir, "acme", chip)+`"], intermediates: ["`+chip.Roots+`"]}]
  states: [{name: "release 1", bank: sha256, registers: {"16": "`+zero+`"}}]
`)
	if st, err := os.Stat(filepath.Join(l.dir, "state", "challenge.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key for challenges: %v, %v", st, err)
	}
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(l.rows(t), "crl:0") && time.Now().Before(deadline); { // the first list is signed beside
		time.Sleep(50 * time.Millisecond)
	}
	before := l.rows(t)
	for name, c := range map[string]struct{ config, token, says string }{
		"another manufacturer": {config, tpmBoard(t, foreign), "pinned manufacturer"},
		"no evidence":          {l.config, l.board2(t), "evidence of where the device's key was born is required"},
	} {
		exit, _, stderr := l.enroll(t, c.config, "dev-no", "--token", c.token)
		if exit != 3 || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit %d: %s", name, exit, stderr)
		}
		if _, err := os.Stat(filepath.Join(l.dir, "import-dev-no")); err == nil {
			t.Errorf("%s: an import folder", name)
		}
	}
	if l.rows(t) != before {
		t.Errorf("refusals wrote: %s, before %s", l.rows(t), before)
	}

	token := tpmBoard(t, chip)
	exit, out, stderr := l.enroll(t, config, "dev-1", "--token", token)
	if exit != 0 {
		t.Fatalf("exit %d: %s", exit, stderr)
	}
	var first, again struct {
		Serial         string `json:"serial"`
		NewCertificate bool   `json:"new_certificate"`
	}
	if err := json.Unmarshal([]byte(out), &first); err != nil || !first.NewCertificate {
		t.Fatal(out, err)
	}
	folder := filepath.Join(l.dir, "import-dev-1")
	key, err := os.ReadFile(filepath.Join(folder, "pkey.pem"))
	if err != nil || !strings.Contains(string(key), "BEGIN TSS2 PRIVATE KEY") {
		t.Errorf("pkey.pem: %.60s, %v", key, err)
	}
	if exit, out, stderr = l.enroll(t, config, "dev-1", "--token", token); exit != 0 {
		t.Fatalf("again: exit %d: %s", exit, stderr)
	}
	if err := json.Unmarshal([]byte(out), &again); err != nil || again.NewCertificate || again.Serial != first.Serial {
		t.Error("again:", out, err)
	}
	l.verifyOffline(t, chip, foreign, filepath.Join(folder, "client.pem"))

	// The machine starts other software than the policy allows.
	before = l.rows(t)
	extend(t, chip)
	exit, _, stderr = l.enroll(t, config, "dev-2", "--token", tpmBoard(t, chip))
	if exit != 3 || !strings.Contains(stderr, "other values than the policy allows") {
		t.Errorf("changed registers: exit %d: %s", exit, stderr)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "import-dev-2")); err == nil || l.rows(t) != before {
		t.Errorf("changed registers: something was written: %v, %s, before %s", err, l.rows(t), before)
	}
}

// extend changes register 16.
func extend(t *testing.T, c *tpmtest.Chip) {
	t.Helper()
	w, err := linuxudstpm.Open(c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := (tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}}}).Execute(w); err != nil {
		t.Fatal(err)
	}
}

// TestStationAttestsPKCS11: a token that attests with certificates, which lie in it: the station reads them by their ids.
func TestStationAttestsPKCS11(t *testing.T) {
	maker, other := attesttest.NewMaker(t, "Yubi"), attesttest.NewMaker(t, "Other")
	l := newLine(t)
	writePEM(t, filepath.Join(l.dir, "yubi-root.pem"), "CERTIFICATE", maker.Root.Raw)
	writePEM(t, filepath.Join(l.dir, "yubi-ca.pem"), "CERTIFICATE", maker.Intermediate.Raw)
	config := l.attested(t, `attestation: {policy: required, manufacturers: [{name: Yubi, kind: piv, roots: [yubi-root.pem]}]}
`)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "key_store: tpm, attestation: tpm, ", `attestation: piv, attestation_certificates: ["1b", "19"], attestation_chain: yubi-ca.pem, `, 1)
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	// put makes a token whose key a card of this maker attests; attested is the key in the certificate, nil for the token's own.
	put := func(label string, maker *attesttest.Maker, attested crypto.PublicKey) string {
		t.Helper()
		b, err := softhsm.ForTest(t).Create(label)
		if err != nil {
			t.Fatal(err)
		}
		uri, err := hsm.ParseURI(b.URI)
		if err != nil {
			t.Fatal(err)
		}
		token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri, PIN: hsm.PINFile(b.PINFile)})
		if err != nil {
			t.Fatal(err)
		}
		defer token.Close()
		key, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "device", ID: []byte{2}, Algorithm: hsm.P256, Class: hsm.Sealed})
		if err != nil {
			t.Fatal(err)
		}
		if attested == nil {
			attested = key.Public()
		}
		card := maker.NewElement(t, "PIV Attestation")
		leaf := attesttest.Sign(t, attesttest.Leaf(t, "slot 9a", attesttest.PIVExtensions()...), attested, card.Cert, card.Key)
		if err := errors.Join(token.PutCertificate(t.Context(), "attestation of 9a", []byte{0x1b}, leaf), token.PutCertificate(t.Context(), "attestation", []byte{0x19}, card.Cert)); err != nil {
			t.Fatal(err)
		}
		return b.URI
	}
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(l.rows(t), "crl:0") && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	before := l.rows(t)
	plain, err := softhsm.ForTest(t).Create("plain")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ token, says string }{
		"another maker":        {put("other", other, nil), "pinned manufacturer"},
		"another key attested": {put("wrong", maker, newKey(t).Public()), "no certificate attests the key of the request"},
		"no certificates":      {plain.URI, "attestation certificate with id 1b"},
	} {
		exit, _, stderr := l.enroll(t, config, "dev-no", "--token", c.token)
		if exit == 0 || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit %d: %s", name, exit, stderr)
		}
		if _, err := os.Stat(filepath.Join(l.dir, "import-dev-no")); err == nil {
			t.Errorf("%s: an import folder", name)
		}
	}
	if l.rows(t) != before {
		t.Errorf("refusals wrote: %s, before %s", l.rows(t), before)
	}
	exit, out, stderr := l.enroll(t, config, "dev-1", "--token", put("good", maker, nil))
	if exit != 0 {
		t.Fatalf("exit %d: %s%s", exit, out, stderr)
	}
}

// board2 is a device with a token that says nothing of where its keys were born.
func (l *line) board2(t *testing.T) string {
	t.Helper()
	b, err := softhsm.ForTest(t).Create("board-without")
	if err != nil {
		t.Fatal(err)
	}
	return b.URI
}

func (l *line) verifyOffline(t *testing.T, chip, foreign *tpmtest.Chip, certificate string) {
	t.Helper()
	cert, key := l.operator(t, "olga").write(t, l.dir, "olga")
	hanaperd, evidence := filepath.Join(l.bin, "hanaperd"), filepath.Join(l.dir, "dev-1.evidence")
	if exit, out, stderr := run(t, hanaperd, "device", "--url", "https://"+l.address, "--ca", filepath.Join(l.dir, "operations-root.pem"), "--cert", cert, "--key", key, "dev-1"); exit != 0 || !strings.Contains(out, "attested: key born in a tpm of Acme") {
		t.Errorf("device: exit %d: %s%s", exit, out, stderr)
	}
	if exit, _, stderr := run(t, hanaperd, "attestation", "fetch", "--url", "https://"+l.address, "--ca", filepath.Join(l.dir, "operations-root.pem"), "--cert", cert, "--key", key,
		"--out", evidence, "dev-1"); exit != 0 {
		t.Fatalf("fetch: %d: %s", exit, stderr)
	}
	verify := func(args ...string) (int, string, string) {
		return run(t, hanaperd, append([]string{"attestation", "verify", "--certificate", certificate, "--fleet-root", filepath.Join(l.dir, "fleet-root.pem")}, args...)...)
	}
	if exit, out, stderr := verify("--roots", "tpm="+chip.Roots, evidence); exit != 0 || !strings.Contains(out, "seen by hanaperd, for station line-1") || !strings.Contains(out, "dev-1") {
		t.Errorf("verify: %d: %s%s", exit, out, stderr)
	}
	if exit, out, stderr := verify("--roots", "tpm="+foreign.Roots, evidence); exit != 4 || !strings.Contains(stderr, "pinned manufacturer") {
		t.Errorf("by another's root: %d: %s%s", exit, out, stderr)
	}
	if exit, out, stderr := verify("--roots", "piv="+chip.Roots, evidence); exit != 4 {
		t.Errorf("by a root for another kind: %d: %s%s", exit, out, stderr)
	}
	if exit, out, stderr := verify("--roots", chip.Roots, evidence); exit != 2 {
		t.Errorf("a root without a kind: %d: %s%s", exit, out, stderr)
	}
	if exit, out, stderr := verify("--roots", "tpm="+chip.Roots, certificate); exit != 2 {
		t.Errorf("a file that is no evidence: %d: %s%s", exit, out, stderr)
	}
	exit, _, stderr := run(t, hanaperd, "attestation", "verify", "--certificate", certificate, "--fleet-root", filepath.Join(l.dir, "operations-root.pem"), "--roots", "tpm="+chip.Roots, evidence)
	if exit != 4 {
		t.Errorf("another Fleet Root: %d: %s", exit, stderr)
	}
	if exit, _, _ := run(t, hanaperd, "attestation", "fetch", "--url", "https://"+l.address, "--ca", filepath.Join(l.dir, "operations-root.pem"), "--cert", cert, "--key", key,
		"--out", evidence, "dev-1"); exit == 0 {
		t.Error("fetch wrote over a file")
	}
}

// rootOf writes the self-signed certificate of a chip's manufacturer to a file.
func rootOf(t *testing.T, dir, name string, c *tpmtest.Chip) string {
	t.Helper()
	certs, err := factory.LoadCertificates(c.Roots)
	if err != nil {
		t.Fatal(err)
	}
	for _, cert := range certs {
		if cert.CheckSignatureFrom(cert) == nil {
			return writePEM(t, filepath.Join(dir, name+"-root.pem"), "CERTIFICATE", cert.Raw)
		}
	}
	t.Fatal("no root")
	return ""
}
