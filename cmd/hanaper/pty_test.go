package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/term"
)

// sitting is the program at a terminal of its own, with a person before it.
type sitting struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File

	mu     sync.Mutex
	screen []byte
	read   int
	ended  chan struct{}
}

// sit starts a program that has a new pseudo-terminal as its controlling terminal and as its standard streams.
func sit(t *testing.T, cmd *exec.Cmd) *sitting {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &sitting{t: t, cmd: cmd, keys: keys, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		buf := make([]byte, 4096)
		for {
			n, err := keys.Read(buf)
			s.mu.Lock()
			s.screen = append(s.screen, buf[:n]...)
			s.mu.Unlock()
			if err != nil {
				return // EIO: the program let go of the terminal.
			}
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return s
}

// sees waits until text is on the screen, after what was seen before.
func (s *sitting) sees(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		s.mu.Lock()
		i := bytes.Index(s.screen[s.read:], []byte(text))
		if i >= 0 {
			s.read += i + len(text)
		}
		s.mu.Unlock()
		if i >= 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q does not appear on the screen:\n%s", text, s.shown())
		}
	}
}

// answers types a line when the question is on the screen.
func (s *sitting) answers(question, line string) {
	s.t.Helper()
	s.sees(question)
	if _, err := s.keys.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
}

// called is the verb that was run.
func (s *sitting) called() string { return strings.Join(s.cmd.Args[1:min(3, len(s.cmd.Args))], " ") }

func (s *sitting) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.screen)
}

// leaves waits for the program's end, and returns what stood on the screen.
func (s *sitting) leaves(code int) string {
	s.t.Helper()
	kill := time.AfterFunc(30*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	_ = s.cmd.Wait()
	<-s.ended
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%s: exit %d, want %d:\n%s", s.called(), got, code, s.shown())
	}
	s.fits()
	return s.shown()
}

// fits asks that no line is wider than a screen of 80 columns; a path or a digest that has a line to itself may be.
func (s *sitting) fits() {
	s.t.Helper()
	for line := range strings.Lines(strings.ReplaceAll(s.shown(), "\r\n", "\n")) {
		// What was written over is looked at, too.
		for _, part := range strings.Split(line, "\r\x1b[K") {
			if strings.HasPrefix(part, `"  `) {
				s.t.Errorf("%s: a line of our own is quoted: %q", s.called(), part)
			}
			if part = strings.TrimRight(part, "\n"); term.Columns(part) > term.Width && strings.Contains(strings.TrimSpace(part), " ") {
				s.t.Errorf("%s: a line of %d columns: %q", s.called(), term.Columns(part), part)
			}
		}
	}
}
