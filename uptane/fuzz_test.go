package uptane

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// seeds are documents of every kind, good ones and bad ones.
func seeds(t testing.TB) [][]byte {
	w := newWorld()
	root := w.root(t)
	c := w.targetsConfig(2)
	c.Delegations = []Delegation{{Name: "partner", Paths: []string{"partner/*", "[a-c]?"}, RoleKeys: roleOf(t, 1, w.child), Terminating: true}}
	targets := signed(t, must(NewTargets(c)), w.targets)
	f := w.files(t, root, targets, nil, 1)
	director := must(NewTargets(TargetsConfig{Repository: Director, Version: 1, Expires: soon, Targets: map[string]Target{
		"a": {SHA256: targets.targets["app-0"].SHA256, Custom: must(DirectorCustom{ECUs: map[string]string{"e": "h"}}.JSON())}}}))
	req := must(NewRequest(RequestConfig{Repository: Image, Document: targets, Root: root}))
	out := [][]byte{
		root.Bytes(), targets.Bytes(), f.Snapshot, f.Timestamp, director.Bytes(), req.Bytes(),
		must(SignRequest(must(NewReview(req, Image, root)), w.targets2)).Bytes(), must(key(t, w.rootB).MarshalJSON()),
		[]byte(`{}`), []byte(`[`), []byte(`{"a":"\u00e9"}`), []byte(`{"a":1e9}`), []byte(`{"signatures":[],"signed":{"_type":"Root"}}`),
		[]byte(`"\\\/\b\f\n\r\t\u000a"`), []byte(`-9223372036854775808`),
	}
	if golden, err := os.ReadFile(filepath.Join("testdata", "example-root.json")); err == nil {
		out = append(out, golden)
	}
	return out
}

func fuzz(f *testing.F, check func(*testing.T, []byte)) {
	list := seeds(f)
	if len(list) == 0 {
		f.Fatal("the seed corpus is empty")
	}
	for _, s := range list {
		f.Add(s)
	}
	f.Fuzz(check)
}

func FuzzCanonical(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		c, err := Canonical(data)
		if err != nil {
			return
		}
		again, err := Canonical(c)
		if err != nil || !bytes.Equal(again, c) {
			t.Fatalf("canonical form is not stable: %q then %q (%v)", c, again, err)
		}
		// What we accept, the standard library reads as the same value.
		var a, b any
		if json.Unmarshal(data, &a) != nil || json.Unmarshal(c, &b) != nil {
			t.Fatalf("accepted %q, which is not JSON", data)
		}
		if x, y := must(json.Marshal(a)), must(json.Marshal(b)); !bytes.Equal(x, y) {
			t.Fatalf("%s is not %s", x, y)
		}
	})
}

// checkDocument: what was read is written as the canonical form of what was read, and reads again.
func checkDocument(t *testing.T, data []byte, doc Document, again func([]byte) (Document, error)) {
	if !bytes.Equal(doc.Raw(), data) {
		t.Fatal("the raw bytes were not kept")
	}
	if c, err := Canonical(data); err != nil || !bytes.Equal(c, doc.Bytes()) {
		// The order of signatures and methods stays; only base64 could differ, and that is strict.
		t.Fatalf("bytes %q are not the canonical form %q (%v)", doc.Bytes(), c, err)
	}
	if _, err := again(doc.Bytes()); err != nil {
		t.Fatalf("what was written is not read: %v", err)
	}
}

func FuzzParseRoot(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		r, err := ParseRoot(data)
		if err != nil {
			return
		}
		checkDocument(t, data, r, func(b []byte) (Document, error) { return ParseRoot(b) })
		if _, err := NewRoot(r.Config()); err != nil {
			t.Fatalf("what verification takes, building refuses: %v", err)
		}
		_ = VerifyRoot(r)
	})
}

