package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestRestoreVerb: folder and mark of the back office are lost. They come back from a gateway's trust folder, held against the version that the
// gateway holds; an older copy is refused. The gateway goes on with what is published next, and what was revoked stays revoked.
func TestRestoreVerb(t *testing.T) {
	d := newDesk(t)
	w := d.world
	d.ok("init", d.path("officers"))
	d.ok("crl", "add", d.write("one.crl", w.MakeCRL(w.Issuing, 1, 5)))
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(d.path("published"))); err != nil {
		t.Fatal(err)
	}
	d.ok("crl", "add", d.write("two.crl", w.MakeCRL(w.Issuing, 2, 5, 6)))
	state := filepath.Join(t.TempDir(), "state")
	gateway := func() (*feed.Feed, error) {
		f, err := feed.New(feed.Config{Source: d.path("published"), Pin: w.Pin, Environment: "test", StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, f.Refresh(context.Background())
	}
	f, err := gateway()
	if err != nil {
		t.Fatal(err)
	}
	held := f.Current().Versions().Timestamp
	// While the mark is there, an older copy needs no gateway to be refused; and a start says how to go on.
	if err := os.RemoveAll(d.path("published")); err != nil {
		t.Fatal(err)
	}
	d.refused(4, "hanaper-repo restore", "serve")
	if err := os.RemoveAll(d.path("published")); err != nil { // a start makes the folder that it looks into
		t.Fatal(err)
	}
	d.refused(4, "was published from here", "restore", older)
	if err := os.Remove(d.path("trust.high-water.json")); err != nil {
		t.Fatal(err)
	}
	seen := strconv.FormatInt(held, 10)
	d.refused(3, "is lost: nothing here says", "restore", state)
	d.refused(4, "version "+seen+" was seen", "restore", "--seen", seen, older)
	d.refused(2, "COPY is missing", "restore", "--seen", seen)
	d.refused(2, "contradict", "restore", "--seen", seen, "--nobody-saw", state)
	d.refused(2, "is no version", "restore", "--seen", "0", state)
	d.refused(4, "holds no trust repository", "restore", "--seen", seen, t.TempDir())
	d.refused(2, "name the folder of a copy", "restore", "--seen", seen, filepath.Join(t.TempDir(), "typo"))
	other := trusttest.New(t)
	other.Import()
	d.refused(4, "pinned root", "restore", "--seen", seen, other.Dir)
	for _, name := range []string{"published", "published.restored", "trust.high-water.json"} {
		if _, err := os.Stat(d.path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a refusal left %s: %v", name, err)
		}
	}
	// The gateway is running, and is left as it is.
	var told struct {
		Restored      statusDocument `json:"restored"`
		Aside         string         `json:"aside"`
		HeldToMark    bool           `json:"held_to_mark"`
		NextTimestamp int64          `json:"next_timestamp"`
	}
	if err := json.Unmarshal([]byte(d.ok("restore", "--json", "--seen", seen, state)), &told); err != nil || told.Restored.Versions.Timestamp != held || told.Aside != "" || told.HeldToMark || told.NextTimestamp != held+1 {
		t.Errorf("%+v, %v", told, err)
	}
	if f, err = func() (*feed.Feed, error) { f.Close(); return gateway() }(); err != nil {
		t.Errorf("the gateway, of the restored folder: %v", err)
	}
	d.ok("crl", "add", d.write("three.crl", w.MakeCRL(w.Issuing, 3, 5, 6, 7)))
	if err := f.Refresh(t.Context()); err != nil || f.Current().Versions().Timestamp != held+1 || !f.Current().Revoked(w.Issuing.Cert, trusttest.Serial(6)) {
		t.Errorf("the gateway, of what was published next: %v, %+v", err, f.Current().Versions())
	}
	// The mark is there again: it is what an older copy is held against.
	d.refused(4, "was published from here", "restore", older)
	// What a gateway could not keep is no newest copy.
	f.Close()
	if err := os.Rename(filepath.Join(state, "state.json"), filepath.Join(state, "state.behind.json")); err != nil {
		t.Fatal(err)
	}
	d.refused(3, "take another gateway's", "restore", state)
	// A folder that is there is moved aside, and said.
	mirror := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(mirror, os.DirFS(d.path("published"))); err != nil {
		t.Fatal(err)
	}
	out := d.ok("restore", mirror)
	if !strings.Contains(out, "what was there is now ") || !strings.Contains(out, "held against the high-water mark") || !strings.Contains(out, "goes on with timestamp "+strconv.FormatInt(held+2, 10)) {
		t.Errorf("restore says %s", out)
	}
	if _, err := trust.Open(os.DirFS(d.path("published")), w.Pin, now()); err != nil {
		t.Error(err)
	}
}
