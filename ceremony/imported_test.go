package ceremony

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.step.sm/crypto/x509util"
)

// opensslConfig has a section for each kind of certificate that openssl makes here.
const opensslConfig = `[req]
distinguished_name = dn
prompt = no
[dn]
O = Example Company
CN = Example Company Root
[plain]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[loose]
basicConstraints = critical,CA:TRUE
keyUsage = keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid,issuer
[rich]
basicConstraints = critical,CA:TRUE,pathlen:3
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
certificatePolicies = 1.3.6.1.4.1.55555.1.1,@cps
nameConstraints = critical,permitted;DNS:example.com,excluded;email:example.net,permitted;IP:10.0.0.0/255.0.0.0
authorityInfoAccess = caIssuers;URI:http://pki.example.com/root.cer,OCSP;URI:http://ocsp.example.com
crlDistributionPoints = URI:http://pki.example.com/root.crl
[directory]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
nameConstraints = critical,permitted;dirName:names
[names]
O = Example Company
[cps]
policyIdentifier = 1.3.6.1.4.1.55555.1.2
CPS.1 = https://pki.example.com/cps
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
[nobasic]
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
[uncritical]
basicConstraints = CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[noski]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = none
[nousage]
basicConstraints = critical,CA:TRUE
subjectKeyIdentifier = hash
[nosign]
basicConstraints = critical,CA:TRUE
keyUsage = critical,digitalSignature,cRLSign
subjectKeyIdentifier = hash
[strange]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
1.3.6.1.4.1.55555.9 = critical,ASN1:UTF8String:strange
`

// pythonCA has python's cryptography make a root for each line of arguments: file, key, serial in hex, kind.
const pythonCA = `
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier
keys = {"P-384": ec.generate_private_key(ec.SECP384R1()), "P-256": ec.generate_private_key(ec.SECP256R1())}
for line in sys.stdin.read().split("\n"):
    if not line: continue
    file, key, serial, kind = line.split()
    k = keys[key]
    name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Beispiel AG"), x509.NameAttribute(NameOID.COMMON_NAME, "Beispiel Wurzel")])
    usage = dict.fromkeys("digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign encipher_only decipher_only".split(), False) | {"key_cert_sign": True, "crl_sign": True}
    b = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(k.public_key()).serial_number(int(serial, 16))
    b = b.not_valid_before(datetime.datetime(2026, 1, 1)).not_valid_after(datetime.datetime(2055, 1, 1) if kind == "late" else datetime.datetime(2046, 1, 1))
    b = b.add_extension(x509.BasicConstraints(True, 1 if kind == "length" else None), True).add_extension(x509.KeyUsage(**usage), True)
    b = b.add_extension(x509.SubjectKeyIdentifier(b"0123456789abcdef" if kind == "ski" else x509.SubjectKeyIdentifier.from_public_key(k.public_key()).digest), False)
    if kind == "policies":
        b = b.add_extension(x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier("2.5.29.32.0"), ["https://pki.example.de/cps", x509.UserNotice(None, "Nur Geraete")])]), False)
    if kind == "constraints":
        b = b.add_extension(x509.NameConstraints([x509.DNSName("example.de")], [x509.DNSName("test.example.de")]), True)
    hash_ = hashes.SHA256() if key == "P-256" or kind == "sha256" else hashes.SHA384()
    open(file, "wb").write(b.sign(k, hash_).public_bytes(serialization.Encoding.PEM))
`

