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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// drafted writes a script beside the folder and has check look at it.
func drafted(t testing.TB, dir string, s *Status, n Next) (string, *Plan, error) {
	t.Helper()
	n.Script = filepath.Join(dir, "script-"+n.Kind+".yaml")
	if n.Days == 0 {
		n.Days = 3
	}
	text, err := WriteNext(s, n)
	if err != nil {
		return "", nil, err
	}
	if err := os.WriteFile(n.Script, text, 0o644); err != nil {
		t.Fatal(err)
	}
	script, err := LoadScript(n.Script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", n.Kind, err, text)
	}
	plan, err := script.Validate(context.Background())
	if err != nil {
		t.Fatalf("%s: %v\n%s", n.Kind, err, text)
	}
	return string(text), plan, nil
}

// joining is a file that joins.
func joining(t testing.TB, dir, use, name string, data []byte) NamedFile {
	t.Helper()
	file := filepath.Join(dir, name+"."+use)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return NamedFile{Name: name, File: file, Data: data, Use: use}
}

// officerGoes is the next script's beginning where officer 3 goes, and the roster without that one, which the others approved.
func (s *stage) officerGoes(from, issued time.Time, folder string) (Next, *quorum.Roster) {
	s.t.Helper()
	next, err := quorum.NewRoster(quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: issued, Previous: s.roster, Officers: s.roster.Officers()[:2]})
	if err != nil {
		s.t.Fatal(err)
	}
	roster := joining(s.t, s.dir, "roster", "next", next.Data())
	n := Next{Kind: "officers", From: from, Folder: folder, Officers: &roster}
	for i, k := range s.officers[:2] {
		n.Approvals = append(n.Approvals, joining(s.t, s.dir, "approval", string(rune('a'+i)), approvedRoster(s.t, next, s.roster, k)))
	}
	return n, next
}

func aRequest(t testing.TB, cn string) []byte {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := csr.Create(rand.Reader, key, csr.Template{Subject: pkix.Name{CommonName: cn}})
	if err != nil {
		t.Fatal(err)
	}
	return csr.PEM(der)
}

