package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// years are ceremonies that carry on from each other, on the two tokens of a stage, whose officers have decryption keys.
type years struct {
	*stage
	desk *desk
	// held is how many ceremonies were held; the folder of the nth is out-n.
	held   int
	tokens []string
	// inputs by the names of the script; the files lie in the stage's folder.
	inputs map[string]string
	// pins is more of a token's entry in the script, such as its shares, by the token's name.
	pins map[string]string
	// roster is what the script says of the roster.
	rosterLine string
	anchor     [32]byte
}

func newYears(t testing.TB) *years {
	t.Helper()
	s := newStage(t)
	y := &years{stage: s, desk: &desk{pins: map[string][]byte{}}, tokens: []string{"roots", "online"}, inputs: map[string]string{}, pins: map[string]string{}, rosterLine: `{{file "roster.json"}}`}
	config := quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: s.now.Add(-time.Hour)}
	for _, o := range s.roster.Officers() {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		y.desk.keys = append(y.desk.keys, key)
		o.DecryptionKey, o.Decryption = key.Public(), quorum.HPKEP256
		config.Officers = append(config.Officers, o)
	}
	var err error
	if s.roster, err = quorum.NewRoster(config); err != nil {
		t.Fatal(err)
	}
	y.anchor = s.roster.Digest()
	s.put("roster.json", s.roster.Data())
	for _, name := range y.tokens {
		pin, err := os.ReadFile(s.boards[name].SOPINFile)
		if err != nil {
			t.Fatal(err)
		}
		y.desk.pins[name+" so"] = bytes.TrimSpace(pin)
	}
	return y
}

// date is n days after the day of the next ceremony.
func (y *years) date(n int) string { return formatTime(y.day().AddDate(0, 0, n)) }

func (y *years) day() time.Time { return asserted.Truncate(24*time.Hour).AddDate(0, 0, 30*y.held) }

func (y *years) folder(n int) string { return filepath.Join(y.dir, fmt.Sprintf("out-%d", n)) }

// text is the script of the next ceremony with these steps. FROM and UNTIL stand for its day and a year later.
func (y *years) text(steps string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nceremony: year-%d\nenvironment: demo\nwindow: {from: %s, until: %s}\nroster: %s\n", y.held+1, y.date(0), y.date(1), y.rosterLine)
	if y.held > 0 {
		fmt.Fprintf(&b, "earlier: {folder: out-%d, checkpoint: {{checkpoint \"out-%d\"}}}\n", y.held, y.held)
	}
	b.WriteString("tokens:\n")
	for _, n := range y.tokens {
		fmt.Fprintf(&b, "  %s: {uri: \"{{token %q}}\"%s}\n", n, n, y.pins[n])
	}
	b.WriteString("inputs:\n")
	if len(y.inputs) == 0 {
		b.WriteString("  {}\n")
	}
	for _, n := range sortedKeys(y.inputs) {
		fmt.Fprintf(&b, "  %s: {{file %q}}\n", n, y.inputs[n])
	}
	b.WriteString("steps:\n" + strings.NewReplacer("FROM", y.date(0), "UNTIL", y.date(365)).Replace(indented(steps)) + "\n")
	return b.String()
}

// indented gives steps that a test wrote in Go's own indentation the two blanks of a list below a key.
func indented(steps string) string {
	var lines []string
	for line := range strings.Lines(steps) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, "  "+line)
		}
	}
	return strings.Join(lines, "\n")
}

// check is what `hanaper ceremony check` says of the next ceremony.
func (y *years) check(steps string) (*Plan, error) {
	y.t.Helper()
	script, err := y.script(y.text(steps))
	if err != nil {
		return nil, err
	}
	return script.Validate(context.Background())
}

// config is the run of the next ceremony.
func (y *years) config(p *Plan) RunConfig {
	y.now = y.day().Add(9 * time.Hour)
	c := y.stage.config(p)
	c.Out, c.Custodians = y.folder(y.held+1), y.desk
	c.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		return y.open(ctx, name, uri, pin)
	}
	return c
}

