package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/journal"
)

// fault is a way in which a token fails at one call, or from one call on.
type fault struct {
	// function that it is for; any where it is empty.
	function string
	what     string
	// onwards: not at one call, but from there on, until the run has ended.
	onwards bool
}

// faults: every CKR that tokens of the field answer, with the call done and not done; errors that last until the library is started
// anew; and lies of each function that has an answer to lie about.
func faults() (all []fault) {
	codes := []string{
		"0x05", "0x06", "0x30", // CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_DEVICE_ERROR
		"0x31", "0x32", // CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED
		"0x60", "0x82", // CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID: a dead handle
		"0xB0", "0xB3", // CKR_SESSION_CLOSED, CKR_SESSION_HANDLE_INVALID
		"0x100", "0x101", // CKR_USER_ALREADY_LOGGED_IN, CKR_USER_NOT_LOGGED_IN
		"0x11", "0x12", "0x68", "0x69", "0x6A", // what refuses to give a key out
		"0x90", "0x150", // CKR_OPERATION_ACTIVE, CKR_BUFFER_TOO_SMALL
		"0xE0", "0x190", "0x191", // CKR_TOKEN_NOT_PRESENT, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_CRYPTOKI_ALREADY_INITIALIZED
	}
	for _, c := range codes {
		all = append(all, fault{what: "ckr " + c}, fault{what: "late-ckr " + c})
	}
	for _, c := range []string{"0x05", "0x06", "0x30", "0xB3"} {
		all = append(all, fault{what: "dead " + c}, fault{what: "ckr " + c, onwards: true})
	}
	all = append(all, fault{what: "slow 50"}, fault{what: "hang"})
	for _, lies := range []struct {
		function string
		onwards  bool // once, and from there on
		what     []string
	}{
		{"C_Sign", true, []string{"wrong", "zero", "short", "empty", "other-data", "one-before"}},
		{"C_GenerateKeyPair", false, []string{"extractable", "readable", "for-the-session", "private-for-the-session", "twice", "public-of-before"}},
		{"C_GetAttributeValue", true, []string{"other-point", "bad-point", "short-point", "other-id", "other-label", "nul-padded"}},
		{"C_FindObjects", false, []string{"none", "doubled", "blind"}},
		{"C_DestroyObject", true, []string{"nothing"}},
		{"C_CloseSession", true, []string{"nothing"}},
		{"C_Login", false, []string{"burn 0x06", "ckr 0xA0"}},
		{"C_GetTokenInfo", true, []string{"no-serial", "same-all", "one-session"}},
		{"C_OpenSession", false, []string{"ckr 0xB1"}},
	} {
		for _, what := range lies.what {
			all = append(all, fault{function: lies.function, what: what})
			if lies.onwards {
				all = append(all, fault{function: lies.function, what: what, onwards: true})
			}
		}
	}
	return all
}

// at is the shim's rule for the fault at the nth call, counted over all functions or over its own.
func (f fault) at(n int) string {
	function, plus := f.function, ""
	if function == "" {
		function = "*"
	}
	if f.onwards {
		plus = "+"
	}
	return fmt.Sprintf("%s %d%s %s", function, n, plus, f.what)
}

// TestLyingModule performs the full script with a module that fails or lies at one call, for every fault: in the run itself, or in the
// resumption or the abortion of a run that was cut short. Whatever happens, the run, a resumption or else an abortion leads to a folder
// that is finished or aborted and verifies, and to tokens that hold what its transcript says and nothing else. Here a fault in seven is tried, at
// one call; with HANAPER_SOAK every call of the ceremony meets a fault, and as many of them as HANAPER_SOAK has tens.
func TestLyingModule(t *testing.T) {
	shim := shimtest.New(t)
	s := newStage(t)
	p := s.plan(s.full())
	calls := map[string]int{}
	s.lie(t, shim, p, "", inRun)
	for _, c := range shim.Calls(t) {
		calls[c.Function]++
		calls[""]++
	}
	if calls[""] < 500 || calls["C_GenerateKeyPair"] < 5 || calls["C_Sign"] < 20 {
		t.Fatalf("the ceremony makes few calls: %v", calls)
	}
	all := faults()
	if len(all) < 25 {
		t.Fatalf("only %d faults", len(all))
	}
	if soak, _ := strconv.Atoi(os.Getenv("HANAPER_SOAK")); soak > 0 {
		for pass := range max(1, soak/10) {
			for n := 1; n <= calls[""]; n++ {
				f := all[(n+pass)%len(all)]
				at := n
				if f.function != "" {
					at = 1 + n%calls[f.function]
				}
				s.lie(t, shim, p, f.at(at), part((n+pass)/3%3))
			}
		}
		return
	}
	step := 7
	if testing.Short() {
		step = 21
	}
	for i := 0; i < len(all); i += step {
		f := all[i]
		s.lie(t, shim, p, f.at(1+(i*7919)%calls[f.function]), part(i%3))
	}
}

// part is the part of a ceremony in which the module lies.
type part int

const (
	inRun part = iota
	inResume
	inAbort
)

// cutAfter is the entry after which a run is cut short whose resumption or abortion meets the fault.
func cutAfter(rule string) int64 { return 10 + int64(len(rule)*7919%140) }

