package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/quorum"
)

const readerFile = "../docs/spec/verify_ceremony.py"

// readerSays has the reader in Python, which knows the written pages and no code of ours, verify a folder.
func readerSays(t *testing.T, dir string, args ...string) (code int, said string) {
	t.Helper()
	out, err := exec.Command("python3", append(append([]string{readerFile}, args...), dir)...).CombinedOutput()
	code = exitCode(err)
	if code < 0 || strings.Contains(string(out), "Traceback") {
		t.Fatalf("python3 %s (apt-get install python3-cryptography): %v\n%s", readerFile, err, out)
	}
	return code, string(out)
}

// laid writes files into a folder.
func laid(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for n, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(n))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestReader: a second judge, in another language, that shares no code with us: it verifies the golden folders, and
// refuses those that we refuse.
func TestReader(t *testing.T) {
	t.Parallel()
	source := readFile(t, readerFile)
	if n := strings.Count(source, "\n"); n >= 400 {
		t.Errorf("the reader has %d lines: it must stay short enough to be read", n)
	}
	for _, g := range goldenFolders(t) {
		code, said := readerSays(t, g.dir, "--roster", fmt.Sprintf("%x", g.anchor))
		want, words := 0, "verified: ceremony"
		switch g.name {
		case "unattested":
			want, words = 4, "performed, not attested: 1 of 2 officers"
		case "rehearsal":
			want, words = 4, "REHEARSAL"
		case "aborted":
			words = "ABORTED"
		}
		if code != want || !strings.Contains(said, words) {
			t.Errorf("%s: exit code %d: %s", g.dir, code, said)
		}
		if g.name == "second" {
			first := hexSHA256([]byte(readFile(t, g.dir+"/earlier/"+checkpointFile)))
			if code, said := readerSays(t, g.dir, "--checkpoint", first); code != 4 || !strings.Contains(said, "another checkpoint") {
				t.Errorf("%s by the checkpoint of the ceremony before: exit code %d: %s", g.dir, code, said)
			}
			if code, said := readerSays(t, g.dir, "--roster", first); code != 4 || !strings.Contains(said, "not the roster") {
				t.Errorf("%s by a checkpoint as a roster: exit code %d: %s", g.dir, code, said)
			}
			for _, anchor := range [][]string{{"--earlier", first}, {"--checkpoint", hexSHA256([]byte(readFile(t, g.dir+"/"+checkpointFile)))}} {
				if code, said := readerSays(t, g.dir, anchor...); code != 0 {
					t.Errorf("%s by %v: exit code %d: %s", g.dir, anchor, code, said)
				}
			}
			if code, _ := readerSays(t, g.dir, "--roster", strings.Repeat("0", 64)); code != 4 {
				t.Errorf("%s by another digest: exit code %d", g.dir, code)
			}
			if code, said := readerSays(t, g.dir); code != 4 || !strings.Contains(said, "NOT authenticated") {
				t.Errorf("%s without an anchor: exit code %d: %s", g.dir, code, said)
			}
			tamperForReader(t, g)
		}
	}
	for _, args := range [][]string{{"x", "y"}, {"--help"}, {"/no/such/folder"}} {
		if code, said := readerSays(t, args[0], args[1:]...); code != 2 || !strings.Contains(said, "FOLDER") {
			t.Errorf("usage %v: exit code %d: %s", args, code, said)
		}
	}
}

