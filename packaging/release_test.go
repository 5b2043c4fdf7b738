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
	b.ok("sh", "-c", `cd "$1" && sha256sum --strict -c SHA256SUMS`, "sh", b.at("rel"))

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
