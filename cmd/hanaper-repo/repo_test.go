package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/trust/feed"
)

func TestPublish(t *testing.T) {
	d := newDesk(t)
	w := d.world
	d.refused(4, "nothing is published", "status")
	d.refused(3, "nothing is published", "serve")
	d.refused(3, "nothing is published", "crl", "add", d.write("early.crl", w.MakeCRL(w.Issuing, 1)))
	d.refused(4, "holds no trust repository", "init", t.TempDir())
	d.refused(2, "TRUST-FOLDER is missing", "init")
	d.ok("init", d.path("officers"))
	d.refused(3, "is published already", "init", d.path("officers"))
	d.refused(3, "already", "keys", "generate", "--out", d.path("again"))
	if _, err := os.Stat(d.path("again")); !os.IsNotExist(err) {
		t.Error("keys generate left a folder")
	}
	d.ok("keys", "export", "--out", d.path("again"))
	d.ok("crl", "add", d.write("one.crl", w.MakeCRL(w.Issuing, 1, 5)))
	d.ok("crl", "add", d.path("one.crl")) // once more: nothing to do
	d.refused(4, "is not above", "crl", "add", d.write("again.crl", w.MakeCRL(w.Issuing, 1, 5, 6)))
	d.refused(4, "no longer revoked", "crl", "add", d.write("less.crl", w.MakeCRL(w.Issuing, 2)))
	d.refused(4, "is not a DER CRL", "crl", "add", d.path("repo.yaml"))
	d.refused(2, "no such file", "crl", "add", d.path("none"))
	var s statusDocument
	if err := json.Unmarshal([]byte(d.ok("status", "--json")), &s); err != nil || !s.Valid || s.Environment != "test" || len(s.CRLs) != 2 || s.Versions.CRL != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if out := d.ok("status"); !strings.Contains(out, "Specimen Issuing CA") {
		t.Errorf("status: %s", out)
	}
	// A later ceremony.
	w.Rebuild()
	d.ok("import", d.writeOfficers("officers2"))
	d.refused(4, "goes back", "import", d.path("officers"))
	if err := json.Unmarshal([]byte(d.ok("status", "--json")), &s); err != nil || s.Versions.Targets != 2 || s.Versions.CRL != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	// Tampered.
	at := d.path("published/metadata/timestamp.json")
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(at, data, 0o644); err != nil {
		t.Fatal(err)
	}
	d.refused(4, "timestamp.json", "status")
	d.refused(4, "timestamp.json", "serve")
}

func TestConfigRefused(t *testing.T) {
	d := newDesk(t)
	d.ok("init", d.path("officers"))
	for _, c := range []struct {
		config, want string
		code         int
	}{
		{"environment: test\nnmae: x\n", `repo.yaml:2: unknown key "nmae"`, 2},
		{"environment: Test!\n", "environment", 2},
		{"environment: test\nroot: " + d.world.Pin.String() + "\n", "keys.token", 2},
		{"environment: test\nroot: nowhere.json\nkeys: {token: \"" + d.board.URI + "\"}\n", "no such file", 2},
		{"environment: other\npublish: published\nroot: " + d.world.Pin.String() + "\nkeys: {token: \"" + d.board.URI + "\"}\n", "belongs to another environment", 4},
		{"environment: test\npublish: published\nroot: " + strings.Repeat("ab", 32) + "\nkeys: {token: \"" + d.board.URI + "\"}\n", "pinned root", 4},
		{"environment: test\nserve: {listen: \"0.0.0.0:1\"}\nroot: " + d.world.Pin.String() + "\nkeys: {token: \"" + d.board.URI + "\"}\n", "loopback", 2},
		{"environment: test\nroot: " + d.world.Pin.String() + "\nkeys: {token: \"pkcs11:token=nowhere?module-path=" + d.board.Module + "\"}\n", "nowhere", 1},
		{"environment: test\nroot: " + d.world.Pin.String() + "\nkeys: {token: \"" + d.board.URI + "\", crl: none}\n", "none", 1},
	} {
		d.write("repo.yaml", []byte(c.config))
		d.refused(c.code, c.want, "serve")
	}
}

