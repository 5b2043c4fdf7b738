package ceremony

import (
	"context"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// cutAt runs the smallest ceremony until the power is cut before entry n becomes durable.
func cutAt(t *testing.T, n int64) (*stage, RunConfig) {
	t.Helper()
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	appending = func(entry int64) error {
		if entry == n {
			return errCut
		}
		return nil
	}
	_, err := Run(context.Background(), c)
	appending = nil
	if err == nil || !strings.Contains(err.Error(), errCut.Error()) {
		t.Fatalf("entry %d: %v", n, err)
	}
	if err = unfinished(&c); err != nil {
		t.Fatalf("entry %d: %v", n, err)
	}
	c.Asserted = asserted.Add(time.Minute)
	return s, c
}

// TestAdopt cuts before every entry of a small ceremony, and resumes it, aborts it, or aborts it after a resumption that was cut
// short too: a key that was generated and not journalled is taken over, by its random id, or removed; there is never a second one.
func TestAdopt(t *testing.T) {
	size := int64(0)
	appending = nil
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(keysOnly)))
	if err != nil {
		t.Fatal(err)
	}
	size = int64(result.Entries)
	for n := int64(2); n <= size; n++ {
		for _, how := range []string{"resume", "abort", "resume, abort"} {
			abort := how != "resume"
			s, c := cutAt(t, n)
			if how == "resume, abort" {
				appending = func(entry int64) error {
					if entry == n+1 {
						return errCut
					}
					return nil
				}
				_, err = Resume(context.Background(), c)
				appending = nil
				if err == nil || !strings.Contains(err.Error(), errCut.Error()) {
					t.Fatalf("entry %d: %v", n, err)
				}
				if err := unfinished(&c); err != nil {
					t.Fatalf("entry %d: %v", n, err)
				}
			}
			want := 2
			if abort {
				_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }})
				want = 0
			} else {
				_, err = Resume(context.Background(), c)
			}
			if err != nil {
				t.Fatalf("entry %d, %s: %v", n, how, err)
			}
			if _, err := s.verify(c.Out); err != nil {
				t.Fatalf("entry %d, %s: %v", n, how, err)
			}
			if got := s.objects(); got != want {
				t.Fatalf("entry %d, %s: %d keys, want %d", n, how, got, want)
			}
			if _, err := Unfinished(context.Background(), c.Out, c.Anchor); err == nil || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("a finished folder: %v", err)
			}
		}
	}
}

