package ceremony

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/trust"
)

// TestCRLRules: officers grant a CA's CRL some hours, or freeze the last CRL of a CA whose key is gone; both are told to those who review, and
// neither goes unnamed.
func TestCRLRules(t *testing.T) {
	y := newYears(t)
	y.inputs = map[string]string{"snapshot": "trust-snapshot.pem", "timestamp": "trust-timestamp.pem", "crl": "trust-crl.pem"}
	first := strings.Replace(trusted, "\n- generate-key: {name: trust-root-1", "\n- crl: {name: plant-1-last, issuer: plant-1, number: 9, this_update: FROM, next_update: UNTIL}\n- generate-key: {name: trust-root-1", 1)
	first = strings.Replace(first, "require_crl: true", "crl_rules: [{ca: plant-2, grace_hours: 72}], require_crl: true", 1)
	for _, c := range []struct{ what, rule, want string }{
		{"an unknown CA", "{ca: plant-9, grace_hours: 72}", "plant-9"},
		{"neither", "{ca: plant-2}", "either"},
		{"too long", "{ca: plant-2, grace_hours: 9999}", "grace_hours"},
		{"an input that is not there", "{ca: plant-2, frozen: last}", "no input"},
		{"no CRL", "{ca: plant-2, frozen: snapshot}", "holds no CRL"},
	} {
		y.refused(c.what, strings.Replace(first, "{ca: plant-2, grace_hours: 72}", c.rule, 1), c.want)
	}
	p := y.hold(first)
	if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "GRACE: gateways use the CRL of plant-2 for 72 hours") {
		t.Errorf("the reviewers read %s", remarks)
	}
	y.inputs["last"] = "out-1/artefacts/plant-1-last.crl"
	frozen := strings.Replace(trustedAgain, "require_crl: true", "crl_rules: [{ca: plant-1, frozen: last}], require_crl: true", 1)
	y.refused("a rule that is gone", frozen, "CER-030", "crl_rules.plant-2")
	y.refused("a CRL of another CA", strings.Replace(frozen, "ca: plant-1", "ca: plant-2", 1), "holds no CRL that \"plant-2\" signed")
	p = y.hold(strings.Replace(frozen, "require_crl: true", "removes: [crl_rules.plant-2], require_crl: true", 1))
	if remarks := strings.Join(p.Remarks(), "\n"); !strings.Contains(remarks, "FREEZES the CRL of plant-1") {
		t.Errorf("the reviewers read %s", remarks)
	}
	files, err := filepath.Glob(filepath.Join(y.folder(2), "trust", "targets", "*.policy.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var policy trust.Policy
	if err := json.Unmarshal(data, &policy); err != nil || policy.Format != 2 || len(policy.CRLs) != 1 || !policy.CRLs[0].Frozen {
		t.Errorf("%s: %v", data, err)
	}
}
