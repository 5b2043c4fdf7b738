package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
)

// cloneStage is a stage with a script that has a key copied by hand.
func cloneStage(t *testing.T) (*stage, RunConfig) {
	t.Helper()
	s := newStage(t)
	c := s.config(s.plan(readFile(t, "testdata/clone.yaml")))
	c.Open = s.byName
	return s, c
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// byName opens the token that the script calls name.
func (s *stage) byName(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
	return s.open(ctx, map[string]string{"roots": "roots", "spare": "online"}[name], uri, pin)
}

// vendorTool copies the key with the label from one token into another: it stands for the tool of a vendor, and works as
// SoftHSM can, by a wrapping key in both.
func (s *stage) vendorTool(from, to string) error {
	s.t.Helper()
	ctx := context.Background()
	open := func(name string) *pkcs11.Token {
		b := s.boards[name]
		t, err := pkcs11.Open(ctx, pkcs11.Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINFile(b.PINFile)})
		if err != nil {
			s.t.Fatal(err)
		}
		so, err := os.ReadFile(b.SOPINFile)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := t.AsSecurityOfficer(ctx, bytes.TrimSpace(so), func(o hsm.SecurityOfficer) error {
			return o.ImportWrappingKey("vendor", []byte{7}, bytes.Repeat([]byte{7}, 32))
		}); err != nil {
			s.t.Fatal(err)
		}
		return t
	}
	source, target := open("roots"), open("online")
	defer source.Close()
	defer target.Close()
	wrapping := hsm.Query{Label: "vendor"}
	defer source.DestroyWrappingKey(ctx, wrapping)
	defer target.DestroyWrappingKey(ctx, wrapping)
	k, err := source.Key(ctx, hsm.Query{Label: from})
	if err != nil {
		return err
	}
	wrapped, err := source.WrapKey(ctx, wrapping, hsm.Query{Label: from})
	if err != nil {
		return err
	}
	_, err = target.UnwrapKey(ctx, hsm.RestoreSpec{Label: to, ID: k.Attributes().ID, Public: k.Public(), Wrapped: wrapped, Wrapping: wrapping})
	return err
}