func FuzzParseTargets(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		for _, repo := range []Repository{Image, Director} {
			d, err := ParseTargets(repo, data)
			if err != nil {
				continue
			}
			checkDocument(t, data, d, func(b []byte) (Document, error) { return ParseTargets(repo, b) })
			// Custom objects are parts of the signed bytes: they must be those that another reader finds there.
			var other struct {
				Targets map[string]struct{ Custom json.RawMessage }
			}
			if err := json.Unmarshal(d.Signed(), &other); err != nil || len(other.Targets) != d.Len() {
				t.Fatalf("%d targets, %v", d.Len(), err)
			}
			for name, x := range other.Targets {
				if have, ok := d.Target(name); !ok || string(have.Custom) != string(x.Custom) {
					t.Fatalf("%q has the custom object %q, want %q", name, have.Custom, x.Custom)
				}
			}
			_ = DiffDocuments(nil, d).String()
			_, _ = DefaultPolicy().Check(d, noon)
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		if d, err := ParseSnapshot(data); err == nil {
			checkDocument(t, data, d, func(b []byte) (Document, error) { return ParseSnapshot(b) })
		}
		if d, err := ParseTimestamp(data); err == nil {
			checkDocument(t, data, d, func(b []byte) (Document, error) { return ParseTimestamp(b) })
		}
	})
}

func FuzzParseKey(f *testing.F) {
	fuzz(f, func(t *testing.T, data []byte) {
		k, err := ParseKey(data)
		if err != nil {
			return
		}
		if back, err := ParseKey(must(k.MarshalJSON())); err != nil || back.ID() != k.ID() {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	trusted := newWorld().root(f)
	fuzz(f, func(t *testing.T, data []byte) {
		for _, b := range [][]byte{data, seal(bytes.ReplaceAll(bytes.Clone(data), []byte("\n"), nil))} {
			if r, err := ParseRequest(b); err == nil {
				if _, err := ParseRequest(r.Bytes()); err != nil {
					t.Fatal(err)
				}
				if v, err := NewReview(r, r.Repository(), trusted); err == nil {
					_ = v.String()
				}
			}
			if r, err := ParseResponse(b); err == nil {
				if _, err := ParseResponse(r.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("require: {roles: {root: {min_threshold: 2, max_validity: 1Y}}, key_types: [Ed25519]}"))
	f.Add([]byte("recommend: {}"))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = ParsePolicy("x", data) })
}

func FuzzParsePeriod(f *testing.F) {
	for _, s := range []string{"1Y3M5D", "31D", "", "YMD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePeriod(s)
		if err != nil {
			return
		}
		if again, err := ParsePeriod(p.String()); err != nil || again != p {
			t.Fatalf("%q is %v, written %s", s, p, p)
		}
		_ = p.After(noon)
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("a*[b-d]?", "abcx")
	f.Add(`\*[!a]`, "*b")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 253 || len(name) > 253 {
			return
		}
		_ = Delegation{Paths: []string{pattern}}.Matches(name)
	})
}

// FuzzWide: what is in canonical form stays so in the wide form, and the wide form of either form of a text is one.
func FuzzWide(f *testing.F) {
	for _, s := range []string{`{"a":"\u00e4 🚗 \ud83d\ude97 \n \u001b \\u00e4"}`, "\"\x7fä\"", `"\ud83d"`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wide, err := Wide(data)
		narrow, nerr := Canonical(data)
		if nerr == nil && (err != nil || string(narrow) != string(wide)) {
			t.Fatalf("%q is %q, and in the wide form %q, %v", data, narrow, wide, err)
		}
		if err != nil {
			return
		}
		for _, form := range [][]byte{wide, RawText(wide)} {
			if again, err := Wide(form); err != nil || string(again) != string(wide) {
				t.Fatalf("%q: %q, %v", form, again, err)
			}
		}
		var a, b any
		if json.Unmarshal(data, &a) == nil && (json.Unmarshal(wide, &b) != nil || !reflect.DeepEqual(a, b)) {
			t.Fatalf("%q and %q say other things", data, wide)
		}
	})
}
