package ceremony

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

var broken = Exception{ReportedBy: "Ada", Expected: "seal 0815", Happened: "seal 0816", Decided: "the photograph of last year shows 0816; went on"}

// TestStops: the ceremony stops before the first step and after each; what is said there is in the transcript and in the
// record, a stop leaves a folder that resume takes up, and all of it verifies.
func TestStops(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	var seen []Stop
	excepted := 0
	c.Stop = func(at Stop) (Answer, Exception, error) {
		seen = append(seen, at)
		switch {
		case at.Done.Number == 0 && at.Exceptions == 0:
			return Except, broken, nil
		case at.Done.Number == 1 && at.Exceptions < 3:
			excepted++
			return Except, Exception{"Ada", "e", fmt.Sprint(excepted), "d"}, nil
		case at.Done.Number == 1:
			return StopHere, Exception{}, nil
		}
		return GoOn, Exception{}, nil
	}
	_, err := Run(context.Background(), c)
	if err == nil || !strings.Contains(err.Error(), "stopped after step 1") || !strings.Contains(advice.Hint(err), "resume") {
		t.Fatalf("%v, hint %q", err, advice.Hint(err))
	}
	if n := s.objects(); n != 1 {
		t.Errorf("%d keys after a stop after the first", n)
	}
	if seen[0].Done.Number != 0 || seen[0].Next == nil || seen[0].Next.Number != 1 || len(seen[0].Done.Values) != 1 {
		t.Errorf("before the first step: %+v", seen[0])
	}
	if err = unfinished(&c); err != nil {
		t.Fatal(err)
	}
	c.Asserted = asserted.Add(time.Minute)
	seen = nil
	c.Stop = func(at Stop) (Answer, Exception, error) { seen = append(seen, at); return GoOn, Exception{}, nil }
	result, err := Resume(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if seen[0].Done.Number != 1 || seen[0].Exceptions != 3 || len(seen[0].Done.Values) == 0 || seen[len(seen)-1].Next != nil {
		t.Errorf("taken up at %+v", seen[0])
	}
	if result.Exceptions != 3 || s.objects() != 2 {
		t.Errorf("%+v, %d keys", result, s.objects())
	}
	anchor := s.roster.Digest()
	r, err := Verify(context.Background(), os.DirFS(c.Out), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Exceptions) != 3 || r.Exceptions[0].Exception != broken || r.Exceptions[0].Step != 0 || r.Exceptions[2].Step != 1 || r.Exceptions[2].Number != 3 {
		t.Errorf("%+v", r.Exceptions)
	}
	d, err := Record(context.Background(), os.DirFS(c.Out), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	holds(t, d, "exception 1, reported by Ada. Expected: seal 0815")
}

// TestBadExceptions: what is no exception is not recorded, and nothing is done after it.
func TestBadExceptions(t *testing.T) {
	for name, e := range map[string]Exception{
		"empty": {}, "control characters": {"Ada", "e", "h\x1b[2J", "d"}, "too long": {"Ada", strings.Repeat("x", maxRemark+1), "h", "d"},
		"no decision": {"Ada", "e", "h", ""}, "a change of direction": {"Ada", "e", "h", "\u202e"},
	} {
		s := newStage(t)
		c := s.config(s.plan(keysOnly))
		c.Stop = func(Stop) (Answer, Exception, error) { return Except, e, nil }
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "remark") {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.objects(); n != 0 {
			t.Errorf("%s: %d keys were made", name, n)
		}
	}
}

// TestExceptionsInTranscripts: an exception anywhere but at a stop, and one that is not counted, is refused.
func TestExceptionsInTranscripts(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Stop = func(at Stop) (Answer, Exception, error) {
		if at.Done.Number == 1 && at.Exceptions == 0 {
			return Except, broken, nil
		}
		return GoOn, Exception{}, nil
	}
	var leaves [][]byte
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(c.Out))
	if err != nil {
		t.Fatal(err)
	}
	leaves = leavesIn(t, c.Out)
	at := slices.IndexFunc(leaves, func(l []byte) bool { return strings.Contains(string(l), `"kind":"exception"`) })
	follow := func(list [][]byte) error {
		v := &verified{files: files, script: c.Plan.script, roster: c.Plan.roster}
		session := newSession(context.Background(), c.Plan.script, along(false, files), list)
		if err := v.first(session); err != nil {
			return err
		}
		return session.whole()
	}
	if at < 0 {
		t.Fatal("no exception is in the transcript")
	}
	if err := follow(leaves); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	moved := slices.Clone(leaves)
	moved[at], moved[at-1] = moved[at-1], moved[at]
	renumbered := slices.Clone(leaves)
	renumbered[at] = []byte(strings.Replace(string(leaves[at]), `"number":1`, `"number":2`, 1))
	other := slices.Clone(leaves)
	other[at] = []byte(strings.Replace(string(leaves[at]), `"step":1`, `"step":2`, 1))
	for name, list := range map[string][][]byte{"moved": moved, "renumbered": renumbered, "of another step": other,
		"twice": slices.Insert(slices.Clone(leaves), at, leaves[at])} {
		if err := follow(list); err == nil || advice.KindOf(err) != advice.Unverified {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnusual: what is unusual is remarked on, on the form and before each step.
func TestUnusual(t *testing.T) {
	s := newStage(t)
	p := s.plan(s.full())
	all := strings.Join(p.Remarks(), "\n")
	if !strings.Contains(all, "threshold of 1") {
		t.Errorf("remarks: %s", all)
	}
	holds(t, p.Paper(Tool{SHA256: strings.Repeat("ab", 32)}), append(p.Remarks(), strings.Repeat("ab", 32), "keyCertSign, cRLSign", "path length", "name constraints",
		"CRL number, as read from the file", "Type next, exception or stop:", "hanaper ceremony run")...)
	for _, st := range p.Steps {
		v := p.View(st.Number)
		if v.Text != st.Describe || len(v.Asks) == 0 || v.Asks[len(v.Asks)-1] != strings.TrimSpace(AskStop) {
			t.Errorf("step %d: %+v", st.Number, v)
		}
	}
}

// leavesIn are the entries of a folder's transcript.
func leavesIn(t *testing.T, dir string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, transcriptFile))
	if err != nil {
		t.Fatal(err)
	}
	log, err := journal.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return log.Leaves()
}