// hold holds the next ceremony.
func (y *years) hold(steps string) *Plan {
	y.t.Helper()
	p, err := y.check(steps)
	if err != nil {
		y.t.Fatalf("ceremony %d: %v", y.held+1, err)
	}
	if _, err := Run(context.Background(), y.config(p)); err != nil {
		y.t.Fatalf("ceremony %d: %v", y.held+1, err)
	}
	// check said which files there would be, imported keys or not.
	if said, are := ofContents(p.Outputs), ofContents(y.ended().Artefacts); !slices.Equal(said, are) {
		y.t.Errorf("ceremony %d: check says that it writes %q; it wrote %q", y.held, said, are)
	}
	return p
}

// ofContents are paths without the digests of contents in them, sorted.
func ofContents(paths []string) (list []string) {
	for _, p := range paths {
		list = append(list, ofContent.ReplaceAllString(p, "(SHA-256)"))
	}
	slices.Sort(list)
	return list
}

// ended verifies the folder of the ceremony that has just ended.
func (y *years) ended() *Report {
	y.t.Helper()
	y.held++
	report, err := Verify(context.Background(), os.DirFS(y.folder(y.held)), Anchors{Roster: &y.anchor})
	if err != nil {
		y.t.Fatalf("ceremony %d: %v", y.held, err)
	}
	if len(report.Notes) > 0 {
		y.t.Errorf("ceremony %d: %v", y.held, report.Notes)
	}
	return report
}

// refused asks that the next ceremony is refused before anything is written, with every one of the words.
func (y *years) refused(what, steps string, words ...string) {
	y.t.Helper()
	before, _ := filepath.Glob(filepath.Join(y.dir, "out*"))
	_, err := y.check(steps)
	if err == nil || slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) }) {
		y.t.Errorf("%s: got %v, want %q", what, err, words)
	} else if kind := advice.KindOf(err); kind != advice.Refused && kind != advice.Usage {
		y.t.Errorf("%s: kind %v", what, kind)
	}
	if after, _ := filepath.Glob(filepath.Join(y.dir, "out*")); !slices.Equal(before, after) {
		y.t.Errorf("%s: it left %v", what, after)
	}
}

const firstRoot = `
- generate-key: {name: root-key, token: roots, label: The Root, algorithm: P-256, class: backup}
- root-certificate: {name: root, key: root-key, profile: fleet-root, subject: {common_name: The Root}, not_before: FROM, not_after: 2046-11-21T00:00:00Z}
`

