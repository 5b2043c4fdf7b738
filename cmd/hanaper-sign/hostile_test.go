package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/uptane/repo"
)

// TestArchiveRunsNoCode: an archive brings a library of its own, under the name of an entry that is unpacked, and its
// targets.sec names it. A build machine that signs with it runs none of it.
func TestArchiveRunsNoCode(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "the library was loaded")
	source := fmt.Sprintf("#include <stdio.h>\n__attribute__((constructor)) static void loaded(void) { FILE *f = fopen(\"%s\", \"w\"); if (f) fclose(f); }\n", mark)
	if err := os.WriteFile(filepath.Join(dir, "evil.c"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("cc", "-shared", "-fPIC", "-o", "evil.so", "evil.c")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	library, err := os.ReadFile(filepath.Join(dir, "evil.so"))
	if err != nil {
		t.Fatal(err)
	}
	o := newTestServer(t, "sealed", "oauth")
	p12 := o.start(t, "oauth")
	defer o.http.Close()
	plain, err := repo.ReadCredentials(o.credentials(t, "oauth", p12))
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home")
	lands := filepath.Join(home, "r", "client_auth.p12")
	sec := fmt.Sprintf(`{"keytype":"ED25519","keyval":{"uri":"pkcs11:token=t;object=k?module-path=%s"}}`, lands)
	pub := []byte(`{"keytype":"ED25519","keyval":{"public":"f4da387a2531d571bf723f09a57a0bd21f62c11ecae34e9f8019065bc2fc31d9"}}`)
	archive := func(change func(*repo.Credentials)) string {
		c := repo.NewCredentials()
		for _, name := range plain.Names() {
			b, _ := plain.Entry(name)
			if err := c.Set(name, b); err != nil {
				t.Fatal(err)
			}
		}
		change(c)
		b, err := c.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "hostile.zip")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	set := func(c *repo.Credentials, name string, data []byte) {
		if err := c.Set(name, data); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (int, string) {
		cmd := exec.Command(programtest.Path(t, "hanaper-sign"), append(args, "--home-dir", home, "--repo", "r")...)
		cmd.Env = append(os.Environ(), "HANAPER_SIGN_TOKEN=", "HANAPER_TOKENS=")
		out, err := cmd.CombinedOutput()
		return exitOf(err), string(out)
	}
	sign := func() {
		t.Helper()
		_, _ = run("targets", "init", "--version", "1", "--expires", "2040-01-01T00:00:00Z")
		if code, out := run("targets", "sign", "--key-name", "targets"); code != 1 {
			t.Errorf("signing: exit code %d: %s", code, out)
		}
		if _, err := os.Stat(mark); err == nil {
			t.Error("the archive's library was loaded")
		}
	}
	// The library where a certificate should be: nothing is written.
	path := archive(func(c *repo.Credentials) {
		set(c, repo.EntryClientAuth, library)
		set(c, repo.EntryTargetsSec, []byte(sec))
		set(c, repo.EntryTargetsPub, pub)
	})
	if code, out := run("init", "--credentials", path); code != 1 {
		t.Errorf("init: exit code %d: %s", code, out)
	}
	if _, err := os.Stat(home); err == nil {
		t.Error("a refused archive left files")
	}
	sign()
	// The library as the archive itself: a loader reads the front, an unpacker the end.
	sec = fmt.Sprintf(`{"keytype":"ED25519","keyval":{"uri":"pkcs11:token=t;object=k?module-path=%s"}}`, filepath.Join(home, "r", "credentials.zip"))
	path = archive(func(c *repo.Credentials) {
		set(c, repo.EntryTargetsSec, []byte(sec))
		set(c, repo.EntryTargetsPub, pub)
	})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	both := append(bytes.Clone(library), b...)
	if _, err := zip.NewReader(bytes.NewReader(both), int64(len(both))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, both, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := run("init", "--credentials", path); code != 0 {
		t.Errorf("init: exit code %d: %s", code, out)
	}
	sign()
	// The test itself: the library does run when it is loaded by somebody who names it.
	if code, out := run("key", "link", "--name", "x", "--uri", "pkcs11:token=t;object=k?module-path="+filepath.Join(dir, "evil.so")); code == 0 {
		t.Errorf("linked: %s", out)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("the library of this test does nothing when it is loaded")
	}
}
