package ceremony

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/quorum"
)

// refusedBeforehand: a run is refused by a rule, and neither a folder nor a key is made.
func (s *stage) refusedBeforehand(what string, c RunConfig, rule Rule) {
	s.t.Helper()
	before := s.objects()
	c.Out = filepath.Join(s.dir, "refused")
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), rule.ID) {
		s.t.Errorf("%s: %v, want %s", what, err, rule.ID)
	}
	if _, err := os.Stat(c.Out); err == nil || s.objects() != before {
		s.t.Errorf("%s: the refused run left a folder or a key", what)
	}
}

// TestBeforeTheEarlierOne: a ceremony is not held at a time before the end of the one that it carries on from.
func TestBeforeTheEarlierOne(t *testing.T) {
	s := second(t)
	p := s.plan(s.secondScript())
	p.script.earlier.ended = s.now.Add(time.Minute)
	s.refusedBeforehand("a minute before", s.config(p), RuleAsserted)
}

// TestOtherToken: what the opener gives is held to the script's URI.
func TestOtherToken(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Open = func(ctx context.Context, _ string, _ hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		b := s.boards["online"]
		return s.open(ctx, "online", hsm.URI{Token: b.Label, Serial: b.Serial}, pin)
	}
	s.refusedBeforehand("another token", c, RuleToken)
}

// TestWrongTestSignature: a token that answers with a wrong signature, once and as late as can be, is found out, and nobody signs the
// transcript.
func TestWrongTestSignature(t *testing.T) {
	shim := shimtest.New(t)
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Open = s.through(shim)
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	last := shim.Count(t, "C_Sign")
	s = newStage(t)
	c = s.config(s.plan(keysOnly))
	c.Open = s.through(shim)
	shim.Plan(t, fmt.Sprintf("C_Sign %d wrong", last))
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Errorf("the last of %d signatures is wrong: %v", last, err)
	}
	if _, err := os.Stat(filepath.Join(c.Out, signatureFile)); err == nil {
		t.Error("the transcript was signed")
	}
}

// TestOneSignerIsNotEnough: a transcript that one of the two officers signed who are needed is not attested, until the second signs it;
// what somebody signed of another ceremony's does not count.
func TestOneSignerIsNotEnough(t *testing.T) {
	folder := func() (*stage, string) {
		s, c := cutAt(t, 9)
		c.Officers = []crypto.Signer{s.officers[2]}
		if _, err := Resume(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		return s, c.Out
	}
	verify := func(s *stage, out string) error {
		anchor := s.roster.Digest()
		_, err := Verify(context.Background(), os.DirFS(out), Anchors{Roster: &anchor})
		return err
	}
	s, out := folder()
	if err := verify(s, out); !errors.Is(err, ErrNotAttested) {
		t.Errorf("one signature: %v", err)
	}
	anchor := s.roster.Digest()
	name, err := Attest(context.Background(), out, os.DirFS(out), Anchors{Roster: &anchor}, func(*Report) (crypto.Signer, error) { return s.officers[0], nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(s, out); err != nil {
		t.Errorf("two signatures: %v", err)
	}
	// The same officer signs another checkpoint.
	env, err := quorum.SignDSSE(quorum.TranscriptPayload, []byte("hanaper/ceremony/demo/keys\n1\nAAAA\n"), s.officers[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, name), env, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verify(s, out); err == nil || !strings.Contains(err.Error(), "another checkpoint") {
		t.Errorf("a signature over another checkpoint: %v", err)
	}
}

// TestResumedByOthers: other officers than those who began may resume a run; the transcript names them, and they sign it.
func TestResumedByOthers(t *testing.T) {
	s, c := cutAt(t, 9)
	c.Officers = []crypto.Signer{s.officers[2], s.officers[1]}
	if _, err := Resume(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(c.Out); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(c.Out, transcriptFile))
	if err != nil || !strings.Contains(string(data), "Officer 3") {
		t.Errorf("the transcript does not name who resumed it: %v", err)
	}
}