// TestNumbersByIssuer: an issuer of CRLs is known by its subject and key, whatever its certificate is called; and what is held
// is not taken in a second time.
func TestNumbersByIssuer(t *testing.T) {
	y := newYears(t)
	y.hold(firstRoot + `
	- generate-key: {name: sub-key, token: roots, algorithm: P-256}
	- certificate: {name: sub, issuer: root, profile: subordinate-ca, key: sub-key, subject: {common_name: Sub}, path_length: 0, not_before: FROM, not_after: 2036-11-21T00:00:00Z}
	- crl: {name: root-crl, issuer: root, number: 1, this_update: FROM, next_update: UNTIL, revoked: [{certificate: sub, reason: superseded, at: FROM}]}`)
	y.inputs["root-pem"] = "out-1/artefacts/root.pem"
	const taken = "- import-artefact: {key: root-key, token: roots}\n"
	y.refused("its own certificate under a second name", taken+`- import-certificate: {name: root-b, certificate: root-pem, key: root-key}
		- crl: {name: crl-b, issuer: root-b, number: 1, this_update: FROM, next_update: UNTIL}`, "CER-027", `"root"`, "import-artefact")
	y.refused("the same, beside the first", taken+`- import-artefact: {certificate: root}
		- import-certificate: {name: root-b, certificate: root-pem, key: root-key}`, "CER-027", `"root"`)
	delete(y.inputs, "root-pem")
	// The root's certificate is renewed: the same subject and key, and so the same issuer.
	renewed := taken + "- root-certificate: {name: root-b, key: root-key, profile: fleet-root, subject: {common_name: The Root}, not_before: FROM, not_after: 2048-11-21T00:00:00Z}\n"
	y.refused("number 1 again, by a renewed certificate", renewed+"- crl: {name: crl-b, issuer: root-b, number: 1, this_update: FROM, next_update: UNTIL}", "CER-026", "does not rise above 1")
	y.refused("what was revoked is missing, by a renewed certificate", renewed+"- crl: {name: crl-b, issuer: root-b, number: 2, this_update: FROM, next_update: UNTIL}", "was revoked and is missing")
	// What an earlier ceremony left keeps its name.
	y.refused("another key under the name of one", "- generate-key: {name: root-key, token: online, algorithm: P-256}", "CER-027", "a key")
	other := "- generate-key: {name: other-key, token: roots, algorithm: P-256}\n- root-certificate: {name: NAME, key: other-key, profile: fleet-root, subject: {common_name: Another Root}, not_before: FROM, not_after: 2046-11-21T00:00:00Z}\n"
	y.refused("another CA under the name of one", strings.Replace(other, "NAME", "root", 1), "CER-027", "a CA certificate")
	y.hold(strings.Replace(other, "NAME", "root-2", 1))
	y.refused("number 1 again, the third year", renewed+"- crl: {name: crl-b, issuer: root-b, number: 1, this_update: FROM, next_update: UNTIL}", "CER-026")
	y.hold(renewed + `
	- import-artefact: {certificate: sub}
	- crl: {name: crl-b, issuer: root-b, number: 2, this_update: FROM, next_update: UNTIL, revoked: [{certificate: sub, reason: superseded, at: 2026-11-21T00:00:00Z}]}
	- import-artefact: {key: other-key, token: roots}
	- import-artefact: {certificate: root-2}
	- crl: {name: crl-c, issuer: root-2, number: 1, this_update: FROM, next_update: UNTIL}`)
}

// wrapped is firstRoot, with a backup of its key under shares of all officers.
const wrapped = firstRoot + `
- hold-secret: {name: wrap-1, token: roots, purpose: wrap}
- backup-key: {name: root-backup, key: root-key, shares: wrap-1}
`

// TestRestoredKeyIssues: a certificate finds its key by the key itself: after its token is lost, a restored key under a name of its own
// issues under the certificate that the first one had, and copies of it do too.
func TestRestoredKeyIssues(t *testing.T) {
	y := newYears(t)
	y.hold(wrapped)
	y.inputs["wrap-1"] = "out-1/shares/wrap-1.json"
	y.tokens = []string{"online"} // the token of the root is lost
	p := y.hold(`
	- restore-key: {name: root-key-2, backup: root-backup, token: online, label: The Root again, shares: wrap-1}
	- import-artefact: {certificate: root}
	- crl: {name: crl-1, issuer: root, number: 1, this_update: FROM, next_update: UNTIL}
	- generate-key: {name: sub-key, token: online, algorithm: P-256}
	- certificate: {name: sub, issuer: root, profile: subordinate-ca, key: sub-key, subject: {common_name: Sub}, path_length: 0, not_before: FROM, not_after: 2036-11-21T00:00:00Z}`)
	if text := p.Steps[0].Describe; !strings.Contains(text, `"root-backup", of key "root-key", as key "root-key-2"`) {
		t.Errorf("the step says %s", text)
	}
	if v := p.View(1); !slices.Contains(v.Facts, Value{"stands for", "key root-key"}) {
		t.Errorf("the form says %v", v.Facts)
	}
	delete(y.inputs, "wrap-1")
	y.hold(`
	- import-artefact: {key: root-key-2, token: online}
	- import-artefact: {certificate: root}
	- crl: {name: crl-2, issuer: root, number: 2, this_update: FROM, next_update: UNTIL}`)
	report := y.report()
	if k := report.Keys[0]; k.Name != "root-key-2" || k.StandsFor != "root-key" {
		t.Errorf("%+v", k)
	}
	y.refused("no key of the certificate", "- import-artefact: {certificate: root}\n- crl: {name: c, issuer: root, number: 3, this_update: FROM, next_update: UNTIL}", "CER-003", "root-key")
	y.refused("the key under a destroyed name", "- import-artefact: {key: root-key-2, token: online}\n- import-artefact: {certificate: root}\n- destroy-key: {key: root-key-2}\n- crl: {name: c, issuer: root, number: 3, this_update: FROM, next_update: UNTIL}", "CER-003")
}

