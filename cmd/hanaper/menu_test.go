package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
)

const goldenFolder = "../../ceremony/testdata/golden/1.3"

// goldenRoster is the digest that goes with a golden folder.
func goldenRoster(t *testing.T, name string) string {
	t.Helper()
	anchors, err := os.ReadFile(filepath.Join(goldenFolder, "anchors"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(anchors)) {
		if digest, of, _ := strings.Cut(strings.TrimSpace(line), "  "); of == name {
			return digest
		}
	}
	t.Fatal("no anchor")
	return ""
}

// TestMenu: an auditor verifies a folder by the menu, typing the number from paper, in capitals and with blanks; what people do not answer
// as it is asked does nothing; and what somebody called a folder does not steer the terminal.
func TestMenu(t *testing.T) {
	d := desk{t, t.TempDir()}
	for name, golden := range map[string]string{"ceremony-1": "measured", "\x1b[2Jx\r\x1b]0;y\a": "finished"} {
		if err := os.CopyFS(d.path(name), os.DirFS(filepath.Join(goldenFolder, golden))); err != nil {
			t.Fatal(err)
		}
	}
	at := func(args ...string) *sitting {
		cmd := exec.Command(programtest.Path(t, "hanaper"), args...)
		cmd.Dir, cmd.Env = d.dir, append(os.Environ(), "TERM=vt100")
		return sit(t, cmd)
	}
	roster := goldenRoster(t, "measured")
	s := at("menu")
	s.answers("Type a number and Enter: ", "17")
	s.sees("There is no 17 here.")
	s.answers("Type a number and Enter: ", "5")
	s.sees(`"\x1b[2Jx\r\x1b]0;y\x07"`)
	s.sees("ceremony-1")
	s.answers("goes back: ", "17")
	s.answers("goes back: ", "2")
	s.answers("The roster's SHA-256", "12 34")
	s.sees("These are 4 signs")
	s.answers("The roster's SHA-256", strings.ToUpper(roster[:20])+" "+roster[20:])
	s.answers("The checkpoint's SHA-256", "")
	for range 10 {
		if n := s.seesOne("Enter shows the next page", "Enter leaves, b shows", "Press Enter to go on. "); n > 0 {
			break
		}
		_, _ = s.keys.WriteString("\n")
	}
	if !strings.Contains(s.shown(), "a SHELL WAS OPENED") || !strings.Contains(squeeze(s.shown()), squeeze("verified: script, transcript and artefacts agree, under the roster given")) {
		t.Errorf("the report is not whole:\n%s", s.shown())
	}
	_, _ = s.keys.WriteString("\n")
	// Without a number it says what that is worth, and does nothing unless it is told to.
	s.answers("Type a number and Enter: ", "5")
	s.answers("goes back: ", "2")
	s.answers("The roster's SHA-256", "")
	s.answers("The checkpoint's SHA-256", "")
	s.answers("Type Yes to see that: ", "yes")
	s.answers("Type a number and Enter: ", "7") // there is no script
	s.answers("No script was found", "")
	s.answers("Type a number and Enter: ", "0")
	out := s.leaves(0)
	if strings.Contains(out, "\x1b]0;") || strings.Contains(out, "\x1b[2Jx") {
		t.Errorf("a name steers the terminal: %q", out)
	}

	// Nobody is there to ask.
	cmd := exec.Command(programtest.Path(t, "hanaper"), "menu")
	cmd.Dir = d.dir
	if said, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(said), "no terminal to ask at") {
		t.Errorf("without a terminal: %v: %s", err, said)
	}
}

// TestBare: without arguments, at a terminal, hanaper says what lies here and offers what is sensible; to a program it says what is missing.
func TestBare(t *testing.T) {
	for _, c := range []struct {
		name, says, offers string
		fill               func(desk)
	}{
		{"nothing", "Nothing of Hanaper's lies in", "1  Begin: how an officer enrols", func(desk) {}},
		{"a script", "A script lies here: script.yaml, and 0 approvals", "1  Check the script, and rehearse it", func(d desk) { d.write("script.yaml", "version: 1\nceremony: x\nroster: {}\n") }},
		{"finished", "A ceremony that has ended lies here: out", "1  Verify it, as an auditor does", func(d desk) {
			if err := os.CopyFS(d.path("out"), os.DirFS(filepath.Join(goldenFolder, "finished"))); err != nil {
				d.Fatal(err)
			}
		}},
		{"cut short", "A ceremony was CUT SHORT here: out", "1  Go on with it, or abort it", func(d desk) {
			if err := os.Mkdir(d.path("out"), 0o700); err != nil {
				d.Fatal(err)
			}
			d.write("out/transcript.log", "x")
			d.write("out/INCOMPLETE", "x")
		}},
	} {
		d := desk{t, t.TempDir()}
		c.fill(d)
		cmd := exec.Command(programtest.Path(t, "hanaper"))
		cmd.Dir = d.dir
		s := sit(t, cmd)
		s.sees(c.says)
		s.sees(c.offers)
		s.answers("Enter alone to leave: ", "")
		s.leaves(0)
	}
	d := desk{t, t.TempDir()}
	cmd := exec.Command(programtest.Path(t, "hanaper"))
	cmd.Dir = d.dir
	if said, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(said), "a command is missing") {
		t.Errorf("in a pipe: %v: %s", err, said)
	}
}

// seesOne waits until one of some texts is on the screen, and says which.
func (s *sitting) seesOne(texts ...string) int {
	s.t.Helper()
	first, at := -1, 0
	for ; first < 0; time.Sleep(2 * time.Millisecond) {
		s.mu.Lock()
		for n, text := range texts {
			if i := strings.Index(string(s.screen[s.read:]), text); i >= 0 && (first < 0 || i < at) {
				first, at = n, i
			}
		}
		s.mu.Unlock()
		select {
		case <-s.ended:
			if first < 0 {
				s.t.Fatalf("none of %q appears:\n%s", texts, s.shown())
			}
		default:
		}
	}
	s.sees(texts[first])
	return first
}
