package factory_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/softhsm"
)

// spools is a line with a station that has no network, and a desk that has one.
type spools struct {
	*line
	offline, desk, program string
}

func newSpools(t *testing.T) *spools {
	l := newLine(t)
	l.station(t, "desk-1").write(t, l.dir, "desk")
	s := &spools{line: l, program: filepath.Join(l.bin, "hanaper-station")}
	b, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) string {
		path := filepath.Join(l.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := strings.Replace(string(b), "device: {", "device: {key_store: file, ", 1)
	// Nothing listens there: whatever the station tried to ask would fail.
	s.offline = put("offline.yaml", strings.Replace(files, l.address, "127.0.0.1:1", 1))
	s.desk = put("desk.yaml", fmt.Sprintf("factory: {url: \"https://%s\", ca: operations-root.pem, certificate: desk.pem, key: desk.key, tries: 1, got: desk-got.pem}\nspool: {stations: [line-1, desk-1]}\n", l.address))
	return s
}

func (s *spools) export(t *testing.T, out string, ids ...string) {
	t.Helper()
	if exit, _, stderr := s.tryExport(t, s.offline, out, ids...); exit != 0 {
		t.Fatalf("export: exit %d: %s", exit, stderr)
	}
}

func (s *spools) tryExport(t *testing.T, config, out string, ids ...string) (int, string, string) {
	return run(t, s.program, "spool", "export", "--config", config, "--boards", boardList(t, t.TempDir(), ids...), "--import", filepath.Join(s.dir, "devices", "{id}"), "--out", out)
}

func (s *spools) submit(t *testing.T, spool, answers string) (int, string, string) {
	return run(t, s.program, "spool", "submit", "--config", s.desk, "--spool", spool, "--out", answers)
}

func (s *spools) take(t *testing.T, answers string) (int, string, string) {
	return run(t, s.program, "spool", "import", "--config", s.offline, "--answers", answers)
}

// devices are the import folders with all that they hold.
func (s *spools) devices(t *testing.T) string { return folderText(t, filepath.Join(s.dir, "devices")) }

func folderText(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSpool: requests of a station without a network come to hanaperd by a desk on a stick, and the certificates back; each way may be gone
// again and again, and changes nothing then.
func TestSpool(t *testing.T) {
	s := newSpools(t)
	spool, answers := filepath.Join(s.dir, "monday.spool"), filepath.Join(s.dir, "monday.answers")
	// dev-2 has a certificate for another key: hanaperd refuses it.
	if exit, _, stderr := s.enroll(t, s.fileKeys(t), "dev-2"); exit != 0 {
		t.Fatal(stderr)
	}
	s.export(t, spool, "dev-1", "dev-2", "dev-3")
	if text, err := os.ReadFile(spool); err != nil || bytes.Contains(text, []byte("PRIVATE")) {
		t.Errorf("the spool holds a private key, or is not there: %v", err)
	}
	// A desk takes no other station's spool that it was not told of: hanaperd would judge it by the desk's lots.
	b, err := os.ReadFile(s.desk)
	if err != nil {
		t.Fatal(err)
	}
	untold := filepath.Join(s.dir, "untold.yaml")
	if err := os.WriteFile(untold, []byte(strings.Replace(string(b), "stations: [line-1, desk-1]", "stations: []", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, _, stderr := run(t, s.program, "spool", "submit", "--config", untold, "--spool", spool, "--out", answers); exit != 3 || !strings.Contains(stderr, "is signed by station line-1, and this desk is desk-1") {
		t.Errorf("a desk that was not told: exit %d: %s", exit, stderr)
	}
	if _, err := os.Lstat(answers); err == nil {
		t.Error("it wrote answers")
	}
	exit, out, stderr := s.submit(t, spool, answers)
	if exit != 0 || !strings.Contains(out, "of station line-1: 3 requests, 2 enrolled, 1 refused") {
		t.Fatalf("exit %d: %s%s", exit, out, stderr)
	}
	rows := s.rows(t)
	again := filepath.Join(s.dir, "again.answers")
	if exit, _, stderr := s.submit(t, spool, again); exit != 0 {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if after := s.rows(t); after != rows {
		t.Errorf("submitted twice: wrote %s, was %s", after, rows)
	}
	exit, out, stderr = s.take(t, answers)
	if exit != 3 || !strings.Contains(out, "3 boards: 2 enrolled now, 0 before, 1 refused") || !strings.Contains(stderr, "another key") {
		t.Fatalf("exit %d: %s%s", exit, out, stderr)
	}
	for _, id := range []string{"dev-1", "dev-3"} {
		chain, err := factory.LoadCertificates(filepath.Join(s.dir, "devices", id, "client.pem"))
		if err != nil || chain[0].Subject.CommonName != id || len(chain) != 2 {
			t.Errorf("%s: %v, %v", id, chain, err)
		}
		have := openssl(t, "pkey", "-in", filepath.Join(s.dir, "devices", id, "pkey.pem"), "-pubout")
		if want := openssl(t, "x509", "-in", filepath.Join(s.dir, "devices", id, "client.pem"), "-noout", "-pubkey"); have != want {
			t.Errorf("%s: pkey.pem is not the key of client.pem", id)
		}
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "devices", "dev-2")); err == nil {
		t.Error("a refused board has an import folder")
	}
	before := s.devices(t)
	for _, file := range []string{answers, again} {
		exit, out, stderr = s.take(t, file)
		if exit != 3 || !strings.Contains(out, "0 enrolled now, 2 before, 1 refused") || s.devices(t) != before {
			t.Errorf("taken again: exit %d: %s%s", exit, out, stderr)
		}
	}
}

// TestSpoolToken: keys born in a token stay there while their requests travel; a board with another token, or whose token lost its key, gets
// nothing.
func TestSpoolToken(t *testing.T) {
	s := newSpools(t)
	right, wrong := spoolBoard(t, "spool-right"), spoolBoard(t, "spool-wrong")
	b, err := os.ReadFile(s.offline)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.dir, "token.yaml")
	if err := os.WriteFile(config, bytes.Replace(b, []byte("key_store: file, "), nil, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(s.dir, "one.csv")
	if err := os.WriteFile(list, []byte("device_id,token,import\ndev-t,"+right.URI+",devices/dev-t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spool, answers := filepath.Join(s.dir, "t.spool"), filepath.Join(s.dir, "t.answers")
	if exit, _, stderr := run(t, s.program, "spool", "export", "--config", config, "--boards", list, "--out", spool); exit != 0 {
		t.Fatal(stderr)
	}
	if exit, _, stderr := s.submit(t, spool, answers); exit != 0 {
		t.Fatal(stderr)
	}
	// What the station kept names the wrong board's token, as if somebody had connected that.
	pendings, _ := filepath.Glob(filepath.Join(s.dir, "spool", "*", "pending.json"))
	if len(pendings) != 1 {
		t.Fatal(pendings)
	}
	kept, err := os.ReadFile(pendings[0])
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.NewReplacer("spool-right", "spool-wrong", right.Serial, wrong.Serial).Replace(string(kept))
	if err := os.WriteFile(pendings[0], []byte(swapped), 0o600); err != nil {
		t.Fatal(err)
	}
	take := func() (int, string, string) {
		return run(t, s.program, "spool", "import", "--config", config, "--answers", answers)
	}
	if exit, out, stderr := take(); exit != 1 || !strings.Contains(strings.Join(strings.Fields(stderr), " "), "no such object") {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
	if text := s.devices(t); text != "" {
		t.Errorf("written: %s", text)
	}
	if err := os.WriteFile(pendings[0], kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if exit, out, stderr := take(); exit != 0 || !strings.Contains(out, "1 enrolled now") {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
}

func spoolBoard(t *testing.T, label string) softhsm.Board {
	t.Helper()
	b, err := softhsm.ForTest(t).Create(label)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reseal changes what a carried file says and has the holder of an identity's files sign it again, as somebody with that key could.
func (s *spools) reseal(t *testing.T, from, identity string, change func(string) string) []byte {
	t.Helper()
	var e struct {
		PayloadType string           `json:"payloadType"`
		Payload     string           `json:"payload"`
		Signatures  []map[string]any `json:"signatures"`
	}
	b, err := os.ReadFile(from)
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	id, err := factory.LoadIdentity(filepath.Join(s.dir, identity+".pem"), filepath.Join(s.dir, identity+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return sealAs(t, id, e.PayloadType, []byte(change(string(payload))))
}

// TestSpoolRefusals: what was changed, forged, mixed up or signed by another is named and refused, and nothing is written: by the desk to
// hanaperd's record, by the station to a device.
func TestSpoolRefusals(t *testing.T) {
	s := newSpools(t)
	spool, answers := filepath.Join(s.dir, "a.spool"), filepath.Join(s.dir, "a.answers")
	s.export(t, spool, "dev-1", "dev-2")
	if exit, _, stderr := s.submit(t, spool, answers); exit != 0 {
		t.Fatal(stderr)
	}
	other, otherAnswers := filepath.Join(s.dir, "b.spool"), filepath.Join(s.dir, "b.answers")
	s.export(t, other, "dev-3", "dev-4")
	if exit, _, stderr := s.submit(t, other, otherAnswers); exit != 0 {
		t.Fatal(stderr)
	}
	s.operator(t, "olga").write(t, s.dir, "operator")
	strange := newRoot(t, "operations-root", "Another Operations Root")
	(&plant{operations: strange}).station(t, "line-1").write(t, s.dir, "stranger")
	same := func(text string) string { return text }
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	chains := regexp.MustCompile(`"chain":"[^"]*"`)
	mine, theirs := payloadOf(t, answers), payloadOf(t, otherAnswers)
	ofOther := chains.FindString(theirs)
	alien := alienChain(t, filepath.Join(s.dir, "devices", "dev-1.pkey.pem"), "dev-1")
	for _, c := range []struct {
		name string
		file []byte
		exit int
		says string
	}{
		{"signed by an operator", s.reseal(t, answers, "operator", same), 4, "a station is wanted"},
		{"signed under another root", s.reseal(t, answers, "stranger", same), 4, "not of our Operations Root"},
		{"of another desk than it says", s.reseal(t, answers, "station", same), 4, "of a form known here"},
		{"a spool in the place of answers", read(spool), 4, "it is of type"},
		{"for another spool of ours", s.reseal(t, otherAnswers, "desk", func(text string) string { return strings.Replace(text, idOf(t, theirs), idOf(t, mine), 1) }), 4, "another spool"},
		{"for a spool that is not ours", s.reseal(t, answers, "desk", func(text string) string { return strings.ReplaceAll(text, idOf(t, mine), strings.Repeat("a", 32)) }), 3, "wrote no spool"},
		{"for a path", s.reseal(t, answers, "desk", func(text string) string { return strings.ReplaceAll(text, idOf(t, mine), "../x") }), 4, "no id of a spool"},
		{"with another device's certificate", s.reseal(t, answers, "desk", func(text string) string { return strings.Replace(text, chains.FindString(text), ofOther, 1) }), 4, `for "dev-3"`},
		{"with a certificate of another factory", s.reseal(t, answers, "desk", func(text string) string { return strings.Replace(text, chains.FindString(text), alien, 1) }), 4, "dev-1"},
		{"mixed up", s.reseal(t, answers, "desk", func(text string) string {
			return strings.NewReplacer(`"device_id":"dev-1"`, `"device_id":"dev-2"`, `"device_id":"dev-2"`, `"device_id":"dev-1"`).Replace(text)
		}), 4, "not for the request of dev-1"},
		{"with one answer only", s.reseal(t, answers, "desk", func(text string) string {
			return text[:strings.Index(text, `,{"device_id":"dev-2"`)] + "]}"
		}), 4, "1 answers, and 2 were asked for"},
		{"without certificate and reason", s.reseal(t, answers, "desk", func(text string) string { return strings.Replace(text, ","+chains.FindString(text), "", 1) }), 4, "neither"},
		{"of a newer format", s.reseal(t, answers, "desk", func(text string) string {
			return strings.Replace(text, "hanaper-spool-answers/1", "hanaper-spool-answers/2", 1)
		}), 4, "of a form known here"},
		{"with something more", s.reseal(t, answers, "desk", func(text string) string { return strings.Replace(text, "{", `{"more":1,`, 1) }), 4, "more"},
		{"cut short", read(answers)[:200], 4, "it is no file that a station wrote"},
		{"nothing", nil, 4, "it is no file that a station wrote"},
	} {
		t.Run("answers "+c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			before := s.devices(t)
			exit, out, stderr := s.take(t, path)
			if exit != c.exit || !strings.Contains(strings.Join(strings.Fields(stderr), " "), c.says) {
				t.Errorf("exit %d, does not say %q: %s%s", exit, c.says, out, stderr)
			}
			if after := s.devices(t); after != before {
				t.Errorf("written:\n%s", after)
			}
			if ends, _ := filepath.Glob(filepath.Join(s.dir, "spool", "*", "ends")); len(ends) != 0 {
				t.Errorf("ends are kept: %v", ends)
			}
		})
	}
	for _, c := range []struct {
		name string
		file []byte
		exit int
		says string
	}{
		{"signed by an operator", s.reseal(t, spool, "operator", same), 4, "a station is wanted"},
		{"signed under another root", s.reseal(t, spool, "stranger", same), 4, "not of our Operations Root"},
		{"of another station than it says", s.reseal(t, spool, "desk", same), 4, "of a form known here"},
		{"answers in the place of a spool", read(answers), 4, "it is of type"},
		{"with something more", s.reseal(t, spool, "station", func(text string) string { return strings.Replace(text, "{", `{"more":1,`, 1) }), 4, "more"},
		{"without requests", s.reseal(t, spool, "station", func(text string) string { return text[:strings.Index(text, `"requests":[`)] + `"requests":[]}` }), 4, "of a form known here"},
	} {
		t.Run("spool "+c.name, func(t *testing.T) {
			dir := t.TempDir()
			path, out := filepath.Join(dir, "file"), filepath.Join(dir, "out")
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			before := s.rows(t)
			exit, _, stderr := s.submit(t, path, out)
			if exit != c.exit || !strings.Contains(strings.Join(strings.Fields(stderr), " "), c.says) {
				t.Errorf("exit %d, does not say %q: %s", exit, c.says, stderr)
			}
			if _, err := os.Lstat(out); err == nil || s.rows(t) != before {
				t.Errorf("written: %v, %s", err, s.rows(t))
			}
		})
	}
	// hanaperd away: no answers; and the true files are taken after all that.
	s.daemon.stop()
	late := filepath.Join(s.dir, "late.answers")
	if exit, _, stderr := s.submit(t, spool, late); exit != 1 || !strings.Contains(stderr, "no answers were written") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if _, err := os.Lstat(late); err == nil {
		t.Error("answers were written without hanaperd")
	}
	if exit, out, stderr := s.take(t, answers); exit != 0 || !strings.Contains(out, "2 enrolled now") {
		t.Errorf("exit %d: %s%s", exit, out, stderr)
	}
}

// TestSpoolOfMany: a spool of more requests than one batch holds, with some that are refused: every request has its own answer, and each
// device one certificate.
func TestSpoolOfMany(t *testing.T) {
	s := newSpools(t)
	var ids []string
	for i := range 230 {
		ids = append(ids, fmt.Sprintf("many-%03d", i))
	}
	for _, id := range []string{"many-007", "many-150"} {
		if exit, _, stderr := s.enroll(t, s.fileKeys(t), id); exit != 0 {
			t.Fatal(stderr)
		}
	}
	spool, answers := filepath.Join(s.dir, "many.spool"), filepath.Join(s.dir, "many.answers")
	s.export(t, spool, ids...)
	if exit, out, stderr := s.submit(t, spool, answers); exit != 0 || !strings.Contains(out, "230 requests, 228 enrolled, 2 refused") {
		t.Fatalf("exit %d: %s%s", exit, out, stderr)
	}
	if rows := s.rows(t); !strings.Contains(rows, "certificate:230") {
		t.Errorf("the record has %s", rows)
	}
	exit, out, stderr := s.take(t, answers)
	if exit != 3 || !strings.Contains(out, "228 enrolled now, 0 before, 2 refused") {
		t.Errorf("exit %d: %s%.500s", exit, out, stderr)
	}
}
