package factory_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory"
)

// promtool has Prometheus' own tool judge a text.
func promtool(t testing.TB, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %v (Debian: prometheus): %v: %s", args, err, out)
	}
	return string(out)
}

// hostileLog is an issuance log whose checkpoint and words mean harm.
type hostileLog struct{ factory.IssuanceLog }

func (hostileLog) Latest(context.Context, int64) factory.LogAnswer {
	return factory.LogAnswer{Checkpoint: "a\"b\\\x1b{}\n1\nroot\n", Words: ""}
}
func (hostileLog) Trouble() string { return "" }

// TestMetrics: what was done is counted under bounded names, in the form that Prometheus' own tool accepts, also where names hold what must be
// escaped; and questions that nobody can choose the names of.
func TestMetrics(t *testing.T) {
	p := newPlant(t)
	r := serve(t, p, func(c *factory.ServiceConfig) {
		c.IssuanceLog, c.Version = hostileLog{}, "v1\"\\\n"
		c.Expiries = func() []factory.Expiry {
			return []factory.Expiry{factory.CertificateExpiry("a \"quoted\" \\ name\nof two lines \xff", p.issuing, "")}
		}
	})
	ctx := context.Background()
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.store.SetLot(ctx, "lot \"2\"", 100, "operator olga"); err != nil {
		t.Fatal(err)
	}
	station, operator := r.client(r.station(t, "line-1")), r.client(r.operator(t, "olga"))
	key := newKey(t)
	for range 2 {
		if _, _, err := station.Enroll(ctx, deviceRequest(t, key, "dev-1")); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, _, err := station.Enroll(ctx, deviceRequest(t, newKey(t), "dev-1")); code(t, err) != factory.CodeOtherKey {
			t.Fatal(err)
		}
	}
	if _, err := station.Revoke(ctx, factory.RevokeRequest{DeviceID: "dev-1", Reason: "superseded"}); code(t, err) != factory.CodeForbidden {
		t.Fatal(err)
	}
	if _, _, err := operator.Enroll(ctx, deviceRequest(t, newKey(t), "dev-2")); code(t, err) != factory.CodeForbidden {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/devices/a", "/v1/devices/b", "/nowhere/1", "/nowhere/2"} {
		get(t, r, path)
	}
	text := get(t, r, "/metrics")
	if out := promtool(t, text, "check", "metrics"); out != "" {
		t.Errorf("promtool complains: %s", out)
	}
	for _, want := range []string{
		`hanaperd_enrolments_total{result="new"} 1`, `hanaperd_enrolments_total{result="known"} 1`, `hanaperd_enrolments_total{result="other_key"} 3`,
		`hanaperd_refusals_total{code="other_key"} 3`, `hanaperd_refusals_total{code="forbidden"} 2`, `hanaperd_refusals_total{code="evidence"} 0`,
		`hanaperd_http_requests_total{route="/v1/devices/{id}",status="404"} 2`, `hanaperd_http_requests_total{route="/",status="404"} 2`,
		`hanaperd_enrol_duration_seconds_count 5`, `hanaperd_token_duration_seconds_count 2`, `hanaperd_issuer_keys{issuer="Factory CA",state="signs"} 1`,
		`hanaperd_up{part="log"} 1`, `hanaperd_log_checkpoint_events 1`, `hanaperd_crl_number 1`, `hanaperd_requests_waiting 0`, `hanaperd_lot_remaining{lot="lot \"2\""} 100`, `hanaperd_requests_in_work 1`,
		`hanaperd_build_info{version="v1\"\\\n",go_version="`, `what="a \"quoted\" \\ name\nof two lines ` + "\uFFFD\"",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s", want)
		}
	}
	for _, name := range []string{"hanaperd_crl_age_seconds", "hanaperd_crl_next_update_timestamp_seconds", "hanaperd_store_duration_seconds_bucket", "hanaperd_clock_seconds",
		"hanaperd_log_checkpoint_age_seconds", "hanaperd_record_events", "process_start_time_seconds"} {
		if !regexp.MustCompile(`(?m)^` + name + `[ {]`).Match(text) {
			t.Errorf("no %s", name)
		}
	}
	if strings.Contains(string(text), "dev-1") || strings.Contains(string(text), "nowhere") {
		t.Error("what a caller chose became a name that is counted under")
	}
	checkPages(t, string(text))
	if t.Failed() {
		t.Log(string(text))
	}
	last := r.service.Refusals(2)
	if len(last) != 2 || last[0].Caller != "operator olga" || last[0].Code != factory.CodeForbidden || last[1].What != "/v1/revoke" {
		t.Errorf("%+v", last)
	}
	if all := r.service.Refusals(100); len(all) != 5 || all[4].Device != "dev-1" || all[4].Lot != "lot-1" || all[4].Caller != "station line-1" || all[4].Hint == "" {
		t.Errorf("%+v", all)
	}
}

