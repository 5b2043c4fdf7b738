package ceremony

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
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
	if _, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor}); err != nil {
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
	if _, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), "earlier/artefacts/fleet-root.pem") {
		t.Errorf("a changed earlier folder: %v", err)
	}
}

func TestGoingBack(t *testing.T) {
	s := second(t)
	text := s.secondScript()
	s.slips(text, []slip{
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
	})
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

// TestRosterSuccession: a later ceremony's roster is the earlier one's, or one that M of its officers approved; the
// first roster's digest, and the first checkpoint's, anchor both.
func TestRosterSuccession(t *testing.T) {
	s := second(t)
	old := s.roster
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	list := append(old.Officers()[:2:2], quorum.Officer{Name: "Officer 4", Role: quorum.RoleOfficer, SigningKey: key.Public(), Scheme: quorum.Ed25519})
	next, err := quorum.NewRoster(quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: s.now, Previous: old, Officers: list})
	if err != nil {
		t.Fatal(err)
	}
	s.put("roster-2.json", next.Data())
	for i, k := range append(s.officers[:2:2], key) {
		roster := old
		if i == 2 {
			roster = next
		}
		s.put(fmt.Sprintf("approval-%d.json", i+1), approvedRoster(t, next, roster, k))
	}
	with := func(files ...string) string {
		var list []string
		for _, f := range files {
			list = append(list, `{{file "`+f+`"}}`)
		}
		roster := strings.TrimSuffix(string(s.fill(`{{file "roster-2.json"}}`)), "}") + ", approvals: [" + strings.Join(list, ", ") + "]}"
		return strings.Replace(s.secondScript(), `{{file "roster.json"}}`, roster, 1)
	}
	for name, text := range map[string]string{
		"no approval": with(), "one approval": with("approval-1.json"), "one twice": with("approval-1.json", "approval-1.json"),
		"one by a newcomer": with("approval-1.json", "approval-3.json"),
	} {
		if _, err := s.script(text); err == nil || !strings.Contains(err.Error(), RuleEarlier.ID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := s.plan(with("approval-1.json", "approval-2.json"))
	s.officers = []crypto.Signer{s.officers[0], key}
	c := s.config(p)
	c.Out += "-2"
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := p.script.earlier.checkpoint
	folder := os.DirFS(result.Out)
	readers := map[string]func(Anchors) error{
		"Verify":     func(a Anchors) error { _, err := Verify(context.Background(), folder, a); return err },
		"ReadStatus": func(a Anchors) error { _, err := ReadStatus(context.Background(), folder, "out", a); return err },
		"Record":     func(a Anchors) error { _, err := Record(context.Background(), folder, a); return err },
		"Attest": func(a Anchors) error {
			unseen := errors.New("not signed")
			if _, err := Attest(context.Background(), result.Out, folder, a, func(*Report) (crypto.Signer, error) { return nil, unseen }); !errors.Is(err, unseen) {
				return err
			}
			return nil
		},
	}
	// Each digest counts under its own name alone.
	own := quorum.Sum(tree(t, result.Out)[checkpointFile])
	for name, c := range map[string]struct {
		digest                      [32]byte
		roster, checkpoint, earlier bool
	}{
		"the new roster":   {digest: next.Digest(), roster: true},
		"the first roster": {digest: old.Digest(), roster: true},
		"its checkpoint":   {digest: own, checkpoint: true},
		"the first one's":  {digest: checkpoint, earlier: true},
		"another digest":   {digest: quorum.Sum([]byte("another"))},
	} {
		for as, x := range map[string]struct {
			anchors Anchors
			good    bool
		}{
			"roster": {Anchors{Roster: &c.digest}, c.roster}, "checkpoint": {Anchors{Checkpoint: &c.digest}, c.checkpoint}, "earlier": {Anchors{Earlier: &c.digest}, c.earlier},
		} {
			for reader, read := range readers {
				err := read(x.anchors)
				if (err == nil) != x.good || err != nil && advice.KindOf(err) != advice.Unverified {
					t.Errorf("%s: %s as %s: %v", reader, name, as, err)
				}
				if has := fmt.Sprintf("its SHA-256 is %s", hexSHA256(tree(t, result.Out)[checkpointFile])); err != nil && as == "checkpoint" && !strings.HasSuffix(err.Error(), has) {
					t.Errorf("%s: %s as %s: %v; want %q", reader, name, as, err, has)
				}
			}
		}
	}
}

// TestThirdCeremony: what the second ceremony had no use for is there for the third, and its numbers do not go back.
func TestThirdCeremony(t *testing.T) {
	s := second(t)
	between := strings.Replace(keysOnly, "tokens:", "earlier: {folder: out, checkpoint: {{checkpoint \"out\"}}}\ntokens:", 1)
	between = strings.NewReplacer("from: 2026-11-21", "from: 2027-10-01", "until: 2026-11-22", "until: 2027-10-02", "ceremony: keys", "ceremony: between").Replace(between)
	now := s.now
	s.now = asserted.AddDate(0, 0, 314)
	c := s.config(s.plan(between))
	c.Out += "-2"
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	s.now, s.Ceremony = now, "third"
	text := strings.NewReplacer("folder: out,", "folder: out-2,", `{{checkpoint "out"}}`, `{{checkpoint "out-2"}}`).Replace(s.secondScript())
	if err := s.check(strings.Replace(text, "number: 2", "number: 1", 1)); err == nil || !strings.Contains(err.Error(), RuleCRLNumber.ID) {
		t.Errorf("a CRL number goes back: %v", err)
	}
	c = s.config(s.plan(text))
	c.Out += "-3"
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
}

// remember makes a store remember a run that began and wrote an entry.
func remember(t *testing.T, store machine.Store, b machine.Begun) {
	t.Helper()
	m, err := store.Begin(b)
	if err == nil {
		err = m.Prepare(1, machine.EmptyRoot)
	}
	if err == nil {
		err = m.Written()
	}
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

// TestFork: where two scripts carry on from one ceremony, the second is refused before a token is touched.
func TestFork(t *testing.T) {
	s := second(t)
	before := s.objects()
	other := strings.Replace(s.secondScript(), "reason: superseded", "reason: keyCompromise", 1)
	remember(t, s.anchor().State, begunBy(s.plan(other).script, strings.Repeat("0f", 16)))
	c := s.config(s.plan(s.secondScript()))
	c.Out += "-2"
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), RuleEarlier.ID) {
		t.Errorf("got %v, want %s", err, RuleEarlier.ID)
	}
	if _, err := os.Stat(c.Out); err == nil || s.objects() != before {
		t.Error("the refused run left a folder or a key")
	}
}

// TestForkAfterCrash: a run whose machine failed when its first entry was on the disk, and not yet remembered, is not taken up again once another one has carried on
// from the same ceremony: both would give out the same numbers.
func TestForkAfterCrash(t *testing.T) {
	s := second(t)
	list, _, _ := strings.Cut(s.secondScript(), "  - import-artefact: {key: image-root-key,") // a list, and no new key
	crashed := s.config(s.plan(list))
	crashed.Out += "-2"
	func() {
		defer func() { _, appended = recover(), nil }()
		appended = func(int64) { panic("the power fails") }
		_, err := Run(context.Background(), crashed)
		t.Errorf("it did not fail: %v", err)
	}()
	other := s.config(s.plan(strings.Replace(s.secondScript(), "reason: superseded", "reason: keyCompromise", 1)))
	other.Out += "-3"
	if _, err := Run(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	before, keys := treeOf(t, crashed.Out), s.objects()
	err := unfinished(&crashed)
	if err == nil {
		crashed.Asserted = crashed.Asserted.Add(time.Hour)
		_, err = Resume(context.Background(), crashed)
	}
	if err == nil || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), "carried on from checkpoint") {
		t.Errorf("both carry on: %v", err)
	}
	if _, err := Abandoned(crashed.Out, crashed.Anchor); err == nil || !strings.Contains(advice.Hint(err), "did nothing") {
		t.Errorf("it is aborted, and could be carried on from: %v", err)
	}
	if after := treeOf(t, crashed.Out); !maps.Equal(before, after) || s.objects() != keys {
		t.Error("what was refused wrote to the folder, or made a key")
	}
}

