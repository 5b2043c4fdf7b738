package factory_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// peer runs a peer's tool; it fails where the tool is missing.
func peer(t testing.TB, dir string, name string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

func must(t testing.TB, dir string, name string, args ...string) string {
	t.Helper()
	out, err := peer(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// estFolder holds what a station needs for EST with tools of others: root.pem, fleet.pem, line-1.pem and .key, and a device's key and request.
func estFolder(t testing.TB, r *running) string {
	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", r.operations.cert.Raw)
	writePEM(t, filepath.Join(dir, "fleet.pem"), "CERTIFICATE", r.fleet.cert.Raw)
	r.station(t, "line-1").write(t, dir, "line-1")
	must(t, dir, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "dev.key", "-subj", "/CN=dev-1", "-out", "dev.pem")
	must(t, dir, "openssl", "req", "-in", "dev.pem", "-outform", "DER", "-out", "dev.der")
	must(t, dir, "openssl", "base64", "-in", "dev.der", "-out", "dev.b64")
	return dir
}

// TestESTByCurl: curl and openssl alone get a device its certificate, as the runbook shows it, and take apart all that EST answers.
func TestESTByCurl(t *testing.T) {
	r := serve(t, newPlant(t))
	dir := estFolder(t, r)
	curl := func(path string, more ...string) string {
		return must(t, dir, "curl", append([]string{"-sS", "--fail-with-body", "--cacert", "root.pem", "--cert", "line-1.pem", "--key", "line-1.key", r.url + "/.well-known/est/" + path}, more...)...)
	}
	curl("cacerts", "-o", "ca.b64")
	must(t, dir, "openssl", "base64", "-d", "-A", "-in", "ca.b64", "-out", "ca.p7")
	must(t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", "ca.p7", "-print_certs", "-out", "ca.pem")
	if out := must(t, dir, "openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", "ca.p7"); !strings.Contains(out, "digestAlgorithms:\n        <ABSENT>") && !strings.Contains(out, "<EMPTY>") {
		t.Errorf("openssl cms shows %s", out)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || strings.Count(string(b), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("%v: the CA certificates are %s", err, b)
	}
	curl("2026-47/simpleenroll", "-H", "Content-Type: application/pkcs10", "--data-binary", "@dev.b64", "-o", "dev.p7.b64", "-D", "head")
	must(t, dir, "openssl", "base64", "-d", "-A", "-in", "dev.p7.b64", "-out", "dev.p7")
	must(t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", "dev.p7", "-print_certs", "-out", "dev.crt")
	must(t, dir, "openssl", "verify", "-x509_strict", "-CAfile", "fleet.pem", "-untrusted", "ca.pem", "-purpose", "sslclient", "dev.crt")
	if head, _ := os.ReadFile(filepath.Join(dir, "head")); !strings.Contains(string(head), "Content-Type: application/pkcs7-mime; smime-type=certs-only\r\n") {
		t.Errorf("the answer's head is %s", head)
	}
	// The same again, by both operations, is the same certificate.
	for _, op := range []string{"2026-47/simpleenroll", "2026-47/simplereenroll", "simplereenroll"} {
		if got, want := curl(op, "-H", "Content-Type: application/pkcs10", "--data-binary", "@dev.b64"), readFile(t, filepath.Join(dir, "dev.p7.b64")); got != want {
			t.Errorf("%s gives another certificate", op)
		}
	}
	d, err := r.client(r.operator(t, "olga")).Device(t.Context(), "dev-1")
	if err != nil || d.Lot != "2026-47" || d.Station != "line-1" {
		t.Errorf("%v: on record is %+v", err, d)
	}
	curl("csrattrs", "-o", "attrs.b64")
	must(t, dir, "openssl", "base64", "-d", "-A", "-in", "attrs.b64", "-out", "attrs.der")
	if out := must(t, dir, "openssl", "asn1parse", "-inform", "DER", "-in", "attrs.der"); !strings.Contains(out, "1.2.840.113549.1.9.16.2.61") {
		t.Errorf("csrattrs is %s", out)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestESTByStrongSwan: the EST client of strongSwan, another project's, with a TLS of its own, gets a device's certificate.
func TestESTByStrongSwan(t *testing.T) {
	r := serve(t, newPlant(t))
	dir := estFolder(t, r)
	q := deviceRequest(t, newKey(t), "dev-2")
	if _, _, err := r.client(r.station(t, "line-1")).Enroll(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(q.CSR))
	if err := os.WriteFile(filepath.Join(dir, "dev-2.der"), block.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its TLS 1.3 wants to be asked for.
	if err := os.WriteFile(filepath.Join(dir, "strongswan.conf"), []byte("pki {\n tls {\n  version_max = 1.3\n }\n}\nlibtls {\n version_max = 1.3\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STRONGSWAN_CONF", filepath.Join(dir, "strongswan.conf"))
	out := must(t, dir, "sh", "-c", "pki --est --url "+r.url+" --in dev-2.der --cacert root.pem --cacert fleet.pem --cert line-1.pem --key line-1.key --outform pem --debug 2 > dev-2.pem")
	b, _ := pem.Decode([]byte(readFile(t, filepath.Join(dir, "dev-2.pem"))))
	if b == nil {
		t.Fatalf("strongSwan got nothing: %s", out)
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil || cert.Subject.CommonName != "dev-2" {
		t.Errorf("%v: %+v", err, cert)
	}
}
