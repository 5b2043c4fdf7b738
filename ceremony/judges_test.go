package ceremony

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// judge runs a program that must be installed, and that must agree.
func judge(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestJudges lets openssl and pkcs11-tool look at what a ceremony made.
func TestJudges(t *testing.T) {
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(s.full())))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(result.Out, "artefacts", name) }
	for root, leaves := range map[string][]string{
		"fleet-root":      {"fleet-root", "factory-ca"},
		"operations-root": {"operations-root", "station-1", "operator-1", "hanaperd"},
		"gateway-root":    {"gateway-root", "gateway"},
	} {
		for _, leaf := range leaves {
			judge(t, "openssl", "verify", "-x509_strict", "-check_ss_sig", "-attime", "1795255200", "-CAfile", at(root+".pem"), at(leaf+".pem"))
		}
		out := judge(t, "openssl", "crl", "-inform", "DER", "-in", at(root+"-crl.crl"), "-CAfile", at(root+".pem"), "-noout", "-text")
		if !strings.Contains(out, "verify OK") || !strings.Contains(out, "X509v3 CRL Number") {
			t.Errorf("CRL of %s: %s", root, out)
		}
	}
	for name, purpose := range map[string]string{"station-1": "sslclient", "operator-1": "sslclient", "hanaperd": "sslserver"} {
		judge(t, "openssl", "verify", "-x509_strict", "-attime", "1795255200", "-purpose", purpose, "-CAfile", at("operations-root.pem"), at(name+".pem"))
	}
	b := s.boards["roots"]
	pin, err := os.ReadFile(b.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", "env:HANAPER_TEST_PIN", "-O", "--type", "privkey")
	cmd.Env = append(os.Environ(), "HANAPER_TEST_PIN="+strings.TrimSpace(string(pin)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pkcs11-tool: %v\n%s", err, out)
	}
	if keys, good := strings.Count(string(out), "Private Key Object"), strings.Count(string(out), "sensitive, always sensitive, never extractable, local"); keys != 8 || good != keys {
		t.Errorf("%d of %d keys are sensitive and never extractable, want 8 of 8:\n%s", good, keys, out)
	}
	files, err := filepath.Glob(filepath.Join(result.Out, "*"))
	if err != nil || len(files) < 9 {
		t.Errorf("%v, %v", files, err)
	}
}