// tamperForReader changes one byte of a file, drawn at random, 12 times (400 with HANAPER_SOAK=1), drops files and adds some.
func tamperForReader(t *testing.T, g goldenFolder) {
	t.Helper()
	files, err := readFolder(os.DirFS(g.dir))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what, name string, changed map[string][]byte) {
		t.Helper()
		code, said := readerSays(t, laid(t, changed), "--roster", fmt.Sprintf("%x", g.anchor))
		if code != 4 || !strings.Contains(said, filepath.Base(name)) && !strings.Contains(said, "malformed") {
			t.Errorf("%s of %s: exit code %d: %s", what, name, code, said)
		}
	}
	rng, names := rand.New(rand.NewPCG(3, 4)), sortedKeys(files)
	draws := 12
	if os.Getenv("HANAPER_SOAK") != "" {
		draws = 400
	}
	for range draws {
		name := names[rng.IntN(len(names))]
		changed := maps.Clone(files)
		changed[name] = bytes.Clone(files[name])
		changed[name][rng.IntN(len(changed[name]))] ^= byte(1 + rng.IntN(255))
		refused("a changed byte", name, changed)
	}
	for _, name := range []string{manifestFile, checkpointFile, signatureFile, transcriptFile, rosterFile, scriptFile, "approvals/1.json", "earlier/manifest.json", "uptane/image/root.json"} {
		changed := maps.Clone(files)
		delete(changed, name)
		refused("the loss", name, changed)
	}
	for _, name := range []string{"extra", "artefacts/extra.pem", incompleteFile, "attestations/x.json"} {
		changed := maps.Clone(files)
		changed[name] = []byte("x")
		refused("the addition", name, changed)
	}
}

// TestReaderForged: what officers could sign and the written format does not allow, the reader refuses too; and it counts
// late signatures.
func TestReaderForged(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Officers = []crypto.Signer{s.officers[0]}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(result.Out))
	if err != nil {
		t.Fatal(err)
	}
	anchor := fmt.Sprintf("%x", s.roster.Digest())
	attested := func(what string, want int, signers ...crypto.Signer) {
		t.Helper()
		more := maps.Clone(files)
		for i, k := range signers {
			if more[fmt.Sprintf("attestations/%d.dsse.json", i+1)], err = quorum.SignDSSE(quorum.TranscriptPayload, files[checkpointFile], k); err != nil {
				t.Fatal(err)
			}
		}
		if code, said := readerSays(t, laid(t, more), "--roster", anchor); code != want {
			t.Errorf("%s: exit code %d, want %d: %s", what, code, want, said)
		}
	}
	attested("one of two", 4)
	attested("the same once more", 4, s.officers[0])
	attested("a second one, later", 0, s.officers[1])
	attested("a stranger", 4, s.officers[1], strangerKey)

	envelopesForReader(t, s, files, anchor)

	change := func(kind string, f func(map[string]json.RawMessage)) func(map[string][]byte, [][]byte) [][]byte {
		return func(_ map[string][]byte, leaves [][]byte) [][]byte {
			for i := range leaves {
				if h, err := headOf(leaves[i]); err == nil && h.Kind == kind {
					leaves[i] = rewritten(t, leaves[i], f)
					return leaves
				}
			}
			t.Fatalf("there is no %s", kind)
			return nil
		}
	}
	raw := func(field, value string) func(map[string]json.RawMessage) {
		return func(m map[string]json.RawMessage) { m[field] = json.RawMessage(value) }
	}
	// Those present are two now, as forged signs.
	both := func(f func(map[string][]byte, [][]byte) [][]byte) func(map[string][]byte, [][]byte) [][]byte {
		return func(files map[string][]byte, leaves [][]byte) [][]byte {
			var begin beginLeaf
			if err := decodeLeaf(leaves[0], &begin, kindBegin); err != nil {
				t.Fatal(err)
			}
			begin.Officers = begin.Approvals
			leaves[0] = encodeLeaf(&begin)
			return f(files, leaves)
		}
	}
	for _, x := range []struct {
		name, words string
		want        int
		f           func(map[string][]byte, [][]byte) [][]byte
	}{
		{"made anew and unchanged", "verified", 0, func(_ map[string][]byte, l [][]byte) [][]byte { return l }},
		{"another major number", "newer release", 4, change(kindBegin, raw("format", `"2.0"`))},
		{"a newer minor number", "verified", 0, change(kindBegin, raw("format", `"1.9"`))},
		{"an unknown field", "unknown fields", 4, change(kindKey, raw("weather", `"fine"`))},
		{"a field of another type", "is no integer", 4, change(kindArtefact, raw("size", `"7"`))},
		{"another spelling", "one spelling", 4, change(kindStep, raw("describe", `"\u0041 step"`))},
		{"an approval of another script", "another script", 4, change(kindBegin, raw("script_sha256", `"`+strings.Repeat("0", 64)+`"`))},
		{"a time that goes back", "dated before", 4, change(kindStepDone, raw("at", `"2026-11-20T09:00:00Z"`))},
		{"a signature over something else", "over nothing", 4, change(kindSignIntent, raw("digest", `"`+strings.Repeat("0", 64)+`"`))},
		{"a file that is not that of its entry", "not the file", 4, change(kindArtefact, raw("sha256", `"`+strings.Repeat("0", 64)+`"`))},
	} {
		code, said := readerSays(t, laid(t, forged(t, s, files, both(x.f))), "--roster", anchor)
		if code != x.want || !strings.Contains(said, x.words) {
			t.Errorf("%s: exit code %d: %s", x.name, code, said)
		}
		ours, err := Verify(context.Background(), memory(forged(t, s, files, both(x.f))), Anchors{Roster: ptr(s.roster.Digest())})
		if (err == nil) != (x.want == 0) {
			t.Errorf("%s: we say %v, the reader %s (%v)", x.name, err, said, ours)
		}
	}
}

