package trust_test

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// judged is a repository with all that there is: a rotated root, CRLs, releases none.
func judged(t *testing.T) *trusttest.World {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	w.Timestamp = w.Key()
	w.Keys.Timestamp = trust.One(w.Timestamp.Public())
	w.Rebuild()
	w.Import()
	w.AddCRL(2, 5, 6)
	return w
}

// client is go-tuf's own client, with a state folder, over HTTP.
func client(t *testing.T, url, dir string, root []byte, now time.Time) (*updater.Updater, error) {
	t.Helper()
	c, err := config.New(url+"/metadata", root)
	if err != nil {
		t.Fatal(err)
	}
	c.LocalMetadataDir, c.LocalTargetsDir, c.RemoteTargetsURL = filepath.Join(dir, "m"), filepath.Join(dir, "t"), url+"/targets"
	c.PrefixTargetsWithHash = true
	u, err := updater.New(c)
	if err != nil {
		t.Fatal(err)
	}
	u.UnsafeSetRefTime(now)
	return u, u.Refresh()
}

// TestJudgeGoTUF: go-tuf's client accepts what we publish, finds each target, and refuses what we refuse.
func TestJudgeGoTUF(t *testing.T) {
	w := judged(t)
	server := httptest.NewServer(http.FileServer(http.Dir(w.Dir)))
	defer server.Close()
	u, err := client(t, server.URL, t.TempDir(), w.Offline["metadata/1.root.json"], w.Now)
	if err != nil {
		t.Fatal(err)
	}
	id := trust.IssuerID(w.Issuing.Cert).String()
	rootID := trust.IssuerID(w.Root.Cert).String()
	for _, name := range []string{"anchors.pem", "intermediates.pem", "policy.json", "crl/" + id + ".crl", "officers-crl/" + rootID + ".crl"} {
		info, err := u.GetTargetInfo(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, _, err := u.DownloadTarget(info, "", ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := u.GetTrustedMetadataSet().Root.Signed.Version; got != 2 {
		t.Errorf("root %d", got)
	}
	at := filepath.Join(w.Dir, "metadata/timestamp.json")
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, bytes.Replace(data, []byte(`"version":4`), []byte(`"version":5`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, server.URL, t.TempDir(), w.Offline["metadata/1.root.json"], w.Now); err == nil {
		t.Error("go-tuf accepts a changed timestamp")
	}
}

// TestWhyNotTheUpdater shows the hole for which gateways do not follow with go-tuf's updater: a gateway that has seen the root which
// revokes an online key, restarted with the root of its config while that root is withheld, takes the revoked key again. Ours does not.
func TestWhyNotTheUpdater(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	stolen := w.Timestamp
	w.Timestamp = w.Key()
	w.Keys.Timestamp = trust.One(w.Timestamp.Public())
	w.Rebuild()
	w.Import()
	files := trusttest.Snap(t, w.Dir)
	serving := &files
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.FileServerFS(*serving).ServeHTTP(rw, r) }))
	defer server.Close()
	dir, state := t.TempDir(), t.TempDir()
	pinned := w.Offline["metadata/1.root.json"]
	if _, err := client(t, server.URL, dir, pinned, w.Now); err != nil {
		t.Fatal(err)
	}
	ours := func() error {
		f, err := feed.New(feed.Config{Source: server.URL, Pin: w.Pin, StateDir: state, Now: func() time.Time { return w.Now }})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.Refresh(t.Context())
	}
	if err := ours(); err != nil {
		t.Fatal(err)
	}
	withheld := maps.Clone(files)
	delete(withheld, "metadata/2.root.json")
	trusttest.Forge(t, withheld, "metadata/timestamp.json", func(s map[string]any) { s["version"] = 9 }, stolen)
	serving = &withheld
	if _, err := client(t, server.URL, dir, pinned, w.Now); err != nil {
		t.Logf("go-tuf's updater refuses now (%v): it may have become usable", err)
	}
	if err := ours(); !errors.Is(err, trust.ErrSignature) {
		t.Errorf("ours: %v", err)
	}
}

// TestJudgeSecureSystemsLib: Python's securesystemslib, with its own canonical JSON and cryptography, finds every threshold met, and
// not met after a change.
func TestJudgeSecureSystemsLib(t *testing.T) {
	w := judged(t)
	judge := func() (string, error) {
		out, err := exec.Command("/usr/bin/python3", "testdata/judge.py", w.Dir).CombinedOutput()
		return string(out), err
	}
	out, err := judge()
	if err != nil {
		t.Fatalf("is python3-securesystemslib installed? %v: %s", err, out)
	}
	if want := "root 1 ok\nroot 2 ok\ntimestamp ok\nsnapshot ok\ntargets ok\ncrl ok\n5 targets ok\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	v := w.View().Versions()
	if v.Snapshot < 2 {
		t.Fatal("no snapshot to change")
	}
	for _, name := range []string{"metadata/2.root.json", "metadata/timestamp.json"} {
		at := filepath.Join(w.Dir, name)
		data, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, bytes.Replace(data, []byte(`"hanaper_environment":"test"`), []byte(`"hanaper_environment":"tesl"`), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := judge(); err == nil {
			t.Errorf("%s changed, and the judge says %s", name, out)
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
