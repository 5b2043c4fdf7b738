package ca

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"go.yaml.in/yaml/v3"
)

const goodProfile = `
name: line
ca: true
key_usage: [keyCertSign, cRLSign]
ext_key_usage: [clientAuth, 1.3.6.1.4.1.99999.7]
policies: [1.3.6.1.4.1.99999.1]
cps: {1.3.6.1.4.1.99999.1: "https://pki.example.com/cps"}
crl_urls: [http://pki.example.com/a.crl]
max_validity_days: 3650
path_len: 0
name_constraints:
  permitted_dns: [example.com]
  excluded_ip: [0.0.0.0/0]
required_attributes: [O]
allowed_attributes: [C]
common_name: 'Line [0-9]+'
key_algorithms: [P-384, RSA-4096]
signature_algorithm: SHA384-RSAPSS
`

// TestParseProfileRefuses changes the good profile by one line each.
func TestParseProfileRefuses(t *testing.T) {
	if _, err := ParseProfile("p.yaml", []byte(goodProfile)); err != nil {
		t.Fatal(err)
	}
	for name, yaml := range map[string]string{
		"empty":                 "",
		"no name":               "ca: true",
		"unknown key":           goodProfile + "keyusage: []",
		"doubled key":           goodProfile + "name: again",
		"usage":                 "name: a\nkey_usage: [sign]",
		"ca without cRLSign":    "name: a\nca: true\nkey_usage: [keyCertSign]\nmax_validity_days: 1\nkey_algorithms: [P-256]",
		"leaf with keyCertSign": "name: a\nkey_usage: [keyCertSign]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]",
		"leaf without eku":      "name: a\nkey_usage: [digitalSignature]\nmax_validity_days: 1\nkey_algorithms: [P-256]",
		"any":                   "name: a\nkey_usage: [digitalSignature]\next_key_usage: [any]\nmax_validity_days: 1\nkey_algorithms: [P-256]",
		"eku":                   "name: a\nkey_usage: [digitalSignature]\next_key_usage: [client]\nmax_validity_days: 1\nkey_algorithms: [P-256]",
		"no validity":           "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nkey_algorithms: [P-256]",
		"long validity":         "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 99999\nkey_algorithms: [P-256]",
		"no algorithms":         "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1",
		"algorithm":             "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [DSA]",
		"ca with RSA-2048":      "name: a\nca: true\nkey_usage: [keyCertSign, cRLSign]\nmax_validity_days: 1\nkey_algorithms: [RSA-2048]",
		"path length in a leaf": "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\npath_len: 0",
		"negative path length":  "name: a\nca: true\nkey_usage: [keyCertSign, cRLSign]\nmax_validity_days: 1\nkey_algorithms: [P-256]\npath_len: -1",
		"self-signed leaf":      "name: a\nself_signed: true\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]",
		"constraints in a leaf": "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nname_constraints: {permitted_dns: [a.example]}",
		"empty constraints":     "name: a\nca: true\nkey_usage: [keyCertSign, cRLSign]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nname_constraints: {}",
		"bad prefix":            "name: a\nca: true\nkey_usage: [keyCertSign, cRLSign]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nname_constraints: {permitted_ip: [10.0.0.1/8]}",
		"bad subtree":           "name: a\nca: true\nkey_usage: [keyCertSign, cRLSign]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nname_constraints: {permitted_dns: ['*.example']}",
		"url":                   "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\ncrl_urls: [ldap://x]",
		"cps of no policy":      "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\ncps: {1.2.3: \"https://a.example/\"}",
		"cps that is no URL":    "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\npolicies: [1.2.3]\ncps: {1.2.3: \"ftp://a.example/\"}",
		"policy":                "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\npolicies: [1.2.03]",
		"regexp":                "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\ncommon_name: '('",
		"attribute":             "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nallowed_attributes: [CN]",
		"san":                   "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nsans: [otherName]",
		"require_san":           "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nrequire_san: true",
		"role":                  "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nrole: boss",
		"role without uri":      "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nrole: station",
		"signature":             "name: a\nkey_usage: [digitalSignature]\next_key_usage: [clientAuth]\nmax_validity_days: 1\nkey_algorithms: [P-256]\nsignature_algorithm: SHA1-RSA",
	} {
		p, err := ParseProfile("p.yaml", []byte(yaml))
		if err == nil || p != nil {
			t.Errorf("%s was accepted", name)
		}
		if err != nil && advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: kind %d", name, advice.KindOf(err))
		}
	}
}

// TestProfilesAreData writes each built-in profile as YAML and reads it back.
func TestProfilesAreData(t *testing.T) {
	for _, name := range Builtins() {
		c, err := BuiltinConfig(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseProfile(name, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

func TestViolationsAreAllNamed(t *testing.T) {
	f := newFamily(t, "P-256", "P-256")
	tpl := deviceTemplate(t)
	tpl.NotBefore, tpl.NotAfter, tpl.DNSNames = t0.Add(-time.Hour), years(25), []string{"a.example"}
	_, err := f.facIssuer.Prepare(mustProfile(t, "device"), tpl, nopReader{})
	for _, id := range []string{"CA-001", "CA-002", "CA-025"} {
		if !Breaks(err, id) {
			t.Errorf("%s is not named in %v", id, err)
		}
	}
	if advice.KindOf(err) != advice.Refused || advice.Hint(err) == "" {
		t.Error("no advice")
	}
	if re := (*RuleError)(nil); !errors.As(err, &re) {
		t.Error("no RuleError")
	}
}

// nopReader gives zero octets: a serial number is positive and of 20 octets even so.
type nopReader struct{}

func (nopReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte(goodProfile))
	for _, name := range Builtins() {
		c, err := BuiltinConfig(name)
		if err != nil {
			f.Fatal(err)
		}
		text, err := yaml.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile("p.yaml", data)
		if (p == nil) == (err == nil) {
			t.Fatal("neither profile nor error, or both")
		}
		if p != nil && p.constraints != nil {
			if _, err := p.constraints.marshal(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSpec holds docs/spec/certificates.md to the code.
func TestSpec(t *testing.T) {
	doc, err := os.ReadFile("../docs/spec/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rules() {
		if !strings.Contains(string(doc), "| "+r.ID+" | "+r.Text+" |\n") {
			t.Errorf("%s is missing or worded otherwise", r.ID)
		}
	}
	fields := reflect.TypeFor[ProfileConfig]()
	for i := range fields.NumField() {
		if key, _, _ := strings.Cut(fields.Field(i).Tag.Get("yaml"), ","); !strings.Contains(string(doc), "`"+key+"`") {
			t.Errorf("key %s is missing", key)
		}
	}
	for _, name := range Builtins() {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("profile %s is missing", name)
		}
	}
}
