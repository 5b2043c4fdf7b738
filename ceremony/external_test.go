package ceremony

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
)

const requestScript = `version: 1
ceremony: {{.Ceremony}}
environment: demo
window: {from: 2026-11-21T00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {{file "roster.json"}}
tokens:
  roots: {uri: "{{token "roots"}}"}
steps:
  - generate-key: {name: fleet-ca-key, token: roots, algorithm: P-384}
  - generate-key: {name: other-key, token: roots, algorithm: P-384}
  - csr: {name: fleet-ca-request, key: fleet-ca-key, subject: {common_name: Fleet CA, organization: Example Devices}}
`

const answerScript = `version: 1
ceremony: answer
environment: demo
window: {from: 2026-12-01T00:00:00Z, until: 2026-12-02T00:00:00Z}
roster: {{file "roster.json"}}
earlier: {folder: out, checkpoint: {{checkpoint "out"}}}
tokens:
  roots: {uri: "{{token "roots"}}"}
inputs:
  company-root-pem: {{file "company-root.pem"}}
  fleet-ca-pem: {{file "fleet-ca.pem"}}
  factory-csr: {{file "factory.csr"}}
steps:
  - import-artefact: {key: fleet-ca-key, token: roots}
  - import-artefact: {key: other-key, token: roots}
  - import-certificate: {name: company-root, certificate: company-root-pem}
  - import-certificate: {name: fleet-ca, certificate: fleet-ca-pem, issuer: company-root, key: fleet-ca-key}
  - certificate:
      name: factory-ca
      issuer: fleet-ca
      profile: factory-ca
      request: factory-csr
      not_before: 2026-12-01T00:00:00Z
      not_after: 2030-11-21T00:00:00Z
  - crl: {name: fleet-ca-crl, issuer: fleet-ca, number: 1, this_update: 2026-12-01T00:00:00Z, next_update: 2027-11-21T00:00:00Z}
`

// TestPublicRoot: no root that browsers trust becomes an anchor.
func TestPublicRoot(t *testing.T) {
	if n := len(publicRoots()); n < 100 {
		t.Errorf("only %d public roots are known", n)
	}
	s := newStage(t)
	s.put("public-root.pem", []byte(readFile(t, "testdata/public-root.pem")))
	text := strings.Replace(requestScript, "steps:\n", "inputs:\n  public: {{file \"public-root.pem\"}}\nsteps:\n  - import-certificate: {name: anchor, certificate: public}\n", 1)
	script, err := s.script(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := script.Validate(context.Background()); err == nil || !strings.Contains(err.Error(), RuleAnchor.ID) {
		t.Errorf("got %v, want %s", err, RuleAnchor.ID)
	}
}

// externalStage has a company's own CA certify the Fleet CA after a first ceremony. answerScript takes it up.
func externalStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(requestScript)))
	if err != nil {
		t.Fatal(err)
	}
	request := filepath.Join(result.Out, "artefacts/fleet-ca-request.csr")
	judge(t, "openssl", "req", "-verify", "-noout", "-in", request)
	data, err := os.ReadFile(request)
	if err != nil {
		t.Fatal(err)
	}
	r, err := csr.Parse(data, csr.CAPolicy())
	if err != nil {
		t.Fatal(err)
	}
	company, err := ca.SpecimenKey("P-384", "a company's CA")
	if err != nil {
		t.Fatal(err)
	}
	year := func(n int) ca.Template {
		return ca.Template{NotBefore: asserted, NotAfter: asserted.AddDate(n, 0, 0)}
	}
	profile := func(name string) *ca.Profile {
		p, err := ca.Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	put := func(name string, p *ca.Prepared, err error) *x509.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := p.Sign(context.Background(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s.put(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
		return cert
	}
	template := year(20)
	template.Subject = SubjectConfig{CommonName: "Company Root"}.name()
	p, err := ca.PrepareRoot(profile("fleet-root"), template, company, rand.Reader)
	root := put("company-root.pem", p, err)
	issuer, err := ca.NewIssuer(root, company)
	if err != nil {
		t.Fatal(err)
	}
	template = year(10)
	template.Subject, template.PublicKey = r.Subject(), r.PublicKey()
	one := 1
	template.PathLen = &one
	p, err = issuer.Prepare(profile("subordinate-ca"), template, rand.Reader)
	put("fleet-ca.pem", p, err)
	s.now = asserted.AddDate(0, 0, 10)
	return s
}

// TestExternalCA has a company's own CA certify the Fleet CA between two ceremonies.
func TestExternalCA(t *testing.T) {
	s := externalStage(t)
	for _, c := range []struct{ name, old, new, want string }{
		{"for another key", "issuer: company-root, key: fleet-ca-key", "issuer: company-root, key: other-key", RuleMatch.ID},
		{"without its issuer", "issuer: company-root, key", "key", RuleAnchor.ID},
		{"under another issuer", "issuer: company-root, key", "issuer: fleet-ca-2, key", RuleReference.ID},
		{"that is no certificate", "certificate: fleet-ca-pem", "certificate: factory-csr", RuleField.ID},
		{"that is not there", "certificate: fleet-ca-pem", "certificate: other-pem", RuleReference.ID},
		{"whose key is not of the ceremony", "issuer: company-root, key: fleet-ca-key", "issuer: company-root, key: no-key", RuleReference.ID},
		{"that outlives", "not_after: 2030-11-21T00:00:00Z", "not_after: 2040-11-21T00:00:00Z", "CA-001"},
	} {
		err := s.check(strings.Replace(answerScript, c.old, c.new, 1))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a certificate %s: got %v, want %s", c.name, err, c.want)
		}
		// A certificate that breaks a rule is refused; exit code 4 is for what does not verify.
		if kind := advice.KindOf(err); c.want != RuleField.ID && kind != advice.Refused {
			t.Errorf("a certificate %s: kind %d, want refused", c.name, kind)
		}
	}
	c := s.config(s.plan(answerScript))
	c.Out += "-2"
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(result.Out, "artefacts", name) }
	judge(t, "openssl", "verify", "-x509_strict", "-attime", "1797000000", "-CAfile", at("company-root.pem"), "-untrusted", at("fleet-ca.pem"), at("factory-ca.pem"))
}
