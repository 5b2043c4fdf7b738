package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// uptaneRoot is a root in form.
const uptaneRoot = `{"signatures":[{"keyid":"aa","method":"ed25519","sig":"bb"}],"signed":{"_type":"Root","version":1}}`

func vkey(t testing.TB, origin string, key crypto.Signer) string {
	t.Helper()
	k, err := journal.VerifierKey(origin, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestEnvironmentPolicy: what the officers say of an environment is parsed strictly, and has format 3.
func TestEnvironmentPolicy(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	good := vkey(t, "plant-7", key)
	id := strings.Repeat("ab", 32)
	const head = `{"format":3,"environment":"test","key_types":["P-256"],"min_rsa_bits":2048,"require_crl":false`
	for _, c := range []struct{ name, rest, want string }{
		{"names", `"gateway_names":["gateway.example.com","gw2","xn--bcher-kva.example"]`, ""},
		{"registered only", `"registered_only":true`, ""},
		{"a stage", `"stage":"production"`, ""},
		{"shared credentials", `"stage":"development","shared_credentials":{"ca":"` + id + `","until":"2027-01-31T00:00:00Z"}`, ""},
		{"logs", `"logs":[{"origin":"plant-7","key":"` + good + `"}]`, ""},
		{"with rules for CRLs", `"crls":[{"ca":"` + id + `","frozen":true}],"registered_only":true`, ""},
		{"nothing of format 3", `"registered_only":false`, "names format 3"},
		{"rules for CRLs alone", `"crls":[{"ca":"` + id + `","frozen":true}]`, "names format 3"},
		{"an unknown stage", `"stage":"test"`, "stage"},
		{"a stage in capitals", `"stage":"Development"`, "stage"},
		{"an empty name", `"gateway_names":[""]`, "gateway_names"},
		{"a name in capitals", `"gateway_names":["Gateway.example.com"]`, "gateway_names"},
		{"a wildcard", `"gateway_names":["*.example.com"]`, "gateway_names"},
		{"an address", `"gateway_names":["192.0.2.1"]`, "gateway_names"},
		{"an IPv6 address", `"gateway_names":["::1"]`, "gateway_names"},
		{"a dot at the end", `"gateway_names":["gateway.example.com."]`, "gateway_names"},
		{"an empty label", `"gateway_names":["gateway..com"]`, "gateway_names"},
		{"a hyphen at the end", `"gateway_names":["gateway-.com"]`, "gateway_names"},
		{"a long label", `"gateway_names":["` + strings.Repeat("a", 64) + `.com"]`, "gateway_names"},
		{"a long name", `"gateway_names":["` + strings.Repeat("abc.", 63) + `comm"]`, "gateway_names"},
		{"a port", `"gateway_names":["gateway.example.com:443"]`, "gateway_names"},
		{"a name twice", `"gateway_names":["a.example","a.example"]`, "twice"},
		{"too many names", `"gateway_names":["a` + strings.Join(numbered(65), `","a`) + `"]`, "more than 64"},
		{"shared credentials in production", `"shared_credentials":{"ca":"` + id + `","until":"2027-01-31T00:00:00Z"}`, "production"},
		{"shared credentials, said to be production", `"stage":"production","shared_credentials":{"ca":"` + id + `","until":"2027-01-31T00:00:00Z"}`, "production"},
		{"shared credentials for ever", `"stage":"development","shared_credentials":{"ca":"` + id + `"}`, "until"},
		{"until a fraction", `"stage":"development","shared_credentials":{"ca":"` + id + `","until":"2027-01-31T00:00:00.5Z"}`, "until"},
		{"until elsewhere", `"stage":"development","shared_credentials":{"ca":"` + id + `","until":"2027-01-31T00:00:00+01:00"}`, "until"},
		{"shared credentials of no CA", `"stage":"development","shared_credentials":{"ca":"x","until":"2027-01-31T00:00:00Z"}`, "no CA's id"},
		{"a key of another log", `"logs":[{"origin":"plant-8","key":"` + good + `"}]`, "is named"},
		{"no key", `"logs":[{"origin":"plant-7","key":""}]`, "verifier key"},
		{"a key with another hash", `"logs":[{"origin":"plant-7","key":"` + strings.Replace(good, "plant-7+", "plant-7+0", 1) + `"}]`, "verifier key"},
		{"a log twice", `"logs":[{"origin":"plant-7","key":"` + good + `"},{"origin":"plant-7","key":"` + good + `"}]`, "twice"},
		{"an unknown field", `"registered_only":true,"admit_all":true`, "admit_all"},
	} {
		p, err := trust.ParsePolicy([]byte(head + "," + c.rest + "}"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err == nil && (p.Format != 3 || p.Production() != !strings.Contains(c.rest, "development")) {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
	// Readers of format 1 or 2 must not be shown what they do not know.
	for _, format := range []string{"1", "2", "4", "0"} {
		if _, err := trust.ParsePolicy([]byte(strings.Replace(head, `"format":3`, `"format":`+format, 1) + `,"registered_only":true}`)); err == nil {
			t.Errorf("format %s is taken", format)
		}
	}
}

func numbered(n int) (list []string) {
	for i := range n {
		list = append(list, strings.Repeat("b", i+1)[:min(i+1, 60)]+string(rune('a'+i%26)))
	}
	return list
}

// TestSharedCredentials: the leave names a CA of the repository, and ends.
func TestSharedCredentials(t *testing.T) {
	w := trusttest.New(t)
	until := w.Now.AddDate(0, 6, 0)
	p := trust.DefaultPolicy("test")
	p.Stage, p.SharedCredentials = trust.Development, &trust.SharedCredentials{CA: strings.Repeat("ab", 32), Until: until}
	w.Content.Policy = p.WithFormat()
	if _, err := trust.Build(nil, w.Content, w.Keys, w.Validity, w.Now, w.Signers()...); err == nil || !strings.Contains(err.Error(), "is not named") {
		t.Errorf("a CA that is not named: %v", err)
	}
	id := trust.IssuerID(w.Issuing.Cert)
	w.Content.Policy.SharedCredentials.CA = id.String()
	w.Rebuild()
	w.Import()
	got := w.View().Policy()
	if s := got.SharedAt(until.Add(-time.Second)); !s.IssuedBy(id) || s.IssuedBy(trust.IssuerID(w.Root.Cert)) {
		t.Errorf("%+v", s)
	}
	if got.SharedAt(until) != nil {
		t.Error("the leave does not end")
	}
	got.Stage = ""
	if got.SharedAt(w.Now) != nil {
		t.Error("shared credentials in production")
	}
	// What a caller does to its copy stays there.
	got.SharedCredentials.CA, got.SharedCredentials.Until = "", until.AddDate(9, 0, 0)
	if again := w.View().Policy(); again.SharedCredentials.CA == "" {
		t.Error("a view was changed")
	}
}

// TestNamedLogs: where the officers name logs, the online role publishes checkpoints of these alone, signed by their keys.
func TestNamedLogs(t *testing.T) {
	w := trusttest.New(t)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	note := func(origin string, size int64, key crypto.Signer) []byte {
		s, err := journal.NoteSigner(origin, key)
		if err != nil {
			t.Fatal(err)
		}
		b, err := journal.SignCheckpoint(journal.FormatCheckpoint(origin, size, journal.Hash{1}), s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	name := func(logs ...trust.PolicyLog) {
		p := trust.DefaultPolicy("test")
		p.Logs = logs
		w.Content.Policy = p.WithFormat()
		w.Rebuild()
		w.Import()
	}
	w.Import()
	w.AddCRL(1)
	// Before anything is named the publisher is believed.
	for _, origin := range []string{"plant-7", "plant-9"} {
		if err := offer(t, w, checkpointOf(origin, 5, 1), refresh); err != nil {
			t.Fatal(err)
		}
	}
	before := w.View()
	plain := trusttest.Snap(t, w.Dir)
	name(trust.PolicyLog{Origin: "plant-7", Key: vkey(t, "plant-7", ed)}, trust.PolicyLog{Origin: "plant-8", Key: vkey(t, "plant-8", ec)})
	v, err := trust.OpenAfter(os.DirFS(w.Dir), before, w.Pin, w.Now)
	if err != nil {
		t.Fatalf("a gateway that saw the checkpoints of before: %v", err)
	}
	if len(v.Logs()) != 0 {
		t.Errorf("a checkpoint that nobody named signed is published: %+v", v.Logs())
	}
	for what, bad := range map[string][]byte{"unsigned": checkpointOf("plant-7", 9, 1), "another's key": note("plant-7", 9, w.Key()), "not named": note("plant-9", 9, ed)} {
		if err := offer(t, w, bad, refresh); !errors.Is(err, trust.ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for origin, key := range map[string]crypto.Signer{"plant-7": ed, "plant-8": ec} {
		if err := offer(t, w, note(origin, 9, key), refresh); err != nil {
			t.Errorf("%s: %v", origin, err)
		}
	}
	if logs := w.View().Logs(); len(logs) != 2 || logs[0].Size != 9 {
		t.Errorf("%+v", logs)
	}
	// Somebody who has the online keys lists what the log did not sign.
	files := trusttest.Snap(t, w.Dir)
	v = w.View()
	forged := checkpointOf("plant-7", 70, 1)
	forgeLog(t, w, files, v, forged)
	if _, err := trust.Open(files, w.Pin, w.Now); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("a forged checkpoint: %v", err)
	}
	if _, err := trust.OpenAfter(plain, v, w.Pin, w.Now); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("back: %v", err)
	}
	// A log that the officers no longer name goes; the other stays.
	name(trust.PolicyLog{Origin: "plant-8", Key: vkey(t, "plant-8", ec)})
	v, err = trust.OpenAfter(os.DirFS(w.Dir), v, w.Pin, w.Now)
	if err != nil || len(v.Logs()) != 1 || v.Logs()[0].Origin != "plant-8" {
		t.Errorf("%v, %+v", err, v)
	}
}

// TestUptaneRoots: the roots that devices start from travel in the officers' part.
func TestUptaneRoots(t *testing.T) {
	w := trusttest.New(t)
	for name, bad := range map[string]string{"no JSON": "x", "a snapshot": strings.Replace(uptaneRoot, "Root", "Snapshot", 1), "unsigned": strings.Replace(uptaneRoot, `{"keyid":"aa","method":"ed25519","sig":"bb"}`, "", 1), "large": uptaneRoot + strings.Repeat(" ", 256<<10)} {
		w.Content.Uptane = trust.UptaneRoots{Director: []byte(bad)}
		if _, err := trust.Build(nil, w.Content, w.Keys, w.Validity, w.Now, w.Signers()...); err == nil || !strings.Contains(err.Error(), "director.root.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.Content.Uptane = trust.UptaneRoots{}
	w.Import()
	w.AddCRL(1)
	before := w.View()
	if u := before.Uptane(); u.Director != nil || u.Image != nil {
		t.Errorf("%+v", u)
	}
	image := strings.Replace(uptaneRoot, "1}", "7}", 1)
	w.Content.Uptane = trust.UptaneRoots{Director: []byte(uptaneRoot), Image: []byte(image)}
	w.Rebuild()
	w.Import()
	v := w.View()
	if u := v.Uptane(); string(u.Director) != uptaneRoot || string(u.Image) != image {
		t.Errorf("%+v", u)
	}
	if v.Fingerprint() == before.Fingerprint() {
		t.Error("the fingerprint stays")
	}
	// One byte of a root that was changed on the way.
	files := trusttest.Snap(t, w.Dir)
	for path := range files {
		if strings.HasSuffix(path, "repo.root.json") {
			files[path] = []byte(strings.Replace(image, "7}", "8}", 1))
		}
	}
	if _, err := trust.Open(files, w.Pin, w.Now); !errors.Is(err, trust.ErrMixed) {
		t.Error(err)
	}
}

// forgeLog puts another checkpoint of the log plant-7 into files, signed with the online keys.
func forgeLog(t *testing.T, w *trusttest.World, files trust.Files, v *trust.View, note []byte) {
	t.Helper()
	path := func(role string, version int64) string { return fmt.Sprintf("metadata/%d.%s.json", version, role) }
	crl, snapshot := path("crl", v.Versions().CRL), path("snapshot", v.Versions().Snapshot)
	hash := trust.ID(trust.PinRoot(note).Digest()).String()
	name := "log-" + trust.ID(sha256.Sum256([]byte("plant-7"))).String() + ".crl"
	files["targets/crl/"+hash+"."+name] = note
	trusttest.Forge(t, files, crl, func(signed map[string]any) {
		signed["targets"].(map[string]any)["crl/"+name] = map[string]any{"length": len(note), "hashes": map[string]any{"sha256": hash}}
	}, w.CRL)
	trusttest.Forge(t, files, snapshot, trusttest.Describe(files, "crl.json", crl, v.Versions().CRL), w.Snapshot)
	trusttest.Forge(t, files, "metadata/timestamp.json", trusttest.Describe(files, "snapshot.json", snapshot, v.Versions().Snapshot), w.Timestamp)
}
