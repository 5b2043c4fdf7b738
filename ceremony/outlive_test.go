package ceremony

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

// laterRelease are changes that a later release may make: each in a file, an old text and a new one.
var laterRelease = []struct{ what, file, old, now string }{
	{"the next minor format", "ceremony/edition.go", "var newest = format.Must(\"1.4\")", `var newest = format.Must("1.5")`},
	{"other words of a step", "ceremony/step_key.go", "generate the %s key %q in token", "make a key of kind %s, %q, inside token"},
	{"other words of a certificate", "ceremony/step_certificate.go", "self-sign the root certificate", "make the root certificate"},
	{"other words of an abort", "ceremony/step_shares.go", "the PIN was changed, or may have been", "perhaps another PIN holds now"},
	{"other words of what an abort leaves", "ceremony/leftover.go", "signed, or partly, and never to be released", "perhaps signed"},
	{"an added field of a leaf", "ceremony/leaf_frame.go", "	Size   int    `json:\"size\"`", "	Size   int    `json:\"size\"`\n	Media  string `json:\"media,omitempty\" since:\"1.5\"`"},
	{"the field is written", "ceremony/recorded.go", "l := artefactLeaf{Path: path,", `l := artefactLeaf{Media: "text/plain", Path: path,`},
	{"an added field of a token", "hsm/hsm.go", "	MaxPIN int `json:\"max_pin_length\"`", "	MaxPIN int `json:\"max_pin_length\"`\n	Slot string `json:\"slot,omitempty\" since:\"1.5\"`"},
	{"an added kind of leaf", "ceremony/leaf_frame.go", "// endLeaf closes a transcript.", "type weatherLeaf struct {\n	Head\n	Sun bool `json:\"sun\"`\n}\n\nvar _ = registerSince[weatherLeaf](\"weather\", newest)\n\n// endLeaf closes a transcript."},
	{"the leaf is written", "ceremony/session.go", "	err := st.step.perform(s)\n", "	err := s.emit(&weatherLeaf{Sun: true}, \"weather\")\n	if err == nil {\n		err = st.step.perform(s)\n	}\n"},
	{"an added rule of ceremonies", "ceremony/step_key.go", "	if err := s.claimNew(g.Name); err != nil {\n		return err\n	}\n", "	if err := s.claimNew(g.Name); err != nil {\n		return err\n	}\n	if err := s.hold(Rule{\"CER-099\", \"never\", newest}, false, \"key %q exists\", g.Name); err != nil {\n		return err\n	}\n"},
	{"an added lint", "ca/lint.go", "	lintRaw(f, c)\n", "	lintRaw(f, c)\n	f.add(Rule{\"CA-099\", \"never\", format.Must(\"1.5\")}, \"it exists\")\n"},
	{"the lint's import", "ca/lint.go", "	\"github.com/hanaper/hanaper/internal/advice\"\n", "	\"github.com/hanaper/hanaper/internal/advice\"\n	\"github.com/hanaper/hanaper/internal/format\"\n"},
	{"a list of weak keys that grew", "internal/weakkey/weakkey.go", "var faults = []fault{", "var faults = []fault{\n	{\"the key exists\", \"\", format.Must(\"1.5\"), func(*big.Int) bool { return true }, func(ed25519.PublicKey) bool { return true }},"},
	{"a stricter built-in profile", "ca/builtin.go", "40 * 366", "4"},
	{"another order of extensions", "ca/tbs.go", "	addExtension(b, oidSKI, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.ski) })\n", ""},
	{"the extension at its new place", "ca/tbs.go", "	if names != nil {\n		addExtension", "	addExtension(b, oidSKI, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.ski) })\n	if names != nil {\n		addExtension"},
	{"another way to write a manifest", "ceremony/folder.go", `json.MarshalIndent(manifestOf(files), "", "  ")`, `json.MarshalIndent(manifestOf(files), "", " ")`},
	{"another default of the gateway policy", "trust/policy.go", "MinRSABits: 2048}", "MinRSABits: 3072}"},
	{"another way to write the gateway policy", "trust/policy.go", `json.MarshalIndent(p, "", "  ")`, `json.MarshalIndent(p, "", "	")`},
}

