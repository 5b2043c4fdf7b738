package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// play is the order in which the people of the runbooks do their parts of one story. A part is a section; "officer 5"
// is the section of officer.md that begins with "## 5.".
var play = []string{
	"officer 1", "officer 2", "officer 3",
	"factory 1", "factory 2", "gateway 1",
	"officer 4", "officer 5", "officer 6", "officer 7", "officer 8", "officer 9",
	"auditor 1", "auditor 2", "auditor 3", "auditor 4", "auditor 5", "auditor 6",
	"factory 3", "factory 4", "gateway 2", "gateway 3", "factory 5", "factory 7", "gateway 4", "gateway 5", "factory 8", "factory 10",
	"officer 10", "officer 11",
}

// TestRunbooks runs every command of the runbooks as it stands there, at a terminal, on throw-away tokens, in one folder
// that stands for all their machines. Only ports are changed.
func TestRunbooks(t *testing.T) {
	parts := allParts(t)
	for name := range parts {
		if !slices.Contains(play, name) {
			t.Errorf("nobody runs the commands of section %s", name)
		}
	}
	seen := perform(t, parts, play, "")
	for _, want := range shown(t) {
		if !strings.Contains(seen, squeezed(want)) {
			t.Errorf("a runbook says that you will see %q; it was not to be seen", want)
		}
	}
}

// TestUptaneServer runs the Uptane server's runbook from its first start to the restore; a device registers in between.
func TestUptaneServer(t *testing.T) {
	parts := map[string]string{}
	readParts(t, "uptane-server", parts)
	parts["device"] = `curl -sS --fail --unix-socket devices.sock -H 'x-ats-device-uuid: vin-0001' http://devices/director/ecus -d '{"primary_ecu_serial":"e1","ecus":[{"ecu_serial":"e1",
"hardware_identifier":"imx8-board","clientKey":{"keytype":"ED25519","keyval":{"public":"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"}}}]}'
`
	var story []string
	for i := range len(parts) - 1 {
		story = append(story, fmt.Sprint("uptane-server ", i+1))
		if i == 2 {
			story = append(story, "device")
		}
	}
	seen := perform(t, parts, story, "")
	for _, want := range shownBy(t, "uptane-server") {
		if !strings.Contains(seen, squeezed(want)) {
			t.Errorf("the runbook says that you will see %q; it was not to be seen", want)
		}
	}
}

// TestStoppedCeremony presses Ctrl-C in the middle of the ceremony and goes on as officer.md says.
func TestStoppedCeremony(t *testing.T) {
	_, section, _ := strings.Cut(runbook(t, "officer"), "### It stopped in the middle")
	blocks := strings.Split(section, "```")
	// The third block is for a machine that remembers nothing.
	for i, verb := range map[int]string{1: "resume", 3: "abort", 5: "abort"} {
		t.Run(fmt.Sprint(verb, " ", i), func(t *testing.T) {
			body, ok := strings.CutPrefix(blocks[i], "console\n")
			if !ok || !strings.Contains(body, "hanaper ceremony "+verb) {
				t.Fatalf("officer.md does not show %s here: %q", verb, blocks[i])
			}
			if i == 5 {
				body = "rm -r \"$HOME/.local/state/hanaper\"\n" + body
			}
			parts := allParts(t)
			parts["officer 8"] = strings.TrimSpace(parts["officer 8"]) + " && exit 9 || test $? = 1\n" + body
			seen := perform(t, parts, []string{"officer 1", "officer 2", "officer 3", "factory 1", "factory 2", "gateway 1", "officer 5", "officer 7", "officer 8", "officer 9"},
				"The user PIN of token")
			if i == 5 && !strings.Contains(seen, "This machine does NOT remember it") {
				t.Error("it is not said that the machine remembers nothing")
			}
			if !strings.Contains(seen, "interrupted") || verb == "abort" && !strings.Contains(seen, "aborted: the transcript in ceremony-1 is closed and signed by ada") {
				t.Errorf("seen: %s", seen[max(0, len(seen)-3000):])
			}
		})
	}
}

func allParts(t *testing.T) map[string]string {
	t.Helper()
	parts := map[string]string{}
	for _, who := range []string{"officer", "factory", "gateway", "auditor"} {
		readParts(t, who, parts)
	}
	return parts
}

// squeezed has one blank in the place of all ends of lines and blanks: a terminal breaks lines elsewhere than a page.
func squeezed(text string) string { return strings.Join(strings.Fields(text), " ") }

// perform plays sections at a terminal, in a folder and with tokens of their own, and returns what was to be seen, squeezed. At the
// first prompt that holds the text stop, if there is any, Ctrl-C is pressed.
func perform(t *testing.T, parts map[string]string, play []string, stop string) string {
	t.Helper()
	store, err := softhsm.New(filepath.Join(t.TempDir(), "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, name := range play {
		body, ok := parts[name]
		if !ok {
			t.Errorf("the section %s has no ```sh block", name)
		}
		fmt.Fprintf(&script, "echo; echo '######## %s'\n%s", name, body)
	}
	text := freePorts(t, refusal.ReplaceAllString(script.String(), "$1 && exit 9 $2"))
	path := filepath.Join(dir, ".play.sh")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+dir, "XDG_STATE_HOME=", "HANAPER_STATE=", "TERM=dumb")
	seen, err := atTerminal(t, dir, path, append(env, store.Env()...), stop, 10*time.Minute)
	if name := os.Getenv("HANAPER_RUNBOOK_LOG"); name != "" {
		if err := os.WriteFile(name, []byte(seen), 0o600); err != nil {
			t.Error(err)
		}
	}
	if err != nil {
		lines := strings.Split(seen, "\n")
		t.Fatalf("%v\n%s", err, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	return squeezed(seen)
}

// refusal is a line whose command must fail, and how: bash would go on where it succeeds.
var refusal = regexp.MustCompile(`(?m)^(.*\S) (\|\| test \$\? = \d+)$`)

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
		want = append(want, shownBy(t, who)...)
	}
	if len(want) < 10 {
		t.Errorf("the runbooks show only %d lines of what is to be seen", len(want))
	}
	return want
}

func shownBy(t *testing.T, who string) (want []string) {
	t.Helper()
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
			ports[address] = programtest.FreeAddress(t)
		}
		return ports[address]
	})
}
