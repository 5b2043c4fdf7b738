package console_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/internal/browsertest"
)

// newBrowser starts Chromium with a home of its own: its certificate store trusts root, and holds the identities, each of which is
// presented to the origin that stands before it.
func newBrowser(t testing.TB, root identity, port string, identities map[string]identity) *browsertest.Browser {
	t.Helper()
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	profile := filepath.Join(home, "profile")
	for _, dir := range []string{db, filepath.Join(profile, "Default")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tool("certutil", "-d", "sql:"+db, "-N", "--empty-password")
	tool("certutil", "-d", "sql:"+db, "-A", "-n", "operations", "-t", "C,,", "-i", file("root.pem", pemOf("CERTIFICATE", root.cert.Raw)))
	chosen := map[string]any{}
	for origin, who := range identities {
		key := file("one.key", pemOf("PRIVATE KEY", pkcs8(t, who.key)))
		cert := file("one.pem", pemOf("CERTIFICATE", who.cert.Raw))
		tool("openssl", "pkcs12", "-export", "-in", cert, "-inkey", key, "-passout", "pass:", "-name", origin, "-out", filepath.Join(home, "one.p12"))
		tool("pk12util", "-d", "sql:"+db, "-i", filepath.Join(home, "one.p12"), "-W", "", "-K", "")
		chosen["https://"+origin+":"+port+",*"] = map[string]any{"setting": map[string]any{"filters": []any{map[string]any{"SUBJECT": map[string]string{"CN": who.cert.Subject.CommonName}}}}}
	}
	settings, err := json.Marshal(map[string]any{"profile": map[string]any{"content_settings": map[string]any{"exceptions": map[string]any{"auto_select_certificate": chosen}}}})
	if err != nil {
		t.Fatal(err)
	}
	file("profile/Default/Preferences", settings)
	return browsertest.Start(t, home, profile)
}
