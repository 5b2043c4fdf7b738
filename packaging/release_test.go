package packaging

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// bench is where a release is made, signed and checked, by the programs alone.
type bench struct {
	*testing.T
	dir, hanaper string
}

func (b bench) at(name string) string { return filepath.Join(b.dir, filepath.FromSlash(name)) }

// run runs a program, and gives its exit code and all that it said.
func (b bench) run(name string, args ...string) (code int, said string) {
	b.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "HANAPER_STATE="+b.at("state"))
	out, err := c.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil {
		var ok bool
		if exit, ok = err.(*exec.ExitError); !ok {
			b.Fatalf("%s: %v", name, err)
		}
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

func (b bench) ok(name string, args ...string) string {
	b.Helper()
	code, said := b.run(name, args...)
	if code != 0 {
		b.Fatalf("%s %s: exit code %d: %s", name, strings.Join(args, " "), code, said)
	}
	return said
}

func (b bench) write(name, text string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(b.at(name)), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(b.at(name), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b bench) text(name string) string {
	b.Helper()
	data, err := os.ReadFile(b.at(name))
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

func (b bench) sha(name string) string {
	b.Helper()
	return strings.Fields(b.ok("sha256sum", b.at(name)))[0]
}

// files are all files below the bench, with their content.
func (b bench) files() map[string]string {
	b.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return all
}

const day = "2026-11-21T"

// TestRelease drives a release as docs/upgrades.md has it: made, signed in a ceremony with a token, verified by the program that is installed, and by
// people who have none of ours; whatever is changed in it is refused.
func TestRelease(t *testing.T) {
	b := bench{t, t.TempDir(), programtest.Path(t, "hanaper")}
	version, platform := "v0.2.0", runtime.GOOS+"-"+runtime.GOARCH
	b.write("rel/hanaper_0.2.0_amd64.deb", "a package")
	b.ok("tar", "--sort=name", "--owner=0", "--group=0", "--mtime=@1795748384", "-C", filepath.Dir(b.hanaper), "-czf", b.at("rel/hanaper-"+version+"-"+platform+".tar.gz"), "hanaper")
	b.write("rel/sbom/hanaper.cdx.json", b.ok("./sbom", b.hanaper, version, day+"06:54:00Z"))
	b.ok("./judge-sboms", b.at("rel/sbom/hanaper.cdx.json"), b.hanaper)
	maker := []string{"run", "../release/make", "--release", version, "--commit", strings.Repeat("c7", 20), "--date", day + "06:54:00Z", "--platform", runtime.GOOS + "/" + runtime.GOARCH, "--go", runtime.Version(), "--cc", "gcc", b.at("rel"), b.hanaper}
	b.ok("go", maker...)
	manifest := b.text("rel/manifest.json")
	if b.ok("go", maker...); b.text("rel/manifest.json") != manifest || !strings.Contains(manifest, `"hanaper": "`+strings.Fields(b.ok("sha256sum", b.hanaper))[0]+`"`) {
		t.Errorf("made twice:\n%s\n%s", manifest, b.text("rel/manifest.json"))
	}
	b.hold("rel")

	roster := b.sha("roster.json")
	verify := []string{"release", "verify", "--roster", roster, b.at("rel")}
	if said := b.ok(b.hanaper, verify...); !strings.Contains(said, "this program is that of the release") {
		t.Error(said)
	}
	// Without any program of ours: the ceremony by the second reader, which says what was signed, and the files by coreutils.
	if said := b.ok("python3", "../docs/spec/verify_ceremony.py", "--roster", roster, b.at("rel/ceremony")); !strings.Contains(said, "manifest.json with SHA-256 "+b.sha("rel/manifest.json")) {
		t.Error(said)
	}
	byHand := []string{"-c", `cd "$1" && python3 -c 'import json,sys; [print(f["sha256"]+"  "+n) for n,f in json.load(open(sys.argv[1]))["files"].items()]' rel/manifest.json > signed.sums &&
		(cd rel && sha256sum --strict -c) < signed.sums && [ $(($(wc -l < signed.sums) + 2)) = $(find rel -not -type d -not -path 'rel/ceremony/*' | wc -l) ]`, "sh", b.dir}
	b.ok("sh", byHand...)

	before := b.files()
	for path, text := range before {
		name, err := filepath.Rel(b.at("rel"), path)
		if err != nil || strings.HasPrefix(name, "..") {
			continue
		}
		changed := []byte(text)
		changed[len(changed)/3] ^= 4
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, said := b.run(b.hanaper, verify...); code != 4 {
			t.Errorf("a changed byte in %s: exit code %d: %s", name, code, said)
		}
		// SHA256SUMS is nobody's word, and the ceremony and the manifest are held by the commands before.
		if code, said := b.run("sh", byHand...); code == 0 && !strings.HasPrefix(name, "ceremony/") && name != "SHA256SUMS" && name != "manifest.json" {
			t.Errorf("a changed byte in %s, by hand: %s", name, said)
		}
		code, said := b.run(b.hanaper, "ceremony", "approve", "--officer", b.at("ada.key")+"?pin-source="+b.at("pass"), "--release", b.at("rel"), "--release-roster", roster, "--out", b.at("approval"), "--answers", b.at("yes"), b.at("script.yaml"))
		if code != 4 {
			t.Errorf("a changed byte in %s, approved: exit code %d: %s", name, code, said)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(before, b.files()) {
		t.Error("something was written")
	}
}

// hold holds the ceremony that signs the release, with a token and two officers, and lays it into the release's folder.
func (b bench) hold(rel string) {
	b.Helper()
	store, err := softhsm.New(filepath.Join(b.TempDir(), "tokens"))
	if err != nil {
		b.Fatal(err)
	}
	board, err := store.Create("Releases")
	if err != nil {
		b.Fatal(err)
	}
	b.Setenv(softhsm.ConfigVariable, store.Config())
	b.write("pass", "correct horse battery\n")
	b.write("yes", "Yes\n")
	b.write("manifest.json", b.text(rel+"/manifest.json"))
	roster := []string{"roster", "new", "--environment", "releases", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", b.at("roster.json")}
	for _, name := range []string{"ada", "berta"} {
		b.ok(b.hanaper, "officer", "enroll", "--name", name, "--key", b.at(name+".key")+"?pin-source="+b.at("pass"), "--out", b.at(name+".json"))
		roster = append(roster, b.at(name+".json"))
	}
	b.ok(b.hanaper, roster...)
	b.write("bindings.yaml", fmt.Sprintf("tokens:\n  releases: %q\n", hsm.URI{Token: board.Label, ModulePath: board.Module, PINSource: board.PINFile}.String()))
	b.write("script.yaml", fmt.Sprintf(`version: 1
ceremony: release-1
environment: releases
window: {from: %[1]s00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {file: roster.json, sha256: %[2]s}
tokens:
  releases: {uri: "%[3]s"}
inputs:
  manifest: {file: manifest.json, sha256: %[4]s}
steps:
  - generate-key: {name: release-key, token: releases, label: Hanaper Releases, algorithm: P-384}
  - sign-release: {name: v0.2.0, key: release-key, manifest: manifest}
`, day, b.sha("roster.json"), hsm.URI{Token: board.Label, Serial: board.Serial}, b.sha("manifest.json")))
	officer := func(name string) []string {
		return []string{"--officer", b.at(name+".key") + "?pin-source=" + b.at("pass")}
	}
	approve := append([]string{"ceremony", "approve", "--answers", b.at("yes")}, officer("ada")...)
	b.ok(b.hanaper, append(approve, "--out", b.at("ada.approval"), b.at("script.yaml"))...)
	approve = append([]string{"ceremony", "approve", "--answers", b.at("yes"), "--with", b.at("ada.approval")}, officer("berta")...)
	b.ok(b.hanaper, append(approve, "--out", b.at("berta.approval"), b.at("script.yaml"))...)
	b.ok(b.hanaper, append(append(append([]string{"ceremony", "run", "--out", b.at(rel + "/ceremony"), "--bindings", b.at("bindings.yaml"), "--time", day + "09:00:00Z", "--answers", b.at("yes"),
		"--approval", b.at("ada.approval"), "--approval", b.at("berta.approval")}, officer("ada")...), officer("berta")...), b.at("script.yaml"))...)
}

// TestSBOMJudge: an SBOM that does not keep the rules of CycloneDX, or is of another program, is refused by a judge of another maker.
func TestSBOMJudge(t *testing.T) {
	b := bench{t, t.TempDir(), programtest.Path(t, "hanaper")}
	good := b.ok("./sbom", b.hanaper, "v0.2.0", day+"06:54:00Z")
	if again := b.ok("./sbom", b.hanaper, "v0.2.0", day+"06:54:00Z"); again != good || !strings.Contains(good, `"timestamp": "`+day+`06:54:00Z"`) {
		t.Error("the same program gives two SBOMs")
	}
	for name, c := range map[string]struct{ was, now, want string }{
		"as it is":               {"", "", ""},
		"no format":              {`"bomFormat"`, `"bomform"`, "bomFormat"},
		"a property more":        {`"bomFormat"`, `"weather": "fine", "bomFormat"`, "weather"},
		"another version":        {`"specVersion": "1.6"`, `"specVersion": "1.5"`, "1.6"},
		"a number as text":       {`"version": 1,`, `"version": "1",`, "version"},
		"no date":                {day + "06:54:00Z", "yesterday", "timestamp"},
		"a kind that is unknown": {`"type": "library"`, `"type": "librarium"`, "type"},
		"a module renamed":       {`"name": "github.com/urfave/cli/v2"`, `"name": "github.com/urfave/cli/v9"`, "it lacks [github.com/urfave/cli/v2@"},
	} {
		text := strings.Replace(good, c.was, c.now, 1)
		if name != "as it is" && text == good {
			t.Fatalf("%s: there is no %s", name, c.was)
		}
		b.write("x.json", text)
		code, said := b.run("./judge-sboms", b.at("x.json"), b.hanaper)
		if (code == 0) != (name == "as it is") || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit code %d: %s", name, code, said)
		}
	}
	if !bytes.Contains([]byte(good), []byte(`"github.com/miekg/pkcs11"`)) {
		t.Error("it does not name what hanaper reaches tokens by")
	}
}

// TestAssembleRefuses: what lies in bin/ and image/out goes into a release only if it is of the commit's tag, and the same in archive, packages and image;
// nothing is left of a release that was refused.
func TestAssembleRefuses(t *testing.T) {
	programs := []string{"hanaper", "hanaperd", "hanaper-station", "hanaper-gateway", "hanaper-repo", "hanaper-sign", "hanaper-kms"}
	for _, c := range []struct {
		what, want string
		spoil      func(b bench)
	}{
		{"no tag", "this commit has no tag", func(b bench) { b.ok("git", "-C", b.dir, "tag", "-d", "v0.2.0") }},
		{"a program of another commit", "bin/hanaper-sign is v0.1.9, and the commit is v0.2.0", func(b bench) { b.program("bin/hanaper-sign", "v0.1.9") }},
		{"no package", "there is not one package of hanaperd", func(b bench) { b.ok("rm", b.at("bin/packages/hanaperd_0.2.0_amd64.deb")) }},
		{"two packages", "there is not one package of hanaperd", func(b bench) { b.write("bin/packages/hanaperd_0.1.9_amd64.deb", "x") }},
		{"a package of another build", "holds another hanaper-kms than bin/", func(b bench) { b.deb("hanaper-kms", "v0.2.0", "echo built elsewhere") }},
		{"no image", "there is no ceremony image", func(b bench) { b.ok("rm", b.at("image/out/image.json")) }},
		{"an image with another hanaper", "the hanaper in the ceremony image is not the one in bin/", func(b bench) {
			b.write("image/out/manifest", "0755 10 "+strings.Repeat("e", 64)+" hanaper /usr/bin/hanaper\n")
		}},
		{"nothing", "", func(bench) {}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			b := bench{t, t.TempDir(), ""}
			b.ok("mkdir", b.at("packaging"))
			b.ok("cp", "assemble", b.at("packaging/assemble"))
			for _, p := range programs {
				b.program("bin/"+p, "v0.2.0")
				b.deb(p, "v0.2.0", "")
			}
			b.write("image/out/image.json", "{}")
			b.write("image/out/manifest", "0755 10 "+b.sha("bin/hanaper")+" hanaper /usr/bin/hanaper\n")
			b.ok("git", "-C", b.dir, "init", "-q")
			b.ok("git", "-C", b.dir, "-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "--allow-empty", "-m", "a")
			b.ok("git", "-C", b.dir, "tag", "v0.2.0")
			c.spoil(b)
			code, said := b.run(b.at("packaging/assemble"), b.at("out"))
			if c.want == "" {
				// Nothing is refused before the SBOMs are made, which this folder has no program for.
				if !strings.Contains(said, "packaging/sbom") {
					t.Errorf("exit code %d: %s", code, said)
				}
				return
			}
			if _, err := os.Stat(b.at("out")); code != 1 || !strings.Contains(said, c.want) || err == nil {
				t.Errorf("exit code %d, %v: %s", code, err, said)
			}
		})
	}
}

// program writes a program that knows its version alone.
func (b bench) program(name, version string, more ...string) {
	b.Helper()
	b.write(name, "#!/bin/sh\necho "+filepath.Base(name)+" version "+version+"\n"+strings.Join(more, "\n"))
	b.ok("chmod", "755", b.at(name))
}

// deb writes a package of one.
func (b bench) deb(program, version, more string) {
	b.Helper()
	b.program("tree/usr/bin/"+program, version, more)
	b.write("tree/DEBIAN/control", "Package: "+program+"\nVersion: 0.2.0\nArchitecture: amd64\nMaintainer: a <a@example>\nDescription: a\n")
	b.ok("chmod", "-R", "u=rwX,go=rX", b.at("tree"))
	b.ok("mkdir", "-p", b.at("bin/packages"))
	b.ok("dpkg-deb", "--root-owner-group", "-Znone", "-b", b.at("tree"), b.at("bin/packages/"+program+"_0.2.0_amd64.deb"))
	b.ok("rm", "-r", b.at("tree"))
}

// TestReleaseRefuses: a release that is there already is not replaced, and what is not committed, or has no tag, is no release.
func TestReleaseRefuses(t *testing.T) {
	b := bench{t, t.TempDir(), ""}
	b.ok("mkdir", b.at("packaging"))
	b.ok("cp", "release", b.at("packaging/release"))
	git := func(args ...string) {
		b.ok("git", append([]string{"-C", b.dir, "-c", "user.name=a", "-c", "user.email=a@example"}, args...)...)
	}
	b.write(".gitignore", "/bin/\n")
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", "a")
	refused := func(want string) {
		t.Helper()
		before := b.files()
		if code, said := b.run(b.at("packaging/release")); code != 1 || !strings.Contains(said, want) {
			t.Errorf("exit code %d: %s; want %q", code, said, want)
		}
		if !maps.Equal(before, b.files()) {
			t.Errorf("%s: something was written", want)
		}
	}
	refused("this commit has no tag")
	git("tag", "v0.2.0")
	b.write("new.go", "package a")
	refused("changes that are not committed")
	b.ok("rm", b.at("new.go"))
	// Step 1 of docs/upgrades.md, forgotten or done in part.
	refused("CHANGELOG.md has no head '## 0.2.0 - YYYY-MM-DD'")
	b.write("CHANGELOG.md", "## Unreleased\n## 0.2.0 - 2026-11-27\n")
	b.write("docs/upgrades.md", "| 0.2.0 (in preparation) | record |\n")
	git("add", ".")
	git("commit", "-q", "-m", "b")
	git("tag", "-f", "v0.2.0")
	refused("docs/upgrades.md still calls 0.2.0 '(in preparation)'")
	git("tag", "0.2.0")
	git("tag", "-d", "v0.2.0")
	refused("the tag 0.2.0 is no version")
	git("tag", "-d", "0.2.0")
	b.write("docs/upgrades.md", "| 0.2.0 | record |\n")
	git("commit", "-q", "-a", "-m", "c")
	git("tag", "v0.2.0")
	b.write("bin/release/manifest.json", "{}")
	refused("bin/release is there")
	b.write("bin/release/ceremony/checkpoint", "x")
	refused("it is a signed release")
}

// TestReleaseAlone: what a user's environment, settings of git, hooks, attributes and make files say does not get into a release: it is the commit's.
func TestReleaseAlone(t *testing.T) {
	version := runtime.Version()
	make := func(t *testing.T, hostile bool) bench {
		b := bench{t, t.TempDir(), ""}
		b.ok("mkdir", "-p", b.at("source/packaging"))
		b.ok("cp", "release", b.at("source/packaging/release"))
		b.write("source/go.mod", "module a\n\ngo 1.26.0\n\ntoolchain "+version+"\n")
		b.write("source/.gitignore", "/bin/\n")
		b.write("source/CHANGELOG.md", "## 0.2.0 - 2026-11-27\n")
		b.write("source/text", "as committed\nin two lines\n")
		b.write("source/Makefile", "WORD := of the commit\npackages:\n\t@echo $(WORD) > word; env | sed 's/=.*//' | sort > names; $(SHELL) -c 'echo $$0' > /dev/null\nimage:\n\t@:\n")
		b.write("source/packaging/assemble", "#!/bin/sh\nset -e\ncd \"$(dirname \"$0\")/..\"\nmkdir \"$1\"\nrm -rf .git\ncp -r . \"$1\"/\n")
		b.ok("chmod", "755", b.at("source/packaging/assemble"))
		git := func(args ...string) {
			b.ok("git", append([]string{"-C", b.at("source"), "-c", "user.name=a", "-c", "user.email=a@example"}, args...)...)
		}
		git("init", "-q")
		git("add", ".")
		git("commit", "-q", "-m", "a")
		git("tag", "v0.2.0")
		if !hostile {
			return b
		}
		// Another repository, whose tag has the same name, in the place of this one.
		b.ok("cp", "-r", b.at("source"), b.at("other"))
		b.write("other/text", "of another repository\n")
		b.ok("git", "-C", b.at("other"), "-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "-a", "-m", "b")
		b.ok("git", "-C", b.at("other"), "tag", "-f", "v0.2.0")
		b.write("home/.gitconfig", fmt.Sprintf("[core]\n\tautocrlf = true\n\tattributesFile = %[1]s/attributes\n\thooksPath = %[1]s/hooks\n[filter \"x\"]\n\tsmudge = sed s/committed/smudged/\n\tclean = sed s/smudged/committed/\n[init]\n\ttemplateDir = %[1]s/template\n", b.at("home")))
		b.write("home/attributes", "text filter=x\n")
		b.write("home/.config/git/attributes", "Makefile filter=x\n")
		for _, hook := range []string{"home/hooks/post-checkout", "home/template/hooks/post-checkout"} {
			b.write(hook, "#!/bin/sh\necho of a hook > hooked\n")
			b.ok("chmod", "755", b.at(hook))
		}
		b.write("evil.mk", "override WORD := of a make file\n")
		for name, value := range map[string]string{"HOME": b.at("home"), "XDG_CONFIG_HOME": b.at("home/.config"), "MAKEFILES": b.at("evil.mk"), "MAKEFLAGS": "e", "WORD": "of the environment", "TAR_OPTIONS": "--mtime=@1", "LD_RUN_PATH": "/evil",
			"PERL5OPT": "-Mstrict", "GOWORK": "off", "GOSUMDB": "off", "GONOSUMDB": "*", "GOINSECURE": "*", "GOFLAGS": "-mod=mod", "GOEXPERIMENT": "", "GOFIPS140": "off", "GODEBUG": "x=1", "CPLUS_INCLUDE_PATH": "/evil", "GCC_EXEC_PREFIX": "", "COMPILER_PATH": "/evil", "DEB_BUILD_OPTIONS": "noopt", "XZ_OPT": "-9", "GZIP": "-1",
			"POSIXLY_CORRECT": "1", "HANAPER_IMAGE_ANEW": "1", "VERSION": "v9", "OUT": "/evil", "SOURCE_DATE_EPOCH": "1"} {
			b.Setenv(name, value)
		}
		return b
	}
	made := func(b bench) map[string]string {
		b.Helper()
		b.ok(b.at("source/packaging/release"))
		all := map[string]string{}
		for path, text := range b.files() {
			if name, err := filepath.Rel(b.at("source/bin/release"), path); err == nil && !strings.HasPrefix(name, "..") {
				all[name] = text
			}
		}
		if left, err := filepath.Glob(b.at("source/bin/release-unfinished*")); err != nil || len(left) > 0 {
			b.Errorf("left: %v, %v", left, err)
		}
		return all
	}
	var want map[string]string
	t.Run("alone", func(t *testing.T) { want = made(make(t, false)) })
	if want["word"] != "of the commit\n" || want["text"] != "as committed\nin two lines\n" {
		t.Fatalf("%q", want)
	}
	t.Run("with a user's settings", func(t *testing.T) {
		have := made(make(t, true))
		for name, text := range want {
			if have[name] != text {
				t.Errorf("%s is %q, and was %q", name, have[name], text)
			}
		}
		if len(have) != len(want) {
			t.Errorf("%d files, and were %d", len(have), len(want))
		}
	})
	t.Run("in a hook", func(t *testing.T) {
		b := make(t, true)
		b.Setenv("GIT_DIR", b.at("other/.git"))
		b.Setenv("GIT_CONFIG_COUNT", "1")
		b.Setenv("GIT_CONFIG_KEY_0", "core.autocrlf")
		b.Setenv("GIT_CONFIG_VALUE_0", "true")
		if have := made(b); have["text"] != want["text"] || have["names"] != want["names"] {
			t.Errorf("%q", have)
		}
	})
}

// TestReleaseOfGoSum: modules that somebody changed in the cache, as one does to find a fault, are not in a release, nor is it made without them.
func TestReleaseOfGoSum(t *testing.T) {
	const module, version = "golang.org/x/sys", "v0.48.0"
	b := bench{t, t.TempDir(), ""}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	b.Setenv("GOPROXY", "file://"+strings.TrimSpace(string(cache))+"/cache/download")
	b.Setenv("GOMODCACHE", b.at("modules"))
	b.Setenv("GOFLAGS", "-modcacherw")
	b.ok("mkdir", "-p", b.at("packaging"))
	b.ok("cp", "release", b.at("packaging/release"))
	b.write("go.mod", "module a\n\ngo 1.26.0\n\ntoolchain "+runtime.Version()+"\n\nrequire "+module+" "+version+"\n")
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	b.write("go.sum", string(sums))
	b.write(".gitignore", "/bin/\n/modules/\n")
	b.write("Makefile", "packages image:\n\t@:\n")
	b.write("packaging/assemble", "#!/bin/sh\nmkdir \"$1\"\n")
	b.ok("chmod", "755", b.at("packaging/assemble"))
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "a"}, {"tag", "v0.2.0-rc.1"}} {
		b.ok("git", append([]string{"-C", b.dir, "-c", "user.name=a", "-c", "user.email=a@example"}, args...)...)
	}
	b.ok("go", "-C", b.dir, "mod", "download", module)
	b.write("modules/"+module+"@"+version+"/unix/constants.go", "package unix // changed\n")
	out, err := exec.Command(b.at("packaging/release")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), module) || !strings.Contains(string(out), "go clean -modcache") {
		t.Errorf("%v: %s", err, out)
	}
	if left, err := filepath.Glob(b.at("bin/*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := os.RemoveAll(b.at("modules")); err != nil {
		t.Fatal(err)
	}
	b.ok(b.at("packaging/release"))
}

// TestTagIsNoCommand: the name of a tag, which whoever may push one writes, is a version or nothing: the shell that builds runs none of it.
func TestTagIsNoCommand(t *testing.T) {
	for tag, want := range map[string]string{"v9$(touch${IFS}pwned)": "Version=devel", "v9`touch${IFS}pwned`": "Version=devel", "v9;touch${IFS}pwned": "Version=devel", `v9"`: "Version=devel", "v0.2.0-rc.1+x_y": "Version=v0.2.0-rc.1+x_y"} {
		b := bench{t, t.TempDir(), ""}
		b.ok("cp", "../Makefile", b.at("Makefile"))
		b.write("tools/go", "#!/bin/sh\necho \"$@\" >> "+b.at("called")+"\n")
		b.ok("chmod", "755", b.at("tools/go"))
		b.ok("git", "-C", b.dir, "init", "-q")
		b.ok("git", "-C", b.dir, "add", "Makefile")
		b.ok("git", "-C", b.dir, "-c", "user.name=a", "-c", "user.email=a@example", "commit", "-q", "-m", "a")
		b.ok("git", "-C", b.dir, "tag", tag)
		b.ok("env", "-u", "VERSION", "-u", "MAKEFLAGS", "PATH="+b.at("tools")+":"+os.Getenv("PATH"), "make", "-C", b.dir, "build")
		if _, err := os.Stat(b.at("pwned")); err == nil {
			t.Errorf("%s was run", tag)
		}
		if said := b.text("called"); strings.Count(said, want+" ") != 2 {
			t.Errorf("%s: %s", tag, said)
		}
	}
}