// report is that of the last ceremony.
func (y *years) report() *Report {
	y.t.Helper()
	r, err := Verify(context.Background(), os.DirFS(y.folder(y.held)), Anchors{Roster: &y.anchor})
	if err != nil {
		y.t.Fatal(err)
	}
	return r
}

// turnover gives the environment a roster in which a new officer, 4, has the place of officer 3, approved by the two who stay.
func (y *years) turnover() {
	y.t.Helper()
	old := y.roster
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	decryption, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	n := len(y.desk.keys) + 1
	list := append(old.Officers()[:2:2], quorum.Officer{Name: fmt.Sprintf("Officer %d", n), Role: quorum.RoleOfficer, SigningKey: key.Public(), Scheme: quorum.Ed25519,
		DecryptionKey: decryption.Public(), Decryption: quorum.HPKEP256})
	next, err := quorum.NewRoster(quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: y.day(), Previous: old, Officers: list})
	if err != nil {
		y.t.Fatal(err)
	}
	file := fmt.Sprintf("roster-%d.json", n)
	y.put(file, next.Data())
	var approvals []string
	for i, k := range y.officers[:2] {
		approval := fmt.Sprintf("approval-%d-%d.json", n, i)
		y.put(approval, approvedRoster(y.t, next, old, k))
		approvals = append(approvals, `{{file "`+approval+`"}}`)
	}
	// The line stands for this one ceremony; the next one has the roster itself.
	y.rosterLine = strings.TrimSuffix(string(y.fill(`{{file "`+file+`"}}`)), "}") + ", approvals: [" + strings.Join(approvals, ", ") + "]}"
	y.roster, y.officers[2] = next, key
	y.desk.keys = append(y.desk.keys, decryption)
	y.put("roster.json", next.Data())
}

// shareAnew, rewrapAnew and restoreAnew are the steps after a turnover, and after another one.
const (
	shareAnew   = "- hold-secret: {name: wrap-2, token: roots, purpose: wrap, previous: wrap-1}\n"
	rewrapAnew  = "- rewrap-backup: {name: root-backup-2, backup: root-backup, shares: wrap-1, new_shares: wrap-2, token: online}\n"
	restoreAnew = `
	- restore-key: {name: root-key-2, backup: root-backup-2, token: online, shares: wrap-2, class: restored-backup}
	- hold-secret: {name: wrap-3, token: online, purpose: wrap}
	- backup-key: {name: root-backup-3, key: root-key-2, shares: wrap-3}
	- import-artefact: {certificate: root}
	- crl: {name: crl-1, issuer: root, number: 1, this_update: FROM, next_update: UNTIL}`
)

// afterRewrap is the time when officers 2 and 3 and the root's token are gone: 1 and 4 restore with the new backup, and the old
// shares open nothing.
func (y *years) afterRewrap() {
	y.rosterLine = `{{file "roster.json"}}`
	y.inputs = map[string]string{"wrap-1": "out-1/shares/wrap-1.json", "wrap-2": "out-2/shares/wrap-2.json"}
	y.tokens = []string{"online"}
	y.desk.keys = append(y.desk.keys[:1:1], y.desk.keys[3])
}

