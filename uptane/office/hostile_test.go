package office

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func seeded(b byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32)) }

// signedRoot is a root of this version whose root key is rootKey, signed by it and by others; the other roles have keys of their own.
func signedRoot(t *testing.T, version int, expires time.Time, rootKey ed25519.PrivateKey, others ...ed25519.PrivateKey) []byte {
	t.Helper()
	c := uptane.RootConfig{Version: version, Expires: expires, Roles: map[uptane.Role]uptane.RoleKeys{}}
	for i, role := range uptane.Roles() {
		key := seeded(byte(100 + i))
		if role == uptane.RoleRoot {
			key = rootKey
		}
		k, err := uptane.NewKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		c.Roles[role] = uptane.RoleKeys{Keys: []uptane.Key{k}, Threshold: 1}
	}
	var doc uptane.Document
	doc, err := uptane.NewRoot(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(others, rootKey) {
		if root, ok := doc.(*uptane.Root); ok {
			if doc, err = uptane.AddSignatures(root, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	return doc.Bytes()
}

// hostile is an office whose local repository trusts the first of its own roots, and whose server sends what files has.
func hostile(t *testing.T, local []byte, files map[string][]byte) (o *Office, said *[]string, dir string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[path.Base(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set(reposerver.ChecksumHeader, fmt.Sprintf("%x", sha256.Sum256(data)))
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	archive := repo.NewCredentials()
	for name, data := range map[string]string{"tufrepo.url": server.URL, "treehub.json": `{"no_auth":true,"ostree":{"server":"` + server.URL + `/treehub"}}`, "root.json": string(local)} {
		if err := archive.Set(name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	zip, err := archive.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "local")
	r, _, err := repo.Init(dir, repo.InitConfig{Credentials: zip}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := reposerver.NewClient(reposerver.ClientConfig{URL: server.URL, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	said = &[]string{}
	return New(Config{Repo: r, Server: client, Now: func() time.Time { return noon }, Warn: func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) }}), said, dir
}

// TestFetchRoot: the server's roots are believed only along an unbroken chain from the local one, and refused without a trace
// otherwise.
func TestFetchRoot(t *testing.T) {
	soon, past := noon.AddDate(1, 0, 0), noon.AddDate(0, 0, -1)
	a, b, c := seeded(1), seeded(2), seeded(3)
	one, two, three := signedRoot(t, 1, soon, a), signedRoot(t, 2, soon, b, a), signedRoot(t, 3, soon, c, b)
	stranger := signedRoot(t, 2, soon, seeded(9))
	for _, x := range []struct {
		name    string
		local   []byte
		files   map[string][]byte
		version int    // what is fetched; 0: refused
		says    string // in the error, or in a warning
	}{
		{"the same", one, map[string][]byte{"root.json": one}, 1, ""},
		{"one step", one, map[string][]byte{"root.json": two}, 2, ""},
		{"two steps", one, map[string][]byte{"root.json": three, "2.root.json": two}, 3, ""},
		{"a step is withheld", one, map[string][]byte{"root.json": three}, 0, "404"},
		{"a step is another's", one, map[string][]byte{"root.json": three, "2.root.json": stranger}, 0, "needs 1 signatures and has 0"},
		{"a step stands twice", one, map[string][]byte{"root.json": three, "2.root.json": one}, 0, "cannot follow"},
		{"back to an older one", two, map[string][]byte{"root.json": one}, 0, "has version 1, the local one 2"},
		{"another of the same version", two, map[string][]byte{"root.json": stranger}, 0, "cannot follow"},
		{"a stranger's", one, map[string][]byte{"root.json": stranger}, 0, "needs 1 signatures and has 0"},
		{"signed by the new key alone", one, map[string][]byte{"root.json": signedRoot(t, 2, soon, b)}, 0, "needs 1 signatures and has 0"},
		{"far ahead", one, map[string][]byte{"root.json": signedRoot(t, 2+uptane.MaxRotations, soon, b, a)}, 0, "versions ahead"},
		{"expired", one, map[string][]byte{"root.json": signedRoot(t, 2, past, b, a)}, 2, "expired on 2026-11-20"},
		{"no root at all", one, map[string][]byte{"root.json": []byte(`{"signed":{}}`)}, 0, "root"},
		{"nothing", one, map[string][]byte{}, 0, "404"},
	} {
		o, said, dir := hostile(t, x.local, x.files)
		before := contents(t, dir)
		root, err := o.FetchRoot(context.Background(), false)
		if contents(t, dir) != before {
			t.Errorf("%s: fetching wrote into the repository", x.name)
		}
		if x.version == 0 {
			if err == nil || !strings.Contains(err.Error(), x.says) {
				t.Errorf("%s: %v", x.name, err)
			}
			// What is refused is not kept by a pull either.
			if _, err := o.PullRoot(context.Background(), false); err == nil || contents(t, dir) != before {
				t.Errorf("%s: pulled: %v", x.name, err)
			}
			continue
		}
		if err != nil || root.Version() != x.version || !strings.Contains(strings.Join(*said, "\n"), x.says) {
			t.Errorf("%s: %v, said %q", x.name, err, *said)
		}
	}
	// By force a stranger's root is taken, if it signed itself: that is what the option is for. One that did not is not.
	o, _, _ := hostile(t, one, map[string][]byte{"root.json": stranger})
	if root, err := o.FetchRoot(context.Background(), true); err != nil || root.Version() != 2 {
		t.Errorf("by force: %v", err)
	}
	o, _, _ = hostile(t, one, map[string][]byte{"root.json": bytes.Replace(stranger, []byte(`"version":2`), []byte(`"version":3`), 1)})
	if _, err := o.FetchRoot(context.Background(), true); err == nil || advice.KindOf(err) != advice.Unverified {
		t.Errorf("by force, and signed by nobody: %v", err)
	}
}

// contents is what lies in a folder, as one text.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %x\n", p, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestNoDirector: what a director repository has no use for is refused by name.
func TestNoDirector(t *testing.T) {
	if err := NoDirector(uptane.Director, "targets push"); err == nil || advice.KindOf(err) != advice.Usage || !strings.Contains(err.Error(), "targets push") {
		t.Errorf("%v", err)
	}
	if err := NoDirector(uptane.Image, "targets push"); err != nil {
		t.Error(err)
	}
}
