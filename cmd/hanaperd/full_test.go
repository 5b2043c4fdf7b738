package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

// TestFullDiskOfVerbs: verbs that write files, given a full disk, say which file could not be written and what to do, and leave nothing: no key without its
// request. With room they say what they wrote; and a key is not left, either, by a request that is refused.
func TestFullDiskOfVerbs(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "small")
	fill, empty := programtest.SmallDisk(t, dir, "256k")
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	call := func(program string, args ...string) (int, string) {
		cmd := exec.Command(programtest.Path(t, program), args...)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	there := func() (names []string) {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Name())
		}
		return names
	}
	if code, said := call("hanaperd", "tls-csr", "--dns", "no host name", "--key", "t.key", "--out", "t.csr"); code != 3 || len(there()) != 0 {
		t.Errorf("exit %d, %v: %s", code, there(), said)
	}
	verbs := []struct{ program, args, file, wrote string }{
		{"hanaperd", "tls-csr --dns factory.example --key t.key --out t.csr", "t.key", "new key written to t.key\nrequest written to t.csr\n"},
		{"hanaperd", "operator-csr --name olga --key o.key --out o.csr", "o.key", "new key written to o.key\nrequest written to o.csr\n"},
		{"hanaper-station", "csr --name line-1 --key s.key --out s.csr", "s.key", "new key written to s.key\nrequest written to s.csr\n"},
		{"hanaperd", "order new --lot one --quantity 1 --environment test --out one.order", "one.order", "order written to one.order\n"},
		{"hanaper", "uptane delegation new --expire-after 6M --out d.draft.json", "d.draft.json", "draft written to d.draft.json\n"},
	}
	fill()
	for _, v := range verbs {
		before := there()
		code, said := call(v.program, strings.Fields(v.args)...)
		if code != 1 || !strings.Contains(said, v.file+" cannot be written: no space left on device") || !strings.Contains(said, "hint: nothing was changed there: make room") || !slices.Equal(before, there()) {
			t.Errorf("%s: exit %d, %v: %s", v.args, code, there(), said)
		}
	}
	empty()
	for _, v := range verbs {
		if code, said := call(v.program, strings.Fields(v.args)...); code != 0 || !strings.HasPrefix(said, v.wrote) {
			t.Errorf("%s: exit %d: %s", v.args, code, said)
		}
	}
	// The key was made, the request finds no room.
	code, said := call("hanaperd", "tls-csr", "--dns", "factory.example", "--key", "new.key", "--out", "/dev/full/new.csr")
	if _, err := os.Stat(filepath.Join(dir, "new.key")); code != 1 || err == nil {
		t.Errorf("exit %d, %v: %s", code, err, said)
	}
}