// treeOf is all files below a folder, with their content.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAfterAbort: what an aborted ceremony signed counts as used, and a root that it can never release does not.
// TestUsedNumbers: numbers that an aborted ceremony signed count as used, also where the entries do not follow from one another
// any more, where a signature was about to be made and none is recorded, and where the transcript's end is lost.
func TestUsedNumbers(t *testing.T) {
	for _, c := range []struct {
		name string
		// change gives the transcript of a run that did everything another form; crl is the number of the step that signs the CRL.
		change func(t *testing.T, w *world, files map[string][]byte, crl int) map[string][]byte
		trust  int64
	}{
		{"with a wrong entry before them", func(t *testing.T, w *world, files map[string][]byte, crl int) map[string][]byte {
			leaves := slices.Clone(entries(t, files))
			for i := range leaves {
				if h, _ := headOf(leaves[i]); h.Step == crl {
					extra := encodeLeaf(&serialLeaf{Head: Head{Kind: kindSerial, Step: h.Step, At: h.At}, For: "nobody", Serial: strings.Repeat("4a", 20)})
					return w.with(files, slices.Insert(leaves, i, extra))
				}
			}
			t.Fatal("no CRL")
			return nil
		}, 3},
		{"with an intent only", func(t *testing.T, w *world, files map[string][]byte, crl int) map[string][]byte {
			leaves := slices.Clone(entries(t, files))
			for i := range leaves {
				if h, _ := headOf(leaves[i]); h.Step == crl && h.Kind == kindSignIntent {
					return w.with(files, leaves[:i+1])
				}
			}
			t.Fatal("no CRL")
			return nil
		}, 2},
		{"with a lost end", func(t *testing.T, w *world, files map[string][]byte, crl int) map[string][]byte {
			leaves := slices.Clone(entries(t, files))
			for i := range leaves {
				if h, _ := headOf(leaves[i]); h.Step == crl {
					whole := len(w.with(files, leaves[:i])[transcriptFile])
					files = w.with(files, leaves)
					files[transcriptFile][whole+3] ^= 1
					return files
				}
			}
			t.Fatal("no CRL")
			return nil
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := second(t)
			text, _, _ := strings.Cut(s.secondScript(), "  - destroy-key")
			_, trust, _ := strings.Cut(s.secondScript(), "  - destroy-key: {key: image-root-key}\n")
			text += trust
			config := s.config(s.plan(text))
			config.Out += "-2"
			config.Remarks = func(when string) ([]Remark, error) {
				if when == AtEnd {
					return nil, errCut
				}
				return nil, nil
			}
			if _, err := Run(context.Background(), config); err == nil {
				t.Fatal("the run was not cut short")
			}
			config.Remarks = nil
			a := AbortConfig{RunConfig: config, Reason: "a test", Leave: func(string, error) error { return nil }}
			crl := 0
			for _, st := range config.Plan.script.steps {
				if st.kind == "crl" {
					crl = st.number
				}
			}
			files := c.change(t, &world{stage: s}, tree(t, config.Out), crl)
			if c.name == "with a lost end" {
				put(t, config.Out, files)
			} else {
				s.rewrite(&a, files)
			}
			st, err := Abandoned(a.Out, a.Anchor)
			if err != nil {
				t.Fatal(err)
			}
			a.Plan, a.Approvals = st.Plan, st.Approvals
			if _, err := Abort(context.Background(), a); err != nil {
				t.Fatal(err)
			}
			s.Ceremony = "third"
			// Where the transcript was cut back nobody removed its key.
			text = strings.NewReplacer("name: image-root-key-2, token: roots", "name: image-root-key-2, token: roots, label: third", "folder: out,", "folder: out-2,", `{{checkpoint "out"}}`, `{{checkpoint "out-2"}}`).Replace(text)
			if err := s.check(text); err == nil || !strings.Contains(err.Error(), "CRL number 2 does not rise") {
				t.Errorf("the number of the aborted CRL: %v", err)
			}
			digest := hexSHA256([]byte(readFile(t, a.Out+"/"+checkpointFile)))
			last := s.config(s.plan(strings.Replace(text, "number: 2", "number: 3", 1)))
			last.Out += "-3"
			sum, err := ParseDigest(digest)
			if err != nil {
				t.Fatal(err)
			}
			last.Anchor.Earlier = &sum
			result, err := Run(context.Background(), last)
			if err != nil {
				t.Fatal(err)
			}
			s.verified(result.Out, false)
			if _, err := os.Stat(filepath.Join(result.Out, fmt.Sprintf("trust/metadata/%d.targets.json", c.trust))); err != nil {
				t.Errorf("the trust repository's targets: %v", err)
			}
		})
	}
}

