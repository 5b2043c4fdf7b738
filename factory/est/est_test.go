package est

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestPaths: an operation, a label of few characters, and one spelling of each.
func TestPaths(t *testing.T) {
	for path, want := range map[string]struct {
		label string
		op    Operation
	}{
		"/.well-known/est/cacerts":                                      {"", CACerts},
		"/.well-known/est/2026-47/simpleenroll":                         {"2026-47", SimpleEnroll},
		"/.well-known/est/Lot_7.a:b/csrattrs":                           {"Lot_7.a:b", CSRAttrs},
		"/.well-known/est/serverkeygen":                                 {"", ServerKeyGen},
		"/.well-known/est/" + strings.Repeat("l", 64) + "/simpleenroll": {strings.Repeat("l", 64), SimpleEnroll},
	} {
		if label, op, ok := ParsePath(path); !ok || label != want.label || op != want.op || !Under(path) {
			t.Errorf("%s: %q %q %v", path, label, op, ok)
		}
	}
	for _, path := range []string{
		"/.well-known/est", "/.well-known/est/", "/.well-known/estcacerts", "/.well-known/est/CACERTS", "/.well-known/est/cacerts/", "/.well-known/est//cacerts",
		"/.well-known/est/./cacerts", "/.well-known/est/../cacerts", "/.well-known/est/lot/../cacerts", "/.well-known/est/lot%2f../cacerts", "/.well-known/est/a%2Fb/cacerts",
		"/.well-known/est/%63acerts", "/.well-known/est/a/b/cacerts", "/.well-known/est/simpleenroll/cacerts", "/.well-known/est/SimpleEnroll/cacerts", "/.well-known/est/..a/cacerts",
		"/.well-known/est/lot;v=1/cacerts", "/.well-known/est/lot cacerts", "/.well-known/est/l\x00t/cacerts", "/.well-known/est/lot/", "/.well-known/est/lot",
		"/.well-known/EST/cacerts", "/.well-known/est/" + strings.Repeat("l", 65) + "/cacerts", "/.well-known/est/l\u00f6t/cacerts", "/x/.well-known/est/cacerts", "",
	} {
		if label, op, ok := ParsePath(path); ok {
			t.Errorf("%q is taken as %q %q", path, label, op)
		}
	}
}

// TestBodies: base64 with blanks anywhere, and nothing else.
func TestBodies(t *testing.T) {
	der := []byte{0x30, 0x03, 0x02, 0x01, 0x00, 0xff, 0x80}
	text := base64.StdEncoding.EncodeToString(der)
	for _, body := range []string{text, text + "\n", "\r\n" + text, strings.Join(strings.Split(text, ""), "\r\n \t")} {
		if got, err := Decode([]byte(body)); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%q: %x, %v", body, got, err)
		}
	}
	for body, want := range map[string]error{
		"": ErrEmpty, " \r\n": ErrEmpty, "-----BEGIN CERTIFICATE REQUEST-----\n" + text: ErrPEM, string(der): ErrBase64, text[:len(text)-1]: ErrBase64, text + text: ErrBase64,
		text[:4] + "*" + text[5:]: ErrBase64, "MAMCAQD/gB==": ErrBase64, strings.ReplaceAll(text, "/", "_"): ErrBase64, "=": ErrBase64, text + "=": ErrBase64, text[:5] + "\x00" + text[5:]: ErrBase64,
		text + "\v": ErrBase64, "\ufeff" + text: ErrBase64,
	} {
		if got, err := Decode([]byte(body)); !errors.Is(err, want) {
			t.Errorf("%q: %x, %v, and not %v", body, got, err, want)
		}
	}
	if back, err := Decode(Encode(der)); err != nil || !bytes.Equal(back, der) {
		t.Errorf("%x, %v", back, err)
	}
}

// golden holds bytes to a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s (%v) is not what is made now: %x", name, err, got)
	}
}

