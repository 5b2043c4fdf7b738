package factory_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/softhsm"
)

// TestStationFirstToken: with two boards in one module, the client of the field would take the first one whatever its label; the station
// that is told to demand that refuses the other before it has a key, and one that is not says so. The judge of which is first is pkcs11-tool.
func TestStationFirstToken(t *testing.T) {
	l := newLine(t)
	store, err := softhsm.New(filepath.Join(t.TempDir(), "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	boards := map[string]softhsm.Board{}
	// SoftHSM is started in this process with the tests' own store; these tokens are made by the program.
	for _, label := range []string{"board-1", "board-2"} {
		boards[label] = l.blankBoard(t, store, label)
	}
	list := exec.Command("pkcs11-tool", "--module", boards["board-1"].Module, "-L")
	list.Env = append(os.Environ(), store.Env()...)
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, after, _ := strings.Cut(string(out), "token label")
	first := strings.Trim(strings.SplitN(after, "\n", 2)[0], " :")
	second := map[string]string{"board-1": "board-2", "board-2": "board-1"}[first]
	if second == "" {
		t.Fatalf("no first token in:\n%s", out)
	}
	demanding := filepath.Join(l.dir, "demanding.yaml")
	b, err := os.ReadFile(l.config)
	if err == nil {
		err = os.WriteFile(demanding, append(b, "sota: {first_token: demanded}\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := l.rows(t)
	exit, _, stderr := l.enrollIn(t, store, demanding, "dev-2", "--token", boards[second].URI)
	if exit != 3 || !strings.Contains(stderr, first) || !strings.Contains(stderr, "shows before") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if after := l.rows(t); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	if exit, _, stderr := l.enrollIn(t, store, demanding, "dev-1", "--token", boards[first].URI); exit != 0 {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	exit, out2, stderr := l.enrollIn(t, store, l.config, "dev-2", "--token", boards[second].URI)
	var r struct {
		NewKey bool `json:"new_key"`
		Uptane bool `json:"new_uptane_key"`
	}
	if err := json.Unmarshal([]byte(out2), &r); exit != 0 || err != nil || !r.NewKey || !r.Uptane || !strings.Contains(stderr, "take care: the client takes the first token") {
		t.Errorf("exit %d, %v: %s%s", exit, err, out2, stderr)
	}
}

// blankBoard has the program initialise a token in a store of its own.
func (l *line) blankBoard(t *testing.T, store *softhsm.Store, label string) softhsm.Board {
	t.Helper()
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	pin, officer := filepath.Join(l.dir, label+".pin"), filepath.Join(l.dir, label+".so-pin")
	for path, value := range map[string]string{pin: "24681357", officer: "97531864"} {
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(l.bin, "hanaper"), "token", "init", "--module", module, "--label", label, "--pin-source", pin, "--so-pin-source", officer, "--transcript", filepath.Join(l.dir, "boards.log"))
	cmd.Env = append(os.Environ(), store.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return softhsm.Board{Label: label, Module: module, URI: "pkcs11:token=" + label + "?module-path=" + module + "&pin-source=" + pin, PINFile: pin, PIN: []byte("24681357")}
}

// enrollIn is enroll with the tokens of a store.
func (l *line) enrollIn(t *testing.T, store *softhsm.Store, config, id string, more ...string) (int, string, string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(l.bin, "hanaper-station"), append([]string{"enroll", "--config", config, "--device-id", id, "--import", filepath.Join(l.dir, "import-"+id), "--json"}, more...)...)
	cmd.Env = append(os.Environ(), store.Env()...)
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), stderr.String()
}
