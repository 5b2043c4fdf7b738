package factory_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// uptaneRoot is a root by its form, which is all that a reader of trust metadata looks at.
func uptaneRoot(repository string, version int) []byte {
	return fmt.Appendf(nil, `{"signatures":[{"keyid":"x","sig":"y"}],"signed":{"_type":"Root","version":%d,"for":%q}}`, version, repository)
}

// TestStationUptaneRoots: devices pin the Uptane roots that the officers publish, laid out as the client reads them. An earlier repository, another environment, another root, a
// changed file and a repository without roots give none of theirs; where the station has seen nothing that is good, nothing is enrolled and nothing is written.
func TestStationUptaneRoots(t *testing.T) {
	l := newLine(t)
	w := trusttest.NewAt(t, time.Now().UTC().Truncate(time.Second))
	publish := func(version int) {
		t.Helper()
		w.Content.Uptane = trust.UptaneRoots{}
		if version > 0 {
			w.Content.Uptane = trust.UptaneRoots{Director: uptaneRoot("director", version), Image: uptaneRoot("image", version)}
		}
		w.Rebuild()
		w.Import()
	}
	publish(0)
	pin := w.Pin.String()
	program := filepath.Join(l.bin, "hanaper-station")
	config := func(environment, root, state string) string {
		t.Helper()
		b, err := os.ReadFile(l.config)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(b), "uptane: {image_root: image.json, director_root: director.json}", fmt.Sprintf("uptane: {trust: {environment: %s, source: %q, root: %q, state: %s}}", environment, w.Dir, root, state), 1)
		text = strings.Replace(text, "device: {", "device: {key_store: file, ", 1)
		path := filepath.Join(l.dir, "roots-"+environment+state+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := func(name, config, want string) {
		t.Helper()
		before := l.rows(t)
		exit, out, stderr := l.enroll(t, config, "refused")
		if exit == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, want %q: %s%s", name, exit, want, out, stderr)
		}
		if after := l.rows(t); after != before {
			t.Errorf("%s wrote %s, was %s", name, after, before)
		}
		if _, err := os.Lstat(filepath.Join(l.dir, "import-refused")); err == nil {
			t.Errorf("%s: a folder was laid out", name)
		}
	}
	pinned := func(id string, version int) (stderr string) {
		t.Helper()
		exit, out, stderr := l.enroll(t, config("test", pin, "seen"), id)
		if exit != 0 {
			t.Fatalf("%s: exit %d: %s%s", id, exit, out, stderr)
		}
		for _, repository := range []string{"image", "director"} {
			at := map[string]string{"image": "repo/root.json", "director": "director/root.json"}[repository]
			b, err := os.ReadFile(filepath.Join(l.dir, "import-"+id, at))
			if err != nil || !bytes.Equal(b, uptaneRoot(repository, version)) {
				t.Errorf("%s: %s is %s, %v", id, at, b, err)
			}
		}
		return stderr
	}
	check := func(want int) string {
		t.Helper()
		exit, out, stderr := run(t, program, "check", "--config", config("test", pin, "seen"), "--json")
		var findings []struct{ What, State, Text string }
		if err := json.Unmarshal([]byte(out), &findings); exit != want || err != nil {
			t.Fatalf("exit %d, %v: %s%s", exit, err, out, stderr)
		}
		for _, f := range findings {
			if f.What == "uptane roots" || f.State == "wrong" {
				return f.State + ": " + f.Text
			}
		}
		return ""
	}
	refused("no roots", config("test", pin, "seen"), "does not carry both Uptane roots")
	publish(1)
	if said := check(0); !strings.Contains(said, "ok: environment test, officers' part 3: the Director's root is version 1, the Image repository's 1") {
		t.Error(said)
	}
	refused("another root", config("test", strings.Repeat("ab", 32), "other"), "root")
	refused("another environment", config("prod", pin, "elsewhere"), "not prod")
	pinned("one", 1)
	earlier := filepath.Join(t.TempDir(), "earlier")
	if err := os.CopyFS(earlier, os.DirFS(w.Dir)); err != nil {
		t.Fatal(err)
	}
	publish(2)
	// Looking keeps nothing.
	if said := check(0); !strings.Contains(said, "root is version 2") {
		t.Error(said)
	}
	if said := pinned("two", 2); strings.Contains(said, "take care: ") {
		t.Error(said)
	}
	newest := filepath.Join(t.TempDir(), "newest")
	replaceBy := func(dir string) {
		t.Helper()
		if err := os.RemoveAll(w.Dir); err != nil {
			t.Fatal(err)
		}
		if dir == "" {
			return
		}
		if err := os.CopyFS(w.Dir, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(newest, os.DirFS(w.Dir)); err != nil {
		t.Fatal(err)
	}
	// An earlier repository, in which everything verifies, is what a station that has seen nothing would take.
	replaceBy(earlier)
	if said := pinned("three", 2); !strings.Contains(said, "rolled back") && !strings.Contains(said, "take care") {
		t.Errorf("nothing is said of an earlier repository: %s", said)
	}
	if said := check(0); !strings.HasPrefix(said, "take care: ") {
		t.Error(said)
	}
	replaceBy("")
	if said := pinned("four", 2); !strings.Contains(said, "take care") {
		t.Errorf("nothing is said of a source that is away: %s", said)
	}
	refused("a source that is away, and nothing seen", config("test", pin, "fresh"), "uptane.trust")
	// A changed root in the source.
	replaceBy(newest)
	changed := 0
	err := filepath.WalkDir(w.Dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, "director.root.json") {
			changed++
			return os.WriteFile(p, bytes.Replace(uptaneRoot("director", 2), []byte("y"), []byte("z"), 1), 0o644)
		}
		return err
	})
	if err != nil || changed == 0 {
		t.Fatal(changed, err)
	}
	refused("a changed root", config("test", pin, "fresh2"), "")
	// A state that was changed is not believed.
	if err := os.Remove(filepath.Join(l.dir, "seen", "state.json")); err != nil {
		t.Fatal(err)
	}
	refused("a state in part", config("test", pin, "seen"), "is damaged")
	if said := check(1); !strings.HasPrefix(said, "wrong: ") {
		t.Error(said)
	}
}
