package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestTrustAddsUp: a draft is made at one machine, signed at two others, each with a token of its own, and published; each officer saw what changes.
func TestTrustAddsUp(t *testing.T) {
	d := newTrustDesk(t, 3)
	w := d.world
	w.Import()
	key, err := journal.VerifierKey("plant-7", d.world.TargetsKeys[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	d.serverRoot() // writes 1.root.json, an Uptane root
	out := d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "gateway.example.com", "--log", key, "--registered-only", "--director-root", "@1.root.json",
		"--grace", trust.IssuerID(w.Issuing.Cert).String()+"=72", "@work")
	for _, want := range []string{"environment test: version 2 of the officers' part, after version 1 in force", "+ policy: gateway gateway.example.com", "+ policy: only registered devices", "+ policy: issuance log " + key,
		"+ Uptane root: Director, version 1", "+ policy: the CRL of CN=Specimen Issuing CA is used for 72 hours", "0 of 2 signatures, of 3 keys"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if out = d.ok("status", "@work"); !strings.Contains(out, "0 of 2 signatures: the next officer signs") {
		t.Error(out)
	}
	d.ok("export", "--out", "@blank.tar", "@work")
	d.ok("export", "--out", "@again.tar", "@work")
	if !bytes.Equal(d.read(d.path("blank.tar")), d.read(d.path("again.tar"))) {
		t.Error("two archives of one draft differ")
	}
	for _, n := range []int{1, 2} {
		work := filepath.Join(d.dirs[n], "work")
		// What lies beside a new folder is nobody's to remove.
		beside := work + ".new"
		if err := os.Mkdir(beside, 0o755); err != nil {
			t.Fatal(err)
		}
		d.ok("import", "--root", "@pin.json", "@blank.tar", work)
		if _, err := os.Stat(beside); err != nil {
			t.Errorf("a folder beside is gone: %v", err)
		}
		out := d.ok(d.sign(n, "Unremembered", work)...)
		for _, want := range []string{"+ policy: only registered devices", "warning: this machine remembers nothing of environment test", "1 of 2 signatures: the next officer", "which nobody signs and which proves nothing"} {
			if !strings.Contains(out, want) {
				t.Errorf("officer %d was not shown %q:\n%s", n, want, out)
			}
		}
		d.ok("export", "--out", fmt.Sprintf("@%d.tar", n), work)
	}
	if out = d.ok("import", "@2.tar", "@work"); !strings.Contains(out, "1 new signature") {
		t.Error(out)
	}
	if out = d.ok("import", "@2.tar", "@work"); !strings.Contains(out, "0 new signature") {
		t.Error(out)
	}
	if err := w.Publish(func(p *trust.Publisher) error { return p.Import(input.Dir(d.path("work/next"))) }); err == nil {
		t.Error("one signature was published")
	}
	if out = d.ok("import", "@1.tar", "@work"); !strings.Contains(out, "2 of 2 signatures: 'hanaper-repo import "+d.path("work/next")) {
		t.Error(out)
	}
	var doc trustDocument
	if err := json.Unmarshal([]byte(d.ok("show", "--root", "@pin.json", "--json", "@work")), &doc); err != nil || !doc.Complete || doc.Version != 2 || len(doc.Signed) != 2 || len(doc.CAs) != 2 || len(doc.Says) < 5 {
		t.Errorf("%v %+v", err, doc)
	}
	// What else the folder holds is no part of it.
	if err := os.WriteFile(d.path("work/next/README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(func(p *trust.Publisher) error { return p.Import(input.Dir(d.path("work/next"))) }); err != nil {
		t.Fatal(err)
	}
	v := w.View()
	if p := v.Policy(); v.Versions().Targets != 2 || !p.RegisteredOnly || p.GatewayNames[0] != "gateway.example.com" || len(v.Uptane().Director) == 0 {
		t.Errorf("%+v", p)
	}
	// Each officer's log has the intent, what was shown, and the outcome; it says of itself that nobody signed it.
	log := string(d.read(filepath.Join(d.dirs[1], "log")))
	for _, want := range []string{"hanaper.invalid/trust", `"kind":"trust-sign-intent"`, `"kind":"trust-sign"`, "only registered devices", `"findings"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	// The next version: the officers' machines remember, and the word is the usual one.
	next, err := trust.OpenRepository(input.Dir(d.path("work/next")), w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if d.world.Offline, err = next.Part(input.Dir(d.path("work/next"))); err != nil {
		t.Fatal(err)
	}
	d.inForce("inforce-2")
	d.ok("remove", "--from", "@inforce-2", "--root", "@pin.json", "--registered-only", "@work-2")
	if out := d.ok(d.sign(1, "Yes", "@work-2")...); strings.Contains(out, "warning") || !strings.Contains(out, "- policy: only registered devices") {
		t.Error(out)
	}
}

// TestTrustMemory: a machine that has signed for an environment is shown no older part, and signs no second content of a version.
func TestTrustMemory(t *testing.T) {
	d := newTrustDesk(t, 3)
	begin := func(work, from, name string) {
		d.ok("add", "--from", from, "--root", "@pin.json", "--gateway-name", name, work)
	}
	begin("@a", "@inforce", "a.example")
	begin("@b", "@inforce", "b.example")
	d.ok(d.sign(0, "Unremembered", "@a")...)
	d.refused(3, "another draft of version 2 was signed here", d.sign(0, "Yes", "@b")...)
	// The draft changed once more: a version above, and the officer is told that one was given up.
	if out := d.ok("add", "--gateway-name", "c.example", "@a"); !strings.Contains(out, "had 1 signatures; they were for version 2, and this is version 3") {
		t.Error(out)
	}
	d.refused(3, "the answer was not Unremembered", d.sign(0, "Yes", "@a")...)
	if out := d.ok(d.sign(0, "Unremembered", "@a")...); !strings.Contains(out, "version 2 was signed here, and is not in force before this draft") {
		t.Error(out)
	}
	d.refused(3, "version 3 was signed here, and the draft is version 2", d.sign(0, "Yes", "@b")...)
	// It becomes the part in force; somebody brings the one before as what is in force.
	d.ok(d.sign(1, "Unremembered", "@a")...)
	d.ok("add", "--from", "@a/next", "--root", "@pin.json", "--gateway-name", "d.example", "@c")
	d.ok(d.sign(0, "Yes", "@c")...)
	begin("@old", "@inforce", "evil.example")
	for range 4 {
		d.ok("add", "--gateway-name", fmt.Sprintf("e%d.example", time.Now().UnixNano()), "@old")
		d.ok(d.sign(2, "Unremembered", "@old")...)
	}
	d.refused(3, "the draft follows version 1, and version 3 was in force here", d.sign(0, "Yes", "@old")...)
	// Another root of the same name.
	d.begin("test")
	d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "x.example", "@another")
	d.refused(3, "this machine remembers root", d.sign(0, "Yes", "@another")...)
}

// TestTrustMemoryAtOnce: of two drafts that are shown at once one is signed: what the officer saw of the second does not hold any more.
func TestTrustMemoryAtOnce(t *testing.T) {
	d := newTrustDesk(t, 3)
	var desks []*sitting
	for _, work := range []string{"@a", "@b"} {
		d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", work[1:]+".example", work)
		s := sit(t, exec.Command(programtest.Path(t, "hanaper"), d.args([]string{"trust", "sign", "--root", "@pin.json", "--key", d.uris[0], "--transcript", "@log-" + work[1:], "--state", d.dirs[0], work})...))
		s.sees("Type Unremembered to sign: ")
		desks = append(desks, s)
	}
	_, _ = desks[0].keys.WriteString("Unremembered\n")
	desks[0].leaves(0)
	memory := string(d.read(memoryPath(d.dirs[0], "test")))
	_, _ = desks[1].keys.WriteString("Unremembered\n")
	if said := desks[1].leaves(3); !strings.Contains(strings.Join(strings.Fields(said), " "), "since you were shown the draft") {
		t.Errorf("the second: %s", said)
	}
	if after := string(d.read(memoryPath(d.dirs[0], "test"))); after != memory {
		t.Errorf("remembered: %s, before: %s", after, memory)
	}
	if out := d.ok("status", "@b"); !strings.Contains(out, "0 of 2 signatures") {
		t.Errorf("the second was signed: %s", out)
	}
}

// TestTrustRefusals: nothing is signed, and nothing is written.
func TestTrustRefusals(t *testing.T) {
	d := newTrustDesk(t, 2)
	d.refused(2, "there is no", "add", "--gateway-name", "a.example", "@work")
	d.refused(2, "there is no", "add", "--from", "@inforce", "--gateway-name", "a.example", "@work")
	d.refused(4, "not in the root chain", "add", "--from", "@inforce", "--root", strings.Repeat("ab", 32), "--gateway-name", "a.example", "@work")
	d.refused(2, "gateway_names", "add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "192.0.2.1", "@work")
	d.refused(2, "key_types is empty", "remove", "--from", "@inforce", "--root", "@pin.json", "--key-type", "RSA", "--key-type", "P-256", "--key-type", "P-384", "--key-type", "P-521", "--key-type", "Ed25519", "@work")
	d.refused(2, "the draft has none such", "remove", "--from", "@inforce", "--root", "@pin.json", "--ca", strings.Repeat("ab", 32), "@work")
	d.refused(2, "no anchor", "remove", "--from", "@inforce", "--root", "@pin.json", "--anchor", trust.IssuerID(d.world.Root.Cert).String(), "@work")
	d.refused(2, "production", "add", "--from", "@inforce", "--root", "@pin.json", "--shared-credentials", trust.IssuerID(d.world.Issuing.Cert).String()+"=2099-01-01T00:00:00Z", "@work")
	d.refused(3, "has ended", "add", "--from", "@inforce", "--root", "@pin.json", "--stage", "development", "--shared-credentials", trust.IssuerID(d.world.Issuing.Cert).String()+"=2020-01-01T00:00:00Z", "@work")
	d.refused(2, "come from a ceremony", "add", "--from", "@inforce", "--root", "@pin.json", "--anchor", "@pin.json", "@work")
	d.refused(2, "would expire on", "add", "--from", "@inforce", "--root", "@pin.json", "--expires", "2020-01-01T00:00:00Z", "@work")
	d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "a.example", "@work")
	d.refused(3, "is there already", "add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "b.example", "@work")
	d.refused(2, "name a folder", "sign", "--root", "@pin.json", "--key", d.uris[0], "--transcript", "@log", "--state", "@state", "@elsewhere")
	d.refused(3, "the answer was not", d.sign(0, "yes", "@work")...)
	d.refused(4, "and yours is", "sign", "--root", strings.Repeat("ab", 32), "--key", d.uris[0], "--transcript", "@log", "--state", "@state", "--answers", "@yes", "@work")
	// A key that the root does not name, and one that has signed.
	d.write("word", []byte("Unremembered\n"))
	d.refused(3, "does not name key", "sign", "--root", "@pin.json", "--key", d.uris[2], "--transcript", "@log", "--state", "@state", "--answers", "@word", "@work")
	d.ok(d.sign(0, "Unremembered", "@work")...)
	d.refused(3, "has signed this draft already", d.sign(0, "Yes", "@work")...)
	// What was changed in the folder is noticed, whoever opens it.
	for path := range d.files() {
		rel, err := filepath.Rel(d.path("work"), path)
		if err != nil || strings.HasPrefix(rel, "..") || strings.HasPrefix(rel, "previous/metadata/1.root") {
			continue
		}
		data := d.read(path)
		if err := os.WriteFile(path, append(bytes.Clone(data), ' '), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, _ := d.run("status", "@work"); code == 0 && rel != "work.json" && !strings.HasPrefix(rel, "next/metadata/1.") {
			t.Errorf("%s was changed, and nobody notices", rel)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTrustFromCeremony: roots and CAs are those of a ceremony that verifies, of the same environment; others are refused.
func TestTrustFromCeremony(t *testing.T) {
	const ceremony1 = "../../ceremony/testdata/golden/1.2/finished"
	anchors, err := os.ReadFile("../../ceremony/testdata/golden/1.2/anchors")
	if err != nil {
		t.Fatal(err)
	}
	roster, _, _ := strings.Cut(string(anchors), " ")
	d := newTrustDesk(t, 3)
	d.write("own.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.world.NewCA("A Root of Nobody", nil).Cert.Raw}))
	root, ca := ceremony1+"/artefacts/fleet-root.pem", ceremony1+"/artefacts/factory-ca.pem"
	add := func(more ...string) []string {
		return append(append([]string{"add", "--from", "@inforce", "--root", "@pin.json", "--ceremony", ceremony1}, more...), "@work")
	}
	d.refused(3, "was held for environment demo", add("--roster", roster, "--anchor", root)...)
	d.begin("demo")
	d.refused(4, "NOT authenticated", add("--anchor", root)...)
	d.refused(4, "roster", add("--roster", strings.Repeat("ab", 32), "--anchor", root)...)
	d.refused(3, "is not among what 'ceremony verify' covers", add("--roster", roster, "--anchor", "@own.pem")...)
	out := d.ok(add("--roster", roster, "--anchor", root, "--ca", ca)...)
	if strings.Count(out, "+ anchor ") != 1 || strings.Count(out, "+ issuing CA ") != 1 {
		t.Error(out)
	}
}

// TestTrustGolden opens a working folder that an earlier release made, with one of two signatures, and what a machine remembered.
func TestTrustGolden(t *testing.T) {
	const dir = "testdata/trust-work"
	now := trusttest.Start
	if *updateTrust {
		w := trusttest.New(t)
		prev, err := trust.OpenRepository(w.Offline, w.Pin, now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := prev.Content(w.Offline)
		if err != nil {
			t.Fatal(err)
		}
		c.Policy.GatewayNames = []string{"gateway.example.com"}
		c.Policy = c.Policy.WithFormat()
		draft, err := trust.NewDraft(prev, c, prev.Expires(), now)
		if err != nil {
			t.Fatal(err)
		}
		if err := draft.Sign(w.TargetsKeys[0]); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := (&work{dir: dir + "/work", pin: w.Pin, previous: w.Offline, draft: draft}).begin(); err != nil {
			t.Fatal(err)
		}
		if err := (trustMemory{1, "test", w.Pin.String(), markOf(prev), markOf(draft.Next())}).keep(dir, trustMemory{}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := readWork(dir, input.Dir(dir+"/work"), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	m, known, err := recallTrust(dir, "test")
	if err != nil || !known {
		t.Fatal(err)
	}
	if findings, err := m.weigh(known, w.pin, w.draft); err != nil || len(findings) != 0 {
		t.Errorf("%v, %v", findings, err)
	}
	if s := w.draft.Standing(); w.draft.Version() != 2 || len(s.Signed) != 1 || s.Threshold != 2 || w.draft.Next().Policy().GatewayNames[0] != "gateway.example.com" {
		t.Errorf("%+v", s)
	}
}

var updateTrust = flag.Bool("update-trust", false, "make testdata/trust-work anew; its keys are thrown away")

// TestTrustFreeze: the officers freeze the last list of a CA whose key is gone, and take that back; a list of a CA that the draft does not have is refused.
func TestTrustFreeze(t *testing.T) {
	d := newTrustDesk(t, 2)
	w := d.world
	d.write("last.crl", w.MakeCRL(w.Issuing, 7, 4711))
	stranger := trusttest.New(t)
	d.write("stranger.crl", stranger.MakeCRL(stranger.Issuing, 7, 4711))
	d.refused(3, "is signed by no CA of the draft", "add", "--from", "@inforce", "--root", "@pin.json", "--freeze", "@stranger.crl", "@work")
	out := d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--freeze", "@last.crl", "@work")
	if want := "+ policy: the CRL of CN=Specimen Issuing CA is frozen"; !strings.Contains(out, want) {
		t.Errorf("%q is missing in\n%s", want, out)
	}
	if out = d.ok("show", "--root", "@pin.json", "@work"); !strings.Contains(out, "frozen") {
		t.Error(out)
	}
	out = d.ok("remove", "--rule", trust.IssuerID(w.Issuing.Cert).String(), "@work")
	if strings.Contains(out, "+ policy: the CRL of CN=Specimen Issuing CA is frozen") {
		t.Errorf("taken back:\n%s", out)
	}
}
