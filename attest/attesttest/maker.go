// Package attesttest has what tests of several rooms need about attested chips: manufacturers with keys of their own, and
// software TPMs (swtpm) to which they gave endorsement certificates. No program links it.
package attesttest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
)

// Maker is a manufacturer of chips: a root, and an intermediate that signs the chips' certificates.
type Maker struct {
	Name               string
	Root, Intermediate *x509.Certificate
	rootKey, Key       *rsa.PrivateKey
}

// NewMaker makes a manufacturer's keys.
func NewMaker(t testing.TB, name string) *Maker {
	t.Helper()
	m := &Maker{Name: name, rootKey: rsaKey(t), Key: rsaKey(t)}
	m.Root = certify(t, name+" Root", m.rootKey.Public(), nil, m.rootKey)
	m.Intermediate = certify(t, name+" EK CA", m.Key.Public(), m.Root, m.rootKey)
	return m
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certify(t testing.TB, cn string, pub crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: Serial(t), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if parent == nil {
		parent = c
	}
	return Sign(t, c, pub, parent, key)
}

// Serial is a random serial number.
func Serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n.SetBit(n, 120, 1)
}

// Sign makes a certificate.
func Sign(t testing.TB, c *x509.Certificate, pub crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Config pins the root for a kind.
func (m *Maker) Config(kind attest.Kind) attest.ManufacturerConfig {
	return attest.ManufacturerConfig{Name: m.Name, Kind: kind, Roots: []*x509.Certificate{m.Root}}
}

// Pin is the manufacturers that have only these makers' roots, for a kind.
func Pin(t testing.TB, kind attest.Kind, makers ...*Maker) *attest.Manufacturers {
	t.Helper()
	var cs []attest.ManufacturerConfig
	for _, m := range makers {
		cs = append(cs, m.Config(kind))
	}
	pinned, err := attest.NewManufacturers(cs...)
	if err != nil {
		t.Fatal(err)
	}
	return pinned
}

// files writes what swtpm_localca needs to sign as the intermediate, and the configuration that names it.
func (m *Maker) files(t testing.TB, dir string) (config string) {
	t.Helper()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("signkey.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(m.Key)}))
	cert := write("issuercert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Intermediate.Raw}))
	localca := write("localca.conf", []byte("statedir = "+dir+"\nsigningkey = "+key+"\nissuercert = "+cert+"\ncertserial = "+filepath.Join(dir, "serial")+"\n"))
	options := write("localca.options", []byte("--platform-manufacturer Test\n--platform-version 1\n--platform-model Board\n"))
	return write("setup.conf", []byte("create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = "+localca+
		"\ncreate_certs_tool_options = "+options+"\nactive_pcr_banks = sha256\n"))
}