// TestRefusalsAreBounded: the memory of refusals keeps the last ones, and no more.
func TestRefusalsAreBounded(t *testing.T) {
	r := serve(t, newPlant(t))
	for range 600 {
		_, _, _ = r.service.Enroll(t.Context(), "line-1", factory.EnrollRequest{CSR: "none"})
	}
	_, _, _ = r.service.Enroll(t.Context(), "line-2", factory.EnrollRequest{CSR: "none"})
	all := r.service.Refusals(1000)
	if len(all) != 500 || all[0].Caller != "station line-2" || all[499].Caller != "station line-1" {
		t.Errorf("%d, %+v", len(all), all[0])
	}
	if n := r.service.RefusalCounts(); len(n) != 1 || n[0].Code != factory.CodePolicy || n[0].Count != 601 {
		t.Errorf("%+v", n)
	}
}

func get(t *testing.T, r *running, path string) []byte {
	t.Helper()
	_, _, text, err := r.raw(r.operator(t, "otto"), http.MethodGet, path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// checkPages: the page about metrics names each that there is; rules, dashboard and page name no other; each alert has its line in the runbook.
func checkPages(t *testing.T, text string) {
	t.Helper()
	read := func(path string) string {
		b, err := os.ReadFile("../docs/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	page, rules, board, runbook := read("spec/metrics.md"), read("examples/prometheus-rules.yaml"), read("examples/grafana-factory.json"), read("runbooks/factory.md")
	there := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
		there[m[1]] = true
		if m[2] == "histogram" {
			there[m[1]+"_bucket"] = true
		}
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/spec/metrics.md does not name %s", m[1])
		}
	}
	for name, text := range map[string]string{"metrics.md": page, "prometheus-rules.yaml": rules, "grafana-factory.json": board} {
		for _, m := range regexp.MustCompile(`\bhanaperd_[a-z_]+`).FindAllString(text, -1) {
			if !there[m] && m != "hanaperd_renewals_total" && m != "hanaperd_shared_credential_requests_total" { // only where they are configured
				t.Errorf("%s names %s, which there is not", name, m)
			}
		}
	}
	alerts := regexp.MustCompile(`alert: (\S+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts", len(alerts))
	}
	for _, m := range alerts {
		if !strings.Contains(runbook, "| `"+m[1]+"` |") {
			t.Errorf("factory.md does not say what to do at %s", m[1])
		}
	}
	promtool(t, nil, "check", "rules", "../docs/examples/prometheus-rules.yaml")
	promtool(t, nil, "test", "rules", "testdata/prometheus-rules-test.yaml")
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(board), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			promtool(t, []byte("groups: [{name: x, rules: [{record: x, expr: "+strconv.Quote(strings.ReplaceAll(q.Expr, "$instance", ".*"))+"}]}]"), "check", "rules", "/dev/stdin")
		}
	}
}
