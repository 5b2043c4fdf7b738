package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/programtest"
)

// TestScreens plays what TestTerminal does not, at a terminal: check, rehearse, a run that is stopped, resumed, stopped again
// and aborted without its token, verify and attest. leaves asks each session that its lines fit on the screen.
func TestScreens(t *testing.T) {
	d := newCeremony(t, "a token with a name that is long")
	// Tokens have such labels.
	d.write("script.yaml", strings.Replace(d.text("script.yaml"), "token: roots, algorithm", "token: roots, label: a+b, algorithm", 1))
	at := func(args ...string) *sitting {
		cmd := exec.Command(programtest.Path(t, "hanaper"), args...)
		cmd.Dir = d.dir
		return sit(t, cmd)
	}
	// Approved by the program itself: an approval names its digest.
	at(d.approve("ada", "ada.json")...).leaves(0)
	at(d.approve("berta", "berta.json", "--with", d.path("ada.json"))...).leaves(0)
	at("ceremony", "check", "script.yaml").leaves(0)
	s := at("ceremony", "rehearse", "--out", "rehearsal", "--no-pause", "script.yaml")
	s.answers("Read the time aloud", "2026-11-21T09:00:00Z")
	s.answers(ceremony.AskBegin, "Yes")
	s.leaves(0)
	present := []string{"--state", "state", "--bindings", "bindings.yaml", "--officer", d.key("ada"), "--officer", d.key("berta")}
	begins := func(s *sitting, time string) {
		s.answers("Read the time aloud", time)
		s.answers("Type Yes", "Yes")
	}
	s = at(append(append([]string{"ceremony", "run", "--out", "out"}, present...), "--approval", "ada.json", "--approval", "berta.json", "script.yaml")...)
	begins(s, "2026-11-21T09:00:00Z")
	s.answers("Somebody else", "")
	s.answers("A bag or seal number", "")
	s.answers(ceremony.AskStop, "next")
	s.answers(ceremony.AskStop, "stop")
	s.leaves(1)
	s = at(append(append([]string{"ceremony", "resume"}, present...), "out")...)
	s.sees("Read the time aloud")
	s.keys.WriteString("2026-11-21T09:30:00Z\n")
	s.sees("2. ")
	s.sees("3. ")
	s.answers("Type Yes: ", "Yes")
	s.answers(ceremony.AskStop, "next")
	s.answers(ceremony.AskStop, "stop")
	s.leaves(1)

	good := d.text("bindings.yaml")
	d.write("bindings.yaml", strings.Replace(good, ".so", ".so.gone", 1))
	s = at(append(append([]string{"ceremony", "abort", "--reason", "the token is gone"}, present...), "out")...)
	s.answers("Read the time aloud", "2026-12-31T10:00:00Z")
	s.sees("Type the date again")
	s.keys.WriteString("2026-12-31\n")
	s.sees("This will be removed:")
	s.sees("  - key")
	s.sees("This cannot be undone:")
	s.answers("Type Yes to abort the ceremony: ", "Yes")
	s.sees("cannot be removed")
	s.answers("Type Yes to leave it: ", "Yes")
	out := s.leaves(0)
	_, end, _ := strings.Cut(out, "aborted: ")
	if !strings.Contains(squeeze(strings.ReplaceAll(end, "\\", "")), `NOT REMOVED: "key "a+b"`) {
		t.Errorf("the end does not say what stays:\n%s", end)
	}
	at("ceremony", "verify", "--roster", d.digest("roster.json"), "out").leaves(0)
	at("ceremony", "verify", "out").leaves(4)
	at("ceremony", "attest", "--roster", d.digest("roster.json"), "--officer", d.key("ada"), "nowhere").leaves(4)
	record := d.ok("ceremony", "record", "--roster", d.digest("roster.json"), "--out", d.path("record.html"), d.path("out"))
	html := d.text("record.html")
	for _, want := range []string{"Taken up again, at 2026-11-21T09:30:00Z as asserted, by ada (officer), berta (officer)", "Reason: the token is gone"} {
		if !strings.Contains(html, want) {
			t.Errorf("the record (%s) does not say %q", record, want)
		}
	}
	_, table, _ := strings.Cut(html, "Exceptions")
	table, _, _ = strings.Cut(table, "Remarks of the people present")
	if strings.Contains(table, "key id:") || strings.Contains(table, "anchor:") {
		t.Errorf("the table of exceptions shows raw data: %s", table)
	}
}
