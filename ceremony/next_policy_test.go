package ceremony

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
)

// closingPlant is a fleet with a plant whose CA's key is the plant's own, as a factory's is.
type closingPlant struct {
	*years
	key *ecdsa.PrivateKey
}

func newClosingPlant(t *testing.T, policy string) *closingPlant {
	t.Helper()
	y := newYears(t)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := csr.Create(rand.Reader, key, csr.Template{Subject: pkix.Name{CommonName: "Plant 3"}})
	if err != nil {
		t.Fatal(err)
	}
	y.put("plant-3.csr", csr.PEM(der))
	y.put("image-root.json", []byte(readFile(t, goldenDir+"/1.1/finished/uptane/image/root.json")))
	y.inputs = map[string]string{"snapshot": "trust-snapshot.pem", "timestamp": "trust-timestamp.pem", "crl": "trust-crl.pem", "plant-3-csr": "plant-3.csr", "image-root": "image-root.json"}
	first := strings.Replace(trusted, "\n- generate-key: {name: trust-root-1", "\n- certificate: {name: plant-3, issuer: root, profile: factory-ca, request: plant-3-csr, path_length: 0, not_before: FROM, not_after: 2036-11-21T00:00:00Z}\n- generate-key: {name: trust-root-1", 1)
	first = strings.Replace(first, "plant-2], crls", "plant-2, plant-3], crls", 1)
	y.hold(strings.Replace(first, "require_crl: true", policy+"require_crl: true", 1))
	return &closingPlant{y, key}
}

// list is a CRL of the plant's.
func (p *closingPlant) list(number int64, revoked ...int64) []byte {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.folder(1), "artefacts", "plant-3.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: asserted, NextUpdate: asserted.AddDate(0, 0, 7)}
	for _, n := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: asserted})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

// next drafts the next script, and holds it as it was drafted.
func (p *closingPlant) next(n Next) string {
	p.t.Helper()
	text, plan := p.draft(n)
	if _, err := Run(context.Background(), p.config(plan)); err != nil {
		p.t.Fatalf("%s: %v\n%s", n.Kind, err, text)
	}
	p.ended()
	return text
}

func (p *closingPlant) draft(n Next) (string, *Plan) {
	p.t.Helper()
	n.From, n.Folder = p.day(), p.folder(p.held)
	text, _, err := drafted(p.t, p.dir, p.status(), n)
	if err != nil {
		p.t.Fatal(err)
	}
	// A stage's tokens have names that are not made of their labels.
	return text, p.plan(stageToken.ReplaceAllString(text, "$1"))
}

var stageToken = regexp.MustCompile(`\b(roots|online)-[0-9]+\b`)

// TestNextFreezes: the last list of a plant that closes is frozen by the script that new writes, stays so in the scripts after it, and the rule
// goes when the CA goes.
func TestNextFreezes(t *testing.T) {
	t.Parallel()
	p := newClosingPlant(t, "")
	freeze := func(name string, data []byte) []NamedFile {
		return []NamedFile{joining(t, p.dir, UseFreeze, name, data)}
	}
	for _, c := range []struct {
		what, kind string
		in         []NamedFile
		want       string
	}{
		{"no CRL", "yearly", freeze("plant-3", []byte("list")), "is no CRL"},
		{"the list of another CA", "yearly", freeze("plant-2", p.list(7)), "is not signed by plant-2"},
		{"a CA that gateways do not know", "yearly", freeze("plant-9", p.list(7)), "name one of root, plant-1"},
		{"a ceremony that tells gateways nothing", "restore", freeze("plant-3", p.list(7)), "of kind restore takes in no freeze"},
	} {
		n := Next{Kind: c.kind, From: p.day(), Folder: p.folder(1), Inputs: c.in, Days: 3, Script: filepath.Join(p.dir, "no.yaml")}
		if text, err := WriteNext(p.status(), n); err == nil || text != nil || !strings.Contains(err.Error()+advice.Hint(err), c.want) {
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		}
	}
	text := p.next(Next{Kind: "yearly", Inputs: freeze("plant-3", p.list(7, 5))})
	if !strings.Contains(text, "crl_rules: [{ca: plant-3, frozen: plant-3-last}]") {
		t.Errorf("written:\n%s", text)
	}
	// A year later nobody says it again, and a list that is newer but forgets is not taken.
	if text = p.next(Next{Kind: "yearly"}); !strings.Contains(text, "frozen: plant-3-last") {
		t.Errorf("written:\n%s", text)
	}
	for _, c := range []struct {
		what string
		list []byte
		want string
	}{{"an older list", p.list(6, 5), "has number 6"}, {"a list that forgets", p.list(8), "no longer lists serial"}} {
		n := Next{Kind: "yearly", From: p.day(), Folder: p.folder(p.held), Inputs: freeze("plant-3", c.list), Days: 3}
		n.Script = filepath.Join(p.dir, "script-older.yaml")
		text, err := WriteNext(p.status(), n)
		if err != nil {
			t.Fatal(err)
		}
		p.put("script-older.yaml", text)
		if err := checked(n.Script); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.what, err, c.want)
		}
	}
	text = p.next(Next{Kind: "revoke", Names: []string{"plant-3"}, Reason: "cessationOfOperation"})
	if strings.Contains(text, "crl_rules: [") || !strings.Contains(text, "removes: [plant-3, crl_rules.plant-3]") {
		t.Errorf("written:\n%s", text)
	}
}

