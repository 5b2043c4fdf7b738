package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

func TestSourcesIn(t *testing.T) {
	l := locked{name: "xx-bin", version: "1:2-3+b1"}
	for name, c := range map[string]struct {
		control string
		want    []source
	}{
		"its own name":              {"", []source{{"xx-bin", "1:2-3+b1"}}},
		"another name":              {"Source: xx\n", []source{{"xx", "1:2-3+b1"}}},
		"another version":           {"Source: xx (1:2-3)\n", []source{{"xx", "1:2-3"}}},
		"signed, from the unsigned": {"Source: linux-signed-amd64 (6.1.9+1)\nBuilt-Using: linux (= 6.1.9-1)\n", []source{{"linux-signed-amd64", "6.1.9+1"}, {"linux", "6.1.9-1"}}},
		"with two others in it":     {"Built-Using: a+ (= 1), b0 (= 2~rc1)\n", []source{{"xx-bin", "1:2-3+b1"}, {"a+", "1"}, {"b0", "2~rc1"}}},
	} {
		list, err := sourcesIn(l, c.control)
		var got []source
		for _, o := range list {
			if o.name != l.name || o.version != l.version {
				t.Errorf("%s: of %s %s", name, o.name, o.version)
			}
			got = append(got, o.source)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"Source: xx (1) y\n", "Source: -o\n", "Source: xx ()\n", "Built-Using: a (>= 1)\n", "Built-Using: a\n", "Built-Using: a (= 1),\n"} {
		if list, err := sourcesIn(l, bad); err == nil {
			t.Errorf("%q: %v", bad, list)
		}
	}
}

func TestFilesIn(t *testing.T) {
	s := source{"xx", "1:2-3"}
	digest := strings.Repeat("ab", 32)
	good := "'http://deb.debian.org/debian/pool/main/x/xx/xx_2-3.dsc' xx_2-3.dsc 2576 SHA256:" + digest + "\n"
	list, err := filesIn(s, good)
	if err != nil || len(list) != 1 || list[0] != (sourceFile{locked{"xx", "1:2-3", digest, "pool/main/x/xx/xx_2-3.dsc"}, "2576"}) {
		t.Errorf("%v, %v", list, err)
	}
	for name, bad := range map[string]string{
		"a weak digest": strings.Replace(good, "SHA256:"+digest, "MD5Sum:"+digest[:32], 1), "elsewhere": strings.Replace(good, "/pool/", "/pond/", 1),
		"something else": "Need to get 5 kB\n", "no size": strings.Replace(good, " 2576 ", " ", 1), "empty": strings.Replace(good, " 2576 ", " 0 ", 1),
	} {
		if list, err := filesIn(s, bad); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
}

// TestSourcesLock: a package without its source, and a source without its files, are found; so are lines of no form.
func TestSourcesLock(t *testing.T) {
	packages := []locked{{name: "xx-bin", version: "1+b1"}}
	digest := strings.Repeat("a", 64)
	of, dsc, tar := "of xx-bin 1+b1 xx 1\n", "file xx 1 "+digest+" 7 pool/main/x/xx/xx_1.dsc\n", "file xx 1 "+digest+" 8 pool/main/x/xx/xx_1.tar.xz\n"
	for name, c := range map[string]struct{ text, want string }{
		"no source":             {dsc + tar, "lacks the source of xx-bin 1+b1"},
		"of an earlier version": {"of xx-bin 0 xx 1\n" + dsc + tar, "lacks the source of xx-bin 1+b1"},
		"no description":        {of + tar, "lacks files of the source xx 1"},
		"nothing packed":        {of + dsc, "lacks files of the source xx 1"},
		"files of another":      {of + strings.ReplaceAll(dsc+tar, " 1 ", " 2 "), "lacks files of the source xx 1"},
		"a path upwards":        {of + strings.ReplaceAll(dsc+tar, "main", ".."), "line 3"},
		"a short digest":        {of + strings.ReplaceAll(dsc+tar, digest, "abc"), "line 3"},
		"one name, two files":   {of + dsc + tar + strings.ReplaceAll(tar, digest, strings.Repeat("b", 64)), "is two files"},
		"another kind of line":  {of + dsc + tar + "from xx\n", "line 5"},
		"an empty line":         {of + "\n" + dsc + tar, "line 3"},
	} {
		file := filepath.Join(t.TempDir(), "lock")
		if err := os.WriteFile(file, []byte("# comment\n"+c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := readSources(file, packages); err == nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	list, err := readLock("../packages.lock")
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSources("../sources.lock", list)
	if err != nil || len(s.of) < len(list) || len(s.files) < 100 {
		t.Errorf("the sources of the image: %d of %d packages, %d files: %v", len(s.of), len(list), len(s.files), err)
	}
	// The kernel's own package was built from a source that holds signatures alone.
	if !slices.ContainsFunc(s.of, func(o sourceOf) bool { return strings.HasPrefix(o.name, "linux-image-") && o.source.name == "linux" }) {
		t.Error("the kernel's source is not among them")
	}
}

// TestFetchSources: what is there is looked at and not fetched again, so that a call that was cut short goes on; what has changed is refused.
func TestFetchSources(t *testing.T) {
	folder, dir := t.TempDir(), t.TempDir()
	a := makeDeb(t, dir, "a", map[string]string{"usr/bin/prog": "text"})
	data, err := os.ReadFile(filepath.Join(dir, a.file()))
	if err != nil {
		t.Fatal(err)
	}
	packages := filepath.Join(dir, "packages.lock")
	file := filepath.Join(dir, "sources.lock")
	for name, text := range map[string]string{
		packages: strings.Join([]string{"aa", a.version, a.sha256, a.path}, " ") + "\n",
		file:     "of aa " + a.version + " aa 1\nfile aa 1 " + a.sha256 + " 9 pool/main/a/a/a_1.dsc\nfile aa 1 " + a.sha256 + " 9 pool/main/a/a/a_1.tar.xz\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a_1.dsc", "a_1.tar.xz"} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	if err := fetchSources(&said, packages, file, folder, nil); err != nil || !strings.HasPrefix(said.String(), "2 files of sources") || !strings.Contains(said.String(), ", 0 of them fetched") {
		t.Errorf("%s %v", said.String(), err)
	}
	if kept, err := os.ReadFile(filepath.Join(folder, "sources.lock")); err != nil || !strings.HasPrefix(string(kept), "of aa ") {
		t.Errorf("the lock beside the files: %v", err)
	}
	if err := fetchSources(&said, packages, file, folder, []string{"b"}); err == nil || advice.KindOf(err) != advice.Usage {
		t.Errorf("of a source that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "a_1.dsc"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fetchSources(&said, packages, file, folder, nil); err == nil || advice.KindOf(err) != advice.Unverified {
		t.Errorf("a changed file: %v", err)
	}
	// From an archive, by the way that packages come.
	has := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }))
	defer has.Close()
	for _, v := range []string{"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} {
		t.Setenv(v, "")
	}
	f := locked{"a", "1", a.sha256, "pool/main/a/a/a_1.orig.tar.gz"}
	if err := download([]string{has.URL}, folder, f); err != nil {
		t.Fatal(err)
	}
	if err := held(folder, f); err != nil {
		t.Error(err)
	}
}
