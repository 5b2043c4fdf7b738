package ceremony

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
)

// badScripts are changes to testdata/full.yaml that must be refused before a token is touched.
var badScripts = []struct {
	name, old, new, want string
	kind                 advice.Kind
}{
	{"typo in a key", "environment: demo", "enviroment: demo", `unknown key "enviroment"`, advice.Usage},
	{"key twice", "environment: demo", "environment: demo\nenvironment: demo", "appears twice", advice.Usage},
	{"alias", "environment: demo", "environment: &e demo", "anchors and aliases", advice.Usage},
	{"other version", "version: 1\nceremony", "version: 2\nceremony", "version 2 is unknown", advice.Usage},
	{"no ceremony id", "ceremony: first", "ceremony: ''", "ceremony id", advice.Usage},
	{"environment of another roster", "environment: demo", "environment: prod", RuleQuorum.ID, advice.Refused},
	{"tag", "environment: demo", "environment: !!str demo", "tags such as !!str", advice.Usage},
	{"binary tag", "environment: demo", "environment: !!binary ZGVtbw==", "tags such as !!binary", advice.Usage},
	{"merge key", "environment: demo", "environment: demo\n<<: {title: x}", "merge keys", advice.Usage},
	{"list for text", "environment: demo", "environment: [demo]", "environment: want text, got a list", advice.Usage},
	{"number with a fraction", "version: 1\nceremony", "version: 1.9\nceremony", "version: want a whole number such as 12, got 1.9", advice.Usage},
	{"octal number", "number: 1,", "number: 010,", "want a whole number such as 12, got 010", advice.Usage},
	{"hexadecimal number", "number: 1,", "number: 0x10,", "want a whole number such as 12, got 0x10", advice.Usage},
	{"number with an exponent", "number: 1,", "number: 1e3,", "want a whole number such as 12, got 1e3", advice.Usage},
	{"number with underscores", "number: 1,", "number: 1_000,", "want a whole number such as 12, got 1_000", advice.Usage},
	{"number in quotes", "number: 1,", "number: '1',", "want a whole number", advice.Usage},
	{"label with a blank at its end", "label: Demo Fleet Root, algorithm", "label: 'Demo Fleet Root ', algorithm", RuleField.ID, advice.Usage},
	{"label with a blank before", "label: Demo Fleet Root, algorithm", "label: ' Demo Fleet Root', algorithm", RuleField.ID, advice.Usage},
	{"token label with a blank at its end", `{{token "roots"}}`, `pkcs11:token=x%20;serial=1`, "a blank at its beginning or end", advice.Usage},
	{"seal with a control character", `{uri: "{{token "roots"}}"`, `{seal: "a\n", uri: "{{token "roots"}}"`, "the seal number", advice.Usage},
	{"parts of a second", "from: 2026-11-21T00:00:00Z", "from: 2026-11-21T00:00:00.5Z", "is not a date", advice.Usage},
	{"relative window", "from: 2026-11-21T00:00:00Z", "from: tomorrow", "is not a date", advice.Usage},
	{"local time", "from: 2026-11-21T00:00:00Z", "from: 2026-11-21T00:00:00+01:00", "is not a date", advice.Usage},
	{"window upside down", "until: 2026-11-22T00:00:00Z", "until: 2026-11-20T00:00:00Z", "until must follow from", advice.Usage},
	{"window of a year", "until: 2026-11-22T00:00:00Z", "until: 2027-11-22T00:00:00Z", "31 days", advice.Usage},
	{"PIN in a token URI", `{{token "roots"}}`, `pkcs11:token=x?pin-value=1234`, "pin-value", advice.Usage},
	{"PIN source in a script", `{{token "roots"}}`, `pkcs11:token=x?pin-source=/pin`, "bindings", advice.Usage},
	{"slot number", `{{token "roots"}}`, `pkcs11:slot-id=0`, "slot-id", advice.Usage},
	{"token without label", `{{token "roots"}}`, `pkcs11:serial=12`, "no token label", advice.Usage},
	{"token without serial", `{{token "online"}}`, `pkcs11:token=x`, "names no serial", advice.Usage},
	{"one token twice", `{{token "online"}}`, `{{token "roots"}}`, "same token", advice.Usage},
	{"input is missing", "factory-csr: {{file \"factory.csr\"}}", "factory-csr: {file: absent.csr, sha256: 0000000000000000000000000000000000000000000000000000000000000000}", "absent.csr", advice.Usage},
	{"input is another", "factory-csr: {{file \"factory.csr\"}}", "factory-csr: {file: factory.csr, sha256: 0000000000000000000000000000000000000000000000000000000000000000}", "is not the file that the script pins", advice.Usage},
	{"input not pinned", "factory-csr: {{file \"factory.csr\"}}", "factory-csr: {file: factory.csr}", "SHA-256", advice.Usage},
	{"unknown step", "  - crl: {name: fleet-root-crl", "  - clr: {name: fleet-root-crl", `unknown key "clr"`, advice.Usage},
	{"empty step", "  # The three roots.\n", "  - {}\n", "is of no kind", advice.Usage},
	{"two steps in one", "label: Demo Fleet Root, algorithm: P-384}\n", "label: Demo Fleet Root, algorithm: P-384}\n    crl: {}\n", "two kinds", advice.Usage},
	{"label twice", "label: Demo Operations Root,", "label: Demo Fleet Root,", RuleLabel.ID, advice.Refused},
	{"name twice", "generate-key: {name: operations-root-key", "generate-key: {name: fleet-root-key", RuleName.ID, advice.Refused},
	{"name of an input", "generate-key: {name: operations-root-key", "generate-key: {name: factory-csr", RuleName.ID, advice.Refused},
	{"name with a slash", "generate-key: {name: operations-root-key", "generate-key: {name: ../root", RuleField.ID, advice.Usage},
	{"label with a control character", "label: Demo Fleet Root, algorithm", "label: \"Demo\\nRoot\", algorithm", RuleField.ID, advice.Usage},
	{"unknown token", "name: fleet-root-key, token: roots", "name: fleet-root-key, token: root", RuleReference.ID, advice.Refused},
	{"unknown algorithm", "label: Demo Fleet Root, algorithm: P-384", "label: Demo Fleet Root, algorithm: P-224", RuleField.ID, advice.Usage},
	{"unknown class", "label: Demo Fleet Root, algorithm: P-384", "label: Demo Fleet Root, class: plain, algorithm: P-384", RuleField.ID, advice.Usage},
	{"weak CA key", "label: Demo Fleet Root, algorithm: P-384", "label: Demo Fleet Root, algorithm: RSA-2048", "CA-0", advice.Refused},
	{"unknown key", "key: fleet-root-key", "key: no-such-key", RuleReference.ID, advice.Refused},
	{"key of another purpose", "image-root-key], threshold: 1", "fleet-root-key], threshold: 1", RulePurpose.ID, advice.Refused},
	{"key used before it exists", "  # The three roots.\n", "  - root-certificate: {name: early, key: fleet-root-key, profile: fleet-root, subject: {common_name: E}, not_before: 2026-11-21T00:00:00Z, not_after: 2046-11-21T00:00:00Z}\n", RuleReference.ID, advice.Refused},
	{"unknown profile", "profile: factory-ca", "profile: factory", RuleReference.ID, advice.Refused},
	{"no profile", "profile: factory-ca", "profile: ''", RuleField.ID, advice.Usage},
	{"leaf profile for a root", "profile: fleet-root", "profile: device", RuleField.ID, advice.Usage},
	{"root profile for a child", "profile: factory-ca", "profile: fleet-root", RuleField.ID, advice.Usage},
	{"sub-CA outlives its issuer", "not_after: 2041-11-21T00:00:00Z", "not_after: 2046-11-22T00:00:00Z", "CA-001", advice.Refused},
	{"sub-CA predates its issuer", "request: factory-csr\n      not_before: 2026-11-21T00:00:00Z", "request: factory-csr\n      not_before: 2026-11-20T00:00:00Z", "CA-002", advice.Refused},
	{"sub-CA with its issuer's name", "request: factory-csr", "request: factory-csr\n      subject: {common_name: Demo Fleet Root, organization: Demo Devices}", "CA-006", advice.Refused},
	{"path length above the profile's", "path_length: 0", "path_length: 3", "CA-0", advice.Refused},
	{"root with pathlen 0 and a CA below", "subject: {common_name: Demo Fleet Root, organization: Demo Devices}", "path_length: 0\n      subject: {common_name: Demo Fleet Root, organization: Demo Devices}", "CA-003", advice.Refused},
	{"name outside the constraints", "subject: {common_name: Demo Gateway Server Root, organization: Demo Devices}", "name_constraints: {permitted_dns: [example.com]}\n      subject: {common_name: Demo Gateway Server Root, organization: Demo Devices}", "CA-004", advice.Refused},
	{"not_after before not_before", "not_after: 2041-11-21T00:00:00Z", "not_after: 2026-11-20T00:00:00Z", RuleDate.ID, advice.Refused},
	{"expired when it is signed", "not_after: 2041-11-21T00:00:00Z", "not_after: 2026-11-21T12:00:00Z", RuleDate.ID, advice.Refused},
	{"backdated by years", "not_before: 2026-11-21T00:00:00Z\n      not_after: 2046", "not_before: 2016-11-21T00:00:00Z\n      not_after: 2046", RuleDate.ID, advice.Refused},
	{"a century", "not_after: 2046-11-21T00:00:00Z", "not_after: 2126-11-21T00:00:00Z", RuleDate.ID, advice.Refused},
	{"validity above the profile's", "station: station-1\n      not_before: 2026-11-21T00:00:00Z\n      not_after: 2027", "station: station-1\n      not_before: 2026-11-21T00:00:00Z\n      not_after: 2035", "CA-023", advice.Refused},
	{"no date", "      not_after: 2041-11-21T00:00:00Z\n", "", RuleField.ID, advice.Usage},
	{"request and key", "request: factory-csr", "request: factory-csr\n      key: fleet-root-key", RuleField.ID, advice.Usage},
	{"no request", "      request: factory-csr\n", "", RuleField.ID, advice.Usage},
	{"unknown request", "request: factory-csr", "request: other-csr", RuleReference.ID, advice.Refused},
	{"request that is no request", "request: factory-csr", "request: trust-crl", RuleRequest.ID, advice.Refused},
	{"request with a broken signature", `{{file "factory.csr"}}`, `{{file "broken.csr"}}`, RuleRequest.ID, advice.Refused},
	{"request for a weak curve's key", `{{file "factory.csr"}}`, `{{file "p224.csr"}}`, RuleRequest.ID, advice.Refused},
	{"request with a foreign role", `{{file "station-1.csr"}}`, `{{file "operator-uri.csr"}}`, RuleRequest.ID, advice.Refused},
	{"issuer that is a leaf", "issuer: gateway-root\n      profile: server", "issuer: station-1\n      profile: server", RuleReference.ID, advice.Refused},
	{"issuer whose key is elsewhere", "issuer: gateway-root\n      profile: server", "issuer: factory-ca\n      profile: server", RuleReference.ID, advice.Refused},
	{"station and operator", "station: station-1", "station: station-1\n      operator: station-1", RuleField.ID, advice.Usage},
	{"station without its role", "      station: station-1\n", "", "CA-0", advice.Refused},
	{"CRL number zero", "fleet-root-crl, issuer: fleet-root, number: 1", "fleet-root-crl, issuer: fleet-root, number: 0", RuleCRLNumber.ID, advice.Refused},
	{"CRL number repeats", "{name: operations-root-crl, issuer: operations-root", "{name: operations-root-crl, issuer: fleet-root", RuleCRLNumber.ID, advice.Refused},
	{"CRL out of date", "fleet-root-crl, issuer: fleet-root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2027", "fleet-root-crl, issuer: fleet-root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2025", RuleDate.ID, advice.Refused},
	{"CRL that outlives its issuer", "fleet-root-crl, issuer: fleet-root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2027", "fleet-root-crl, issuer: fleet-root, number: 1, this_update: 2026-11-21T00:00:00Z, next_update: 2047", RuleDate.ID, advice.Refused},
	{"CRL of the future", "fleet-root-crl, issuer: fleet-root, number: 1, this_update: 2026-11-21T00:00:00Z", "fleet-root-crl, issuer: fleet-root, number: 1, this_update: 2026-11-23T00:00:00Z", RuleDate.ID, advice.Refused},
	{"CRL lists another's certificate", "fleet-root-crl, issuer: fleet-root, number: 1,", "fleet-root-crl, issuer: fleet-root, number: 1, revoked: [{certificate: station-1, at: 2026-11-21T00:00:00Z}],", RuleCRLEntry.ID, advice.Refused},
	{"CRL lists what nobody issued", "fleet-root-crl, issuer: fleet-root, number: 1,", "fleet-root-crl, issuer: fleet-root, number: 1, revoked: [{serial: 0102030405060708090a0b0c0d0e0f1011121314, at: 2026-11-21T00:00:00Z}],", "CA-046", advice.Refused},
	{"CRL lists one twice", "fleet-root-crl, issuer: fleet-root, number: 1,", "fleet-root-crl, issuer: fleet-root, number: 1, revoked: [{certificate: factory-ca, at: 2026-11-21T00:00:00Z}, {certificate: factory-ca, at: 2026-11-21T00:00:00Z}],", RuleCRLEntry.ID, advice.Refused},
	{"revoked in the future", "fleet-root-crl, issuer: fleet-root, number: 1,", "fleet-root-crl, issuer: fleet-root, number: 1, revoked: [{certificate: factory-ca, at: 2026-11-21T12:00:00Z}],", RuleCRLEntry.ID, advice.Refused},
	{"unknown reason", "fleet-root-crl, issuer: fleet-root, number: 1,", "fleet-root-crl, issuer: fleet-root, number: 1, revoked: [{certificate: factory-ca, reason: bored, at: 2026-11-21T00:00:00Z}],", RuleField.ID, advice.Usage},
	{"elliptic curve for Uptane", "label: Demo Image Root, algorithm: Ed25519", "label: Demo Image Root, algorithm: P-256", RuleAlgorithm.ID, advice.Refused},
	{"unknown repository", "repository: image\n      version: 1", "repository: images\n      version: 1", RuleField.ID, advice.Usage},
	{"first root is version 2", "repository: image\n      version: 1", "repository: image\n      version: 2", RuleVersion.ID, advice.Refused},
	{"targets before their root", "  # Uptane: the Image", "  - uptane-targets: {repository: image, version: 1, expires: 2026-12-31T00:00:00Z}\n  # Uptane: the Image", RuleReference.ID, advice.Refused},
	{"threshold above the keys", "root: {keys: [image-root-key], threshold: 1}", "root: {keys: [image-root-key], threshold: 2}", RuleThreshold.ID, advice.Refused},
	{"threshold zero", "root: {keys: [image-root-key], threshold: 1}", "root: {keys: [image-root-key], threshold: 0}", RuleThreshold.ID, advice.Refused},
	{"one key twice in a role", "root: {keys: [image-root-key], threshold: 1}", "root: {keys: [image-root-key, image-root-key], threshold: 2}", RuleThreshold.ID, advice.Refused},
	{"one key in two roles", "snapshot: {keys: [image-snapshot]", "snapshot: {keys: [image-timestamp]", RulePurpose.ID, advice.Refused},
	{"Uptane root expires at once", "repository: image\n      version: 1\n      expires: 2027-11-21T00:00:00Z", "repository: image\n      version: 1\n      expires: 2026-11-21T00:00:00Z", RuleDate.ID, advice.Refused},
	{"trust without anchors", "anchors: [fleet-root]", "anchors: []", RuleField.ID, advice.Usage},
	{"trust anchor that is no root", "anchors: [fleet-root]", "anchors: [factory-ca]", RuleVersion.ID, advice.Refused},
	{"trust key on P-384", "label: Demo Trust Root, algorithm: P-256", "label: Demo Trust Root, algorithm: P-384", RuleAlgorithm.ID, advice.Refused},
	{"trust threshold above the keys", "root_threshold: 1", "root_threshold: 2", RuleThreshold.ID, advice.Refused},
	{"trust without online key", "      snapshot: trust-snapshot\n", "", RuleField.ID, advice.Usage},
	{"trust with a stranger's intermediate", "intermediates: [factory-ca]", "intermediates: [gateway-root]", RuleVersion.ID, advice.Refused},
	{"trust with an unknown CRL", "crls: [fleet-root-crl]", "crls: [other-crl]", RuleReference.ID, advice.Refused},
	{"earlier ceremony is missing", "\ntokens:", "\nearlier: {folder: absent, checkpoint: 0000000000000000000000000000000000000000000000000000000000000000}\ntokens:", "absent", advice.Usage},
}

