package factory_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
)

// fileKeys writes a configuration whose devices' keys lie in files.
func (l *line) fileKeys(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.dir, "files.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), "device: {", "device: {key_store: file, ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func boardList(t *testing.T, dir string, ids ...string) string {
	t.Helper()
	path := filepath.Join(dir, "boards.csv")
	if err := os.WriteFile(path, []byte("device_id\n"+strings.Join(ids, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// summary reads the CSV of a run: the outcome by device id.
func summary(t *testing.T, path string) map[string][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	by := map[string][]string{}
	for _, r := range rows[1:] {
		by[r[0]] = r
	}
	return by
}

// TestBoardsKilled: a run of many boards is killed again and again; in the end each board has its one certificate and its folder, and
// none was enrolled twice.
func TestBoardsKilled(t *testing.T) {
	l := newLine(t)
	var ids []string
	for i := range 40 {
		ids = append(ids, fmt.Sprintf("dev-%03d", i))
	}
	config, list := l.fileKeys(t), boardList(t, l.dir, ids...)
	args := []string{"boards", "--config", config, "--boards", list, "--import", filepath.Join(l.dir, "devices", "{id}"), "--concurrent", "3", "--json"}
	ends := func() int {
		b, _ := os.ReadFile(list + ".ends")
		return strings.Count(string(b), "\"device_id\"")
	}
	kills := 0
	for kills < 5 {
		cmd := exec.Command(filepath.Join(l.bin, "hanaper-station"), args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		over := make(chan error, 1)
		go func() { over <- cmd.Wait() }()
		before := ends()
		ended := false
		for !ended && ends() < before+4 {
			select {
			case <-over:
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		if ended {
			break
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-over
		kills++
	}
	if kills < 2 {
		t.Errorf("killed %d times only", kills)
	}
	exit, out, stderr := run(t, filepath.Join(l.bin, "hanaper-station"), args...)
	var tally struct {
		Boards, Enrolled int
		Before           int `json:"enrolled_before"`
	}
	if err := json.Unmarshal([]byte(out), &tally); exit != 0 || err != nil || tally.Boards != len(ids) || tally.Enrolled+tally.Before != len(ids) || tally.Before == 0 {
		t.Fatalf("exit %d, %v: %s%s", exit, err, out, stderr)
	}
	rows := l.rows(t)
	if !strings.Contains(rows, fmt.Sprintf("certificate:%d", len(ids))) {
		t.Errorf("the record has %s", rows)
	}
	done := summary(t, list+".summary.csv")
	for _, id := range ids {
		chain, err := factory.LoadCertificates(filepath.Join(l.dir, "devices", id, "client.pem"))
		if err != nil || chain[0].Subject.CommonName != id || done[id][1] != "enrolled" || fmt.Sprintf("%x", chain[0].SerialNumber.Bytes()) != done[id][2] {
			t.Errorf("%s: %v, %v", id, done[id], err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir, "devices", "*.pkey.pem")); len(left) != 0 {
		t.Errorf("keys still wait: %v", left)
	}
	// Once more: nothing is asked and nothing is changed.
	exit, out, _ = run(t, filepath.Join(l.bin, "hanaper-station"), args...)
	if err := json.Unmarshal([]byte(out), &tally); exit != 0 || err != nil || tally.Before != len(ids) {
		t.Errorf("exit %d, %v: %s", exit, err, out)
	}
	if after := l.rows(t); after != rows {
		t.Errorf("wrote %s, was %s", after, rows)
	}
}

// TestBoardsRefused: a board that hanaperd refuses has its reason in the summary and holds up no other; a list that is wrong, or a dry run,
// makes and sends nothing; a hanaperd that is away ends the run after the first boards.
func TestBoardsRefused(t *testing.T) {
	l := newLine(t)
	config := l.fileKeys(t)
	program := filepath.Join(l.bin, "hanaper-station")
	if exit, _, stderr := l.enroll(t, config, "dev-b"); exit != 0 {
		t.Fatal(stderr)
	}
	list := boardList(t, l.dir, "dev-a", "dev-b", "dev-c")
	args := []string{"boards", "--config", config, "--boards", list, "--import", filepath.Join(l.dir, "devices", "{id}"), "--concurrent", "1"}
	before := l.rows(t)
	exit, out, stderr := run(t, program, append(args, "--dry-run")...)
	if exit != 0 || !strings.Contains(out, "3 boards") || l.rows(t) != before {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
	for _, path := range []string{list + ".ends", list + ".summary.csv", filepath.Join(l.dir, "devices")} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("a dry run made %s", path)
		}
	}
	// dev-b was enrolled with another key.
	exit, out, stderr = run(t, program, args...)
	if exit != 3 || !strings.Contains(out, "2 enrolled now, 0 before, 1 refused") || !strings.Contains(stderr, "same command again") {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
	done := summary(t, list+".summary.csv")
	if done["dev-a"][1] != "enrolled" || done["dev-c"][1] != "enrolled" || done["dev-b"][1] != "refused" || !strings.Contains(done["dev-b"][5], "another key") || done["dev-b"][6] == "" {
		t.Errorf("%v", done)
	}
	if _, err := os.Lstat(filepath.Join(l.dir, "devices", "dev-b")); err == nil {
		t.Error("a refused board has an import folder")
	}
	l.daemon.stop()
	list = boardList(t, t.TempDir(), "dev-x", "dev-y", "dev-z")
	args[4] = list
	exit, out, stderr = run(t, program, args...)
	if exit != 1 || !strings.Contains(out, "1 failed, 2 not begun") || !strings.Contains(stderr, "cannot be reached") {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
	if done := summary(t, list+".summary.csv"); done["dev-z"][1] != "not begun" || done["dev-x"][1] != "failed" {
		t.Errorf("%v", done)
	}
}
