package ceremony

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// through opens the stage's tokens through the module that lies.
func (s *stage) through(shim *shimtest.Shim) Opener {
	return func(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
		t, err := pkcs11.Open(ctx, pkcs11.Config{Module: shim.Module, URI: uri, PIN: hsm.PINFile(s.boards[name].PINFile)})
		if err != nil {
			return nil, err
		}
		return t, nil
	}
}

// inTokens counts the objects that are really in the tokens of a stage: private keys, and the rest.
func (s *stage) inTokens() (private, others int) {
	s.t.Helper()
	for name, b := range s.boards {
		t, err := s.open(context.Background(), name, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		objects, err := t.(*pkcs11.Token).KeyObjects(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range objects {
			if o.Key != nil {
				private++
			} else {
				others++
			}
		}
		_ = t.Close()
	}
	return private, others
}

// TestFoundAgain: every key of a ceremony is found again by a new login, and signs; a module that made one as an object of the session,
// and keeps it as long as it runs, is found out before anybody signs the transcript.
func TestFoundAgain(t *testing.T) {
	shim := shimtest.New(t)
	s := newStage(t)
	p := s.plan(s.full())
	shim.Plan(t, "C_GenerateKeyPair 4 for-the-session", "C_CloseSession 1+ nothing")
	c := s.config(p)
	c.Open = s.through(shim)
	_, err := Run(context.Background(), c)
	if !errors.Is(err, hsm.ErrNoKey) || !strings.Contains(err.Error(), "looked for again") {
		t.Fatalf("a key that is gone: %v", err)
	}
	shim.Plan(t)
	next := RunConfig{Out: c.Out, Asserted: asserted.Add(time.Hour), Officers: s.officers[1:], Open: s.through(shim), Tool: s.tool, Anchor: s.anchor()}
	if err = unfinished(&next); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(context.Background(), next); !errors.Is(err, hsm.ErrNoKey) {
		t.Errorf("resumed: %v", err)
	}
	next.Asserted = next.Asserted.Add(time.Hour)
	if _, err := Abort(context.Background(), AbortConfig{RunConfig: next, Reason: "a key is gone", Agree: func(Aborting) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	report, err := s.verify(c.Out)
	if err != nil || !report.Aborted {
		t.Errorf("%+v, %v", report, err)
	}
	if private, others := s.inTokens(); private+others != 0 {
		t.Errorf("%d private keys and %d other keys are left", private, others)
	}
}

// TestFoundAgainEntries: the entry stands for each key, after the last step, followed by its signature. (That a dropped or a changed one
// is refused is TestReplayEntries's.)
func TestFoundAgainEntries(t *testing.T) {
	files, _ := finishedFolder(t)
	v := &verified{files: files}
	record, _, err := v.sealed()
	if err != nil {
		t.Fatal(err)
	}
	made, found := 0, 0
	var before string
	for i, e := range entriesOf(record.Leaves()) {
		switch e.head.Kind {
		case kindKey:
			made++
		case kindFoundAgain:
			if found++; e.head.Step != 0 {
				t.Errorf("entry %d belongs to step %d", i, e.head.Step)
			}
		}
		if before == kindFoundAgain && e.head.Kind != kindSignIntent {
			t.Errorf("entry %d: %s follows %s", i, e.head.Kind, before)
		}
		before = e.head.Kind
	}
	if made == 0 || made != found {
		t.Errorf("%d keys were made and %d found again", made, found)
	}
}