// TestRewrap: two officers leave, one after the other. What the old quorum opens is wrapped anew for the new one before they go, and a
// key restored for it can be backed up again. The living quorum opens every backup, and the leavers open none of the new ones.
func TestRewrap(t *testing.T) {
	y := newYears(t)
	y.hold(wrapped)
	y.inputs["wrap-1"] = "out-1/shares/wrap-1.json"
	y.turnover()
	if p, err := y.check("- import-artefact: {certificate: root}"); err != nil {
		t.Error(err)
	} else if b := p.Backups(); len(b) != 1 || len(b[0].Living) != 2 || !strings.Contains(b[0].Warning(), "1 of the 3 holders of backup root-backup of key root-key are no longer in the roster") {
		t.Errorf("backups %+v", b)
	}
	y.refused("new shares, and the backup stays with the old ones", "- hold-secret: {name: wrap-2, token: online, purpose: wrap}\n- hold-secret: {name: wrap-3, token: roots, purpose: wrap, previous: wrap-1}", "CER-029", "root-backup", "rewrap-backup")
	const rewrap, share = rewrapAnew, shareAnew
	for what, bad := range map[string][3]string{
		"no such backup":         {rewrap, "backup: root-backup,", "backup: none,"},
		"no such shares":         {rewrap, "new_shares: wrap-2", "new_shares: none"},
		"the shares that it has": {rewrap, "new_shares: wrap-2", "new_shares: wrap-1"},
		"other old shares":       {rewrap, " shares: wrap-1", " shares: wrap-2"},
		"no such token":          {rewrap, "token: online", "token: offline"},
		"its own name":           {rewrap, "name: root-backup-2", "name: root-backup"},
		"a long name":            {rewrap, "root-backup-2", strings.Repeat("x", 60)},
	} {
		want := map[string]string{"the shares that it has": "CER-029", "other old shares": "CER-023", "its own name": "CER-027", "a long name": "CER-001"}[what]
		if want == "" {
			want = "CER-003"
		}
		y.refused(what, share+strings.Replace(bad[0], bad[1], bad[2], 1), want)
	}
	p := y.hold(share + rewrap)
	if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "still opens with the old shares") {
		t.Errorf("nobody is told that the old backup opens still: %s", remarks)
	}
	if b := p.Backups(); len(b) != 2 || b[0].ReplacedBy != "root-backup-2" || !b[0].Opens() || b[0].Warning() != "" || !b[1].Opens() || len(b[1].Living) != 3 {
		t.Errorf("backups %+v", b)
	}
	if n := y.objects(); n != 1 {
		t.Errorf("%d keys are in the tokens, want the root's alone", n)
	}
	y.afterRewrap()
	y.refused("the old shares for the new backup", "- restore-key: {name: root-key-2, backup: root-backup-2, token: online, shares: wrap-1}", "CER-023")
	y.hold(restoreAnew)
	s := y.status()
	if k := s.Keys[0]; len(s.Keys) != 1 || k.State != KeyInToken || len(k.Backups) != 3 || k.Backups[0].ReplacedBy != "root-backup-2" || !k.Backups[1].Shares.Opens || !k.Backups[2].Shares.Opens {
		t.Errorf("%+v", s.Keys)
	}
	tok, err := y.open(context.Background(), "online", hsm.URI{Token: y.boards["online"].Label}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	k, err := tok.Key(context.Background(), hsm.Query{Label: "root-key-2"})
	if err != nil || k.Attributes().Extractable {
		t.Errorf("the key is extractable after its backup: %v", err)
	}
	if code, said := readerSays(t, y.folder(y.held), "--roster", fmt.Sprintf("%x", y.anchor)); code != 0 {
		t.Errorf("the second reader: exit code %d: %s", code, said)
	}
}

// status is what exists after the last ceremony.
func (y *years) status() *Status {
	y.t.Helper()
	s, err := ReadStatus(context.Background(), os.DirFS(y.folder(y.held)), "last", Anchors{Roster: &y.anchor})
	if err != nil {
		y.t.Fatal(err)
	}
	return s
}