// TestNextKeepsEnvironment: what a script says of the environment, the next ones say too; what has ended, or goes with its CA, they leave out.
func TestNextKeepsEnvironment(t *testing.T) {
	t.Parallel()
	until := asserted.AddDate(0, 0, 40).Truncate(24 * time.Hour).Format(time.RFC3339)
	p := newClosingPlant(t, "stage: development, gateway_names: [gateway.example.com], shared_credentials: {ca: plant-3, until: "+until+"}, crl_rules: [{ca: plant-2, grace_hours: 72}], releases: [{issuer: plant-3, serial: 1005}], image_root: image-root, ")
	text := p.next(Next{Kind: "yearly"})
	for _, want := range []string{"stage: development", "gateway_names: [gateway.example.com]", "shared_credentials: {ca: plant-3, until: " + until + "}", "crl_rules: [{ca: plant-2, grace_hours: 72}]", "image_root: image-root\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text = p.next(Next{Kind: "yearly"}); strings.Contains(text, "shared_credentials: ") || !strings.Contains(text, "SHARED CREDENTIALS ended") {
		t.Errorf("the leave has ended:\n%s", text)
	}
	text = p.next(Next{Kind: "revoke", Names: []string{"plant-2", "plant-3"}, Reason: "cessationOfOperation"})
	if strings.Contains(text, "releases:") || !strings.Contains(text, "removes: [plant-2, plant-3, crl_rules.plant-2]") {
		t.Errorf("two CAs went:\n%s", text)
	}
}

// TestNextRenewsEach: servers of two plants may have one name in their certificates, and each is renewed; what is revoked is not, whatever certificate of
// its key is named; and a new request takes the place of the old one.
func TestNextRenewsEach(t *testing.T) {
	t.Parallel()
	p := &closingPlant{years: newYears(t)}
	for _, n := range []string{"server-a", "server-b", "server-new", "line-3"} {
		template := csr.Template{Subject: pkix.Name{CommonName: "hanaperd"}, DNSNames: []string{"hanaperd.example"}}
		if n == "line-3" {
			template = csr.Template{Subject: pkix.Name{CommonName: n}}
		}
		p.request(n+".csr", template)
		p.inputs[n+"-csr"] = n + ".csr"
	}
	p.hold(`
	- generate-key: {name: ops-key, token: roots, algorithm: P-256}
	- root-certificate: {name: ops, key: ops-key, profile: operations-root, subject: {common_name: Operations Root}, not_before: FROM, not_after: 2036-11-21T00:00:00Z}
	- certificate: {name: server-a, issuer: ops, profile: server, request: server-a-csr, not_before: FROM, not_after: UNTIL}
	- certificate: {name: server-b, issuer: ops, profile: server, request: server-b-csr, not_before: FROM, not_after: UNTIL}
	- certificate: {name: line-3, issuer: ops, profile: station, request: line-3-csr, station: line-3, not_before: FROM, not_after: UNTIL}
	- crl: {name: ops-crl, issuer: ops, number: 1, this_update: FROM, next_update: UNTIL}`)
	says := func(text string, want, not []string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
		for _, w := range not {
			if strings.Contains(text, w) {
				t.Errorf("%q in\n%s", w, text)
			}
		}
	}
	text, _ := p.draft(Next{Kind: "revoke", Names: []string{"server-a", "line-3"}, Reason: "keyCompromise"})
	says(text, []string{"name: server-b-2026"}, []string{"name: server-a", "name: line-3"})
	text, _ = p.draft(Next{Kind: "yearly", Inputs: []NamedFile{
		{Name: "server-a", Use: UseServer, File: filepath.Join(p.dir, "server-new.csr"), Data: []byte(readFile(t, filepath.Join(p.dir, "server-new.csr")))}}})
	says(text, []string{"name: server-a-2026", "file: server-new.csr", "name: server-b-2026", "name: line-3-2026"}, []string{"inputs/server-a-csr", "name: server-a-2026-2"})
	text = p.next(Next{Kind: "yearly"})
	says(text, []string{"name: server-a-2026", "name: server-b-2026", "name: line-3-2026"}, nil)
	text = p.next(Next{Kind: "revoke", Names: []string{"line-3"}, Reason: "keyCompromise"})
	says(text, []string{"REVOKES line-3,", "REVOKES line-3-2026,"}, []string{"profile: station"})
	text, _ = p.draft(Next{Kind: "yearly"})
	says(text, []string{"name: server-a-2027", "name: server-b-2027"}, []string{"profile: station"})
}
