package ceremony

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// brokenCard is a card that is there and does not sign.
type brokenCard struct{ crypto.Signer }

func (brokenCard) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the card is gone")
}

// cutAt performs a run that ends before entry n is written.
func (s *stage) cutAt(c RunConfig, n int64) {
	s.t.Helper()
	appending = func(entry int64) error {
		if entry == n {
			return errCut
		}
		return nil
	}
	defer func() { appending = nil }()
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), errCut.Error()) {
		s.t.Fatal(err)
	}
}

// elsewhere is a machine that remembers nothing, with the roster's digest from paper.
func (s *stage) elsewhere() Anchor {
	d := [32]byte(s.roster.Digest())
	return Anchor{State: machine.At(filepath.Join(s.dir, "another-machine")), Roster: &d}
}

// recordOf parses the transcript of a folder.
func recordOf(t testing.TB, dir string) *journal.Record {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, transcriptFile))
	if err != nil {
		t.Fatal(err)
	}
	r, err := journal.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rewrite replaces the entries of a folder's transcript.
func rewrite(t testing.TB, dir string, change func([][]byte) [][]byte) {
	t.Helper()
	r := recordOf(t, dir)
	if err := os.WriteFile(filepath.Join(dir, transcriptFile), journalOf(t, r.Origin(), change(r.Leaves())), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUnvouched: on a machine without memory the roster's digest says who the officers are, and not who wrote the
// transcript. Nothing is gone on with unless people give the transcript's digest, and an abort removes no key.
func TestUnvouched(t *testing.T) {
	t.Run("resume", func(t *testing.T) {
		s := newStage(t)
		c := s.config(s.plan(keysOnly))
		s.cutAt(c, 12)
		objects := s.objects()
		c.Anchor = s.elsewhere()
		before := tree(t, c.Out)
		err := unfinished(&c)
		if err == nil || !strings.Contains(err.Error(), "nothing vouches for what its transcript says") {
			t.Fatalf("taken: %v", err)
		}
		// The function that acts asks for it too.
		st, err := Abandoned(c.Out, c.Anchor)
		if err != nil || st.Vouched {
			t.Fatal(st, err)
		}
		c.Plan, c.Approvals = st.Plan, st.Approvals
		if _, err := Resume(context.Background(), c); err == nil || !strings.Contains(err.Error(), "nothing vouches") {
			t.Errorf("resumed: %v", err)
		}
		other := [32]byte{1}
		c.Anchor.Transcript = &other
		if err := unfinished(&c); err == nil || !strings.Contains(err.Error(), "not the one that was given") {
			t.Errorf("another transcript's digest: %v", err)
		}
		if s.objects() != objects || len(tree(t, c.Out)) != len(before) {
			t.Error("something was done")
		}
		head := transcriptDigest(recordOf(t, c.Out))
		c.Anchor.Transcript = &head
		if err := unfinished(&c); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(context.Background(), os.DirFS(c.Out), Anchors{Roster: c.Anchor.Roster}); err != nil {
			t.Error(err)
		}
	})
	t.Run("a key of an earlier ceremony, named as if it were this one's", func(t *testing.T) {
		s := second(t)
		c := s.config(s.plan(s.secondScript()))
		c.Out += "-2"
		s.cutAt(c, 8)
		var stolen keyIntentLeaf
		for _, l := range entries(t, tree(t, filepath.Join(s.dir, "out"))) {
			var k keyIntentLeaf
			if decodeLeaf(l, &k, kindKeyIntent) == nil && k.Name == "fleet-root-key" {
				stolen = k
			}
		}
		rewrite(t, c.Out, func(l [][]byte) [][]byte {
			h, _ := headOf(l[len(l)-1])
			stolen.Step, stolen.At = 1, h.At
			return append(l, encodeLeaf(&stolen))
		})
		checkpoint := quorum.Sum(tree(t, filepath.Join(s.dir, "out"))[checkpointFile])
		head, objects := transcriptDigest(recordOf(t, c.Out)), s.objects()
		for _, vouched := range []*[32]byte{nil, &head} {
			c.Anchor = s.elsewhere()
			c.Anchor.Earlier, c.Anchor.Transcript = (*[32]byte)(&checkpoint), vouched
			out := c.Out
			if vouched == nil {
				out += "-copy"
				put(t, out, tree(t, c.Out))
			} else {
				c.Anchor.State = machine.At(filepath.Join(s.dir, "a-third-machine"))
			}
			st, err := Abandoned(out, c.Anchor)
			if err != nil {
				t.Fatal(err)
			}
			if vouched == nil && (len(st.Aborting.Destroys) > 0 || !strings.Contains(strings.Join(st.Doubts, "\n"), unvouched)) {
				t.Errorf("people are told that this is removed: %q, in doubt %q", st.Aborting.Destroys, st.Doubts)
			}
			a := c
			a.Out, a.Plan, a.Approvals = out, st.Plan, st.Approvals
			wrong := ""
			if _, err := Abort(context.Background(), AbortConfig{RunConfig: a, Reason: "a test",
				Agree: func(x Aborting) error { wrong = x.Wrong; return nil }, Leave: func(string, error) error { return nil }}); err != nil {
				t.Fatal(err)
			}
			if wrong == "" {
				t.Error("people are not told that an entry does not follow")
			}
			if n := s.objects(); n != objects {
				t.Fatalf("%d keys of %d are left (vouched for: %v)", n, objects, vouched != nil)
			}
			r, err := Verify(context.Background(), os.DirFS(out), Anchors{Roster: a.Anchor.Roster})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Stays) == 0 {
				t.Error("the report does not say what is left")
			}
		}
	})
	t.Run("shares of somebody else's secret", func(t *testing.T) {
		s, _, c := custodyStage(t)
		at := int64(-1)
		for i, l := range entries(t, tree(t, "testdata/golden/1.0/custody")) {
			var sh sharesLeaf
			if decodeLeaf(l, &sh, kindShares) == nil && sh.Name == "vault-wrap" {
				at = int64(i)
			}
		}
		s.cutAt(c, at+2)
		rewrite(t, c.Out, func(l [][]byte) [][]byte {
			var sh sharesLeaf
			if err := decodeLeaf(l[len(l)-1], &sh, kindShares); err != nil {
				t.Fatal(err)
			}
			was, err := quorum.ParseShares(sh.Document)
			if err != nil {
				t.Fatal(err)
			}
			mine, _, err := quorum.Split(quorum.ShareConfig{Purpose: was.Purpose(), TokenSerial: was.TokenSerial(), Threshold: was.Threshold()}, s.roster)
			if err != nil {
				t.Fatal(err)
			}
			sh.Document = mine.Data()
			return append(l[:len(l)-1:len(l)-1], encodeLeaf(&sh))
		})
		c.Anchor = s.elsewhere()
		if err := unfinished(&c); err == nil || !strings.Contains(err.Error(), "nothing vouches") {
			t.Errorf("a courier's shares were taken: %v", err)
		}
	})
	t.Run("a ceremony that was made up", func(t *testing.T) {
		s := newStage(t)
		c := s.config(s.plan(s.full()))
		e := c
		e.Anchor.State = machine.At(filepath.Join(s.dir, "somebody-elses"))
		e.Officers = []crypto.Signer{brokenCard{s.officers[0]}, brokenCard{s.officers[1]}} // public halves only
		if _, err := Run(context.Background(), e); err == nil || !strings.Contains(err.Error(), "the card is gone") {
			t.Fatal(err)
		}
		opened := 0
		c.Anchor = s.elsewhere()
		c.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
			opened++
			return s.open(ctx, name, uri, pin)
		}
		if err := unfinished(&c); err == nil || !strings.Contains(err.Error(), "nothing vouches") || opened > 0 {
			t.Errorf("officers would sign it: %v, %d tokens opened", err, opened)
		}
	})
}