// trusted is a first ceremony with a trust repository of two factories.
const trusted = firstRoot + `
- generate-key: {name: plant-1-key, token: roots, algorithm: P-256}
- generate-key: {name: plant-2-key, token: roots, algorithm: P-256}
- certificate: {name: plant-1, issuer: root, profile: factory-ca, key: plant-1-key, subject: {common_name: Plant 1}, not_before: FROM, not_after: 2036-11-21T00:00:00Z}
- certificate: {name: plant-2, issuer: root, profile: factory-ca, key: plant-2-key, subject: {common_name: Plant 2}, not_before: FROM, not_after: 2036-11-21T00:00:00Z}
- crl: {name: crl-1, issuer: root, number: 1, this_update: FROM, next_update: UNTIL}
- generate-key: {name: trust-root-1, token: roots, algorithm: P-256}
- generate-key: {name: trust-root-2, token: online, algorithm: P-256}
- generate-key: {name: trust-targets-1, token: roots, algorithm: P-256}
- trust-repository: {root_keys: [trust-root-1, trust-root-2], root_threshold: 2, targets_keys: [trust-targets-1], targets_threshold: 1, snapshot: snapshot, timestamp: timestamp, crl: crl, anchors: [root], intermediates: [plant-1, plant-2], crls: [crl-1], require_crl: true, min_rsa_bits: 3072, key_types: [P-256, RSA], root_expires: UNTIL, targets_expires: UNTIL}
`

const trustedAgain = `
- import-artefact: {key: root-key, token: roots}
- import-artefact: {certificate: plant-1}
- import-artefact: {certificate: plant-2}
- crl: {name: crl-2, issuer: root, number: 2, this_update: FROM, next_update: UNTIL, revoked: [{certificate: plant-2, reason: cessationOfOperation, at: FROM}]}
- import-artefact: {key: trust-root-1, token: roots}
- import-artefact: {key: trust-root-2, token: online}
- import-artefact: {key: trust-targets-1, token: roots}
- trust-repository: {root_keys: [trust-root-1, trust-root-2], root_threshold: 2, targets_keys: [trust-targets-1], targets_threshold: 1, snapshot: snapshot, timestamp: timestamp, crl: crl, anchors: [root], intermediates: [plant-1, plant-2], crls: [crl-2], require_crl: true, min_rsa_bits: 3072, key_types: [P-256, RSA], root_expires: UNTIL, targets_expires: UNTIL}
`

