package apart

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/softhsm"
)

// parentArgument makes the test program a parent that can be killed: it opens a token apart, tells the child's process, and waits.
const parentArgument = "be-a-parent"

func beParent() {
	u, err := hsm.ParseURI(os.Args[2])
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := Open(context.Background(), Config{URI: u})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.pid())
	time.Sleep(time.Minute)
}

// childrenOf lists the children of a process that are libraries apart.
func childrenOf(t testing.TB, pid int) (found []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		stat, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		rest := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if parent, _ := strconv.Atoi(rest[1]); parent != pid || rest[0] == "Z" {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
		if strings.Contains(string(cmdline), argument) {
			n, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			found = append(found, n)
		}
	}
	return found
}

// gone waits until a process is no more.
func gone(t testing.TB, pid int) {
	t.Helper()
	for range 200 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

// TestConfined: the child has the socket and nothing else of its parent's, few variables, no core dumps, a process group of its
// own, and cannot be read by other processes; the PIN is in neither arguments nor environment.
func TestConfined(t *testing.T) {
	b := newBoard(t)
	t.Setenv("DATABASE_PASSWORD", "of something else")
	// A descriptor as a C library leaves it: without close-on-exec.
	leaked, err := syscall.Dup(int(mustFile(t).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leaked)
	token := mustOpen(t, plain(b))
	mustSign(t, mustGenerate(t, token, "k", hsm.P256))
	proc := fmt.Sprintf("/proc/%d/", token.pid())
	// What is not dumpable belongs to root, whoever runs it: the same user reads nothing of it. Root reads all, and judges the rest.
	if os.Geteuid() != 0 {
		for _, name := range []string{"mem", "fd", "environ"} {
			if _, err := os.Open(proc + name); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return
	}
	fds, err := os.ReadDir(proc + "fd")
	if os.Geteuid() != 0 {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("its descriptors can be read: %v", err)
		}
		return // only root sees more, and judges it
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		to, _ := os.Readlink(proc + "fd/" + e.Name())
		switch {
		case e.Name() == "0" || e.Name() == "1":
			if to != os.DevNull {
				t.Errorf("descriptor %s is %s", e.Name(), to)
			}
		case e.Name() == "2", e.Name() == "3", strings.HasPrefix(to, "anon_inode:"), strings.Contains(to, softhsm.ForTest(t).Dir()), strings.Contains(to, "/softhsm"):
		default:
			t.Errorf("descriptor %s is %s", e.Name(), to)
		}
	}
	environ, err := os.ReadFile(proc + "environ")
	if err != nil {
		t.Fatal(err)
	}
	cmdline, _ := os.ReadFile(proc + "cmdline")
	for _, s := range []string{"DATABASE_PASSWORD", string(b.PIN)} {
		if strings.Contains(string(environ), s) || strings.Contains(string(cmdline), s) {
			t.Errorf("%q is in the child's environment or arguments", s)
		}
	}
	if !strings.Contains(string(environ), softhsm.ConfigVariable) {
		t.Errorf("the child lacks %s", softhsm.ConfigVariable)
	}
	limits, _ := os.ReadFile(proc + "limits")
	if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("core dumps are allowed:\n%s", limits)
	}
	if group, err := syscall.Getpgid(token.pid()); err != nil || group != token.pid() {
		t.Errorf("process group %d, %v", group, err)
	}
	// A stop of the service, and a Ctrl-C, are the parent's affair.
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		_ = syscall.Kill(token.pid(), s)
	}
	time.Sleep(100 * time.Millisecond)
	if token.Restarts() != 0 || token.Health() != nil {
		t.Errorf("ended by a signal: %v", token.Health())
	}
}

func mustFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "leaked"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestParentHardened: neither can the parent, which keeps the PIN and the other end of the socket.
func TestParentHardened(t *testing.T) {
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core dumps: %+v, %v", core, err)
	}
}

// TestDiesWithParent: a child is gone with its parent, however that ended, and also when it is stopped.
func TestDiesWithParent(t *testing.T) {
	b := newBoard(t)
	for _, stopped := range []bool{false, true} {
		cmd := exec.Command("/proc/self/exe", parentArgument, b.URI)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var line [64]byte
		n, _ := out.Read(line[:])
		pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
		if err != nil {
			t.Fatalf("the parent said %q", line[:n])
		}
		if stopped {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		gone(t, pid)
	}
}

// TestByHand: a person who calls the program as its own child is told what that is.
func TestByHand(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", argument)
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "started by the program itself") {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}