// TestImportedCAs: certificates as real CA products make them are taken in as an anchor, or refused with the rule, as RFC 5280 says; where
// Hanaper is stricter the table says so.
func TestImportedCAs(t *testing.T) {
	s := newStage(t)
	s.put("openssl.cnf", []byte(opensslConfig))
	run := func(stdin, name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Stdin = s.dir, strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	octets := func(n int) string { return "4f" + strings.Repeat("a1", n-1) }
	keys := map[string][]string{
		"P-384": {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"}, "P-256": {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"RSA-4096": {"-key", "rsa-4096.key"}, "RSA-2048": {"-newkey", "rsa:2048"},
	}
	run("", "openssl", "genrsa", "-out", "rsa-4096.key", "4096")
	openssl := func(section, key, serial string, more ...string) string {
		t.Helper()
		file := "o-" + section + "-" + key + "-" + serial + strings.Join(more, "") + ".pem"
		hash := "-sha256"
		if key == "P-384" {
			hash = "-sha384"
		}
		args := append([]string{"req", "-x509", "-config", "openssl.cnf", "-extensions", section, "-nodes", "-keyout", "new.key", "-out", file, "-days", "7000", "-set_serial", "0x" + serial, hash}, keys[key]...)
		if key == "RSA-4096" {
			args = append(args[:7:7], args[9:]...) // no -keyout
		}
		run("", "openssl", append(args, more...)...)
		return file
	}
	var python strings.Builder
	byPython := func(key, serial, kind string) string {
		file := "p-" + key + "-" + kind + "-" + serial + ".pem"
		python.WriteString(file + " " + key + " " + serial + " " + kind + "\n")
		return file
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa3072, _ := rsa.GenerateKey(rand.Reader, 3072)
	cases := []struct{ what, file, want string }{
		{"openssl, a serial of 1 octet", openssl("plain", "P-384", "01"), ""},
		{"openssl, a serial of 8 octets", openssl("plain", "P-256", octets(8)), ""},
		{"openssl, a serial of 16 octets, RSA-4096", openssl("plain", "RSA-4096", octets(16)), ""},
		{"openssl, a serial of 20 octets", openssl("plain", "P-384", octets(20)), ""},
		{"openssl, path length, policies with a CPS URL, name constraints, AIA", openssl("rich", "P-384", octets(16)), ""},
		{"openssl, constraints on directory names, which RFC 5280 allows and Go does not read", openssl("directory", "P-384", octets(16)), "CA-022"},
		{"openssl, keyUsage that is not critical, with digitalSignature and an AKI with issuer and serial", openssl("loose", "RSA-4096", octets(9)), ""},
		{"python, a serial of 1 octet, P-384", byPython("P-384", "7f", "plain"), ""},
		{"python, a serial of 16 octets, with a path length", byPython("P-384", octets(16), "length"), ""},
		{"python, a serial of 20 octets, policies with CPS and a notice", byPython("P-256", octets(20), "policies"), ""},
		{"python, a key identifier of its own", byPython("P-256", octets(8), "ski"), ""},
		{"python, name constraints", byPython("P-384", octets(16), "constraints"), ""},
		{"python, valid beyond 2050", byPython("P-384", octets(18), "late"), ""},
		{"python, P-384 with SHA-256, which RFC 5280 allows", byPython("P-384", octets(17), "sha256"), "CA-008"},
		{"step, its default root", s.byStep("s-root.pem", p384, nil, x509util.DefaultRootTemplate), ""},
		{"step, RSA, a serial of 16 octets", s.byStep("s-rsa.pem", rsa3072, func(c *x509.Certificate) { c.SerialNumber, _ = new(big.Int).SetString(octets(16), 16) }, x509util.DefaultRootTemplate), ""},
		{"step, a leaf", s.byStep("s-leaf.pem", p384, nil, x509util.DefaultLeafTemplate), "is not a CA's"},
		{"openssl, a leaf", openssl("leaf", "P-256", octets(16)), "is not a CA's"},
		{"openssl, without basicConstraints", openssl("nobasic", "P-256", octets(16)), "is not a CA's"},
		{"openssl, basicConstraints that are not critical (a MUST)", openssl("uncritical", "P-256", octets(16)), "CA-014"},
		{"openssl, no key identifier (a MUST)", openssl("noski", "P-256", octets(16)), "CA-012"},
		{"openssl, no keyUsage (a MUST)", openssl("nousage", "P-256", octets(16)), "CA-015"},
		{"openssl, no keyCertSign (a MUST)", openssl("nosign", "P-256", octets(16)), "CA-015"},
		{"openssl, a critical extension that nobody knows (a MUST)", openssl("strange", "P-256", octets(16)), "CA-022"},
		{"openssl, RSA-2048, which RFC 5280 allows", openssl("plain", "RSA-2048", octets(16)), "CA-010"},
		{"openssl, SHA-1, which RFC 5280 allows", openssl("plain", "P-256", octets(15), "-sha1"), "CA-008"},
	}
	run(python.String(), "python3", "-c", pythonCA)
	now := time.Now().UTC().Truncate(time.Second).Add(time.Minute) // openssl 3.0 makes certificates that begin now
	window := strings.NewReplacer("2026-11-21T00:00:00Z", formatTime(now), "2026-11-22T00:00:00Z", formatTime(now.Add(time.Hour))).Replace(requestScript)
	for _, c := range cases {
		text := strings.Replace(window, "steps:\n", "inputs:\n  root: {{file \""+c.file+"\"}}\nsteps:\n  - import-certificate: {name: company-root, certificate: root}\n", 1)
		script, err := s.script(text)
		if err == nil {
			_, err = script.Validate(t.Context())
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %s", c.what, err, c.want)
		}
		if _, err := os.Stat(filepath.Join(s.dir, "out")); err == nil {
			t.Fatalf("%s: something was written", c.what)
		}
	}
}

// byStep has step's x509util make a self-signed certificate.
func (s *stage) byStep(file string, key crypto.Signer, change func(*x509.Certificate), template string) string {
	s.t.Helper()
	cr, err := x509util.CreateCertificateRequest("Example Company Root", nil, key)
	if err != nil {
		s.t.Fatal(err)
	}
	data := x509util.CreateTemplateData("Example Company Root", nil)
	made, err := x509util.NewCertificate(cr, x509util.WithTemplate(template, data))
	if err != nil {
		s.t.Fatal(err)
	}
	c := made.GetCertificate()
	c.NotBefore, c.NotAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), asserted.AddDate(20, 0, 0).Truncate(time.Second)
	if change != nil {
		change(c)
	}
	signed, err := x509util.CreateCertificate(c, c, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Raw}))
	return file
}