// TestNotBegun: a run that was cut short before its first entry, or could not make its folder, did nothing and used nothing
// up.
func TestNotBegun(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	appending = func(int64) error { return errCut }
	_, err := Run(context.Background(), c)
	appending = nil
	if err == nil {
		t.Fatal("the run was not cut short")
	}
	for _, verb := range []string{"resume", "abort"} {
		if err := s.goOn(verb, c); err == nil || !strings.Contains(err.Error(), "holds no ceremony that began") || !strings.Contains(advice.Hint(err), "run the ceremony anew") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if err := os.RemoveAll(c.Out); err != nil {
		t.Fatal(err)
	}
	bad := c
	bad.Anchor.State = machine.At(filepath.Join(s.dir, "roster.json")) // a file is no folder
	if _, err := Run(context.Background(), bad); err == nil || !strings.Contains(err.Error(), "the state folder") {
		t.Errorf("a state that cannot be written: %v", err)
	}
	if _, err := os.Lstat(c.Out); err == nil || s.objects() != 0 {
		t.Error("a run that could not begin left a folder or a key")
	}
	if _, err := Run(context.Background(), c); err != nil {
		t.Errorf("the same approvals again: %v", err)
	}
}

func TestResumeRefusals(t *testing.T) {
	if _, err := Unfinished(context.Background(), t.TempDir(), Anchor{}); err == nil || !strings.Contains(err.Error(), "no ceremony that began") {
		t.Errorf("an empty folder: %v", err)
	}
	for _, c := range []struct {
		name   string
		change func(*stage, *RunConfig)
		want   string
	}{
		{"time goes back", func(s *stage, c *RunConfig) { c.Asserted = asserted.Add(-time.Minute) }, RuleAsserted.ID},
		{"time outside the window", func(s *stage, c *RunConfig) { c.Asserted = asserted.AddDate(0, 1, 0) }, RuleAsserted.ID},
		{"another tool", func(s *stage, c *RunConfig) { c.Tool.SHA256 = strings.Repeat("0", 64) }, RuleQuorum.ID},
		{"a stranger", func(s *stage, c *RunConfig) { c.Officers = []crypto.Signer{strangerKey} }, RuleQuorum.ID},
		{"nobody", func(s *stage, c *RunConfig) { c.Officers = nil }, "no officer is present"},
		{"a damaged journal", func(s *stage, c *RunConfig) {
			name := filepath.Join(c.Out, transcriptFile)
			data, _ := os.ReadFile(name)
			data[len(data)/2] ^= 1
			if err := os.WriteFile(name, data, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, "entry"},
		{"another key under the label", func(s *stage, c *RunConfig) {
			tok, err := s.open(context.Background(), "roots", hsm.URI{Token: s.boards["roots"].Label}, nil)
			if err == nil {
				_, err = tok.Generate(context.Background(), hsm.GenerateSpec{Label: "The other key", Algorithm: hsm.P256})
				tok.Close()
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}, RuleLabel.ID},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, config := cutAt(t, 9)
			s.t = t
			c.change(s, &config)
			before, err := os.ReadFile(filepath.Join(config.Out, transcriptFile))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Resume(context.Background(), config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			after, err := os.ReadFile(filepath.Join(config.Out, transcriptFile))
			if err != nil || string(before) != string(after) {
				t.Errorf("the journal was changed: %v", err)
			}
		})
	}
	// An abort that people do not agree to changes nothing, and an abort that was begun cannot be resumed.
	s, c := cutAt(t, 9)
	_, err := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(a Aborting) error {
		if len(a.Destroys) != 1 {
			t.Errorf("%+v", a)
		}
		return errCut
	}})
	if err == nil || s.objects() != 1 {
		t.Errorf("an abort that nobody agreed to: %v", err)
	}
	appending = func(entry int64) error {
		if entry == 10 {
			return errCut
		}
		return nil
	}
	_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }})
	appending = nil
	if err == nil {
		t.Fatal("the abort was not cut short")
	}
	if _, err := Resume(context.Background(), c); err == nil || !strings.Contains(err.Error(), "being aborted") {
		t.Errorf("resume after an abort: %v", err)
	}
	if _, err := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "another reason", Agree: func(Aborting) error { return nil }}); err != nil {
		t.Errorf("abort goes on: %v", err)
	}
}

func TestAttributeChecks(t *testing.T) {
	good := hsm.Attributes{Label: "k", ID: []byte{1}, Algorithm: hsm.P256, Token: true, Private: true, Sensitive: true, AlwaysSensitive: true,
		NeverExtractable: true, Local: true, Sign: true}
	for name, change := range map[string]func(*hsm.Attributes){
		"label": func(a *hsm.Attributes) { a.Label = "l" }, "id": func(a *hsm.Attributes) { a.ID = nil },
		"algorithm": func(a *hsm.Attributes) { a.Algorithm = hsm.P384 }, "token": func(a *hsm.Attributes) { a.Token = false },
		"sensitive": func(a *hsm.Attributes) { a.Sensitive = false }, "extractable": func(a *hsm.Attributes) { a.Extractable = true },
		"never": func(a *hsm.Attributes) { a.NeverExtractable = false }, "local": func(a *hsm.Attributes) { a.Local = false },
		"sign": func(a *hsm.Attributes) { a.Sign = false },
	} {
		a := good
		k := &key{name: "k", label: "k", id: []byte{1}, algorithm: hsm.P256, class: hsm.Sealed, attrs: a}
		if err := checkAttributes(k); err != nil {
			t.Fatal(err)
		}
		change(&k.attrs)
		if err := checkAttributes(k); err == nil || !strings.Contains(err.Error(), RuleAttributes.ID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, k := range []*key{
		{label: "k", id: []byte{1}, algorithm: hsm.P256, class: hsm.Backup, attrs: good},
		{label: "k", id: []byte{1}, algorithm: hsm.P256, class: hsm.Restored, attrs: hsm.Attributes{Label: "k", ID: []byte{1}, Algorithm: hsm.P256, Token: true, Private: true, Sensitive: true, Sign: true, Extractable: true}},
	} {
		if err := checkAttributes(k); err == nil {
			t.Errorf("class %s: accepted", k.class)
		}
	}
}

func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.ID] || !strings.HasPrefix(r.ID, "CER-") || r.Text == "" {
			t.Errorf("%+v", r)
		}
		seen[r.ID] = true
	}
}