// TestForeignSignature: a run ends between its last entry and the signatures. Somebody with the card of an officer who was
// not there puts a signature into the folder. It is refused, by name, and the ceremony ends once it was taken away.
func TestForeignSignature(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	good := c.Officers
	c.Officers = []crypto.Signer{s.officers[0], brokenCard{s.officers[1]}}
	_, err := Run(context.Background(), c)
	head := transcriptDigest(recordOf(t, c.Out))
	if err == nil || !strings.Contains(err.Error(), "the card is gone") || !strings.Contains(err.Error(), fmt.Sprintf("%x", head)) {
		t.Fatalf("the officers are not told what to write down: %v", err)
	}
	c.Officers = good
	path := filepath.Join(c.Out, signatureFile)
	for name, signers := range map[string][]crypto.Signer{"who was not present": {s.officers[2]}, "is not signed by": {s.officers[0]}} {
		env, err := quorum.SignDSSE(quorum.TranscriptPayload, recordOf(t, c.Out).Checkpoint(), signers...)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, env, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unfinished(&c); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(context.Background(), c); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), signatureFile) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(c.Out, incompleteFile)); err != nil {
			t.Fatalf("%s: the folder counts as finished", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unfinished(&c); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), os.DirFS(c.Out), Anchors{Roster: s.elsewhere().Roster}); err != nil {
		t.Error(err)
	}
}