func TestBadScripts(t *testing.T) {
	s := newStage(t)
	der, err := os.ReadFile(filepath.Join(s.dir, "factory.csr"))
	if err != nil {
		t.Fatal(err)
	}
	s.put("broken.csr", breakRequest(t, der))
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if raw, err := csr.Create(rand.Reader, p224, csr.Template{Subject: pkix.Name{CommonName: "Demo Factory CA"}}); err == nil {
		s.put("p224.csr", csr.PEM(raw))
	} else {
		s.put("p224.csr", []byte("no request"))
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	raw, err := csr.Create(rand.Reader, edKey, csr.Template{Subject: pkix.Name{CommonName: "station-1"}, URIs: operatorURIs})
	if err != nil {
		t.Fatal(err)
	}
	s.put("operator-uri.csr", csr.PEM(raw))
	full := strings.ReplaceAll(s.full(), "{{.Ceremony}}", "first")
	names := map[string]bool{}
	for _, c := range badScripts {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			if names[c.name] {
				t.Fatal("the name stands twice")
			}
			names[c.name] = true
			if !strings.Contains(full, c.old) {
				t.Fatalf("the full script has no %q", c.old)
			}
			script, err := s.script(strings.Replace(full, c.old, c.new, 1))
			if err == nil {
				var p *Plan
				if p, err = script.Validate(context.Background()); err == nil {
					_, err = Run(context.Background(), s.config(p))
				}
			}
			switch {
			case err == nil:
				t.Fatal("was performed")
			case !strings.Contains(err.Error(), c.want):
				t.Errorf("got %v, want %q", err, c.want)
			case advice.KindOf(err) != c.kind:
				t.Errorf("kind %d, want %d: %v", advice.KindOf(err), c.kind, err)
			case !strings.Contains(err.Error(), "script.yaml"):
				t.Errorf("the script is not named: %v", err)
			}
			if _, err := os.Stat(filepath.Join(s.dir, "out")); err == nil {
				t.Error("an output folder was made")
			}
		})
	}
	s.t = t
	if n := s.objects(); n != 0 {
		t.Errorf("%d keys are left in the tokens", n)
	}
	if len(badScripts) < 60 {
		t.Errorf("%d bad scripts, want at least 60", len(badScripts))
	}
}