// TestRemoves: what a version of trust or a CRL removes against the last one is named in the script, and shown to those who review it.
func TestRemoves(t *testing.T) {
	y := newYears(t)
	y.inputs = map[string]string{"snapshot": "trust-snapshot.pem", "timestamp": "trust-timestamp.pem", "crl": "trust-crl.pem"}
	y.refused("the first version removes something", strings.Replace(trusted, "intermediates:", "removes: [plant-3], intermediates:", 1), "CER-030", "plant-3")
	y.hold(trusted)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	y.public("other.pem", other.Public())
	y.inputs["other"] = "other.pem"
	signs := map[string]int{"root-key": 1, "trust-root-1": 1, "trust-root-2": 1, "trust-targets-1": 1}
	for _, c := range []struct{ what, old, new, removes, says string }{
		{"a factory CA", "[plant-1, plant-2]", "[plant-1]", "plant-2", "intermediate plant-2, CN=Plant 2: its devices are not admitted any more"},
		{"both factory CAs", "[plant-1, plant-2]", "[]", "plant-1, plant-2", "plant-1"},
		{"a trust key", "trust-repository: {root_keys: [trust-root-1, trust-root-2], root_threshold: 2", "generate-key: {name: n, token: roots, algorithm: P-256}\n- trust-repository: {root_keys: [trust-root-1, n], root_threshold: 2", "", ""},
		{"a threshold", "root_threshold: 2", "root_threshold: 1", "root_threshold", "the threshold 2 of the role root: 1 are enough from now on"},
		{"an online key", "timestamp: timestamp", "timestamp: other", "timestamp", "the key of the online role timestamp"},
		{"that CRLs are asked for", "require_crl: true, ", "", "require_crl", "gateways admit devices whose CA has no CRL"},
		{"a bound", "min_rsa_bits: 3072, ", "", "min_rsa_bits", "min_rsa_bits 3072: it is 2048 from now on"},
		{"a kind of key", "[P-256, RSA]", "[P-256]", "key_types.RSA", "devices with such keys are not admitted any more"},
		{"nothing", "", "", "", ""},
	} {
		text := strings.Replace(trustedAgain, c.old, c.new, 1)
		if c.removes == "" {
			if c.what == "nothing" {
				y.refused("naming what is not removed", strings.Replace(text, "intermediates:", "removes: [plant-1], intermediates:", 1), "CER-030", "removes names plant-1")
				p, err := y.check(text)
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(p.Signatures) != fmt.Sprint(signs) {
					t.Errorf("the table of signatures says %v, want %v", p.Signatures, signs)
				}
			}
			continue
		}
		y.refused(c.what, text, "CER-030", "removes: ["+c.removes+"]")
		named := strings.Replace(text, "intermediates:", "removes: ["+c.removes+"], intermediates:", 1)
		p, err := y.check(named)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "REMOVES") || !strings.Contains(remarks, c.says) {
			t.Errorf("%s: the reviewers read %s", c.what, remarks)
		}
		y.refused(c.what+", twice", strings.Replace(named, "removes: [", "removes: ["+strings.Split(c.removes, ",")[0]+", ", 1), "CER-030")
	}
	// The CRL of a CA that stays.
	y.refused("a CRL", strings.Replace(trustedAgain, "crls: [crl-2]", "crls: []", 1), "CER-017", "this one has none")
	// A root key is replaced: the old one signs, and is named.
	replaced := strings.NewReplacer("- trust-repository: {root_keys: [trust-root-1, trust-root-2], root_threshold: 2", "- generate-key: {name: trust-root-3, token: roots, algorithm: P-256}\n- trust-repository: {removes: [trust-root-2], also_signed_by: [trust-root-2], root_keys: [trust-root-1, trust-root-3], root_threshold: 2").Replace(trustedAgain)
	y.refused("a trust key", strings.Replace(replaced, "removes: [trust-root-2], ", "", 1), "CER-030", "trust-root-2")
	if p, err := y.check(replaced); err != nil {
		t.Error(err)
	} else if p.Signatures["trust-root-2"] != 1 || p.Signatures["trust-root-1"] != 1 {
		t.Errorf("the table of signatures says %v", p.Signatures)
	}
	p := y.hold(strings.Replace(trustedAgain, "[plant-1, plant-2], crls", "[plant-1], removes: [plant-2], crls", 1))
	facts := fmt.Sprint(p.View(4).Facts)
	for _, want := range []string{"compared with CRL number 1", "revokes besides certificate plant-2, CN=Plant 2, serial", "cessationOfOperation", "releases none"} {
		if !strings.Contains(facts, want) {
			t.Errorf("of the CRL the reviewers read %s, without %q", facts, want)
		}
	}
	// The slip is taken back: the third version releases what the second revoked.
	third := strings.NewReplacer("crl-2", "crl-3", "number: 2", "number: 3").Replace(trustedAgain)
	third = strings.Replace(third, "revoked: [{certificate: plant-2, reason: cessationOfOperation, at: FROM}]", "released: [SERIAL]", 1)
	serial := fmt.Sprintf("%x", y.certificate("out-1/artefacts/plant-2.pem").SerialNumber)
	y.refused("a CRL that drops what it revoked", strings.Replace(third, "released: [SERIAL]", "released: []", 1), "was revoked and is missing")
	y.refused("a release of what was not revoked", strings.Replace(third, "SERIAL", serial+", 4f0a", 1), "CER-030", "released names 4f0a")
	y.refused("a release that gateways do not hear of", strings.Replace(third, "SERIAL", serial, 1), "CER-017", serial, "not released")
	third = strings.Replace(third, "crls: [crl-3]", "crls: [crl-3], releases: [{issuer: root, serial: SERIAL}]", 1)
	y.refused("a release named twice", strings.Replace(third, "SERIAL", serial+", "+serial, 1), "CER-030")
	p = y.hold(strings.ReplaceAll(third, "SERIAL", serial))
	if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "RELEASES certificate plant-2, CN=Plant 2") {
		t.Errorf("of the release the reviewers read %s", remarks)
	}
}

