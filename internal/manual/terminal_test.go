package manual

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

const (
	soPIN      = "97531864"
	pin        = "24681357"
	puk        = "13572468"
	passphrase = "correct horse battery staple"
)

// answers are what the person at the terminal types at a prompt: an unfinished line that ends in a colon and a space.
// The first that fits is taken.
var answers = []struct {
	prompt *regexp.Regexp
	answer func() string
}{
	{regexp.MustCompile(`\(empty: [^)]*\): $`), func() string { return "" }},
	{regexp.MustCompile(`Type next, exception or stop: $`), func() string { return "next" }},
	{regexp.MustCompile(`Type Yes[^:]*: $`), func() string { return "Yes" }},
	{regexp.MustCompile(`Read the time aloud.*: $`), func() string { return time.Now().UTC().Format("2006-01-02T15:04:05Z") }},
	{regexp.MustCompile(`^Management key.*: $`), func() string { return "-" }},
	{regexp.MustCompile(`PUK.*: $`), func() string { return puk }},
	{regexp.MustCompile(`SO\b.*PIN.*: $`), func() string { return soPIN }},
	{regexp.MustCompile(`(?i)PIN.*: ?$`), func() string { return pin }},
	{regexp.MustCompile(`(?i)passphrase.*: $`), func() string { return passphrase }},
}

// atTerminal runs script in bash at a pseudo terminal and answers what is asked; at the first prompt that holds stop it
// presses Ctrl-C instead. It returns all that was to be seen.
func atTerminal(t *testing.T, dir, script string, env []string, stop string, limit time.Duration) (string, error) {
	t.Helper()
	ptmx, pts := openTerminal(t)
	defer ptmx.Close()
	cmd := exec.Command("bash", script)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, env, pts, pts, pts
	// A session of its own, with the terminal as its own: what still runs at the end loses it, and is killed below.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pts.Close()
	seen := make(chan string, 1)
	go func() { seen <- converse(ptmx, stop) }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(limit):
		err = fmt.Errorf("not done after %s", limit)
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	// Reading ends when nobody has the terminal open any more.
	return <-seen, err
}

// converse reads what is shown and types the answers, until the terminal is gone.
func converse(ptmx *os.File, stop string) string {
	var all strings.Builder
	last, chunk := "", make([]byte, 4096)
	again := ""
	for {
		n, err := ptmx.Read(chunk)
		if err != nil {
			return all.String()
		}
		all.Write(chunk[:n])
		last += string(chunk[:n])
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		if !strings.HasSuffix(last, ": ") && !strings.HasSuffix(last, "PIN:") {
			continue
		}
		if stop != "" && strings.Contains(last, stop) {
			stop, last = "", ""
			time.Sleep(50 * time.Millisecond)
			fmt.Fprint(ptmx, "\x03")
			continue
		}
		text := ""
		found := strings.HasSuffix(last, "again: ")
		if found {
			text = again
		}
		for _, a := range answers {
			if !found && a.prompt.MatchString(last) {
				text, found = a.answer(), true
				again = text
			}
		}
		if found {
			last = ""
			time.Sleep(20 * time.Millisecond) // a hand is slower than the way from prompt to reading
			fmt.Fprintf(ptmx, "%s\n", text)
		}
	}
}

func openTerminal(t *testing.T) (ptmx, pts *os.File) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var number, locked int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &locked} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, ptmx.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	pts, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ptmx, pts
}

// TestInterruptAtPrompt: whoever is asked for a secret can leave by Ctrl-C; the program ends and has written nothing.
func TestInterruptAtPrompt(t *testing.T) {
	ptmx, pts := openTerminal(t)
	defer ptmx.Close()
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(bin, "hanaper"), "officer", "enroll", "--name", "ada", "--key", "ada.key", "--out", "ada.json")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, pts, pts, pts
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pts.Close()
	kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	seen, typed, chunk := "", false, make([]byte, 4096)
	for {
		n, err := ptmx.Read(chunk)
		if err != nil {
			break
		}
		seen += string(chunk[:n])
		if !typed && strings.HasSuffix(seen, "ada.key: ") {
			typed = true
			time.Sleep(50 * time.Millisecond) // a hand is slower than the program's way from prompt to reading
			fmt.Fprint(ptmx, "\x03")
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(seen, "interrupted") {
		t.Errorf("exit code %d, seen %q", code, seen)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("written: %v", left)
	}
}
