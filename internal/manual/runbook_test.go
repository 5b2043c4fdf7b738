package manual

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/softhsm"
)

// play is the order in which the people of the runbooks do their parts of one story. A part is a section; "officer 5"
// is the section of officer.md that begins with "## 5.".
var play = []string{
	"officer 1", "officer 2", "officer 3",
	"factory 1", "factory 2", "gateway 1",
	"officer 4", "officer 5", "officer 6", "officer 7", "officer 8", "officer 9",
	"auditor 1", "auditor 2", "auditor 3", "auditor 4", "auditor 5", "auditor 6",
	"factory 3", "factory 4", "gateway 2", "gateway 3", "factory 5", "gateway 4", "gateway 5",
	"officer 10", "officer 11",
}

// TestRunbooks runs every command of the runbooks as it stands there, at a terminal, on throw-away tokens, in one folder
// that stands for all their machines. Only ports are changed.
func TestRunbooks(t *testing.T) {
	store, err := softhsm.New(filepath.Join(t.TempDir(), "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	parts := map[string]string{}
	for _, who := range []string{"officer", "factory", "gateway", "auditor"} {
		readParts(t, who, parts)
	}
	for name := range parts {
		if !slices.Contains(play, name) {
			t.Errorf("nobody runs the commands of section %s", name)
		}
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, name := range play {
		body, ok := parts[name]
		if !ok {
			t.Errorf("the section %s has no ```sh block", name)
		}
		fmt.Fprintf(&script, "echo; echo '######## %s'\n%s", name, body)
	}
	text := freePorts(t, script.String())
	path := filepath.Join(dir, ".play.sh")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+dir, "XDG_STATE_HOME=", "HANAPER_STATE=", "TERM=dumb")
	seen, err := perform(t, dir, path, append(env, store.Env()...), 90*time.Second)
	if name := os.Getenv("HANAPER_RUNBOOK_LOG"); name != "" {
		if err := os.WriteFile(name, []byte(seen), 0o600); err != nil {
			t.Error(err)
		}
	}
	if err != nil {
		lines := strings.Split(seen, "\n")
		t.Fatalf("%v\n%s", err, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	for _, want := range shown(t) {
		if !strings.Contains(strings.ReplaceAll(seen, "\r", ""), want) {
			t.Errorf("a runbook says that you will see %q; it was not to be seen", want)
		}
	}
}

var heading = regexp.MustCompile(`^## (\d+)\. `)

// readParts finds the ```sh blocks of a runbook, by section.
func readParts(t *testing.T, who string, parts map[string]string) {
	t.Helper()
	section, inside := "", false
	for line := range strings.Lines(runbook(t, who)) {
		switch m := heading.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh\n"
			if inside && section == "" {
				t.Errorf("%s.md has a ```sh block outside its numbered sections", who)
			}
		case inside:
			parts[section] += line
		case m != nil:
			section = who + " " + m[1]
		case strings.HasPrefix(line, "## "):
			section = ""
		}
	}
}

// shown are the lines that the runbooks' ```text blocks say people will see; "..." stands for anything.
func shown(t *testing.T) []string {
	t.Helper()
	var want []string
	for _, who := range []string{"officer", "factory", "gateway", "auditor"} {
		inside := false
		for line := range strings.Lines(runbook(t, who)) {
			if strings.HasPrefix(line, "```") {
				inside = line == "```text\n"
				continue
			}
			for part := range strings.SplitSeq(strings.TrimSpace(line), "...") {
				if part = strings.TrimSpace(part); inside && part != "" {
					want = append(want, part)
				}
			}
		}
	}
	if len(want) < 10 {
		t.Errorf("the runbooks show only %d lines of what is to be seen", len(want))
	}
	return want
}

func runbook(t *testing.T, who string) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/runbooks/" + who + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// freePorts puts free ports in the place of those that the pages name.
func freePorts(t *testing.T, script string) string {
	t.Helper()
	ports := map[string]string{}
	return loopback.ReplaceAllStringFunc(script, func(address string) string {
		if ports[address] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ports[address] = l.Addr().String()
		}
		return ports[address]
	})
}
