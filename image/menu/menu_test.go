package menu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// put writes files below a folder.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// looked is what is found in folders.
func looked(dirs ...string) []Found {
	found, _ := Look(false, dirs...)
	return found
}

// TestLook: what lies on a stick is told apart by what it looks like, and a stick without end costs a bounded look.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	ended := "hanaper-journal/1 hanaper/ceremony/x/y\n"
	put(t, dir, map[string]string{
		"a/script.yaml": "version: 1\nceremony: x\nroster: {}\n", "a/other.yaml": "ceremony: x\n", "a/approval.json": `{"payloadType":"application/vnd.hanaper.approval+json"}`,
		"a/roster.json": `{"type":"hanaper-roster/1"}`, "a/ada.key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "a/plain.key": "-----BEGIN PRIVATE KEY-----\n", "a/image.json": `{"files":{"hanaper.iso":{}}}`,
		"cut/transcript.log": ended, "cut/INCOMPLETE": "", "cut/script.yaml": "version: 1\nceremony: x\nroster: {}\n",
		"done/transcript.log": ended, "done/checkpoint": "", "done/transcript.dsse.json": "",
		"trial/transcript.log": "hanaper-journal/1 hanaper/rehearsal/x/y\n", "trial/checkpoint": "", "trial/transcript.dsse.json": "",
		"1/2/3/4/deep.yaml": "version: 1\nceremony: x\nroster: {}\n",
	})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "a", "link.key")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range looked(dir) {
		rel, _ := filepath.Rel(dir, f.Path)
		got = append(got, rel)
	}
	want := "cut a/script.yaml done trial a/approval.json a/roster.json a/ada.key a/image.json"
	if strings.Join(got, " ") != want {
		t.Errorf("found %s, not %s", strings.Join(got, " "), want)
	}
	if b := beside(looked(dir), Approval, filepath.Join(dir, "cut", "x.yaml")); b != nil {
		t.Errorf("approvals of another folder: %v", b)
	}
}

