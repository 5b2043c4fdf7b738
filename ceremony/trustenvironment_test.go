package ceremony

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/trust"
)

// TestTrustEnvironment: a ceremony says what the environment is, and its version is above those that officers signed between ceremonies; what a later
// one no longer says is named.
func TestTrustEnvironment(t *testing.T) {
	y := newYears(t)
	y.inputs = map[string]string{"snapshot": "trust-snapshot.pem", "timestamp": "trust-timestamp.pem", "crl": "trust-crl.pem"}
	with := func(script, more string) string {
		return strings.Replace(script, "require_crl: true", more+", require_crl: true", 1)
	}
	for _, c := range []struct{ what, more, want string }{
		{"an address", "gateway_names: [192.0.2.1]", "gateway_names"},
		{"shared credentials in production", "shared_credentials: {ca: plant-2, until: 2099-01-31T00:00:00Z}", "production"},
		{"an unknown CA", "stage: development, shared_credentials: {ca: plant-9, until: 2099-01-31T00:00:00Z}", "plant-9"},
		{"no time", "stage: development, shared_credentials: {ca: plant-2, until: tomorrow}", "is no time"},
		{"no key", "logs: [plant-7]", "logs"},
		{"no Uptane root", "director_root: snapshot", "is no Uptane root"},
		{"no version", "version_above: -1", "version_above"},
	} {
		y.refused(c.what, with(trusted, c.more), c.want)
	}
	p := y.hold(with(trusted, "stage: production, gateway_names: [gateway.example.com], registered_only: true, version_above: 4"))
	if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "VERSIONS up to 4 were signed between ceremonies") {
		t.Errorf("the reviewers read %s", remarks)
	}
	if _, err := os.Stat(filepath.Join(y.folder(1), "trust", "metadata", "5.targets.json")); err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(y.folder(1), "trust", "targets", "*.policy.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var policy trust.Policy
	if err := json.Unmarshal(data, &policy); err != nil || policy.Format != 3 || !policy.RegisteredOnly || !policy.Production() || len(policy.GatewayNames) != 1 {
		t.Errorf("%s: %v", data, err)
	}
	y.refused("what is gone", trustedAgain, "CER-030", "gateway_names.gateway.example.com")
	y.hold(with(trustedAgain, "removes: [gateway_names.gateway.example.com, registered_only]"))
}