// TestOutlivesProgram: a later release, with other sentences, fields, kinds of entries, rules, lints, profiles and
// encodings, verifies every golden folder, and says what it would not accept today.
func TestOutlivesProgram(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	texts := map[string]string{}
	for _, m := range laterRelease {
		if _, ok := texts[m.file]; !ok {
			texts[m.file] = readFile(t, filepath.Join(root, m.file))
		}
		if strings.Count(texts[m.file], m.old) == 0 {
			t.Fatalf("%s: %s has no %q", m.what, m.file, m.old)
		}
		texts[m.file] = strings.Replace(texts[m.file], m.old, m.now, 1)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, file)] = changed
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	name, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "hanaper")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", name, "-o", program, "./cmd/hanaper")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the later release: %v\n%s", err, out)
	}
	for _, g := range goldenFolders(t) {
		out, err := exec.Command(program, "ceremony", "verify", "--json", "--roster", fmt.Sprintf("%x", g.anchor), g.dir).CombinedOutput()
		want := 0
		if g.name == "rehearsal" || g.name == "unattested" {
			want = 4
		}
		if code := exitCode(err); code != want {
			t.Errorf("%s: exit code %d: %s", g.dir, code, out)
		}
		if g.name != "finished" {
			continue
		}
		for _, note := range []string{"CER-099", "CA-099", `profile \"fleet-root\"`, "CA-010"} {
			if !strings.Contains(string(out), note) {
				t.Errorf("%s: the later release does not note %s: %s", g.dir, note, out)
			}
		}
	}
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return -1
}

// TestNewerRelease: a transcript of a newer format is refused in words that say so, and one of today's that holds what
// today's format does not have is refused as damaged.
func TestNewerRelease(t *testing.T) {
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(keysOnly)))
	if err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(result.Out))
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	const newer = "made by a newer release"
	begin := func(f func(l map[string]json.RawMessage)) func(map[string][]byte, [][]byte) [][]byte {
		return func(_ map[string][]byte, leaves [][]byte) [][]byte {
			leaves[0] = rewritten(t, leaves[0], f)
			return leaves
		}
	}
	format := func(v string) func(map[string]json.RawMessage) {
		return func(l map[string]json.RawMessage) { l["format"] = json.RawMessage(`"` + v + `"`) }
	}
	unknownKind := []byte(`{"kind":"weather","step":0,"at":"2026-11-21T09:00:00Z","sun":true}`)
	for _, c := range []struct {
		name   string
		newer  bool
		change func(map[string][]byte, [][]byte) [][]byte
	}{
		{"another major number", true, begin(format("2.0"))},
		{"a newer minor number with an unknown field", true, func(f map[string][]byte, l [][]byte) [][]byte {
			l[0] = rewritten(t, l[0], func(m map[string]json.RawMessage) { format("1.7")(m); m["weather"] = json.RawMessage(`"fine"`) })
			return l
		}},
		{"a newer minor number with an unknown kind", true, func(f map[string][]byte, l [][]byte) [][]byte {
			l[0] = rewritten(t, l[0], format("1.7"))
			return append(append([][]byte{l[0]}, unknownKind), l[1:]...)
		}},
		{"an unknown field", false, begin(func(l map[string]json.RawMessage) { l["weather"] = json.RawMessage(`"fine"`) })},
		{"an unknown kind", false, func(f map[string][]byte, l [][]byte) [][]byte {
			return append(append([][]byte{l[0]}, unknownKind), l[1:]...)
		}},
		{"no number", false, begin(format(""))},
		{"the number of a draft", false, begin(func(l map[string]json.RawMessage) { l["format"] = json.RawMessage("1") })},
		{"a number in another spelling", false, begin(format("1.00"))},
	} {
		_, err := Verify(context.Background(), memory(forged(t, s, files, c.change)), Anchors{Roster: &anchor})
		if err == nil || advice.KindOf(err) != advice.Unverified || strings.Contains(err.Error(), newer) != c.newer || !strings.Contains(err.Error(), "entry") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A newer minor number alone, with nothing that is unknown, is read.
	if _, err := Verify(context.Background(), memory(forged(t, s, files, begin(format("1.7")))), Anchors{Roster: &anchor}); err != nil {
		t.Errorf("a newer minor number alone: %v", err)
	}
}

// rewritten changes fields of a leaf and keeps the order of the others.
func rewritten(t *testing.T, leaf []byte, change func(map[string]json.RawMessage)) []byte {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(leaf, &m); err != nil {
		t.Fatal(err)
	}
	var order []string
	dec := json.NewDecoder(strings.NewReader(string(leaf)))
	depth := 0
	for {
		tok, err := dec.Token()
		if err != nil {
			break
		}
		switch v := tok.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			if _, ok := m[v]; ok && depth == 1 && (len(order) == 0 || order[len(order)-1] != v) {
				order = append(order, v)
			}
		}
	}
	change(m)
	var b strings.Builder
	b.WriteString("{")
	written := map[string]bool{}
	add := func(k string) {
		if written[k] || m[k] == nil {
			return
		}
		if written[k] = true; b.Len() > 1 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "%q:%s", k, m[k])
	}
	for _, k := range order {
		add(k)
	}
	for _, k := range sortedKeys(m) {
		add(k)
	}
	return []byte(b.String() + "}")
}