// TestHostileStick: a stick with very many files hides nothing on another, one with long names leaves a page on its screen, and a name
// with ends of lines is one line of the command that is shown.
func TestHostileStick(t *testing.T) {
	many, other := t.TempDir(), t.TempDir()
	for n := range maxLooked + 10 {
		if err := os.WriteFile(filepath.Join(many, fmt.Sprint(n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t, other, map[string]string{"script.yaml": "version: 1\nceremony: x\nroster: {}\n"})
	if got := looked(many, other); len(got) != 1 {
		t.Errorf("found %v", got)
	}
	for n := range maxOpened + 10 {
		put(t, many, map[string]string{fmt.Sprintf("more/%d.yaml", n): "version: 1\nceremony: x\nroster: {}\n"})
	}
	if got := looked(filepath.Join(many, "more"), other); len(got) != maxOpened+1 {
		t.Errorf("found %d", len(got))
	}
	m, out := sat(t, "\n")
	var items []string
	for range 12 {
		items = append(items, strings.Repeat(`"\x1b`, 300))
	}
	if _, err := m.choose("Which?", items, "hint"); !errors.Is(err, errBack) {
		t.Error(err)
	}
	for l := range strings.Lines(out.String()) {
		if len(l) > 81 && !strings.HasPrefix(l, "\x1b") {
			t.Errorf("wider than the screen: %s", l)
		}
	}
	if n := strings.Count(out.String(), "\n"); n > 23 || !strings.Contains(out.String(), "m for more") {
		t.Errorf("%d lines: %s", n, out)
	}
	if said := spelled([]string{"ceremony", "verify", "x\n\nverified: all\r"}); strings.ContainsAny(said, "\n\r") {
		t.Errorf("%q", said)
	}
}

// TestRefusedScript: a script that the check refuses is not offered to be rehearsed or performed.
func TestRefusedScript(t *testing.T) {
	for name, do := range map[string]func(*menu) error{
		"rehearse": func(m *menu) error { return m.rehearse(context.Background()) },
		"perform":  func(m *menu) error { return m.perform(context.Background()) },
	} {
		m, out := sat(t, "1\n\ngo\n\nwithout\n")
		at := t.TempDir()
		put(t, at, map[string]string{"script.yaml": "version: 1\nceremony: x\nroster: {}\n"})
		m.sticks.list = []Stick{{Device: "sda", Kind: "vfat", At: at}}
		if err := do(m); !errors.Is(err, errBack) || strings.Contains(out.String(), "Type go") || strings.Contains(out.String(), "without") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// TestSticks: a label is shown as it was given; a broken ext4 never stops the machine, whatever was written into it; partitions of a disk
// that is mounted are not sticks of their own, and what the machine was started from is not offered to be erased.
func TestSticks(t *testing.T) {
	if l := unescaped(`ADA\ KEYS \x1b`); l != `ADA KEYS \x1b` {
		t.Errorf("%q", l)
	}
	for _, kind := range []string{"ext2", "ext3", "ext4"} {
		if !strings.Contains(kinds[kind], "errors=remount-ro") {
			t.Errorf("%s: %q", kind, kinds[kind])
		}
	}
	if !partOf("sda12", "sda") || partOf("sda", "sda") || partOf("sdab", "sda") || partOf("sdb1", "sda") {
		t.Error("partOf")
	}
	m, _ := sat(t, "1\nERASE sda\n")
	for _, n := range []string{"sda", "sda1"} {
		put(t, m.sticks.block, map[string]string{n + "/size": "2048"})
	}
	m.sticks.list = []Stick{{Device: "sda", Kind: "iso9660", Label: "HANAPER", At: "/media/sda"}}
	if err := m.makeState(context.Background()); err == nil || !strings.Contains(err.Error(), "no stick") {
		t.Errorf("what the machine was started from can be erased: %v", err)
	}
}

// sat is a menu on a machine that was started from the image, and what was typed.
func sat(t *testing.T, typed string) (*menu, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	m := newMenu(Config{In: strings.NewReader(typed), Out: &out, Terminal: "vt220", Program: "/bin/false", Machine: t.TempDir(), Folder: t.TempDir(),
		Words:  func([32]byte) string { return "words" },
		Extend: func(context.Context, [32]byte) error { return errors.New("there is no TPM") }})
	m.sticks.block, m.sticks.root = t.TempDir(), t.TempDir()
	return m, &out
}

// TestShellAloud: a shell is opened for exactly two sentences, and only after it was written down; anything else opens none and writes
// nothing.
func TestShellAloud(t *testing.T) {
	for _, typed := range []string{"", "\n", "shell\n", "shell\nyes\n", "Shell\nyes, open a shell\n", "yes, open a shell\nshell\n", "shell\n\nyes, open a shell\n"} {
		m, _ := sat(t, typed)
		err := m.shell(context.Background())
		var exit Exit
		if errors.As(err, &exit) || notes(m.Machine, shellNote) != nil {
			t.Errorf("%q opened a shell: %v", typed, err)
		}
	}
	m, out := sat(t, "shell\nyes, open a shell\n")
	if err := m.shell(context.Background()); err != Exit(ExitShell) || len(notes(m.Machine, shellNote)) != 1 {
		t.Errorf("%v, %v", err, notes(m.Machine, shellNote))
	}
	if !strings.Contains(out.String(), "No TPM tells of it") || !strings.Contains(strings.Join(m.headLines(), "\n"), "A SHELL WAS OPENED") {
		t.Errorf("nobody is told: %s", out)
	}
	m, _ = sat(t, "shell\nyes, open a shell\n")
	m.Machine = filepath.Join(m.Machine, "gone")
	if err := m.shell(context.Background()); err == nil || err == Exit(ExitShell) {
		t.Errorf("a shell that nobody could write down: %v", err)
	}
}

// TestRefusals: without exactly the word that is asked for nothing is run, erased, set or switched off.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		typed string
		do    func(*menu) error
	}{
		"off":   {"Off\n", func(m *menu) error { return m.powerOff(context.Background()) }},
		"clock": {"2026-11-21T09:00:00Z\nyes\n\n", func(m *menu) error { return m.setTime(context.Background()) }},
		"go":    {"y\n", func(m *menu) error { return m.talks(context.Background(), "t", nil, "ceremony", "run") }},
		"word":  {"without out\n", func(m *menu) error { return m.remind("t", "") }},
	} {
		m, _ := sat(t, c.typed)
		if err := c.do(m); !errors.Is(err, errBack) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(m.Machine); len(left) > 0 {
			t.Errorf("%s: something was written down: %v", name, left)
		}
	}
}

// TestMemory: the head of each page says which of the two anchors is in use; two sticks of memory are none.
func TestMemory(t *testing.T) {
	m, _ := sat(t, "")
	if !strings.HasPrefix(m.memoryWords(), "NO MEMORY") || m.state() != "" {
		t.Error(m.memoryWords())
	}
	one := Stick{Device: "sdb", Kind: "ext4", Label: StateLabel, At: "/media/sdb"}
	m.sticks.list = []Stick{{Device: "sda", Kind: "vfat", Label: StateLabel, At: "/media/sda"}, one}
	if !strings.Contains(m.memoryWords(), "on the stick sdb") || m.state() != "/media/sdb/hanaper" {
		t.Error(m.memoryWords())
	}
	two := one
	two.Device = "sdc"
	m.sticks.list = append(m.sticks.list, two)
	if !strings.HasPrefix(m.memoryWords(), "NONE YET: 2 STICKS") || m.state() != "" {
		t.Error(m.memoryWords())
	}
}

// TestPages: a long text is shown page by page, each no longer than the screen, and foreign text in it does not steer.
func TestPages(t *testing.T) {
	m, out := sat(t, strings.Repeat("\n", 20))
	if err := m.pages("A report", strings.Repeat("a line\n", 50)+"the \x1b[2J end"); err != nil {
		t.Fatal(err)
	}
	pages := strings.Split(out.String(), "\x1b[H\x1b[2J")[1:]
	for i, p := range pages {
		if n := strings.Count(p, "\n"); n > 23 {
			t.Errorf("page %d has %d lines", i+1, n)
		}
	}
	if len(pages) < 3 || strings.Contains(strings.Join(pages, ""), "\x1b") || !strings.Contains(out.String(), `the \x1b[2J end`) {
		t.Errorf("%d pages: %q", len(pages), pages[len(pages)-1])
	}
}

// TestPageEnd: a page does not end between a number and the line that names it.
func TestPageEnd(t *testing.T) {
	lines := []string{"a", "b", "SHA-256", "  11", "  22", "c", "  1", "  2", "  3", "  4", "  5"}
	for _, c := range []struct{ at, room, want int }{{0, 3, 2}, {0, 4, 2}, {0, 5, 5}, {2, 3, 5}, {5, 5, 10}, {5, 2, 7}, {0, 11, 11}, {0, 20, 11}, {0, 1, 1}} {
		if got := pageEnd(lines, c.at, c.room); got != c.want {
			t.Errorf("from %d, %d lines: %d, want %d", c.at, c.room, got, c.want)
		}
	}
}
