package station

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestImportFolder: a folder that is there is left as it is, and taken only if it says exactly the same.
func TestImportFolder(t *testing.T) {
	files := map[string][]byte{"client.pem": []byte("certificate"), "repo/root.json": []byte("root"), "sota.toml": []byte("[tls]"), "pkey.pem": []byte("key")}
	put := func(t *testing.T, dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		says   string // empty: taken as it is
	}{
		"the same":           {func(*testing.T, string) {}, ""},
		"other content":      {func(t *testing.T, dir string) { put(t, dir, "client.pem", "certificatf") }, "client.pem says something else"},
		"longer":             {func(t *testing.T, dir string) { put(t, dir, "client.pem", "certificate of another") }, "client.pem says something else"},
		"shorter":            {func(t *testing.T, dir string) { put(t, dir, "client.pem", "cert") }, "client.pem says something else"},
		"one file more":      {func(t *testing.T, dir string) { put(t, dir, "old.pem", "x") }, "holds old.pem"},
		"one file less":      {func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "repo/root.json")) }, "lacks some of the files"},
		"a link to the same": {func(t *testing.T, dir string) { link(t, filepath.Join(dir, "client.pem")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "import")
			if err := place(dir, files); err != nil {
				t.Fatal(err)
			}
			for name := range files {
				want := fs.FileMode(0o644)
				if name == "pkey.pem" || name == "sota.toml" {
					want = 0o600
				}
				if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
					t.Errorf("%s: %v, %v", name, st, err)
				}
			}
			c.change(t, dir)
			before := content(t, dir)
			err := place(dir, files)
			if (err == nil) != (c.says == "") || err != nil && (advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			if after := content(t, dir); after != before {
				t.Errorf("the folder was changed:\n%s\nbefore:\n%s", after, before)
			}
			if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
				t.Errorf("left beside it: %v", left)
			}
		})
	}
}

// link replaces a file by a link to a copy of it.
func link(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := errors.Join(os.WriteFile(copied, b, 0o600), os.Remove(path), os.Symlink(copied, path)); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		b.WriteString(p + " " + string(data) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFileKeyStopped: a run that fails after the key was made leaves it where the next run finds it, and nowhere else
// once the device's folder holds it.
func TestFileKeyStopped(t *testing.T) {
	l := newLine(t, "station-file")
	l.conf.Device.KeyStore, l.conf.Device.Token = storeFile, ""
	var asked [][]byte
	l.answer = func(q *csr.Request) factory.EnrollAnswer {
		asked = append(asked, q.SPKI())
		return factory.EnrollAnswer{}
	}
	waiting := filepath.Clean(l.conf.Import) + ".pkey.pem"
	for range 2 {
		if _, err := l.enroll(nil); err == nil {
			t.Fatal("an empty answer was taken")
		}
		if st, err := os.Stat(waiting); err != nil || st.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", st, err)
		}
		if _, err := os.Lstat(l.conf.Import); !errors.Is(err, fs.ErrNotExist) {
			t.Error("there is an import folder without a certificate")
		}
	}
	l.answer = func(q *csr.Request) factory.EnrollAnswer {
		asked = append(asked, q.SPKI())
		return l.honest(q)
	}
	for i := range 2 {
		r, err := l.enroll(nil)
		if i == 1 {
			// A second certificate for the same key is another certificate: the folder that is there stays.
			if advice.KindOf(err) != advice.Refused {
				t.Errorf("%+v, %v", r, err)
			}
			break
		}
		if err != nil || r.NewKey {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	for _, key := range asked[1:] {
		if !bytes.Equal(key, asked[0]) {
			t.Error("another key was made")
		}
	}
	if _, err := os.Lstat(waiting); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key still waits beside the folder: %v", err)
	}
}

// TestFolderMakesRoom: the folder of the device's earlier certificate is moved aside for a later one; the same, an older one, another device's, and
// the only copy of a key stay.
func TestFolderMakesRoom(t *testing.T) {
	begin := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	cert := func(id string, serial int64, from time.Time) *x509.Certificate {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: id}, NotBefore: from, NotAfter: from.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, k.Public(), k)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	have := cert("vin-1", 0xab, begin)
	for name, c := range map[string]struct {
		id, store string
		next      *x509.Certificate
		moved     bool
	}{
		"a later one":      {"vin-1", storePKCS11, cert("vin-1", 2, begin.Add(time.Second)), true},
		"the same":         {"vin-1", storePKCS11, have, false},
		"an older one":     {"vin-1", storePKCS11, cert("vin-1", 3, begin.Add(-time.Second)), false},
		"another device's": {"vin-2", storePKCS11, cert("vin-2", 4, begin.Add(time.Second)), false},
		"keys in files":    {"vin-1", storeFile, cert("vin-1", 5, begin.Add(time.Second)), false},
	} {
		t.Run(name, func(t *testing.T) {
			conf := &Config{Import: filepath.Join(t.TempDir(), "import")}
			conf.Device.ID, conf.Device.KeyStore = c.id, c.store
			if err := place(conf.Import, map[string][]byte{"client.pem": encode([]*x509.Certificate{have}), "sota.toml": []byte("x")}); err != nil {
				t.Fatal(err)
			}
			f := &folder{c: conf, done: func(string, ...any) {}}
			if err := f.makeRoom(c.next); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(conf.Import + ".old-ab")
			if _, there := os.Stat(conf.Import); (err == nil) != c.moved || (there != nil) != c.moved {
				t.Errorf("aside: %v, in place: %v", err, there)
			}
		})
	}
}
