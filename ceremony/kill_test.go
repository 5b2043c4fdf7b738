package ceremony

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/softhsm"
)

// killed is what TestKill tells its child.
type killed struct {
	Dir       string
	Boards    map[string]softhsm.Board
	Seeds     [][]byte
	Approvals [][]byte
	Tool      Tool
	At        int64
}

const killVariable = "HANAPER_TEST_KILL"

// TestKillChild is the process that TestKill kills.
func TestKillChild(t *testing.T) {
	path := os.Getenv(killVariable)
	if path == "" {
		t.Skip("is run by TestKill")
	}
	var k killed
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, dir: k.Dir, boards: k.Boards, tool: k.Tool, now: asserted}
	for _, seed := range k.Seeds {
		s.officers = append(s.officers, ed25519.NewKeyFromSeed(seed))
	}
	script, err := LoadScript(filepath.Join(k.Dir, "script.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := script.Validate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	kill := func(n int64) {
		if n == k.At {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Hour)
		}
	}
	// Before and after the machine remembers that the entry is there.
	if k.At%2 == 0 {
		appended = kill
	} else {
		remembered = kill
	}
	c := RunConfig{Plan: p, Out: filepath.Join(k.Dir, "out"), Asserted: asserted, Officers: s.officers[:2], Approvals: k.Approvals, Open: s.open, Tool: k.Tool, Anchor: s.anchor()}
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills a full ceremony with SIGKILL after a journal entry, for every entry with HANAPER_SOAK=1 and for some of
// them otherwise, and then resumes or aborts it in turn. The result is a folder that verifies, and tokens that hold
// exactly the script's keys, or none.
func TestKill(t *testing.T) {
	files, _ := finishedFolder(t)
	v := &verified{files: files}
	record, _, err := v.sealed()
	if err != nil {
		t.Fatal(err)
	}
	stride := int64(37)
	if os.Getenv("HANAPER_SOAK") != "" {
		stride = 1
	}
	if testing.Short() {
		stride = 61
	}
	for n := int64(1); n <= record.Size(); n += stride {
		for _, abort := range []bool{false, true} {
			if stride == 1 || (n/stride%2 == 1) == abort {
				killAt(t, n, record.Size(), abort)
			}
		}
		if t.Failed() {
			return
		}
	}
	// All steps are performed, and the last entry, which names the files, is not there.
	killAt(t, record.Size()-1, record.Size(), true)
	killAt(t, record.Size(), record.Size(), false)
}

func killAt(t *testing.T, n, size int64, abort bool) {
	t.Helper()
	s := newStage(t)
	p := s.plan(s.full())
	k := killed{Dir: s.dir, Boards: s.boards, Approvals: s.approvals(p.script, 2), Tool: s.tool, At: n}
	for _, o := range s.officers {
		k.Seeds = append(k.Seeds, o.(ed25519.PrivateKey).Seed())
	}
	data, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	s.put("kill.json", data)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killVariable+"="+filepath.Join(s.dir, "kill.json"))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("entry %d: the child was not killed: %v\n%s", n, err, out)
	}
	c := RunConfig{Out: filepath.Join(s.dir, "out"), Asserted: asserted.Add(time.Hour), Officers: s.officers[1:], Open: s.open, Tool: s.tool, Anchor: s.anchor()}
	if n == size {
		// Everything is recorded: only those whom the record names can sign it.
		c.Officers = s.officers[:2]
	}
	if err = unfinished(&c); err != nil {
		t.Fatalf("entry %d: %v", n, err)
	}
	want := 9
	if abort && n < size {
		_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "power cut", Agree: func(Aborting) error { return nil }})
		want = 0
	} else {
		_, err = Resume(context.Background(), c)
	}
	if err != nil {
		t.Fatalf("entry %d, abort %v: %v", n, abort, err)
	}
	report, err := s.verify(c.Out)
	if err != nil {
		t.Fatalf("entry %d, abort %v: %v", n, abort, err)
	}
	if got := s.objects(); got != want || report.Aborted != (want == 0) {
		t.Fatalf("entry %d, abort %v: %d keys in the tokens, want %d", n, abort, got, want)
	}
}