// envelopesForReader spells a good signature, late and not, in other ways than the one: neither judge takes it, for what is outside
// of the manifest could otherwise be changed unnoticed.
func envelopesForReader(t *testing.T, s *stage, files map[string][]byte, anchor string) {
	t.Helper()
	late, err := quorum.SignDSSE(quorum.TranscriptPayload, files[checkpointFile], s.officers[1])
	for err == nil && !bytes.Contains(late, []byte(`="}]`)) { // the length of an ECDSA signature varies
		late, err = quorum.SignDSSE(quorum.TranscriptPayload, files[checkpointFile], s.officers[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(late, []byte(`","sig`))
	swap := func(old, with string) func([]byte) []byte {
		return func(e []byte) []byte {
			if !bytes.Contains(e, []byte(old)) {
				t.Fatalf("%s has no %s", e, old)
			}
			return bytes.Replace(e, []byte(old), []byte(with), 1)
		}
	}
	for _, x := range []struct {
		name string
		f    func([]byte) []byte
		ok   bool
	}{
		{"as it is", func(e []byte) []byte { return e }, true},
		{"without its end of line", func(e []byte) []byte { return e[:len(e)-1] }, false},
		{"two ends of line", func(e []byte) []byte { return append(e, '\n') }, false},
		{"a blank before", func(e []byte) []byte { return append([]byte(" "), e...) }, false},
		{"a blank inside", swap(`,"payload":`, `, "payload":`), false},
		{"an escaped letter", swap(`"sig"`, `"s\u0069g"`), false},
		{"an escaped slash", swap(`application/`, `application\/`), false},
		{"another order", func(e []byte) []byte {
			id := late[at-64 : at]
			return bytes.Replace(bytes.Replace(e, []byte(`"keyid":"`+string(id)+`",`), nil, 1), []byte(`"}]`), []byte(`","keyid":"`+string(id)+`"}]`), 1)
		}, false},
		{"a member more", swap(`"}]`, `","note":"x"}]`), false},
		{"a member more, outside", swap(`]}`, `],"note":"x"}`), false},
		{"base64 with other padding bits", func(e []byte) []byte {
			i := bytes.LastIndex(e, []byte(`="}]`))
			for e[i-1] == '=' {
				i--
			}
			e[i-1]++
			return e
		}, false},
		{"no signature", func(e []byte) []byte {
			return append(e[:bytes.Index(e, []byte(`"signatures":`))], `"signatures":[]}`+"\n"...)
		}, false},
	} {
		for _, name := range []string{"attestations/1.dsse.json", signatureFile} {
			more := maps.Clone(files)
			more["attestations/1.dsse.json"] = late
			from := late
			if name == signatureFile {
				if x.name != "a blank inside" {
					continue // it is read by the same lines
				}
				from = files[signatureFile]
			}
			more[name] = x.f(bytes.Clone(from))
			code, said := readerSays(t, laid(t, more), "--roster", anchor)
			_, err := Verify(context.Background(), memory(more), Anchors{Roster: ptr(s.roster.Digest())})
			if (code == 0) != x.ok || (err == nil) != x.ok {
				t.Errorf("%s, %s: the reader says %d (%s), we say %v", name, x.name, code, strings.TrimSpace(said), err)
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }
