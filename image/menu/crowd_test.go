package menu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/term"
)

const aScript = "version: 1\nceremony: x\nroster: {}\n"

// rows are how many lines of the screen each page took, with the lines that a terminal breaks itself.
func rows(out string) (counts []int) {
	for _, p := range strings.Split(out, "\x1b[H\x1b[2J")[1:] {
		n := 0
		for _, l := range strings.Split(p, "\n") {
			n += max(1, (term.Columns(l)+79)/80)
		}
		counts = append(counts, n)
	}
	return counts
}

// onScreens: no page is longer than the screen, and each of some texts stands on one.
func onScreens(t *testing.T, out string, texts ...string) {
	t.Helper()
	for i, n := range rows(out) {
		if n > 24 {
			t.Errorf("page %d has %d lines:\n%s", i+1, n, strings.Split(out, "\x1b[H\x1b[2J")[i+1])
		}
	}
	for _, text := range texts {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), text) {
			t.Errorf("%q is on no page", text)
		}
	}
}

// several gives a text for each number.
func several(form string, from, to int) (texts []string) {
	for n := from; n <= to; n++ {
		texts = append(texts, fmt.Sprintf(form, n))
	}
	return texts
}

// TestManySticks: forty partitions are all told, page by page, and the head of the page says how many there are.
func TestManySticks(t *testing.T) {
	m, out := sat(t, strings.Repeat("m\n", 40)+"\n")
	m.sticks.dev = t.TempDir()
	if err := os.WriteFile(filepath.Join(m.sticks.dev, "sda1"), make([]byte, 256<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("/sbin/mke2fs", "-q", "-F", "-t", "ext2", "-L", "CROWD", filepath.Join(m.sticks.dev, "sda1")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for n := 1; n <= 40; n++ {
		put(t, m.sticks.block, map[string]string{fmt.Sprintf("sda%d/size", n): "512"})
		if n > 1 {
			if err := os.Link(filepath.Join(m.sticks.dev, "sda1"), filepath.Join(m.sticks.dev, fmt.Sprintf("sda%d", n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.stickPage(context.Background()); !errors.Is(err, errBack) {
		t.Error(err)
	}
	onScreens(t, out.String(), append(several("sda%d ext2 CROWD", 1, 40), "sticks: 40: ")...)
}

// TestManyPapers: approvals, keys, a command and a refusal of any length are shown whole, page by page, before people answer below them.
func TestManyPapers(t *testing.T) {
	at := t.TempDir()
	put(t, at, map[string]string{"script.yaml": aScript})
	for n := range 60 {
		put(t, at, map[string]string{fmt.Sprintf("approval-of-an-officer-with-a-name-%02d.json", n): `{"payloadType":"application/vnd.hanaper.approval+json"}`})
		put(t, at, map[string]string{fmt.Sprintf("key-%02d.key", n): "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"})
	}
	// The script, its check, pages of approvals, the folder's name, a library, keys, nothing for the second kind.
	m, out := sat(t, "1\n\nwithout\n"+strings.Repeat("\n", 40))
	m.Program = "/bin/true"
	m.sticks.list = []Stick{{Device: "sda", Kind: "vfat", At: at}}
	if err := m.perform(context.Background()); !errors.Is(err, errBack) && !errors.Is(err, errEnded) {
		t.Error(err)
	}
	onScreens(t, out.String(), several("sda: approval-of-an-officer-with-a-name-%02d.json", 0, 59)...)

	m, out = sat(t, strings.Repeat("m\n", 10)+"60\n59\n\n")
	chosen, err := m.keys("Keys", "words", "%02", looked(at))
	if err != nil || len(chosen) != 2 || filepath.Base(chosen[0]) != "key-59.key" {
		t.Errorf("%v: %v", chosen, err)
	}
	onScreens(t, out.String(), append(several("key-%02d.key", 0, 59), "Named so far: 2")...)

	args := []string{"ceremony", "run"}
	for n := range 60 {
		args = append(args, "--approval", fmt.Sprintf("/media/sda/approval-of-an-officer-with-a-name-%02d.json", n))
	}
	m, out = sat(t, strings.Repeat("\n", 30))
	if err := m.talks(context.Background(), "Perform", nil, args...); !errors.Is(err, errBack) {
		t.Error(err)
	}
	onScreens(t, out.String(), several("/media/sda/approval-of-an-officer-with-a-name-%02d.json", 0, 59)...)

	m, out = sat(t, strings.Repeat("\n", 30))
	if err := m.act(context.Background(), item{text: "A thing", do: func(context.Context) error { return errors.New(strings.Join(args, " ")) }}); err != nil {
		t.Error(err)
	}
	onScreens(t, out.String(), several("/media/sda/approval-of-an-officer-with-a-name-%02d.json", 0, 59)...)
}

// TestNothingIsHiddenUnsaid: where not all of a stick was looked at, the page on which something may be missing says so.
func TestNothingIsHiddenUnsaid(t *testing.T) {
	for name, fill := range map[string]func(string){
		"nothing": func(string) {},
		"decoys": func(at string) {
			for n := range maxOpened + 1 {
				put(t, at, map[string]string{fmt.Sprintf("%03d.yaml", n): ""})
			}
		},
		"entries": func(at string) {
			for n := range maxLooked + 1 {
				put(t, at, map[string]string{fmt.Sprint(n): ""})
			}
		},
		"depth": func(at string) { put(t, at, map[string]string{"1/2/3/4/5/script.yaml": aScript}) },
		"large": func(at string) { put(t, at, map[string]string{"large.yaml": aScript + strings.Repeat("#", 5<<20)}) },
		"links": func(at string) {
			put(t, at, map[string]string{"d/x": ""})
			if err := os.Symlink("d", filepath.Join(at, "script.yaml")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		m, out := sat(t, "\n\n")
		at := t.TempDir()
		fill(at)
		m.sticks.list = []Stick{{Device: "sda", Kind: "vfat", At: at}}
		if _, _, err := m.script("Perform"); !errors.Is(err, errBack) {
			t.Errorf("%s: %v", name, err)
		}
		if said := strings.Contains(out.String(), "NOT ALL"); said != (name != "nothing") {
			t.Errorf("%s: %v:\n%s", name, said, out)
		}
		onScreens(t, out.String())
	}
	// What is hidden is looked at.
	m, _ := sat(t, "1\n")
	at := t.TempDir()
	put(t, at, map[string]string{".x/script.yaml": aScript})
	m.sticks.list = []Stick{{Device: "sda", Kind: "vfat", At: at}}
	if path, _, err := m.script("Perform"); err != nil || filepath.Base(path) != "script.yaml" {
		t.Errorf("%q, %v", path, err)
	}
	// What is not mounted is not looked at, either.
	m, out := sat(t, "\n\n")
	m.sticks.list = []Stick{{Device: "sda", Kind: "ext4", Label: "TOKEN", Why: "x"}}
	if _, _, err := m.script("Perform"); !errors.Is(err, errBack) || !strings.Contains(out.String(), "NOT ALL") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// anISO is as much of an ISO as is read of it.
func anISO(t *testing.T, path string, mark byte) {
	t.Helper()
	iso := make([]byte, 20*2048)
	copy(iso[16*2048+1:], "CD001")
	binary.LittleEndian.PutUint32(iso[16*2048+80:], 20)
	binary.LittleEndian.PutUint16(iso[16*2048+128:], 2048)
	iso[len(iso)-1] = mark
	if err := os.WriteFile(path, iso, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTwoMedia: of two media of an image neither is taken for the one that was started: both are named, and transcripts are told of none.
func TestTwoMedia(t *testing.T) {
	m, out := sat(t, strings.Repeat("\n", 10))
	m.sticks.dev = t.TempDir()
	anISO(t, filepath.Join(m.sticks.dev, "sda"), 1)
	anISO(t, filepath.Join(m.sticks.dev, "sr0"), 2)
	fat := t.TempDir()
	put(t, fat, map[string]string{"EFI/BOOT/BOOTX64.EFI": "MZ"})
	one := Stick{Device: "sda", Kind: "iso9660", Label: "HANAPER", At: "/media/sda"}
	m.sticks.list = []Stick{one}
	if err := m.checkImage(context.Background()); err != nil || len(notes(m.Machine, mediumNote)) != 1 {
		t.Errorf("one: %v, %v", err, notes(m.Machine, mediumNote))
	}
	onScreens(t, out.String(), "sda HANAPER")
	for name, second := range map[string]Stick{
		"a CD":        {Device: "sr0", Kind: "iso9660", Label: "HANAPER", At: "/media/sr0"},
		"a FAT stick": {Device: "sdb1", Kind: "vfat", Label: "X", At: fat},
	} {
		m, out := sat(t, strings.Repeat("\n", 10))
		m.sticks.dev = filepath.Join(filepath.Dir(fat), filepath.Base(fat), "dev")
		put(t, m.sticks.dev, nil)
		if err := os.MkdirAll(m.sticks.dev, 0o700); err != nil {
			t.Fatal(err)
		}
		anISO(t, filepath.Join(m.sticks.dev, "sda"), 1)
		anISO(t, filepath.Join(m.sticks.dev, "sr0"), 2)
		put(t, m.Machine, map[string]string{mediumNote: "of an earlier look\n"})
		m.sticks.list = []Stick{one, second}
		if err := m.checkImage(context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := notes(m.Machine, mediumNote); n != nil {
			t.Errorf("%s: transcripts are told of a medium that nobody knows to be the one: %v", name, n)
		}
		onScreens(t, out.String(), "2 MEDIA", "sda HANAPER", second.String())
	}
}

// TestTwoMemories: of two sticks of memory none is taken unasked. They are told apart, and the head of the page says which is in use; one
// that was chosen and taken out is not replaced by the other.
func TestTwoMemories(t *testing.T) {
	pair := []Stick{{Device: "sdb", Kind: "ext4", Label: StateLabel, At: "/media/sdb", UUID: "11111111-1111-4111-8111-1111111111aa", Serial: "S1"}, {Device: "sdc", Kind: "ext4", Label: StateLabel, At: "/media/sdc", UUID: "22222222-2222-4222-8222-2222222222bb", Serial: "S2"}}
	m, out := sat(t, "\n2\n")
	m.sticks.list = pair
	if m.state() != "" || !strings.Contains(strings.Join(m.headLines(), "\n"), "2 STICKS") {
		t.Errorf("one was taken: %q, %v", m.state(), m.headLines())
	}
	if err := m.remind("Perform", "/media/sda/script.yaml"); !errors.Is(err, errBack) || m.state() != "" {
		t.Errorf("nobody chose: %v, %q", err, m.state())
	}
	onScreens(t, out.String(), "1111111111aa", "2222222222bb", "S1", "S2")
	if err := m.remind("Perform", "/media/sda/script.yaml"); err != nil || m.state() != "/media/sdc/hanaper" || !strings.Contains(cut(m.headLines()[1]), "sdc, UUID 22222222-2222-4222-8222-2222222222bb") {
		t.Errorf("%v, %q, %v", err, m.state(), m.headLines())
	}
	m.sticks.list = pair[:1]
	if m.state() != "" {
		t.Errorf("another took its place: %q", m.state())
	}
	// Cut short: the same.
	m, out = sat(t, "1\n\n")
	cut := t.TempDir()
	put(t, cut, map[string]string{"c/transcript.log": "", "c/INCOMPLETE": ""})
	m.sticks.list = append([]Stick{{Device: "sda", Kind: "vfat", At: cut}}, pair...)
	if err := m.resume(context.Background()); !errors.Is(err, errBack) || strings.Contains(out.String(), "The roster's SHA-256") {
		t.Errorf("%v:\n%s", err, out)
	}
	onScreens(t, out.String(), "1111111111aa", "2222222222bb")
}

// TestTwoMemoriesOfReleases: a release is not held to no memory where two sticks of memory are plugged in, or one that was cut off: people are asked before the verb runs.
func TestTwoMemoriesOfReleases(t *testing.T) {
	real, evil := Stick{Device: "sdb", Kind: "ext4", Label: StateLabel, At: t.TempDir(), Serial: "S1"}, Stick{Device: "sdc", Kind: "ext4", Label: StateLabel, At: t.TempDir(), Serial: "S2"}
	for name, list := range map[string][]Stick{"two": {real, evil}, "one that was cut off": {{Device: "sdb", Kind: "ext4", Label: StateLabel, Why: "x", Unfinished: true}}} {
		m, out := sat(t, "\n\n\n")
		ran := filepath.Join(t.TempDir(), "ran")
		m.Program = filepath.Join(t.TempDir(), "hanaper")
		if err := os.WriteFile(m.Program, []byte("#!/bin/sh\n: > "+ran+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		m.sticks.list = list
		if err := m.verifyRelease(context.Background(), "/media/sda1/hanaper-v0.2.0"); !errors.Is(err, errBack) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%s: the verb ran without a memory, and nobody was asked", name)
		}
		onScreens(t, out.String(), "sdb "+StateLabel)
	}
}

// TestMemoryThatTravels: a stick of memory that brings what is to be held against it, on the same disk, is no memory unasked: who wrote the one wrote the other.
func TestMemoryThatTravels(t *testing.T) {
	for name, travels := range map[string][]Stick{
		"one file system": {{Device: "sdb", Kind: "ext4", Label: StateLabel}},
		"one disk":        {{Device: "sdb1", Kind: "vfat"}, {Device: "sdb2", Kind: "ext4", Label: StateLabel}},
	} {
		for what, act := range map[string]func(m *menu, at string) error{
			"resume":  func(m *menu, at string) error { return m.resume(context.Background()) },
			"perform": func(m *menu, at string) error { return m.remind("Perform", filepath.Join(at, "script.yaml")) },
			"release": func(m *menu, at string) error {
				return m.verifyRelease(context.Background(), filepath.Join(at, "hanaper-v1"))
			},
		} {
			answers := map[string]string{"resume": "1\n\n", "perform": "\n", "release": "\n"}[what]
			m, out := sat(t, answers)
			m.Program = "/nonexistent"
			m.sticks.list = slices.Clone(travels)
			for i := range m.sticks.list {
				m.sticks.list[i].At = t.TempDir()
			}
			at := m.sticks.list[0].At
			put(t, at, map[string]string{"c/transcript.log": "", "c/INCOMPLETE": ""})
			if err := act(m, at); !errors.Is(err, errBack) {
				t.Errorf("%s, %s: %v\n%s", name, what, err, out)
			}
			onScreens(t, out.String(), "who wrote the one", "Type it is ours")
		}
	}
	// Another disk is another matter.
	m, out := sat(t, "")
	m.sticks.list = []Stick{{Device: "sda1", Kind: "vfat", At: t.TempDir()}, {Device: "sdaa1", Kind: "ext4", Label: StateLabel, At: t.TempDir()}}
	if err := m.memory("Perform", filepath.Join(m.sticks.list[0].At, "script.yaml")); err != nil || strings.Contains(out.String(), "who wrote the one") {
		t.Errorf("%v\n%s", err, out)
	}
	// Whose it is says so.
	m, _ = sat(t, "it is ours\n")
	m.sticks.list = []Stick{{Device: "sda", Kind: "ext4", Label: StateLabel, At: t.TempDir()}}
	if err := m.memory("Perform", filepath.Join(m.sticks.list[0].At, "script.yaml")); err != nil {
		t.Error(err)
	}
}

// TestUnfinishedMemory: a stick of memory that was cut off while it was written is no lack of memory.
func TestUnfinishedMemory(t *testing.T) {
	m, out := sat(t, "without\n")
	m.sticks.list = []Stick{{Device: "sdb", Kind: "ext4", Label: StateLabel, Why: "x", Unfinished: true}}
	if err := m.remind("Perform", "/media/sda/script.yaml"); !errors.Is(err, errBack) || strings.Contains(out.String(), "No stick") || !strings.Contains(out.String(), "finish") {
		t.Errorf("%v:\n%s", err, out)
	}
	if w := m.memoryWords(); !strings.Contains(w, "sdb") || !strings.Contains(w, "CUT OFF") {
		t.Error(w)
	}
}

// TestTwoTokenFolders: of two sticks with tokens in files people say which is meant.
func TestTwoTokenFolders(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	put(t, one, map[string]string{"softhsm/x": ""})
	put(t, two, map[string]string{"softhsm/x": ""})
	m, out := sat(t, "\n2\n")
	m.sticks.list = []Stick{{Device: "sda", Kind: "vfat", Label: "EVIL", At: one}, {Device: "sdb", Kind: "ext4", Label: "TOKEN", At: two}}
	if dir, err := m.softTokens("Perform"); !errors.Is(err, errBack) || dir != "" || m.environment != nil {
		t.Errorf("nobody chose: %v, %v, %v", dir, m.environment, err)
	}
	if dir, err := m.softTokens("Perform"); err != nil || dir != filepath.Join(two, "softhsm") || len(m.environment) != 1 {
		t.Errorf("%v, %v, %v", dir, m.environment, err)
	}
	onScreens(t, out.String(), "sda EVIL", "sdb TOKEN")
}

// TestSaveThatFailed: what a save that failed, or was cut short, had written is gone, blocks nothing, and is taken for nothing.
func TestSaveThatFailed(t *testing.T) {
	dir, stick := filepath.Join(t.TempDir(), "ceremony-1"), t.TempDir()
	put(t, dir, map[string]string{"a/one": "1", "checkpoint": "", "transcript.log": "", "transcript.dsse.json": "", "z/file": "2"})
	if err := os.Symlink("one", filepath.Join(dir, "z", "link")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := copyTo(dir, stick, func(int, int) {}); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(stick); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	// Cut short, as by the plug: the name is free, and what lies there is no ceremony.
	put(t, stick, map[string]string{"ceremony-1" + unfinished + "/transcript.log": "", "ceremony-1" + unfinished + "/checkpoint": "", "ceremony-1" + unfinished + "/transcript.dsse.json": ""})
	if found := looked(stick); len(found) != 0 {
		t.Errorf("half a copy is taken for a ceremony: %v", found)
	}
	if err := os.Remove(filepath.Join(dir, "z", "link")); err != nil {
		t.Fatal(err)
	}
	out, files, err := copyTo(dir, stick, func(int, int) {})
	if err != nil || files != 5 || filepath.Base(out) != "ceremony-1" {
		t.Errorf("%s, %d: %v", out, files, err)
	}
	if left, _ := os.ReadDir(stick); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if err := sameFolder(dir, out); err != nil {
		t.Error(err)
	}
	// What was saved is not written over: the next goes beside it.
	if again, _, err := copyTo(dir, stick, func(int, int) {}); err != nil || filepath.Base(again) != "ceremony-1-2" || sameFolder(dir, again) != nil {
		t.Errorf("%s: %v", again, err)
	}
	put(t, stick, map[string]string{"ceremony-1/more": ""})
	if err := sameFolder(dir, filepath.Join(stick, "ceremony-1")); err == nil {
		t.Error("a copy with one file more is the same")
	}
}

// TestNextOfLittle: a folder that holds only keys, or only approvals, is not empty, and is told what comes next.
func TestNextOfLittle(t *testing.T) {
	for says, files := range map[string]map[string]string{
		"Officers' keys lie here: ada.key":              {"ada.key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"},
		"Officers who have enrolled lie here: ada.json": {"ada.key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "ada.json": `{"type":"hanaper-officer/1"}`},
		"Approvals lie here, and no script":             {"a.json": `{"payloadType":"application/vnd.hanaper.approval+json"}`},
		"What a release publishes of its image":         {"image.json": `{"files":{"hanaper.iso":{}}}`},
	} {
		var out bytes.Buffer
		dir := t.TempDir()
		put(t, dir, files)
		if err := Next(context.Background(), Config{In: strings.NewReader("\n"), Out: &out, Folder: dir}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(out.String(), says) || strings.Contains(out.String(), "Nothing of") {
			t.Errorf("%s: %s", says, &out)
		}
	}
}

// TestReleaseIsRemembered: what a release's verification remembers goes onto the stick of memory, which is opened for writing before the verb runs; where it
// cannot be, the verb does not run.
func TestReleaseIsRemembered(t *testing.T) {
	digest := strings.Repeat("ab", 32) + "\n"
	m, out := sat(t, digest+"\n\n")
	ran := filepath.Join(t.TempDir(), "ran")
	m.Program = filepath.Join(t.TempDir(), "hanaper")
	if err := os.WriteFile(m.Program, []byte("#!/bin/sh\n: > "+ran+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.sticks.list = []Stick{{Device: "sdb1", Kind: "ext4", Label: StateLabel, At: t.TempDir()}}
	err := m.verifyRelease(context.Background(), "/media/sda1/hanaper-v0.2.0")
	if err == nil || !strings.Contains(err.Error(), "sdb1 HANAPER-STATE cannot be written") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the verb ran on a memory that cannot be written")
	}
}