// certificate reads one of the stage's files.
func (y *years) certificate(name string) *x509.Certificate {
	y.t.Helper()
	c, err := oneCertificate([]byte(readFile(y.t.(*testing.T), filepath.Join(y.dir, name))))
	if err != nil {
		y.t.Fatal(err)
	}
	return c
}

// Holds says whether the decryption key of an officer is there.
func (d *desk) Holds(o quorum.Officer) bool {
	return slices.ContainsFunc(d.keys, func(k crypto.Signer) bool { return ca.SameKey(k.Public(), o.DecryptionKey) })
}

// TestSuperseded: shares that an earlier ceremony replaced are refused before a token sees a PIN, also after a ceremony that was aborted
// when the PIN was changed.
func TestSuperseded(t *testing.T) {
	y := newYears(t)
	y.hold("- hold-secret: {name: so-1, token: roots, purpose: so}\n- hold-secret: {name: wrap-1, token: roots, purpose: wrap}")
	y.inputs["so-1"] = "out-1/shares/so-1.json"
	y.pins["roots"] = ", so_shares: so-1"
	y.hold("- hold-secret: {name: so-2, token: roots, purpose: so, previous: so-1}")
	y.refused("the shares of the first year", firstRoot, "CER-031", `replaced by "so-2"`)
	y.inputs["so-2"] = "out-2/shares/so-2.json"
	y.pins["roots"] = ", so_shares: so-2"
	c := y.config(y.must("- hold-secret: {name: so-3, token: roots, purpose: so, previous: so-2}"))
	c.Remarks = func(when string) ([]Remark, error) {
		if when == AtEnd {
			return nil, errCut
		}
		return nil, nil
	}
	if _, err := Run(context.Background(), c); err == nil {
		t.Fatal("the run was not cut short")
	}
	if err := unfinished(&c); err != nil {
		t.Fatal(err)
	}
	c.Remarks = nil
	if _, err := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	y.ended()
	y.refused("the shares from before an aborted ceremony", firstRoot, "CER-031", `replaced by "so-3"`)
}

// TestMissingHolder: who is to hold a new share is there before the first act.
func TestMissingHolder(t *testing.T) {
	s, d, c := custodyStage(t)
	all := d.keys
	d.keys = []crypto.Signer{all[0], all[1], all[1]}
	before := s.objects()
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "the decryption key of Officer 3 is not there") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(c.Out); err == nil || s.objects() != before {
		t.Error("something was done")
	}
	d.keys = all
	if _, err := Run(context.Background(), c); err != nil {
		t.Error(err)
	}
}

// TestShorterWindow: a script whose window ends before that of the last ceremony is held, if not before the end of that one.
func TestShorterWindow(t *testing.T) {
	y := newYears(t)
	y.hold(firstRoot)
	text := y.text("- import-artefact: {certificate: root}")
	window := func(from, until string) string {
		return strings.Replace(text, fmt.Sprintf("{from: %s, until: %s}", y.date(0), y.date(1)), fmt.Sprintf("{from: %s, until: %s}", from, until), 1)
	}
	if script, err := y.script(window("2026-11-21T09:00:00Z", "2026-11-21T12:00:00Z")); err != nil {
		t.Errorf("a window that ends before that of the last ceremony, and after its end: %v", err)
	} else if _, err := script.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := y.script(window("2026-11-21T07:00:00Z", "2026-11-21T08:00:00Z")); err == nil || !strings.Contains(err.Error(), "ended 2026-11-21T09:00:00Z, after this script's window") {
		t.Errorf("a window before the end of the last ceremony: %v", err)
	}
}

// must is check, for a script that passes.
func (y *years) must(steps string) *Plan {
	y.t.Helper()
	p, err := y.check(steps)
	if err != nil {
		y.t.Fatal(err)
	}
	return p
}
