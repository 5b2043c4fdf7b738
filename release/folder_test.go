package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/image/published"
)

// folder makes a small release, with a ceremony image.
func folder(t testing.TB) (dir string, m *Manifest, data []byte) {
	t.Helper()
	dir = t.TempDir()
	put := func(name, text string) File {
		t.Helper()
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(text))
		return File{hex.EncodeToString(sum[:]), int64(len(text))}
	}
	put("hanaper-v0.2.0-linux-amd64.tar.gz", "programs")
	put("hanaper_0.2.0_amd64.deb", "package")
	put("sbom/hanaper.cdx.json", "{}")
	image := published.Image{}
	example, err := os.ReadFile("../image/published/testdata/image-1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(example, &image); err != nil {
		t.Fatal(err)
	}
	image.Version = "v0.2.0"
	for _, n := range []string{"hanaper.iso", "hanaper.efi", "manifest"} {
		image.Files[n] = published.File(put("image/"+n, "image "+n))
	}
	text, err := image.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	put("image/image.json", string(text))
	m = &Manifest{Type: Type, Version: "v0.2.0", Commit: strings.Repeat("c7", 20), Date: "2026-11-27T06:54:00Z", Platform: "linux/amd64", Go: "go1.26.8", CC: "gcc 12",
		Programs: map[string]string{"hanaper": strings.Repeat("ab", 32)}}
	if err := m.Make(dir, func(path string, data []byte) error { return os.WriteFile(path, data, 0o644) }); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(filepath.Join(dir, ManifestFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, CeremonyDir), 0o755); err != nil {
		t.Fatal(err)
	}
	put(CeremonyDir+"/whatever", "is for the ceremony's own verification")
	return dir, m, data
}

