package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/image/published"
	"github.com/hanaper/hanaper/internal/advice"
)

// makeDeb makes a Debian package of files, and gives its line in a lock.
func makeDeb(t *testing.T, folder, name string, files map[string]string) locked {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{"DEBIAN/control": "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n",
		"usr/share/doc/" + name + "/copyright": "of " + name + "\n"}
	for path, text := range files {
		all[path] = text
	}
	for path, text := range all {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(to, file); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := locked{name: name, version: "1", path: "pool/main/x/" + name + "_1_all.deb"}
	file := filepath.Join(folder, l.file())
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", root, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	l.sha256 = fmt.Sprintf("%x", sha256.Sum256(data))
	return l
}

// folderOf is an image's folder with these contents, and nothing else.
func folderOf(t *testing.T, contents string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"contents": contents, "modules": "", "applets": "", "root/init": "#!/bin/sh\n", "root/etc/passwd": "root\n"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if name == "root/init" {
			mode = 0o755
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// library is a real one: the C compiler's.
func library(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "lib.so")
	if err := os.WriteFile(filepath.Join(dir, "x.c"), []byte("int x(void){return 1;}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("gcc", "-shared", "-o", out, filepath.Join(dir, "x.c"), "-Wl,--no-as-needed", "-lm").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRoot: what contents names is taken, where it says, with what its links lead to, and nothing else; modes are one of three, and the
// manifest names all of it.
func TestRoot(t *testing.T) {
	packages := t.TempDir()
	a := makeDeb(t, packages, "a", map[string]string{"usr/sbin/prog": "text", "lib/x/lib.so.1": "-> lib.so.1.2", "lib/x/lib.so.1.2": "library", "etc/not-wanted": "x",
		"usr/share/f.conf": "conf", "usr/share/start": "boot"})
	c := config{image: folderOf(t, "a /usr/sbin/prog\na /lib/x/*.1 # a link\na /usr/share/f.conf -> /etc/f\na /usr/share/start -> boot:start\n"), packages: packages}
	tr, firmware, err := c.root([]locked{a})
	if err != nil {
		t.Fatal(err)
	}
	manifest := string(tr.manifest())
	for _, want := range []string{"0755 4 ", " a /usr/bin/prog\n", "link a /usr/lib/x/lib.so.1 -> /usr/lib/x/lib.so.1.2\n", " a /usr/lib/x/lib.so.1.2\n", " a /etc/f\n",
		" a /usr/share/doc/a/copyright\n", "0755 10 ", " hanaper /init\n", "0644 5 ", " hanaper /etc/passwd\n", "link hanaper /bin -> /usr/bin\n"} {
		if !strings.Contains(manifest, want) {
			t.Errorf("the manifest has no %q:\n%s", want, manifest)
		}
	}
	if strings.Contains(manifest, "not-wanted") || strings.Contains(manifest, "start") || string(firmware["start"]) != "boot" {
		t.Errorf("taken without being named, or not for the firmware:\n%s", manifest)
	}
}

// TestRootRefuses: a changed package, and contents and packages that do not fit each other.
func TestRootRefuses(t *testing.T) {
	packages := t.TempDir()
	a := makeDeb(t, packages, "a", map[string]string{"usr/bin/prog": "text", "usr/lib/liba.so": library(t), "usr/bin/lost": "-> nowhere"})
	b := makeDeb(t, packages, "b", map[string]string{"usr/bin/prog": "other"})
	changed := a
	changed.sha256 = strings.Repeat("0", 64)
	gone := a
	gone.path = "pool/main/x/none_1_all.deb"
	for name, c := range map[string]struct {
		contents string
		list     []locked
		want     string
		kind     advice.Kind
	}{
		"a changed package":        {"a /usr/bin/prog\n", []locked{changed}, "is not the file in the lock", advice.Unverified},
		"a package is missing":     {"a /usr/bin/prog\n", []locked{gone}, "no such file", advice.Failed},
		"no such file":             {"a /usr/bin/none\n", []locked{a}, "contents:1: package a has 0 files /usr/bin/none", advice.Failed},
		"several to one place":     {"a /usr/bin/* -> /x\n", []locked{a}, "has 2 files", advice.Failed},
		"a package too many":       {"a /usr/bin/prog\n", []locked{a, b}, "of which contents takes nothing", advice.Failed},
		"a package too few":        {"a /usr/bin/prog\nb /usr/bin/prog\n", []locked{a}, "has no package b", advice.Failed},
		"one path, two files":      {"a /usr/bin/prog\nb /usr/bin/prog\n", []locked{a, b}, "/usr/bin/prog is in a and in b", advice.Failed},
		"a line that is none":      {"a\n", []locked{a}, "contents:1: want PACKAGE FILE", advice.Usage},
		"a place that is none":     {"a /usr/bin/prog -> x\n", []locked{a}, "contents:1: want PACKAGE FILE", advice.Usage},
		"no library":               {"a /usr/lib/liba.so\n", []locked{a}, "/usr/lib/liba.so, of a, needs libm.so.6", advice.Failed},
		"a link that leads astray": {"a /usr/bin/lost\n", []locked{a}, "leads to /usr/bin/nowhere", advice.Failed},
	} {
		tr, _, err := config{image: folderOf(t, c.contents), packages: packages}.root(c.list)
		if err == nil {
			err = tr.complete()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != c.kind {
			t.Errorf("%s: %v (kind %d), want %q (kind %d)", name, err, advice.KindOf(err), c.want, c.kind)
		}
	}
}

// TestNothingWritten: a build that is refused leaves no folder.
func TestNothingWritten(t *testing.T) {
	packages := t.TempDir()
	a := makeDeb(t, packages, "app", map[string]string{"usr/bin/prog": "text"})
	lock := filepath.Join(t.TempDir(), "lock")
	out := filepath.Join(t.TempDir(), "out")
	program := filepath.Join(t.TempDir(), "program")
	source := filepath.Join(filepath.Dir(program), "main.go")
	if err := os.WriteFile(source, []byte("package main\n\n// int one(void) { return 1; }\nimport \"C\"\n\nfunc main() { _ = C.one() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("go", "build", "-ldflags=-linkmode=external", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	dir := folderOf(t, "app /usr/bin/prog\n")
	for name, c := range map[string]struct{ digest, toolchain, want string }{
		"another compiler":  {a.sha256, "go " + runtime.Version() + "\ncc another\n", `program was compiled by "GCC: `},
		"another Go":        {a.sha256, "go go1.0\n", `program was compiled by "` + runtime.Version() + `", want "go1.0"`},
		"a changed package": {strings.Repeat("0", 64), "go " + runtime.Version() + "\n", "is not the file in the lock"},
		"a library too few": {a.sha256, "go " + runtime.Version() + "\n", "needs libc.so.6"},
	} {
		if err := os.WriteFile(lock, fmt.Appendln(nil, a.name, a.version, c.digest, a.path), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "toolchain"), []byte(c.toolchain), 0o600); err != nil {
			t.Fatal(err)
		}
		err := build(io.Discard, config{image: dir, lock: lock, packages: packages, out: out, version: "v1", program: program})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(out); !os.IsNotExist(err) {
			t.Errorf("%s: something was written: %v", name, err)
		}
	}
	var said strings.Builder
	if err := (config{image: dir, program: program, anyCompiler: true}).compilers(&said, map[string]string{"go": "go0"}); err != nil || !strings.Contains(said.String(), "NOT THE RELEASE'S COMPILER") {
		t.Errorf("any compiler: %v, %q", err, said.String())
	}
}

// TestLockRefuses: a line that is not in the one form, and a package that stands there twice.
func TestLockRefuses(t *testing.T) {
	digest := strings.Repeat("a", 64)
	good := "xx 1:2-3 " + digest + " pool/main/x/xx_2-3_all.deb\n"
	for name, text := range map[string]string{
		"a path elsewhere": "xx 1 " + digest + " /etc/x.deb\n", "a path upwards": "xx 1 " + digest + " pool/../x.deb\n", "a short digest": "xx 1 abc pool/x.deb\n",
		"twice": good + good, "an empty line": good + "\n" + good, "an option for a program": "-xx 1 " + digest + " pool/x.deb\n", "two blanks": strings.Replace(good, " ", "  ", 1),
	} {
		file := filepath.Join(t.TempDir(), "lock")
		if err := os.WriteFile(file, []byte("# comment\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := readLock(file); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
	file := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := readLock(file); err != nil || len(list) != 1 || list[0] != (locked{"xx", "1:2-3", digest, "pool/main/x/xx_2-3_all.deb"}) {
		t.Errorf("a good line: %v, %v", list, err)
	}
	if list, err := readLock("../packages.lock"); err != nil || len(list) < 40 {
		t.Errorf("the lock of the image: %d, %v", len(list), err)
	}
}

// TestFetch: apt's own program brings a package from the archive that has it. What is not as locked leaves no file; what no archive has any
// more is said, with what to do, and is another thing than an archive that does not answer.
func TestFetch(t *testing.T) {
	for _, v := range []string{"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} {
		t.Setenv(v, "")
	}
	// One attempt only.
	conf := filepath.Join(t.TempDir(), "apt.conf")
	if err := os.WriteFile(conf, []byte("Acquire::Retries \"0\";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", conf)
	archive := t.TempDir()
	a := makeDeb(t, archive, "a", map[string]string{"usr/bin/prog": "text"})
	empty := httptest.NewServer(http.NotFoundHandler())
	defer empty.Close()
	has := httptest.NewServer(http.StripPrefix("/pool/main/x/", http.FileServer(http.Dir(archive))))
	defer has.Close()
	silent := httptest.NewServer(nil)
	silent.Close()

	folder := t.TempDir()
	if err := download([]string{empty.URL + "/", has.URL}, folder, a); err != nil {
		t.Fatal(err)
	}
	if err := held(folder, a); err != nil {
		t.Error(err)
	}
	changed := a
	changed.sha256 = strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		sites []string
		l     locked
		gone  bool
	}{
		"gone from all":      {[]string{empty.URL, empty.URL}, a, true},
		"no answer from one": {[]string{silent.URL, empty.URL}, a, false},
		"changed on its way": {[]string{has.URL}, changed, false},
	} {
		folder := t.TempDir()
		err := download(c.sites, folder, c.l)
		if err == nil || errors.Is(err, errGone) != c.gone || !strings.Contains(err.Error(), "package a 1") || advice.Hint(err) == "" {
			t.Errorf("%s: %v, gone %t, hint %q", name, err, errors.Is(err, errGone), advice.Hint(err))
		}
		if left, _ := os.ReadDir(folder); len(left) != 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}

// TestCompare: which file of the two images' roots differs, or is in one alone, is said.
func TestCompare(t *testing.T) {
	image := func(manifest string) string {
		dir := t.TempDir()
		for _, name := range []string{"hanaper.iso", "hanaper.efi", "vmlinuz", "initrd", "cmdline", "image.json", "SHA256SUMS"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("same"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "manifest"), []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	one := image("0644 1 aa libc6 /a\n0644 1 bb libc6 /b\nlink x /c -> /d\n")
	var said strings.Builder
	if err := compare(&said, one, one); err != nil || !strings.Contains(said.String(), "byte for byte") {
		t.Errorf("%v, %s", err, said.String())
	}
	said.Reset()
	err := compare(&said, one, image("0644 1 aa libc6 /a\n0644 1 b0 libc6 /b\n0644 1 ee libc6 /e\n"))
	if advice.KindOf(err) != advice.Unverified {
		t.Error(err)
	}
	for _, want := range []string{"manifest differs, from byte", "/b: 0644 1 bb libc6 /b in the first, 0644 1 b0 libc6 /b in the second", "/c -> /d", "only in the second: 0644 1 ee libc6 /e"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("not said: %q in\n%s", want, said.String())
		}
	}
	if strings.Contains(said.String(), "/a") {
		t.Errorf("what is the same is named:\n%s", said.String())
	}
	// Images of other sources say so first.
	madeOf := func(version, gcc, pkg string) string {
		dir := image("0644 1 aa libc6 /a\n")
		p := published.Image{Format: published.Format, Version: version, Created: time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC), Files: map[string]published.File{}, PCRs: map[string]string{},
			Packages: []string{"busybox 1 " + digest, pkg + " 1 " + digest}, Tools: map[string]string{"go": "go1.26.8", "gcc": gcc}}
		for _, name := range []string{"hanaper.iso", "hanaper.efi", "manifest"} {
			p.Files[name] = published.File{SHA256: digest, Size: 1}
		}
		for _, n := range []string{"11", "12", "13"} {
			p.PCRs[n] = digest
		}
		data, err := p.Marshal()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "image.json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	said.Reset()
	if err := compare(&said, madeOf("v1", "gcc 1", "libc6"), madeOf("v1-dirty", "gcc 2", "musl")); advice.KindOf(err) != advice.Unverified {
		t.Error(err)
	}
	for _, want := range []string{"the source: the first is v1 of 2026-11-27T00:00:00Z, the second v1-dirty of 2026-11-27T00:00:00Z\n", "the compiler gcc: gcc 1 made the first, gcc 2 the second\n",
		"the package libc6 1 " + digest + " is in the first alone\n", "the package musl 1 " + digest + " is in the second alone\n"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("not said: %q in\n%s", want, said.String())
		}
	}
	if strings.Contains(said.String(), "busybox") || strings.Contains(said.String(), "go1.26.8") {
		t.Errorf("what is the same is named:\n%s", said.String())
	}
}

var digest = strings.Repeat("ab", 32)
