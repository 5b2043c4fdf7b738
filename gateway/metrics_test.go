package gateway

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("promtool %v (Debian: prometheus): %v: %s", args, err, out)
	}
}

// TestRegistryMetrics: Prometheus' own tool takes the registry's figures and the alert rules, each figure stands in the page, and each alert in the runbook. Where
// the database does not answer there are no numbers of devices.
func TestRegistryMetrics(t *testing.T) {
	g, r := &Gateway{}, &troubled{blind: 4 * time.Second}
	g.registry = r
	var b bytes.Buffer
	g.writeRegistry(context.Background(), &b)
	text := b.String()
	promtool(t, b.Bytes(), "check", "metrics")
	for _, want := range []string{`hanaper_gateway_registry_devices{environment="a \"b\"",state="blocked"} 2`, `hanaper_gateway_registry_flagged{environment="c",flag="old-key-returned"} 1`,
		`hanaper_gateway_registry_meets_total{result="new"} 3`, "hanaper_gateway_registry_blind_seconds 4.000", "hanaper_gateway_registry_last_act 7"} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in %s", want, text)
		}
	}
	r.err = errors.New("away")
	b.Reset()
	g.writeRegistry(context.Background(), &b)
	if strings.Contains(b.String(), "registry_devices") || !strings.Contains(b.String(), "registry_blind_seconds") {
		t.Errorf("%s", b.String())
	}
	read := func(path string) string {
		data, err := os.ReadFile("../docs/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	page, rules, runbook := read("spec/metrics.md"), read("examples/prometheus-gateway-rules.yaml"), read("runbooks/gateway.md")
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/spec/metrics.md does not name %s", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\S+)`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(runbook, "| `"+m[1]+"` |") {
			t.Errorf("gateway.md does not say what to do at %s", m[1])
		}
	}
	promtool(t, nil, "check", "rules", "../docs/examples/prometheus-gateway-rules.yaml")
	promtool(t, nil, "test", "rules", "testdata/prometheus-gateway-rules-test.yaml")
}
