package ceremony

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const mentorProfile = `name: mentor
key_usage: [digitalSignature]
ext_key_usage: [clientAuth]
max_validity_days: 400
key_algorithms: [P-256]
`

func variants(t testing.TB) (*stage, string) {
	t.Helper()
	s := newStage(t)
	s.put("mentor.yaml", []byte(mentorProfile))
	data, err := os.ReadFile("testdata/variants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s, string(data)
}

func TestVariants(t *testing.T) {
	s, text := variants(t)
	p := s.plan(text)
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "serverAuth") {
		t.Errorf("warnings %q", p.Warnings)
	}
	// It stands on the printed page of its step too.
	holds(t, p.Paper(Tool{}), "serverAuth")
	result, err := Run(context.Background(), s.config(p))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(result.Out, "artefacts", name) }
	judge(t, "openssl", "verify", "-x509_strict", "-attime", "1795255200", "-CAfile", at("rsa-root.pem"), at("rsa-root.pem"))
	judge(t, "openssl", "verify", "-x509_strict", "-attime", "1795255200", "-CAfile", at("ec-root.pem"), "-untrusted", at("sub.pem"), "-verify_hostname", "www.example.com", at("web.pem"))
	judge(t, "openssl", "verify", "-x509_strict", "-attime", "1795255200", "-CAfile", at("ec-root.pem"), at("new-root-by-old.pem"))
	if out := judge(t, "openssl", "crl", "-inform", "DER", "-in", at("ec-root-crl-2.crl"), "-CAfile", at("ec-root.pem"), "-noout", "-text"); strings.Count(out, "Serial Number:") != 2 {
		t.Error(out)
	}
	chain, err := os.ReadFile(at("web.chain.pem"))
	if err != nil || strings.Count(string(chain), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("the chain of web: %v\n%s", err, chain)
	}
}

func TestBadVariants(t *testing.T) {
	s, text := variants(t)
	s.slips(text, []slip{
		{"key without subject", "      subject: {common_name: Sub CA}\n", "", RuleField.ID},
		{"cross with a subject", "      cross: new-root\n", "      cross: new-root\n      subject: {common_name: x}\n", RuleField.ID},
		{"cross of nothing", "cross: new-root", "cross: no-root", RuleReference.ID},
		{"cross under itself", "issuer: ec-root\n      profile: cross", "issuer: new-root\n      profile: cross", "CA-00"},
		{"server outside the constraints", "dns_names: [www.example.com]", "dns_names: [www.example.org]", "CA-004"},
		{"address outside the constraints", "ips: [192.0.2.7]", "ips: [198.51.100.7]", "CA-004"},
		{"address that is none", "ips: [192.0.2.7]", "ips: [192.0.2]", RuleField.ID},
		{"path length that does not fall", "path_length: 1\n      name_constraints", "path_length: 2\n      name_constraints", "CA-003"},
		{"unknown policy", "policy: client", "policy: strict", RuleField.ID},
		{"profile that is none", `{{file "mentor.yaml"}}`, `{{file "trust-crl.pem"}}`, RuleField.ID},
		{"root twice", "  - generate-key: {name: sub-key,", "  - root-certificate: {name: r2, key: ec-root-key, profile: fleet-root, subject: {common_name: R2}, not_before: 2026-11-21T00:00:00Z, not_after: 2036-11-21T00:00:00Z}\n  - generate-key: {name: sub-key,", RulePurpose.ID},
		{"CRL drops a revocation", "        - {certificate: mentor-1, reason: keyCompromise, at: 2026-11-21T07:00:00Z}\n        - {certificate: new-root-by-old", "        - {certificate: new-root-by-old", "CA-047"},
		{"CRL entry of two kinds", "{certificate: new-root-by-old, at", "{certificate: new-root-by-old, serial: 01, at", RuleField.ID},
		{"CRL entry without a date", "{certificate: new-root-by-old, at: 2026-11-21T07:30:00Z}", "{certificate: new-root-by-old}", RuleField.ID},
		{"CRL entry that is no serial", "{certificate: new-root-by-old, at", "{serial: xyz, at", RuleField.ID},
		{"released that is no serial", "    name: ec-root-crl-2\n", "    name: ec-root-crl-2\n      released: ['0']\n", RuleField.ID},
		{"signed by too few", "signed_by: [director-root-1, director-root-3]", "signed_by: [director-root-1]", RuleThreshold.ID},
		{"signed by one twice", "signed_by: [director-root-1, director-root-3]", "signed_by: [director-root-1, director-root-1]", RuleThreshold.ID},
		{"signed by an input", "signed_by: [director-root-1, director-root-3]", "signed_by: [director-root-1, director-targets]", RuleReference.ID},
		{"RSA-3072 outside the profile", "algorithm: P-384}\n  - certificate:\n      name: sub", "algorithm: RSA-2048}\n  - certificate:\n      name: sub", "CA-0"},
		{"release of no issuer", "releases: [{issuer: ec-root", "releases: [{issuer: no-root", RuleReference.ID},
		{"release of no serial", "serial: 4f0a1b2c3d4e5f60718293a4b5c6d7e8f9010203}", "serial: x}", RuleField.ID},
		{"unknown key type", "key_types: [P-256, RSA]", "key_types: [P-251]", RuleVersion.ID},
		{"online key that is none", "crl: trust-crl\n", "crl: mentor\n", RuleField.ID},
		{"targets by an online key", "  - generate-key: {name: trust-root-1", "  - uptane-targets: {repository: director, version: 1, expires: 2026-12-31T00:00:00Z}\n  - generate-key: {name: trust-root-1", RuleReference.ID},
		{"targets version skips", "  - generate-key: {name: trust-root-1", "  - uptane-targets: {repository: director, version: 2, expires: 2026-12-31T00:00:00Z}\n  - generate-key: {name: trust-root-1", RuleVersion.ID},
		{"output twice", "name: ec-root-crl-2", "name: ec-root-crl", RuleName.ID},
		{"shares that are none", `{uri: "{{token "online"}}"}`, `{uri: "{{token "online"}}", user_shares: mentor}`, "shares:"},
		{"shares that are not there", `{uri: "{{token "online"}}"}`, `{uri: "{{token "online"}}", so_shares: nothing}`, "no input"},
	})
}