func TestAfterAbort(t *testing.T) {
	s := second(t)
	text, _, _ := strings.Cut(s.secondScript(), "  - destroy-key")
	c := s.config(s.plan(text))
	c.Out += "-2"
	c.Remarks = func(when string) ([]Remark, error) {
		if when == AtEnd {
			return nil, errCut
		}
		return nil, nil
	}
	if _, err := Run(context.Background(), c); err == nil {
		t.Fatal("the run was not cut short")
	}
	var err error
	if err = unfinished(&c); err != nil {
		t.Fatal(err)
	}
	c.Remarks = nil
	var said string
	if _, err := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(a Aborting) error {
		said = strings.Join(a.Remains, "\n")
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"number 2", "root.json version 2", "counts as used"} {
		if !strings.Contains(said, want) {
			t.Errorf("what remains does not say %q: %s", want, said)
		}
	}
	s.Ceremony = "third"
	text = strings.NewReplacer("folder: out,", "folder: out-2,", `{{checkpoint "out"}}`, `{{checkpoint "out-2"}}`).Replace(text)
	if err := s.check(text); err == nil || !strings.Contains(err.Error(), RuleCRLNumber.ID) {
		t.Errorf("the number of the aborted CRL: %v", err)
	}
	c = s.config(s.plan(strings.Replace(text, "number: 2", "number: 3", 1)))
	c.Out += "-3"
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
}