// TestStrangers: a file that no run put into an unfinished folder is named before anybody is asked for anything.
func TestStrangers(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	s.cutAt(c, 12)
	for _, name := range []string{manifestFile, signatureFile, checkpointFile, "artefacts/a.pub.pem", "attestations/1.dsse.json", unreadableFile, "approvals/9.json", "inputs/x", "earlier/script.yaml"} {
		full := filepath.Join(c.Out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		for verb, err := range map[string]error{"resume": s.goOn("resume", c), "abort": s.goOn("abort", c)} {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v", verb, name, err)
			}
		}
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.goOn("resume", c); err != nil {
		t.Fatal(err)
	}
}

// TestAbortCutShort: the transcript's end is damaged, and the abort that cuts it off is cut short itself. The next one says
// again what was lost, and ends in a folder that verifies.
func TestAbortCutShort(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	s.cutAt(c, 12)
	path := filepath.Join(c.Out, transcriptFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-120] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	appending = func(int64) error { return errCut }
	err = s.goOn("abort", c)
	appending = nil
	if err == nil || !strings.Contains(err.Error(), errCut.Error()) {
		t.Fatal(err)
	}
	st, err := Abandoned(c.Out, c.Anchor)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(st.Aborting.Remains, "\n"), "cannot be read from entry") {
		t.Errorf("people are not told again: %q", st.Aborting.Remains)
	}
	if err := s.goOn("abort", c); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), os.DirFS(c.Out), Anchors{Roster: s.elsewhere().Roster}); err != nil {
		t.Error(err)
	}
}

// TestSentences: nobody compares what a sentence says, so that it must not be able to draw on a screen.
func TestSentences(t *testing.T) {
	for _, l := range []leaf{
		&stepLeaf{Head: Head{Kind: kindStep, Step: 1, At: "2026-11-21T09:00:00Z"}, What: "crl", Describe: "a\nsigned by all"},
		&stepLeaf{Head: Head{Kind: kindStep, Step: 1, At: "2026-11-21T09:00:00Z"}, What: "crl", Describe: "\x1b[2J"},
		&stepLeaf{Head: Head{Kind: kindStep, Step: 1, At: "2026-11-21T09:00:00Z"}, What: "crl", Describe: strings.Repeat("a", maxProse+1)},
		&resumedLeaf{Head: Head{Kind: kindResumed, At: "2026-11-21T09:00:00Z"}, Tool: Tool{Version: "v1\nverified: all of it"}},
		&abortLeaf{Head: Head{Kind: kindAbort, At: "2026-11-21T09:00:00Z"}, Tool: Tool{Version: "v1"}, Wrong: &wrongEntry{Entry: 1, Why: "a\x9b"}},
		&abortLeaf{Head: Head{Kind: kindAbort, At: "2026-11-21T09:00:00Z"}, Tool: Tool{Version: "v1"}, Remains: []string{"fine", "\u202egnp"}},
	} {
		kind := l.head().Kind
		if _, err := readLeaf(encodeLeaf(l)); err == nil {
			t.Errorf("a leaf %s was taken: %s", kind, encodeLeaf(l))
		}
	}
	if _, err := readLeaf(encodeLeaf(&stepLeaf{Head: Head{Kind: kindStep, Step: 1, At: "2026-11-21T09:00:00Z"}, What: "crl", Describe: "sign the CRL \"a\""})); err != nil {
		t.Error(err)
	}
}