// lie performs the plan with one rule for the module, and holds the outcome to what it must be.
func (s *stage) lie(t *testing.T, shim *shimtest.Shim, p *Plan, rule string, in part) {
	t.Helper()
	name := fmt.Sprintf("%s (part %d)", rule, in)
	out, err := os.MkdirTemp(s.dir, "out-")
	if err != nil {
		t.Fatal(err)
	}
	c := RunConfig{Plan: p, Out: out, Asserted: s.now, Officers: s.officers[:2], Approvals: s.approvals(p.script, 2), Open: s.impatient(shim), Tool: s.tool,
		Anchor: Anchor{State: machine.At(out + "-state")}}
	arm := func(when part) (disarm func()) {
		rules := []string{}
		if in == when && rule != "" {
			rules = append(rules, rule)
		}
		shim.Plan(t, rules...)
		ended := make(chan struct{})
		if strings.HasSuffix(rule, "hang") {
			go func() { // a token that hangs until somebody pulls the plug
				select {
				case <-time.After(2 * time.Second):
					shim.Plan(t)
				case <-ended:
				}
			}()
		}
		return func() {
			close(ended)
			if rule != "" {
				shim.Plan(t)
			}
		}
	}
	if in != inRun {
		cut := cutAfter(rule)
		appending = func(entry int64) error {
			if entry == cut {
				return errCut
			}
			return nil
		}
	}
	disarm := arm(inRun)
	_, failed := Run(context.Background(), c)
	disarm()
	appending = nil
	how := "finished"
	if failed != nil {
		if rule == "" {
			t.Fatal(failed)
		}
		how = s.endIt(t, c, name, failed, in == inAbort, arm)
	}
	if how == "" {
		s.unexplained(t, out, "") // said already; the next one finds empty tokens
		return
	}
	anchor := s.roster.Digest()
	if how != "not begun" {
		report, err := Verify(context.Background(), os.DirFS(out), Anchors{Roster: &anchor})
		if err != nil || report.Aborted != (how == "aborted") {
			t.Errorf("%s: %s (%v), and verify: %v", name, how, failed, err)
		}
	}
	for _, o := range s.unexplained(t, out, how) {
		t.Errorf("%s: %s (%v): %s", name, how, failed, o)
	}
	_, _ = os.RemoveAll(out), os.RemoveAll(out+"-state")
}

// endIt resumes a run that failed, or aborts it where that fails too or where it is to be aborted. The module lies in the part that arm is
// for; what it broke there is taken up again with an honest one.
func (s *stage) endIt(t *testing.T, c RunConfig, name string, failed error, abort bool, arm func(part) func()) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(c.Out, incompleteFile)); err != nil {
		return "not begun"
	}
	next := c
	next.Officers = s.officers[1:]
	try := func(f func() error) error {
		next.Asserted = next.Asserted.Add(time.Hour)
		if err := unfinished(&next); err != nil {
			return err
		}
		return f()
	}
	resume := func() error { _, err := Resume(context.Background(), next); return err }
	undo := func(leave func(string, error) error) func() error {
		return func() error {
			_, err := Abort(context.Background(), AbortConfig{RunConfig: next, Reason: "the token fails", Leave: leave})
			return err
		}
	}
	resumed := errors.New("not tried")
	if !abort {
		disarm := arm(inResume)
		resumed = try(resume)
		disarm()
		if resumed != nil {
			resumed = errors.Join(resumed, try(resume))
		}
		if _, err := os.Stat(filepath.Join(c.Out, incompleteFile)); err != nil {
			return "finished"
		}
	}
	disarm := arm(inAbort)
	aborted := try(undo(nil))
	disarm()
	if aborted != nil {
		aborted = try(undo(func(string, error) error { return nil }))
	}
	if aborted != nil {
		t.Errorf("%s: %v; resume: %v; abort: %v", name, failed, resumed, aborted)
		return ""
	}
	return "aborted"
}

// impatient opens the stage's tokens through the module that lies, and does not wait long for one that is gone.
func (s *stage) impatient(shim *shimtest.Shim) Opener {
	return func(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
		t, err := pkcs11.Open(ctx, pkcs11.Config{Module: shim.Module, URI: uri, PIN: hsm.PINFile(s.boards[name].PINFile), Patience: 3 * time.Second})
		if err != nil {
			return nil, err
		}
		return t, nil
	}
}

// unexplained says what is in the tokens, by SoftHSM itself, that the transcript does not explain, and which keys of a finished ceremony are
// not there. It leaves the tokens empty.
func (s *stage) unexplained(t *testing.T, out, how string) (wrong []string) {
	t.Helper()
	expected := map[string]bool{}
	var listed []abortedKey
	if how == "finished" || how == "aborted" {
		data, err := os.ReadFile(filepath.Join(out, transcriptFile))
		if err != nil {
			t.Fatal(err)
		}
		log, err := journal.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entriesOf(log.Leaves()) {
			switch l := e.leaf.(type) {
			case *keyIntentLeaf:
				if how == "finished" {
					expected[l.Token+" "+l.Label+" "+l.ID] = true
				}
			case *abortLeaf:
				listed = l.Destroys
			case *destroyedLeaf:
				for _, k := range listed {
					if l.Left && k.Name == l.Name {
						expected[k.Token+" "+k.Label+" "+k.ID] = true
					}
				}
			}
		}
	}
	for name, b := range s.boards {
		token, err := pkcs11.Open(context.Background(), pkcs11.Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINFile(b.PINFile)})
		if err != nil {
			t.Fatal(err)
		}
		objects, err := token.KeyObjects(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			a := o.Attributes
			at := name + " " + a.Label + " " + hex.EncodeToString(a.ID)
			if o.Key == nil || !expected[at] {
				wrong = append(wrong, fmt.Sprintf("%s %s is in the token (%s)", o.Kind, at, o.NotUsable))
			}
			delete(expected, at)
			if a.Label != "" && len(a.ID) > 0 {
				if _, err := token.Remove(context.Background(), hsm.Query{Label: a.Label, ID: a.ID}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for k := range expected {
		if how == "aborted" {
			break // one that could not be reached need not have been there
		}
		wrong = append(wrong, "key "+k+" is in the transcript and not in its token")
	}
	return wrong
}