// TestCertsOnly: openssl makes the same octets of the same certificates, and reads ours.
func TestCertsOnly(t *testing.T) {
	text, err := os.ReadFile("testdata/certificates.pem")
	if err != nil {
		t.Fatal(err)
	}
	var certs [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Fatal(err)
		}
		certs = append(certs, block.Bytes)
	}
	if len(certs) != 3 {
		t.Fatalf("%d certificates", len(certs))
	}
	got, err := CertsOnly(certs...)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "certs-only.der", got)
	// crl2pkcs7 keeps the order that it is given.
	dir := t.TempDir()
	args := []string{"crl2pkcs7", "-nocrl", "-outform", "DER", "-out", filepath.Join(dir, "theirs.der")}
	slices.SortFunc(certs, bytes.Compare)
	for i, der := range certs {
		file := filepath.Join(dir, string(rune('a'+i)))
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-certfile", file)
	}
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if theirs, err := os.ReadFile(filepath.Join(dir, "theirs.der")); err != nil || !bytes.Equal(theirs, got) {
		t.Errorf("%v: openssl makes\n%x, we\n%x", err, theirs, got)
	}
}

// TestCSRAttributes: the golden files, which openssl takes apart.
func TestCSRAttributes(t *testing.T) {
	template := []string{":1.2.840.113549.1.9.16.2.61", "INTEGER           :00", ":commonName"}
	for name, c := range map[string]struct {
		wanted Wanted
		// lines in openssl's reading, in this order.
		lines []string
	}{
		"any":      {Wanted{KeyAlgorithms: []string{"P-256", "RSA-3072"}}, slices.Concat(template, []string{"cont [ 1 ]"})},
		"p256":     {Wanted{KeyAlgorithms: []string{"P-256"}}, slices.Concat([]string{":id-ecPublicKey", ":prime256v1", ":ecdsa-with-SHA256"}, template, []string{"cont [ 0 ]", ":id-ecPublicKey", ":prime256v1", "cont [ 1 ]"})},
		"p384":     {Wanted{KeyAlgorithms: []string{"P-384"}}, slices.Concat([]string{":id-ecPublicKey", ":secp384r1", ":ecdsa-with-SHA384"}, template, []string{"cont [ 0 ]", ":secp384r1"})},
		"rsa3072":  {Wanted{KeyAlgorithms: []string{"RSA-3072"}}, slices.Concat([]string{":rsaEncryption", ":0C00", ":sha256WithRSAEncryption"}, template, []string{"cont [ 0 ]", ":rsaEncryption", "BIT STRING", "cont [ 1 ]"})},
		"ed25519":  {Wanted{KeyAlgorithms: []string{"Ed25519"}}, slices.Concat([]string{":ED25519"}, template, []string{"cont [ 0 ]", ":ED25519"})},
		"evidence": {Wanted{KeyAlgorithms: []string{"P-256", "P-384"}, Evidence: true}, slices.Concat([]string{":1.2.840.113549.1.9.16.2.59"}, template)},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := Attributes(c.wanted)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "csrattrs-"+name+".der", der)
			cmd := exec.Command("openssl", "asn1parse", "-inform", "DER")
			cmd.Stdin = bytes.NewReader(der)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			rest := string(out)
			for _, line := range c.lines {
				_, after, has := strings.Cut(rest, line)
				if !has {
					t.Fatalf("%q does not follow in %s", line, out)
				}
				rest = after
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "MAMCAQA=", "MAMC AQ\r\nA=", "-----BEGIN", "====", "MAMCAQD/gB=="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := Decode(b)
		if err != nil {
			return
		}
		stripped := bytes.Map(func(r rune) rune {
			if strings.ContainsRune(" \t\r\n", r) {
				return -1
			}
			return r
		}, b)
		if !bytes.Equal(Encode(der), stripped) {
			t.Errorf("%q has two spellings", b)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/.well-known/est/cacerts", "/.well-known/est/a/simpleenroll", "/.well-known/est/a%2f/simpleenroll", "/.well-known/est/../cacerts"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		label, op, ok := ParsePath(s)
		if !ok {
			return
		}
		path := Root + "/" + string(op)
		if label != "" {
			path = Root + "/" + label + "/" + string(op)
		}
		if s != path || strings.ContainsAny(label, "/%\\") || strings.HasPrefix(label, ".") {
			t.Errorf("%q is taken as %q %q", s, label, op)
		}
	})
}
