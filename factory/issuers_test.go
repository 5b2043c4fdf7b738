package factory_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/programtest"
)

// TestListOfEachIssuer: the list of every issuing CA is served under its name, to a publisher too, and fetched by the program; names of no
// issuing CA are not found, and nothing is written.
func TestListOfEachIssuer(t *testing.T) {
	ctx, p, bin, dir := context.Background(), newPlant(t), programtest.Dir(t), t.TempDir()
	var other factory.IssuerConfig
	r := serve(t, p, func(c *factory.ServiceConfig) {
		other = p.reserve(t, "Reserve CA", &awayKey{Signer: newKey(t)})
		c.Others = []factory.IssuerConfig{other}
	})
	publisher := r.caller(t, ca.RolePublisher, "repo")
	c := r.client(publisher)
	of := func(cert *x509.Certificate) string {
		return fmt.Sprintf("%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo))
	}
	first, second := of(p.issuing), of(other.Chain[0])
	if _, err := c.CRLOf(ctx, second); code(t, err) != factory.CodeUnavailable {
		t.Errorf("no list is signed yet: %v", err)
	}
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	a, err := c.Issuers(ctx)
	if err != nil || len(a.Issuers) != 2 || a.Issuers[0].ID != first || a.Issuers[0].Subject != "CN=Factory CA" || a.Issuers[1].ID != second || a.Issuers[1].Subject != "CN=Reserve CA" ||
		a.Issuers[1].CRLNumber != 1 || a.Issuers[1].NextUpdate == nil || !a.Issuers[1].NotAfter.Equal(other.Chain[0].NotAfter) {
		t.Fatalf("%+v, %v", a, err)
	}
	for id, cert := range map[string]*x509.Certificate{first: p.issuing, second: other.Chain[0], "": p.issuing} {
		der, err := c.CRLOf(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := x509.ParseRevocationList(der); err != nil || list.CheckSignatureFrom(cert) != nil {
			t.Errorf("%q: not the list of %s (%v)", id, cert.Subject, err)
		}
	}
	before := r.rows()
	for _, id := range []string{strings.ToUpper(second), second[1:], second + "0", strings.Repeat("0", 64), "%00", "Reserve CA"} {
		if _, err := c.CRLOf(ctx, id); code(t, err) != factory.CodeNotFound {
			t.Errorf("%q: %v", id, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	// The program.
	root := writePEM(t, filepath.Join(dir, "root.pem"), "CERTIFICATE", p.operations.cert.Raw)
	cert, key := publisher.write(t, dir, "repo")
	hanaperd := func(args ...string) (int, string, string) {
		return run(t, filepath.Join(bin, "hanaperd"), append([]string{"crl", "--url", r.url, "--ca", root, "--cert", cert, "--key", key}, args...)...)
	}
	exit, out, errs := hanaperd("--issuers")
	if exit != 0 || !strings.Contains(out, second) || !strings.Contains(out, "CN=Reserve CA") {
		t.Errorf("%d, %s, %s", exit, out, errs)
	}
	exit, out, _ = hanaperd("--issuers", "--json")
	var said factory.IssuersAnswer
	if err := json.Unmarshal([]byte(out), &said); exit != 0 || err != nil || len(said.Issuers) != 2 {
		t.Errorf("%d, %s", exit, out)
	}
	to := filepath.Join(dir, "reserve.crl")
	if exit, _, errs := hanaperd("--issuer", second, "--out", to); exit != 0 {
		t.Errorf("%d, %s", exit, errs)
	}
	want, err := c.CRLOf(ctx, second)
	if der, bad := os.ReadFile(to); err != nil || bad != nil || !bytes.Equal(der, want) {
		t.Errorf("%d octets, %v, %v", len(der), err, bad)
	}
	for _, args := range [][]string{{}, {"--issuers", "--out", filepath.Join(dir, "none.crl")}, {"--issuer", first[2:], "--out", filepath.Join(dir, "none.crl")}} {
		if exit, _, errs := hanaperd(args...); exit == 0 || !strings.Contains(errs, "hint:") {
			t.Errorf("%v: %d, %s", args, exit, errs)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none.crl")); err == nil {
		t.Error("something was written")
	}
}
