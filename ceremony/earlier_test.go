package ceremony

import (
	"context"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/csr"
)

// second performs the first ceremony and prepares the one that carries on from it.
func second(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	if _, err := Run(context.Background(), s.config(s.plan(s.full()))); err != nil {
		t.Fatal(err)
	}
	s.request("factory-2.csr", factory2)
	s.Ceremony = "second"
	s.now = asserted.AddDate(0, 0, 345)
	return s
}

func (s *stage) secondScript() string {
	s.t.Helper()
	data, err := os.ReadFile("testdata/second.yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

func TestSecondCeremony(t *testing.T) {
	s := second(t)
	before := s.objects()
	p := s.plan(s.secondScript())
	c := s.config(p)
	c.Out += "-2"
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	if _, err := Verify(context.Background(), os.DirFS(result.Out), &anchor); err != nil {
		t.Fatal(err)
	}
	if got := s.objects(); got != before {
		t.Errorf("%d keys, want %d: one more and one destroyed", got, before)
	}
	at := func(name string) string { return filepath.Join(result.Out, "artefacts", name) }
	root := filepath.Join(s.dir, "out/artefacts/fleet-root.pem")
	judge(t, "openssl", "verify", "-x509_strict", "-attime", "1830000000", "-CAfile", root, at("factory-ca-2.pem"))
	if out := judge(t, "openssl", "crl", "-inform", "DER", "-in", at("fleet-root-crl-2.crl"), "-CAfile", root, "-noout", "-text"); !strings.Contains(out, "Superseded") {
		t.Error(out)
	}
	// A byte of the earlier folder within the new one is covered like any other.
	name := filepath.Join(result.Out, "earlier/artefacts/fleet-root.pem")
	if err := os.WriteFile(name, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), os.DirFS(result.Out), &anchor); err == nil || !strings.Contains(err.Error(), "earlier/artefacts/fleet-root.pem") {
		t.Errorf("a changed earlier folder: %v", err)
	}
}

func TestGoingBack(t *testing.T) {
	s := second(t)
	text := s.secondScript()
	for _, c := range []struct{ name, old, new, want string }{
		{"another checkpoint", `{{checkpoint "out"}}`, strings.Repeat("0", 64), RuleEarlier.ID},
		{"the same id", "{{.Ceremony}}", "first", RuleEarlier.ID},
		{"a window before the earlier one", "from: 2027-11-01T00:00:00Z, until: 2027-11-02", "from: 2026-11-19T00:00:00Z, until: 2026-11-20", RuleEarlier.ID},
		{"CRL number repeats", "number: 2", "number: 1", RuleCRLNumber.ID},
		{"CRL dated before the earlier one", "\n      this_update: 2027-11-01T00:00:00Z\n", "\n      this_update: 2026-11-20T00:00:00Z\n", RuleCRLEntry.ID},
		{"revocation with a later date", "reason: superseded, at: 2027-10-31T00:00:00Z", "reason: superseded, at: 2027-11-02T00:00:00Z", RuleCRLEntry.ID},
		{"root version repeats", "version: 2\n", "version: 1\n", RuleVersion.ID},
		{"root version skips", "version: 2\n", "version: 3\n", RuleVersion.ID},
		{"root not signed by the old key", "signed_by: [image-root-key, image-root-key-2]", "signed_by: [image-root-key-2]", RuleThreshold.ID},
		{"destroyed key is used", "  - import-artefact: {key: trust-root-key, token: roots}", "  - csr: {name: r, key: image-root-key, subject: {common_name: x}}", RuleReference.ID},
		{"key that was never made", "{key: trust-root-key, token: roots}", "{key: no-key, token: roots}", RuleReference.ID},
		{"certificate that was never made", "import-artefact: {certificate: factory-ca}", "import-artefact: {certificate: factory-ca-9}", RuleReference.ID},
		{"key without token", "{key: trust-root-key, token: roots}", "{key: trust-root-key}", RuleField.ID},
		{"import of two things", "import-artefact: {certificate: factory-ca}", "import-artefact: {certificate: factory-ca, crl: fleet-root-crl}", RuleField.ID},
		{"import without earlier ceremony", `earlier: {folder: out, checkpoint: {{checkpoint "out"}}}`, "", RuleEarlier.ID},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			if !strings.Contains(text, c.old) {
				t.Fatalf("the script has no %q", c.old)
			}
			script, err := s.script(strings.Replace(text, c.old, c.new, 1))
			if err == nil {
				_, err = script.Validate(context.Background())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	s.t = t
	// Approvals of the first ceremony's nonce are refused in the second.
	p := s.plan(text)
	c := s.config(p)
	c.Out += "-2"
	c.Approvals = s.approveAs(p.script, p.script.earlier.verified.begin.Nonce, 2)
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "used before") {
		t.Errorf("a reused nonce: %v", err)
	}
}

var factory2 = csr.Template{Subject: pkix.Name{CommonName: "Demo Factory CA 2"}}
