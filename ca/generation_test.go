package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGeneration: a device's certificate says which generation it is, as openssl reads it; a CA's never does, and none is confirmed with another one.
func TestGeneration(t *testing.T) {
	key, err := SpecimenKey("P-256", "generation")
	if err != nil {
		t.Fatal(err)
	}
	rootProfile, err1 := Builtin("fleet-root")
	device, err2 := Builtin("device")
	sub, err3 := Builtin("factory-ca")
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	rootKey, err := SpecimenKey("P-256", "generation root")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	root, err := sign(PrepareRoot(rootProfile, Template{Subject: pkix.Name{CommonName: "Root"}, NotBefore: begin, NotAfter: begin.AddDate(10, 0, 0)}, rootKey, rand.Reader))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := NewIssuer(root, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	template := func(n int) Template {
		return Template{Subject: pkix.Name{CommonName: "vin-0001"}, PublicKey: key.Public(), NotBefore: begin, NotAfter: begin.AddDate(1, 0, 0), Generation: n,
			Serial: new(big.Int).Lsh(big.NewInt(1), 158)}
	}
	for n, words := range map[int]string{1: "02 01 01", 300: "02 02 01 2c", MaxGeneration: "02 04 7f ff ff ff"} {
		cert, err := sign(issuer.Prepare(device, template(n), rand.Reader))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Generation(cert); err != nil || got != n {
			t.Errorf("%d: %d, %v", n, got, err)
		}
		if err := issuer.Confirm(device, template(n), cert); err != nil {
			t.Error(err)
		}
		for _, other := range []int{0, n - 1} {
			if err := issuer.Confirm(device, template(other), cert); err == nil || !strings.Contains(err.Error(), "generation") {
				t.Errorf("%d confirmed as %d: %v", n, other, err)
			}
		}
		path := filepath.Join(t.TempDir(), "cert.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", "x509", "-in", path, "-noout", "-text", "-certopt", "ext_dump").CombinedOutput()
		if _, after, ok := strings.Cut(string(out), oidGeneration.String()+": \n"); err != nil || !ok || !strings.Contains(after[:min(len(after), 80)], words) {
			t.Errorf("openssl reads %d otherwise: %v\n%s", n, err, out)
		}
	}
	none, err := sign(issuer.Prepare(device, template(0), rand.Reader))
	if n, e := Generation(none); err != nil || n != 0 || e != nil || extensionIn(none) {
		t.Error(err, n, e)
	}
	for _, n := range []int{-1, MaxGeneration + 1} {
		if _, err := issuer.Prepare(device, template(n), rand.Reader); !Breaks(err, "CA-027") {
			t.Errorf("%d: %v", n, err)
		}
	}
	if _, err := issuer.Prepare(sub, template(1), rand.Reader); !Breaks(err, "CA-027") {
		t.Errorf("a CA with a generation: %v", err)
	}
	for _, bad := range []struct {
		value    string
		critical bool
	}{{"\x02\x01\x00", false}, {"\x02\x01\xff", false}, {"\x02\x02\x00\x01", false}, {"\x02\x01\x01\x00", false}, {"", false}, {"\x04\x01\x01", false}, {"\x02\x05\x01\x00\x00\x00\x00", false}, {"\x02\x01\x01", true}} {
		c := &x509.Certificate{Extensions: []pkix.Extension{{Id: oidGeneration, Critical: bad.critical, Value: []byte(bad.value)}}}
		if n, err := Generation(c); err == nil {
			t.Errorf("% x is %d", bad.value, n)
		}
	}
	twice := pkix.Extension{Id: oidGeneration, Value: []byte{2, 1, 1}}
	if _, err := Generation(&x509.Certificate{Extensions: []pkix.Extension{twice, twice}}); err == nil {
		t.Error("it stands twice")
	}
}

func extensionIn(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier(oidGeneration)) {
			return true
		}
	}
	return false
}

func sign(p *Prepared, err error) (*x509.Certificate, error) {
	if err != nil {
		return nil, err
	}
	return p.Sign(context.Background(), rand.Reader)
}
