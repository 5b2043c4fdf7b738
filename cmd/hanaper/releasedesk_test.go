package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/release"
)

// releaseDesk has officers, a token with a release key, and two signed releases in folders, of which this very program is the hanaper.
type releaseDesk struct {
	desk
	uri string
}

const releaseScript = `version: 1
ceremony: %s
environment: production
window: {from: 2026-11-21T00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {file: roster.json, sha256: %s}
%stokens:
  roots: {uri: "%s"}
inputs:
  manifest: {file: %s/manifest.json, sha256: %s}
steps:
  - %s
  - sign-release: {name: %s, key: release-key, manifest: manifest}
`

func newReleases(t *testing.T, label string) releaseDesk {
	t.Helper()
	d := releaseDesk{desk: newCeremony(t, label)}
	// newCeremony wrote a script for the same token.
	_, rest, _ := strings.Cut(d.text("script.yaml"), `roots: {uri: "`)
	d.uri, _, _ = strings.Cut(rest, `"`)
	d.make("rel-1", "v0.2.0", "")
	d.sign("rel-1", "release-1", "10:00:00", "", "generate-key: {name: release-key, token: roots, label: Releases, algorithm: P-256}")
	d.make("rel-2", "v0.2.1", "")
	d.sign("rel-2", "release-2", "12:00:00", "rel-1/ceremony", "import-artefact: {key: release-key, token: roots}")
	return d
}

// make makes a release; program is the digest of hanaper, empty for this program's.
func (d releaseDesk) make(dir, version, program string) {
	d.Helper()
	if program == "" {
		tool, err := thisTool()
		if err != nil {
			d.Fatal(err)
		}
		program = tool.SHA256
	}
	for name, text := range map[string]string{"hanaper-" + version + "-" + runtime.GOOS + "-" + runtime.GOARCH + ".tar.gz": "the programs", "hanaper_0.2_amd64.deb": "a package", "sbom/hanaper.cdx.json": "{}"} {
		full := d.path(dir + "/" + name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			d.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text+" of "+version), 0o644); err != nil {
			d.Fatal(err)
		}
	}
	m := &release.Manifest{Type: release.Type, Version: version, Commit: strings.Repeat("c7", 20), Date: "2026-11-20T06:54:00Z", Platform: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), CC: "gcc",
		Programs: map[string]string{"hanaper": program}}
	if err := m.Make(d.path(dir), func(path string, data []byte) error { return os.WriteFile(path, data, 0o644) }); err != nil {
		d.Fatal(err)
	}
}

// sign holds the ceremony that signs a release, and lays its folder into the release's.
func (d releaseDesk) sign(dir, name, at, earlier, first string) {
	d.Helper()
	if earlier != "" {
		earlier = fmt.Sprintf("earlier: {folder: %s, checkpoint: %s}\n", earlier, d.digest(earlier+"/checkpoint"))
	}
	d.write("script.yaml", fmt.Sprintf(releaseScript, name, d.digest("roster.json"), earlier, d.uri, dir, d.digest(dir+"/manifest.json"), first, name))
	d.ok(d.approve("ada", name+"-ada.json")...)
	d.ok(d.approve("berta", name+"-berta.json", "--with", d.path(name+"-ada.json"))...)
	d.ok("ceremony", "run", "--out", d.path(dir+"/ceremony"), "--officer", d.key("ada"), "--officer", d.key("berta"), "--bindings", d.path("bindings.yaml"), "--time", "2026-11-21T"+at+"Z",
		"--state", d.path("state"), "--answers", d.path("yes"), "--approval", d.path(name+"-ada.json"), "--approval", d.path(name+"-berta.json"), d.path("script.yaml"))
}

// copy copies a folder of a release.
func (d releaseDesk) copy(from, to string) string {
	d.Helper()
	if err := os.RemoveAll(d.path(to)); err != nil {
		d.Fatal(err)
	}
	if err := os.CopyFS(d.path(to), os.DirFS(d.path(from))); err != nil {
		d.Fatal(err)
	}
	return d.path(to)
}

// files are all files below a folder, with their content.
func (d desk) files(dir string) map[string]string {
	d.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(d.path(dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			all[path] = e.Name()
			return err
		}
		data, err := os.ReadFile(path)
		all[path] = string(data)
		return err
	}); err != nil {
		d.Fatal(err)
	}
	return all
}

func (d releaseDesk) verify(more ...string) []string {
	return append([]string{"release", "verify", "--state", d.path("memory")}, more...)
}

// refuses asks that a release is refused, and that neither the machine's memory nor the release is changed.
func (d releaseDesk) refuses(what string, code int, says, dir string, args ...string) {
	d.Helper()
	before := d.files(".")
	for _, more := range [][]string{nil, {"--json"}} {
		got, out, errs := hanaper(d.T, append(d.verify(args...), append(more, d.path(dir))...)...)
		if got != code || !strings.Contains(errs, says) || strings.Contains(out, "verified: ") || strings.Contains(out, `"verified": true`) {
			d.Errorf("%s %v: exit code %d, want %d: %s%s; want %q", what, more, got, code, out, errs, says)
		}
	}
	if !maps.Equal(before, d.files(".")) {
		d.Errorf("%s: something was written", what)
	}
}