func companyRoot(t *testing.T) []byte {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(77), 150), Subject: pkix.Name{CommonName: "Company Root"}, NotBefore: asserted, NotAfter: asserted.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestNext: the script of each kind passes check as it is written, and does what its kind says.
func TestNext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "c")
	if err := os.CopyFS(folder, os.DirFS(goldenDir+"/1.0/second")); err != nil {
		t.Fatal(err)
	}
	s := goldenStatus(t, "second")
	from := time.Date(2028, 10, 20, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		kind string
		more func(*Next)
		want []string
	}{
		{"yearly", nil, []string{"number: 3\n", "gateway-2028", "version: 3\n", "ceremony: second-2", "5069f8d449ef46c465edc24fd68e20ef8e217f12"}},
		{"rollover", nil, []string{"anchors: [fleet-root, fleet-root-2]", "cross: fleet-root-2", "label: Fleet Root 2", "crls: [fleet-root-crl-3, fleet-root-2-crl]"}},
		{"factory", func(n *Next) {
			n.Inputs = []NamedFile{joining(t, dir, UseFactory, "factory-b", aRequest(t, "Factory B"))}
		}, []string{"profile: factory-ca", "intermediates: [factory-b]"}},
		{"factory", func(n *Next) {
			n.Inputs = []NamedFile{joining(t, dir, UseFactory, "factory-ca", aRequest(t, "Factory A"))}
		}, []string{"name: factory-ca-2\n", "request: factory-ca-csr"}},
		{"anchor", func(n *Next) {
			n.Inputs = []NamedFile{joining(t, dir, UseAnchor, "company-root", companyRoot(t))}
		}, []string{"import-certificate", "anchors: [fleet-root, company-root]"}},
		{"trust-keys", func(n *Next) { n.Keys, n.Threshold = 3, 2 },
			[]string{"also_signed_by: [trust-root-key]", "root_threshold: 2", "destroy-key: {key: trust-root-key}", "destroy-key: {key: trust-targets-key}"}},
		{"revoke", func(n *Next) { n.Names, n.Reason = []string{"gateway"}, "keyCompromise" }, []string{"gateway-root-crl", "reason: keyCompromise", "REVOKES gateway"}},
	} {
		n := Next{Kind: c.kind, From: from, Folder: folder}
		if c.more != nil {
			c.more(&n)
		}
		text, _, err := drafted(t, dir, s, n)
		if err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", c.kind, want, text)
			}
		}
	}
	// New trust keys without the old one, or with one that stands twice.
	keys := readFile(t, filepath.Join(dir, "script-trust-keys.yaml"))
	for _, also := range []string{"", "      also_signed_by: [trust-root-key, trust-root-key]\n", "      also_signed_by: [trust-root-key-2]\n", "      also_signed_by: [trust-targets-key]\n"} {
		file := filepath.Join(dir, "script-trust-keys.yaml")
		if err := os.WriteFile(file, []byte(strings.Replace(keys, "      also_signed_by: [trust-root-key]\n", also, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := checked(file); err == nil || !strings.Contains(err.Error(), RuleThreshold.ID) && !strings.Contains(err.Error(), RulePurpose.ID) {
			t.Errorf("%q: %v", also, err)
		}
	}
	for _, c := range []struct {
		want string
		n    Next
	}{
		{"there is no kind", Next{Kind: "monthly"}},
		{"name the folder of the last ceremony", Next{Kind: "first"}},
		{"32 days", Next{Kind: "yearly", Days: 32}},
		{"which token", Next{Kind: "restore"}},
		{"no ceremony used a token", Next{Kind: "restore", Names: []string{"none"}}},
		{"a backup that the officers of today can open", Next{Kind: "restore", Names: []string{s.Tokens[0].Label}}},
		{"no ceremony used a token", Next{Kind: "yearly", Without: []string{"none"}}},
		{"anchors are", Next{Kind: "retire", Names: []string{"fleet-root"}, Without: []string{s.Tokens[0].Label}}},
		{"which certificate", Next{Kind: "revoke"}},
		{"the reason", Next{Kind: "revoke", Names: []string{"gateway"}, Reason: "bad"}},
		{"is no certificate that can be revoked", Next{Kind: "revoke", Names: []string{"factory-ca"}, Reason: "superseded"}},
		{"is no anchor, or the only one", Next{Kind: "retire", Names: []string{"fleet-root"}}},
		{"which factory", Next{Kind: "factory"}},
		{"which anchor", Next{Kind: "anchor"}},
		{"4 keys of which 5", Next{Kind: "trust-keys", Keys: 4, Threshold: 5}},
		{"which officers", Next{Kind: "officers"}},
	} {
		n := c.n
		n.From, n.Folder = from, folder
		if _, _, err := drafted(t, dir, s, n); err == nil || !strings.Contains(err.Error()+advice.Hint(err), c.want) {
			t.Errorf("%s: got %v, want %q", n.Kind, err, c.want)
		}
	}
}

// TestNextCustody: officers change, a token is restored, and an environment begins, with shares and backups.
func TestNextCustody(t *testing.T) {
	s, _, c := custodyStage(t)
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	status, err := ReadStatus(context.Background(), os.DirFS(result.Out), "out", Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	from := asserted.AddDate(0, 6, 0).Truncate(24 * time.Hour)
	n, _ := s.officerGoes(from, from, result.Out)
	if _, err := WriteNext(status, Next{Kind: "officers", From: from, Days: 1, Folder: result.Out, Officers: n.Officers, Approvals: n.Approvals[:1]}); err == nil {
		t.Error("one approval of two: written")
	}
	// No token with keys has PINs that officers hold: the restored key is in a token of somebody.
	if _, _, err := drafted(t, s.dir, status, n); err == nil || !strings.Contains(err.Error(), "backups are wrapped anew in a token") {
		t.Errorf("officers: %v", err)
	}
	label := status.Tokens[slices.IndexFunc(status.Tokens, func(t StatusToken) bool { return len(t.Keys) > 0 })].Label
	text, _, err := drafted(t, s.dir, status, Next{Kind: "restore", From: from, Folder: result.Out, Names: []string{label}})
	if err != nil || !strings.Contains(text, "class: restored-backup") || !strings.Contains(text, "backup-key:") {
		t.Errorf("restore: %v\n%s", err, text)
	}
	first := joining(t, s.dir, "roster", "first", s.roster.Data())
	n = Next{Kind: "first", From: from, Officers: &first, Inputs: []NamedFile{joining(t, s.dir, UseFactory, "factory-ca", aRequest(t, "Factory"))}}
	for _, role := range []string{"snapshot", "timestamp", "crl"} {
		data, err := os.ReadFile(filepath.Join(s.dir, "trust-"+role+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		n.Inputs = append(n.Inputs, joining(t, s.dir, UseTrust, role, data))
	}
	text, plan, err := drafted(t, s.dir, nil, n)
	if err != nil || plan.Script().Environment() != "demo" || !strings.Contains(text, "anchors: [fleet-root]") || !strings.Contains(text, "intermediates: [factory-ca]") {
		t.Errorf("first: %v\n%s", err, text)
	}
}

// TestScriptScalars: what a draft writes is read as the string that it was.
func TestScriptScalars(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"fleet-root": "fleet-root", "Fleet Root 2": "Fleet Root 2", "12": `"12"`, "yes": `"yes"`, "a: b": `"a: b"`, "4f0a": `"4f0a"`, "": `""`,
		"x #y": `"x #y"`, "2026-11-21T00:00:00Z": "2026-11-21T00:00:00Z", "../c": "../c", "/abs/c": `"/abs/c"`} {
		if got := scalar(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestNextAfterAll: after whatever ceremony, aborted ones too, each kind gives a script or says why not.
func TestNextAfterAll(t *testing.T) {
	t.Parallel()
	written := 0
	for _, g := range goldenFolders(t) {
		s, err := ReadStatus(context.Background(), os.DirFS(g.dir), g.name, Anchors{Roster: &g.anchor})
		if s == nil {
			continue // a rehearsal
		}
		if err != nil && g.name != "unattested" {
			t.Fatal(err)
		}
		for _, k := range NextKinds() {
			n := Next{Kind: k.Name, From: asserted.AddDate(2, 0, 0), Days: 1, Script: "script.yaml", Folder: g.dir, Keys: 3, Threshold: 2, Reason: "superseded"}
			for _, names := range [][]string{nil, {"fleet-root"}, {"gateway"}, {s.Tokens[0].Label}} {
				n.Names = names
				if text, err := WriteNext(s, n); err == nil {
					written++
				} else if text != nil || err.Error() == "" {
					t.Errorf("%s after %s: %q, %v", k.Name, g.dir, text, err)
				}
			}
		}
	}
	if written < 5 {
		t.Errorf("only %d scripts were written", written)
	}
}