func TestManualClone(t *testing.T) {
	s, c := cloneStage(t)
	var told string
	c.Confirm = func(what string) error {
		told = what
		return s.vendorTool("The Root", "The Root copied")
	}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"BY HAND", "Officer 2", "clone command", "The Root copied"} {
		if !strings.Contains(told, want) {
			t.Errorf("people were not told %q: %s", want, told)
		}
	}
	report, err := s.verify(result.Out)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Keys) != 2 || report.Keys[0].Fingerprint != report.Keys[1].Fingerprint {
		t.Errorf("keys %+v", report.Keys)
	}
	if len(report.Witnesses) != 1 || report.Witnesses[0].Name != "Officer 2" || report.Witnesses[0].Step != 2 {
		t.Errorf("witnesses %+v", report.Witnesses)
	}
	if n := s.objects(); n != 2 {
		t.Errorf("%d keys in the tokens, want 2", n)
	}
	log := readFile(t, result.Out+"/"+transcriptFile)
	for _, want := range []string{kindCloneIntent, `"witness":"Officer 2"`, `"agreed":"Yes"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the transcript has no %s", want)
		}
	}
}

// TestManualCloneRefusals: what is not the key, or was there before, or nobody saw, is not taken for a clone.
func TestManualCloneRefusals(t *testing.T) {
	for _, c := range []struct {
		name, want string
		before     func(*stage, *RunConfig)
		act        func(*stage) error
	}{
		{"nobody copied", "no such key", nil, func(*stage) error { return nil }},
		{"another key", RuleWitness.ID, nil, func(s *stage) error { return s.generate("online", "The Root copied", hsm.Sealed) }},
		{"people say no", errCut.Error(), nil, func(*stage) error { return errCut }},
		{"a key is there before", RuleLabel.ID, func(s *stage, _ *RunConfig) {
			if err := s.generate("online", "The Root copied", hsm.Sealed); err != nil {
				s.t.Fatal(err)
			}
		}, nil},
		{"the witness is away", RuleWitness.ID, func(s *stage, c *RunConfig) { c.Officers = []crypto.Signer{s.officers[0], s.officers[2]} }, nil},
		{"the witness is alone", RuleWitness.ID, func(s *stage, c *RunConfig) { c.Officers = s.officers[1:2] }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, config := cloneStage(t)
			if c.before != nil {
				c.before(s, &config)
			}
			config.Confirm = func(string) error {
				if c.act == nil {
					t.Error("people were asked")
					return nil
				}
				return c.act(s)
			}
			_, err := Run(context.Background(), config)
			if err == nil || !strings.Contains(err.Error(), c.want) && !(c.want == "no such key" && errors.Is(err, hsm.ErrNoKey)) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if _, err := os.Stat(config.Out); c.act == nil && err == nil {
				t.Error("an output folder was made")
			}
		})
	}
}

// generate puts a key into a token behind a ceremony's back.
func (s *stage) generate(board, label string, class hsm.Class) error {
	b := s.boards[board]
	t, err := s.open(context.Background(), board, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
	if err != nil {
		return err
	}
	defer t.Close()
	_, err = t.Generate(context.Background(), hsm.GenerateSpec{Label: label, ID: []byte("another key's id"), Algorithm: hsm.P384, Class: class})
	return err
}

// TestManualCloneCutShort: a run that ends while people copy is resumed, or aborted with word of the copy.
func TestManualCloneCutShort(t *testing.T) {
	for _, abort := range []bool{false, true} {
		s, c := cloneStage(t)
		c.Confirm = func(string) error {
			if err := s.vendorTool("The Root", "The Root copied"); err != nil {
				return err
			}
			return errCut
		}
		if _, err := Run(context.Background(), c); !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		var err error
		if err = unfinished(&c); err != nil {
			t.Fatal(err)
		}
		c.Asserted, c.Confirm = asserted.Add(time.Hour), nil
		anchor := s.roster.Digest()
		want := 2
		if abort {
			want = 1
			var remains string
			_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "power cut", Agree: func(a Aborting) error {
				remains = strings.Join(a.Remains, "\n")
				return nil
			}})
			if !strings.Contains(remains, "have them destroy the copy before the witness Officer 2") {
				t.Errorf("what remains is not said: %s", remains)
			}
		} else {
			// The witness must be there again.
			away := c
			away.Officers = []crypto.Signer{s.officers[0], s.officers[2]}
			if _, err := Resume(context.Background(), away); err == nil || !strings.Contains(err.Error(), RuleWitness.ID) {
				t.Errorf("without the witness: %v", err)
			}
			c.Asserted = c.Asserted.Add(time.Hour)
			_, err = Resume(context.Background(), c)
		}
		if err != nil {
			t.Fatalf("abort %v: %v", abort, err)
		}
		if report, err := Verify(context.Background(), os.DirFS(c.Out), Anchors{Roster: &anchor}); err != nil || report.Aborted != abort {
			t.Fatalf("abort %v: %v", abort, err)
		}
		if n := s.objects(); n != want {
			t.Errorf("abort %v: %d keys in the tokens, want %d", abort, n, want)
		}
	}
}

// TestManualCloneRehearsed: a rehearsal talks the copy through, marks that the key itself stood in, and is no ceremony.
func TestManualCloneRehearsed(t *testing.T) {
	s, c := cloneStage(t)
	asked := 0
	c.Rehearsal, c.Officers, c.Approvals = true, nil, nil
	c.Confirm = func(string) error { asked++; return nil }
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if asked != 1 || s.objects() != 1 {
		t.Errorf("asked %d times, %d keys", asked, s.objects())
	}
	if log := readFile(t, result.Out+"/"+transcriptFile); !strings.Contains(log, `"stand_in":true`) {
		t.Error("the copy that was not made is not marked")
	}
	if _, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{}); err == nil {
		t.Error("a rehearsal verifies as a ceremony")
	}
}

func TestBadManualClone(t *testing.T) {
	s := newStage(t)
	text := readFile(t, "testdata/clone.yaml")
	s.slips(text, []slip{
		{"no witness", "      witness: Officer 2\n", "", RuleField.ID},
		{"witness nobody knows", "witness: Officer 2", "witness: Mallory", RuleWitness.ID},
		{"no instructions", "instructions: Put both tokens into the vendor's reader, call its clone command, and read its answer aloud.", "instructions: ' '", RuleField.ID},
		{"instructions that move a cursor", "instructions: Put both", "instructions: \"\\e[2J\" # Put both", RuleField.ID},
		{"unknown key", "key: root-key\n      token: spare", "key: no-key\n      token: spare", RuleReference.ID},
		{"unknown token", "token: spare\n", "token: spear\n", RuleReference.ID},
		{"the same token", "token: spare\n", "token: roots\n", RuleWitness.ID},
		{"the name is taken", "name: root-key-2", "name: root-key", RuleName.ID},
		{"a label that is none", "label: The Root copied", "label: 'The/Root'", RuleField.ID},
		{"a key with two certificates' purposes", "  - root-certificate:", "  - uptane-root: {repository: image, version: 1, expires: 2027-11-21T00:00:00Z, root: {keys: [root-key-2], threshold: 1}}\n  - root-certificate:", RuleAlgorithm.ID},
	})
}
