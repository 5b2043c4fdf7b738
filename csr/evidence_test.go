package csr

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// bundle is of the form of an AttestationBundle, with as many octets of content as one likes.
func bundle(n int) []byte {
	return tlv(cbasn1.SEQUENCE, tlv(cbasn1.SEQUENCE, tlv(cbasn1.SEQUENCE, oidDER(oidEvidence), tlv(cbasn1.OCTET_STRING, make([]byte, n)))))
}

// TestEvidence: evidence is handed on as it came where the policy allows it, and refused where not, as it always was.
func TestEvidence(t *testing.T) {
	key := newKey(t, "P-256")
	tmpl := Template{Evidence: bundle(3000)}
	tmpl.Subject.CommonName = "dev-1"
	der, err := Create(rand.Reader, key, tmpl)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(PEM(der), AttestedDevicePolicy())
	if err != nil || !bytes.Equal(r.Evidence(), tmpl.Evidence) {
		t.Fatalf("%v", err)
	}
	if r, err := Parse(der, DevicePolicy()); r != nil || !errors.Is(err, ErrRequestAttribute) || !strings.Contains(err.Error(), "attestation evidence") {
		t.Errorf("under a policy without evidence: %v", err)
	}
	none := Template{Subject: tmpl.Subject}
	if der, err = Create(rand.Reader, key, none); err != nil {
		t.Fatal(err)
	}
	if r, err := Parse(der, AttestedDevicePolicy()); err != nil || r.Evidence() != nil {
		t.Errorf("a request without evidence: %v", err)
	}
	for name, bad := range map[string][]byte{"no sequence": {4, 0}, "two": append(bundle(1), bundle(1)...), "nothing": {}} {
		if _, err := Create(rand.Reader, key, Template{Subject: tmpl.Subject, Evidence: bad}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(mustCreate(t, Template{Subject: tmpl.Subject, Evidence: bundle(16 << 10)}), AttestedDevicePolicy()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge evidence: %v", err)
	}
}

func mustCreate(t testing.TB, tmpl Template) []byte {
	t.Helper()
	der, err := Create(rand.Reader, newKey(t, "P-256"), tmpl)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestEvidenceRefusals: the attribute once, with one value.
func TestEvidenceRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		attributes [][]byte
		want       error
	}{
		"twice":          {[][]byte{attribute(oidEvidence, bundle(10)), attribute(oidEvidence, bundle(10))}, ErrDuplicate},
		"two values":     {[][]byte{attribute(oidEvidence, bundle(10), bundle(11))}, ErrDuplicate},
		"no value":       {[][]byte{attribute(oidEvidence)}, ErrMalformed},
		"not a bundle":   {[][]byte{attribute(oidEvidence, tlv(cbasn1.OCTET_STRING))}, ErrMalformed},
		"another beside": {[][]byte{attribute(oidEvidence, bundle(10)), attribute([]int{1, 2, 840, 113549, 1, 9, 7}, bundle(1))}, ErrRequestAttribute},
	} {
		r := good(t, "P-256")
		r.attributes = bytes.Join(c.attributes, nil)
		got, err := Parse(r.der(t), AttestedDevicePolicy())
		if got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestEvidenceWithNames: beside names, in the order of DER; openssl verifies the request.
func TestEvidenceWithNames(t *testing.T) {
	tmpl := Template{Evidence: bundle(40), DNSNames: []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
	tmpl.Subject.CommonName = "dev-1"
	der := mustCreate(t, tmpl)
	path := filepath.Join(t.TempDir(), "csr.pem")
	if err := os.WriteFile(path, PEM(der), 0o600); err != nil {
		t.Fatal(err)
	}
	out := string(openssl(t, "req", "-verify", "-noout", "-text", "-in", path))
	if !strings.Contains(out, "a.example") || !strings.Contains(out, "1.2.840.113549.1.9.16.2.59") && !strings.Contains(out, "id-smime-aa-") {
		t.Errorf("openssl reads %s", out)
	}
	p, err := NewPolicy(PolicyConfig{KeyAlgorithms: []string{"P-256"}, SANs: []string{"dns", "ip"}, Evidence: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(der, p)
	if err != nil || len(r.DNSNames()) != 6 || !bytes.Equal(r.Evidence(), tmpl.Evidence) {
		t.Errorf("%v", err)
	}
	if a := bytes.Index(der, oidDER(oidEvidence)); a > bytes.Index(der, oidDER(oidExtensionRequest)) {
		t.Error("the smaller attribute stands second")
	}
}
