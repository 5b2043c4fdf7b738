package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

// TestMenuRelease: an auditor verifies a release by the menu, all its files, with the number from paper; without one nothing is said of it, and a
// file that is another is named.
func TestMenuRelease(t *testing.T) {
	d := newReleases(t, "menu")
	d.copy("rel-1", "stick/hanaper-v0.2.0")
	cmd := exec.Command(programtest.Path(t, "hanaper"), "menu")
	cmd.Dir, cmd.Env = d.path("stick"), append(os.Environ(), "TERM=vt100", "XDG_STATE_HOME="+d.path("memory"))
	s := sit(t, cmd)
	verify := func(numbers ...string) {
		t.Helper()
		s.answers("Type a number and Enter: ", "5")
		s.answers("goes back: ", "1")
		s.sees("This ceremony signed a release")
		s.answers("goes back: ", "1")
		s.answers("The roster's SHA-256", numbers[0])
		s.answers("The checkpoint's SHA-256", numbers[1])
	}
	says := func(words string) {
		t.Helper()
		for range 10 {
			if n := s.seesOne("Enter shows the next page", "Enter leaves, b shows", "Press Enter to go on. "); n > 0 {
				break
			}
			_, _ = s.keys.WriteString("\n")
		}
		if !strings.Contains(squeeze(s.shown()), squeeze(words)) {
			t.Errorf("not said: %s:\n%s", words, s.shown())
		}
		_, _ = s.keys.WriteString("\n")
	}
	verify("", "")
	says("nothing says whose release this is")
	verify(d.digest("roster.json"), "")
	says("release v0.2.0 of commit")
	d.write("stick/hanaper-v0.2.0/hanaper_0.2_amd64.deb", "another")
	verify("", d.digest("rel-1/ceremony/checkpoint"))
	says("this is not release v0.2.0 as it was signed: hanaper_0.2_amd64.deb")
	s.answers("Type a number and Enter: ", "0")
	s.leaves(0)
}