// TestJoinedKeys: a CA's key in the online keys' token is refused, before anything is published.
func TestJoinedKeys(t *testing.T) {
	d := newDesk(t)
	cfg, err := loadConfig(d.path("repo.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := openToken(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.Generate(context.Background(), hsm.GenerateSpec{Label: "issuing", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	w := d.world
	w.Content.Intermediates = append(w.Content.Intermediates, w.CAFor("Issuing CA in the wrong token", key, &w.Root).Cert)
	token.Close()
	w.Rebuild()
	officers := d.writeOfficers("joined")
	d.refused(3, "beside the online trust keys", "init", officers)
	d.config("  joined: true\n")
	if _, errs, code := d.run("init", officers); code != 0 || !strings.Contains(errs, "warning") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestServe(t *testing.T) {
	d := newDesk(t)
	w := d.world
	d.config(`lifetimes: {timestamp: 4s}
serve: {listen: "127.0.0.1:0", interval: 100ms}
crls: [{file: factory.crl}, {folder: drop}]
`)
	if err := os.Mkdir(d.path("drop"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.ok("init", d.path("officers"))
	url, stop := d.serve()
	defer stop()
	f, err := feed.New(feed.Config{Source: url, Pin: w.Pin, Environment: "test", StateDir: d.path("state")})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx := context.Background()
	look := func() bool { return f.Refresh(ctx) == nil }
	eventually(t, "a first view", look)
	d.write("factory.crl", w.MakeCRL(w.Issuing, 1, 5))
	eventually(t, "the CRL of the file", func() bool { return look() && len(f.Current().CRLs()) == 2 })
	d.write("drop/two.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: w.MakeCRL(w.Issuing, 2, 5, 6)}))
	eventually(t, "the CRL of the folder", func() bool { look(); return f.Current().Versions().CRL == 3 })
	d.ok("crl", "add", d.write("three.crl", w.MakeCRL(w.Issuing, 3, 5, 6, 7)))
	eventually(t, "the CRL of the verb", func() bool { look(); return f.Current().Versions().CRL == 4 })
	// Signed anew on a timer, well before its expiry.
	was := f.Current().Versions().Timestamp
	eventually(t, "a newer timestamp", func() bool { return look() && f.Current().Versions().Timestamp > was })
	for path, want := range map[string]int{"/": 404, "/metadata/": 404, "/.lock": 404, "/metadata/..%2f.lock": 404, "/targets/.x": 404, "/healthz": 200, "/metadata/1.root.json": 200} {
		res, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
}

// TestServeStopsAtExpiry: what has expired is not served, and 'serve' does not start on it.
func TestServeStopsAtExpiry(t *testing.T) {
	start := time.Now()
	d := newDesk(t)
	d.config("serve: {listen: \"127.0.0.1:0\", interval: 100ms}\n")
	// Long enough to be served first, also on a busy machine, which has shown above how busy it is.
	d.world.Validity.TargetsExpires = time.Now().Add(4*time.Second + 4*time.Since(start))
	d.world.Rebuild()
	d.ok("init", d.writeOfficers("brief"))
	url, stop := d.serve()
	defer stop()
	get := func() int {
		res, err := http.Get(url + "/metadata/timestamp.json")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := get(); got != 200 {
		t.Errorf("before: %d", got)
	}
	time.Sleep(time.Until(d.world.Validity.TargetsExpires))
	eventually(t, "refusal", func() bool { return get() == 503 })
	d.refused(4, "has expired", "serve")
	d.refused(4, "has expired", "crl", "add", d.write("late.crl", d.world.MakeCRL(d.world.Issuing, 1)))
	if out, errs, code := d.run("status"); code != 4 || !strings.Contains(errs, "has expired") || !strings.Contains(out, "Specimen Fleet Root") {
		t.Errorf("status: exit %d: %s%s", code, out, errs)
	}
}

// TestWrongPINEndsForGood: a service whose PIN is wrong ends as refused, which its unit does not start again: each start would spend a try.
func TestWrongPINEndsForGood(t *testing.T) {
	d := newDesk(t)
	d.config("")
	d.ok("init", d.path("officers"))
	config, err := os.ReadFile(d.path("repo.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	pin := d.write("wrong.pin", []byte("000000"))
	if err := os.Chmod(pin, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"keys:", "keys:\n  apart: false"} {
		d.write("repo.yaml", []byte(strings.Replace(regexp.MustCompile(`pin-source=[^"&\n]*`).ReplaceAllString(string(config), "pin-source="+pin), "keys:", more, 1)))
		d.refused(3, "PIN refused", "serve")
	}
}

func TestExampleConfig(t *testing.T) {
	published, err := os.ReadFile("../../docs/examples/hanaper-repo.yaml")
	if err != nil || !bytes.Equal(published, exampleConfig) {
		t.Errorf("docs/examples/hanaper-repo.yaml is not what 'hanaper-repo config' prints: %v", err)
	}
	at := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(at, exampleConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(at); err != nil {
		t.Error(err)
	}
}

// TestSlipTakenBack: a version that leaves a CA out, and then a right one again: its CRL comes back by itself, by import and by serve, and all
// that changes is said first.
func TestSlipTakenBack(t *testing.T) {
	d := newDesk(t)
	w := d.world
	list := d.write("factory.crl", w.MakeCRL(w.Issuing, 3, 5))
	d.config("crls: [{file: factory.crl}]\nserve: {listen: \"127.0.0.1:0\", interval: 100ms}\n")
	d.ok("init", d.path("officers"))
	state := func() statusCRL {
		var s statusDocument
		out, _, _ := d.run("status", "--json")
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatal(err, out)
		}
		for _, c := range s.CRLs {
			if c.Issuer == w.Issuing.Cert.Subject.String() {
				return c
			}
		}
		return statusCRL{}
	}
	if s := state(); s.Number != "3" || s.State != "current" {
		t.Fatalf("init did not take up the configured CRL: %+v", s)
	}
	whole, less := w.Content, w.Content
	less.Intermediates = nil
	w.Content = less
	w.Rebuild()
	d.writeOfficers("slip")
	_, errs, code := d.run("import", "--dry-run", d.path("slip"))
	if code != 0 || !strings.Contains(errs, "- issuing CA CN=Specimen Issuing CA: its devices are refused") || state().Number != "3" {
		t.Fatalf("dry run: exit %d: %s", code, errs)
	}
	w.Content = whole
	w.Rebuild()
	d.writeOfficers("right")
	d.ok("import", d.path("slip"))
	if s := state(); s.Number != "" {
		t.Fatalf("%+v", s)
	}
	_, stop := d.serve()
	if _, errs, code = d.run("import", d.path("right")); code != 0 || !strings.Contains(errs, "+ issuing CA CN=Specimen Issuing CA") {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if s := state(); s.Number != "3" || s.Entries != 1 {
		t.Errorf("the CRL is not back: %+v", s)
	}
	stop()
	// The same with a 'serve' that has handed the CRL over before, and a file that is away while the import looks.
	_, stop = d.serve()
	defer stop()
	w.Content = less
	w.Rebuild()
	d.ok("import", d.writeOfficers("slip-2"))
	w.Content = whole
	w.Rebuild()
	d.writeOfficers("right-2")
	if err := os.Rename(list, list+".away"); err != nil {
		t.Fatal(err)
	}
	_, errs, code = d.run("import", d.path("right-2"))
	if code != 0 || !strings.Contains(errs, "warning: CRL of CN=Specimen Issuing CA: none: its devices are refused") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if err := os.Rename(list+".away", list); err != nil {
		t.Fatal(err)
	}
	eventually(t, "CRL", func() bool { return state().Number == "3" })
}

// TestOneCRLEnded: what has ended for one CA is said by status, and neither ends the publication nor the service.
func TestOneCRLEnded(t *testing.T) {
	d := newDesk(t)
	w := d.world
	d.config("serve: {listen: \"127.0.0.1:0\", interval: 100ms}\n")
	d.ok("init", d.path("officers"))
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(2 * time.Second)}
	der, err := x509.CreateRevocationList(rand.Reader, list, w.Issuing.Cert, w.Issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	d.ok("crl", "add", d.write("brief.crl", der))
	time.Sleep(time.Until(list.NextUpdate))
	out, errs, code := d.run("status")
	if code != 4 || !strings.Contains(errs, "the CRL of CN=Specimen Issuing CA has ended: its devices are refused") || !strings.Contains(out, "current") {
		t.Errorf("status: exit %d: %s%s", code, out, errs)
	}
	url, stop := d.serve()
	defer stop()
	res, err := http.Get(url + "/metadata/timestamp.json")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("the others' trust is not served: %d", res.StatusCode)
	}
}