// listing is every file of a folder with its content: what a check must leave as it is.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(dir, func(full string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		all[full] = e.Type().String()
		if e.Type().IsRegular() {
			data, err := os.ReadFile(full)
			all[full] += string(data)
			return err
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCheck: a folder with a release is held to its manifest: what differs is named, and nothing is written.
func TestCheck(t *testing.T) {
	dir, m, data := folder(t)
	if differ, err := m.Check(dir, data); err != nil || len(differ) > 0 {
		t.Fatalf("%v, %v", differ, err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if differ, err := m.Check(link, data); err != nil || len(differ) > 0 {
		t.Errorf("by a link to the folder: %v, %v", differ, err)
	}
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change := func(name string) func() {
		return func() {
			b, err := os.ReadFile(at(name))
			must(err)
			b[len(b)/2] ^= 1
			must(os.WriteFile(at(name), b, 0o644))
		}
	}
	type tamper struct {
		name, want string
		do         func()
	}
	list := []tamper{
		{"a longer file", "hanaper_0.2.0_amd64.deb: is not what was signed", func() { must(os.WriteFile(at("hanaper_0.2.0_amd64.deb"), []byte("package and more"), 0o644)) }},
		{"an empty file", "hanaper_0.2.0_amd64.deb: is not what was signed", func() { must(os.Truncate(at("hanaper_0.2.0_amd64.deb"), 0)) }},
		{"a link in its place", "a symbolic link", func() {
			must(os.Rename(at("hanaper_0.2.0_amd64.deb"), at("ceremony/x")))
			must(os.Symlink("ceremony/x", at("hanaper_0.2.0_amd64.deb")))
		}},
		{"a linked folder", "sbom: is no regular file but a symbolic link", func() {
			must(os.Rename(at("sbom"), at("ceremony/sbom")))
			must(os.Symlink("ceremony/sbom", at("sbom")))
		}},
		{"a linked ceremony", "ceremony: is no regular file but a symbolic link", func() {
			must(os.RemoveAll(at("ceremony")))
			must(os.Symlink(t.TempDir(), at("ceremony")))
		}},
		{"a pipe", "a named pipe", func() {
			must(os.Remove(at("sbom/hanaper.cdx.json")))
			must(syscall.Mkfifo(at("sbom/hanaper.cdx.json"), 0o644))
		}},
		{"a folder in its place", "is a folder that is not of this release", func() {
			must(os.Remove(at("hanaper_0.2.0_amd64.deb")))
			must(os.Mkdir(at("hanaper_0.2.0_amd64.deb"), 0o755))
		}},
		{"a file more", "hanaper_0.2.1_amd64.deb: is not of this release", func() { must(os.WriteFile(at("hanaper_0.2.1_amd64.deb"), nil, 0o644)) }},
		{"a hidden file more", ".hidden: is not of this release", func() { must(os.WriteFile(at(".hidden"), nil, 0o644)) }},
		{"a file more that steers", `: is not of this release`, func() { must(os.WriteFile(at("a\x1b[2J\nb"), nil, 0o644)) }},
		{"a file more in a folder", "image/x: is not of this release", func() { must(os.WriteFile(at("image/x"), nil, 0o644)) }},
		{"a folder more", "more: is a folder that is not of this release", func() { must(os.Mkdir(at("more"), 0o755)) }},
		{"an empty folder in the ceremony", "ceremony/more: is an empty folder", func() { must(os.Mkdir(at("ceremony/more"), 0o755)) }},
		{"empty folders in the ceremony", "ceremony/a/b/c: is an empty folder", func() { must(os.MkdirAll(at("ceremony/a/b/c"), 0o755)) }},
		{"an empty folder at the end", "ceremony/zz/z: is an empty folder", func() { must(os.MkdirAll(at("ceremony/zz/z"), 0o755)) }},
		{"an empty folder before a file of the same beginning", "ceremony/what: is an empty folder", func() { must(os.Mkdir(at("ceremony/what"), 0o755)) }},
		{"an empty ceremony", "ceremony: is an empty folder", func() { must(os.Remove(at("ceremony/whatever"))) }},
		{"many empty folders in the ceremony", "and perhaps more", func() {
			for i := range 50 {
				must(os.Mkdir(at("ceremony/"+strings.Repeat("x", i+1)), 0o755))
			}
		}},
		{"many files more", "and perhaps more", func() {
			for i := range 50 {
				must(os.WriteFile(at(strings.Repeat("x", i+1)), nil, 0o644))
			}
		}},
	}
	for _, n := range append(m.Paths(), ManifestFile, SumsFile) {
		list = append(list, tamper{"a changed byte in " + n, n + ": is not what was signed", change(n)},
			tamper{n + " gone", n + ": is missing", func() { must(os.Remove(at(n))) }})
	}
	for _, c := range list {
		dir, m, data = folder(t)
		c.do()
		before := listing(t, dir)
		differ, err := m.Check(dir, data)
		if text := strings.Join(differ, "\n"); err != nil || !strings.Contains(text, c.want) || strings.Contains(text, "\x1b") || len(differ) > maxFindings+1 {
			t.Errorf("%s: %q, %v; want %q", c.name, differ, err, c.want)
		}
		if !maps.Equal(before, listing(t, dir)) {
			t.Errorf("%s: the folder was changed", c.name)
		}
	}
	if _, err := m.Check(filepath.Join(dir, "none"), data); err == nil {
		t.Error("a folder that is not there passed")
	}
}

// TestImageOfAnother: image.json is held to the files beside it, though each has the digest that was signed.
func TestImageOfAnother(t *testing.T) {
	dir, m, _ := folder(t)
	m.Version = "v0.3.0"
	m.Files["hanaper-v0.3.0-linux-amd64.tar.gz"] = m.Files["hanaper-v0.2.0-linux-amd64.tar.gz"]
	if err := os.Rename(filepath.Join(dir, "hanaper-v0.2.0-linux-amd64.tar.gz"), filepath.Join(dir, "hanaper-v0.3.0-linux-amd64.tar.gz")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "image/hanaper.iso"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{ManifestFile, SumsFile} {
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, CeremonyDir)); err != nil {
		t.Fatal(err)
	}
	err := m.Make(dir, func(path string, _ []byte) error { t.Errorf("%s was written", path); return nil })
	if err == nil || !strings.Contains(err.Error(), "is of version v0.2.0") || !strings.Contains(err.Error(), "of hanaper.iso") {
		t.Errorf("%v", err)
	}
}

// TestMakeTwice: the same files give the same bytes, and what was made before is replaced.
func TestMakeTwice(t *testing.T) {
	dir, m, data := folder(t)
	if err := os.RemoveAll(filepath.Join(dir, CeremonyDir)); err != nil {
		t.Fatal(err)
	}
	var wrote []string
	if err := m.Make(dir, func(path string, again []byte) error {
		wrote = append(wrote, filepath.Base(path))
		if filepath.Base(path) == ManifestFile && string(again) != string(data) {
			t.Errorf("%s\n%s", data, again)
		}
		return os.WriteFile(path, again, 0o644)
	}); err != nil || !slices.Equal(wrote, []string{SumsFile, ManifestFile}) {
		t.Errorf("%v, %v", wrote, err)
	}
	if err := os.Symlink("x", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := m.Make(dir, func(path string, _ []byte) error { t.Errorf("%s was written", path); return nil }); err == nil {
		t.Error("a link was listed")
	}
}
