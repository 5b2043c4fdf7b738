package factory_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/factory"
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

// TestStationAfterMistakes: what an operator mended at hanaperd, the same station and the same command bring to the boards: the ids of two
// boards exchanged, and a board that died replaced. pkcs11-tool is the judge of the tokens.
func TestStationAfterMistakes(t *testing.T) {
	l := newLine(t)
	store, err := softhsm.New(filepath.Join(t.TempDir(), "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := l.blankBoard(t, store, "board-a"), l.blankBoard(t, store, "board-b"), l.blankBoard(t, store, "board-c")
	office := l.client(t, l.operator(t, "olga"))
	enroll := func(id string, board softhsm.Board) (int, string) {
		t.Helper()
		exit, out, stderr := l.enrollIn(t, store, l.config, id, "--token", board.URI)
		return exit, out + stderr
	}
	must := func(id string, board softhsm.Board) {
		t.Helper()
		if exit, said := enroll(id, board); exit != 0 {
			t.Fatalf("exit %d: %s", exit, said)
		}
	}
	// holds reads the board's certificates: of this id, one, and the same as in the folder.
	holds := func(id string, board softhsm.Board) {
		t.Helper()
		list := exec.Command("pkcs11-tool", "--module", board.Module, "--token-label", board.Label, "-O", "--type", "cert")
		list.Env = append(os.Environ(), store.Env()...)
		out, err := list.CombinedOutput()
		if err != nil || strings.Count(string(out), "Certificate Object") != 1 || !strings.Contains(string(out), "CN="+id) {
			t.Errorf("%v: %s", err, out)
		}
		read := exec.Command("pkcs11-tool", "--module", board.Module, "--token-label", board.Label, "--read-object", "--type", "cert", "--id", "01")
		read.Env = append(os.Environ(), store.Env()...)
		der, err := read.Output()
		if err != nil {
			t.Fatal(err)
		}
		d, err := office.Device(t.Context(), id)
		if err != nil || d.Status != "issued" {
			t.Fatalf("%+v, %v", d, err)
		}
		client, err := os.ReadFile(filepath.Join(l.dir, "import-"+id, "client.pem"))
		first, _ := pem.Decode(client)
		if err != nil || first == nil || !bytes.Equal(first.Bytes, der) {
			t.Errorf("token and folder of %s differ: %v", id, err)
		}
	}
	must("dev-1", b)
	must("dev-2", a)
	if _, err := office.Swap(t.Context(), factory.SwapRequest{A: "dev-1", B: "dev-2", Note: "labels"}); err != nil {
		t.Fatal(err)
	}
	before := l.rows(t)
	if exit, said := enroll("dev-1", b); exit != 3 {
		t.Errorf("the wrong board again: exit %d: %s", exit, said)
	}
	if after := l.rows(t); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	must("dev-1", a)
	must("dev-2", b)
	holds("dev-1", a)
	holds("dev-2", b)
	must("dev-1", a) // again, and nothing is moved
	if old, err := filepath.Glob(filepath.Join(l.dir, "import-dev-*.old-*")); err != nil || len(old) != 2 {
		t.Errorf("%v, %v", old, err)
	}
	if _, err := office.Reissue(t.Context(), factory.ReissueRequest{DeviceID: "dev-1", Note: "it does not start"}); err != nil {
		t.Fatal(err)
	}
	must("dev-1", c)
	holds("dev-1", c)
	// A folder with something that is none of ours is left where it is.
	if _, err := office.Reissue(t.Context(), factory.ReissueRequest{DeviceID: "dev-2"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "import-dev-2", "notes"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, said := enroll("dev-2", l.blankBoard(t, store, "board-d")); exit != 3 || !strings.Contains(said, "none of ours") {
		t.Errorf("exit %d: %s", exit, said)
	}
	// Another key's certificate in the token is in the way, and stays.
	foreign := l.blankBoard(t, store, "board-e")
	put := exec.Command("pkcs11-tool", "--module", foreign.Module, "--token-label", foreign.Label, "--login", "--pin", string(foreign.PIN),
		"--write-object", l.der(t, filepath.Join(l.dir, "import-dev-1", "client.pem")), "--type", "cert", "--id", "01")
	put.Env = append(os.Environ(), store.Env()...)
	if out, err := put.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if exit, said := enroll("dev-3", foreign); exit != 3 || !strings.Contains(said, "another certificate with id 01") {
		t.Errorf("exit %d: %s", exit, said)
	}
}

// der writes the first certificate of a file as DER, and gives that file's path.
func (l *line) der(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	out := filepath.Join(t.TempDir(), "one.der")
	if err := os.WriteFile(out, block.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOperatorSlips: an order that nobody signed, a station's name that is misspelled, no terminal to answer at, and a flag behind the name: each is
// told what to do, and nothing is revoked.
func TestOperatorSlips(t *testing.T) {
	l := newLine(t)
	cert, key := l.operator(t, "olga").write(t, l.dir, "olga")
	olga := []string{"--url", "https://" + l.address, "--ca", filepath.Join(l.dir, "operations-root.pem"), "--cert", cert, "--key", key}
	hanaperd := filepath.Join(l.bin, "hanaperd")
	file := filepath.Join(l.dir, "order.json")
	if exit, _, stderr := run(t, hanaperd, "order", "new", "--lot", "l", "--quantity", "1", "--cert", cert, "--out", file); exit != 0 {
		t.Fatal(stderr)
	}
	board := l.blankBoard(t, softhsm.ForTest(t), "slip")
	if exit, _, stderr := l.enroll(t, l.config, "dev-1", "--token", board.URI); exit != 0 {
		t.Fatal(stderr)
	}
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{append(append([]string{"lot", "open"}, olga...), file), 2, "nobody has signed yet"},
		{append([]string{"device", "revoke", "--station", "line-l", "--reason", "key_compromise", "--yes"}, olga...), 0, "is the name as its certificate has it"},
		{append([]string{"device", "list", "--since", "tomorrow"}, olga...), 2, "in UTC"},
		{append([]string{"device", "show", "dev-1"}, olga...), 2, "flags stand before"},
	} {
		if exit, out, stderr := run(t, hanaperd, c.args...); exit != c.exit || !strings.Contains(out+stderr, c.says) {
			t.Errorf("%s: exit %d: %s%s", c.args[:2], exit, out, stderr)
		}
	}
	alone := exec.Command(hanaperd, append([]string{"device", "revoke", "--station", "line-1", "--reason", "key_compromise"}, olga...)...)
	alone.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := alone.CombinedOutput(); err == nil || !strings.Contains(string(out), "--yes") {
		t.Errorf("%v: %s", err, out)
	}
	if d, err := l.client(t, l.operator(t, "olga")).Device(t.Context(), "dev-1"); err != nil || d.Status != "issued" {
		t.Errorf("%+v, %v", d, err)
	}
}
