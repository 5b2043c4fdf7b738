package attest_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/attest"
)

// goldenBundle is the golden evidence as it travels.
func goldenBundle(t testing.TB) []byte { return golden(t, "tpm-bundle.der") }

// TestBundle: a bundle that a release wrote is read by every later one, and written the same way. openssl reads it too.
func TestBundle(t *testing.T) {
	p := split(golden(t, "tpm-evidence.bin"))
	e := attest.Evidence{Kind: attest.TPM, Nonce: []byte("a nonce of the test"), TPM: &attest.TPMEvidence{EKChain: [][]byte{p[0], p[1]}, EKPublic: p[2], AKPublic: p[3], KeyPublic: p[4],
		Attest: p[5], Signature: p[6], Quote: p[7], QuoteSignature: p[8], Secret: bytes.Repeat([]byte{9}, 32)}}
	der, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("HANAPER_GOLDEN") == "1" {
		if err := os.WriteFile(filepath.Join("testdata", "tpm-bundle.der"), der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(der, goldenBundle(t)) {
		t.Error("a bundle is written in another way than before")
	}
	back, err := attest.ParseEvidence(goldenBundle(t))
	if err != nil {
		t.Fatal(err)
	}
	e.Certificates = e.TPM.EKChain
	if !reflect.DeepEqual(back, &e) {
		t.Errorf("read back: %+v", back)
	}
	out, err := exec.Command("openssl", "asn1parse", "-inform", "DER", "-in", filepath.Join("testdata", "tpm-bundle.der")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "2.23.133.20.1") || !strings.Contains(string(out), "2.25.203116729058290724962028504047909416201.1.1") {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

func TestBundleRefusals(t *testing.T) {
	good := goldenBundle(t)
	for n := range good {
		if _, err := attest.ParseEvidence(good[:n]); err == nil {
			t.Errorf("cut at %d: accepted", n)
		}
	}
	if _, err := attest.ParseEvidence(append(bytes.Clone(good), 0)); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("an octet too many: %v", err)
	}
	if _, err := attest.ParseEvidence(make([]byte, 1<<20)); !errors.Is(err, attest.ErrTooLarge) {
		t.Errorf("a megabyte: %v", err)
	}
	e, err := attest.ParseEvidence(good)
	if err != nil {
		t.Fatal(err)
	}
	null := []byte{5, 0}
	for name, change := range map[string]func(*attest.Evidence){
		"no kind":                func(e *attest.Evidence) { e.Kind = "" },
		"a kind that is no word": func(e *attest.Evidence) { e.Kind = "a b\x1b[2J" },
		"no nonce":               func(e *attest.Evidence) { e.Nonce = nil },
		"a long nonce":           func(e *attest.Evidence) { e.Nonce = make([]byte, 129) },
		"TPM without its parts":  func(e *attest.Evidence) { e.TPM = nil },
		"PIV with a TPM's parts": func(e *attest.Evidence) { e.Kind = attest.PIV },
		"no secret":              func(e *attest.Evidence) { e.TPM.Secret = nil },
		"no signature":           func(e *attest.Evidence) { e.TPM.Signature = nil },
		"two challenges":         func(e *attest.Evidence) { e.Other = []attest.Statement{{Type: challengeType, Value: null}} },
		"a statement twice": func(e *attest.Evidence) {
			e.Other = []attest.Statement{{Type: []byte{6, 1, 42}, Value: null}, {Type: []byte{6, 1, 42}, Value: null}}
		},
		"a hint": func(e *attest.Evidence) {
			e.Other = []attest.Statement{{Type: []byte{6, 1, 42}, Value: []byte{5, 0, 22, 1, 'h'}}}
		},
		"nine statements":          func(e *attest.Evidence) { e.Other = many(9) },
		"a certificate of no kind": func(e *attest.Evidence) { e.Certificates = [][]byte{{0xa3, 0}} },
		"seven certificates":       func(e *attest.Evidence) { e.Certificates = make7(e.Certificates[0]) },
	} {
		again, _ := attest.ParseEvidence(good)
		change(again)
		if der, err := again.Marshal(); err == nil || der != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_ = e
}

var challengeType = append([]byte{6, 0x16}, goldenOID...)

// goldenOID is 2.25 and the project's UUID, and .1.1, as in docs/spec/attestation.md.
var goldenOID = []byte{0x69, 0x82, 0xb1, 0xce, 0xed, 0xfb, 0x80, 0x9d, 0xe2, 0x9c, 0xcf, 0x82, 0xa1, 0x97, 0x88, 0x9a, 0xb4, 0xd4, 0xda, 0x09, 1, 1}

func many(n int) (out []attest.Statement) {
	for i := range n {
		out = append(out, attest.Statement{Type: []byte{6, 1, byte(40 + i)}, Value: []byte{5, 0}})
	}
	return out
}

func make7(c []byte) (out [][]byte) {
	for range 7 {
		out = append(out, c)
	}
	return out
}

// FuzzEvidence: what is read is written again octet by octet, so that nothing is overlooked.
func FuzzEvidence(f *testing.F) {
	f.Add(goldenBundle(f))
	small := attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: [][]byte{{0x30, 0}}}
	der, err := small.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := attest.ParseEvidence(data)
		if err != nil {
			return
		}
		if _, err := e.Marshal(); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

// TestAnnotatedBytes: the octets that the page of the format explains stand in the golden file, in this order.
func TestAnnotatedBytes(t *testing.T) {
	page, err := os.ReadFile("../docs/spec/attestation.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```\n30 82 0a ec")
	block, _, _ = strings.Cut("30 82 0a ec"+block, "```")
	rest, lines := goldenBundle(t), 0
	for _, line := range strings.Split(block, "\n") {
		octets, _, _ := strings.Cut(line, "   ")
		want, err := hex.DecodeString(strings.ReplaceAll(octets, " ", ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if len(want) == 0 {
			continue
		}
		_, after, found := bytes.Cut(rest, want)
		if !found {
			t.Fatalf("%q is not in the file, behind the line before it", line)
		}
		rest, lines = after, lines+1
	}
	if lines < 20 {
		t.Errorf("only %d lines are explained", lines)
	}
}
