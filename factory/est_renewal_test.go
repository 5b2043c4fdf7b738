package factory_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
)

// reenroll sends what a gateway sends, with this text in Client-Cert ("" for none).
func (r *running) reenroll(who identity, path, clientCert string, der []byte) string {
	body := base64.StdEncoding.EncodeToString(der)
	head := ""
	for _, line := range strings.Split(clientCert, "\n") {
		if line != "" {
			head += "Client-Cert: " + line + "\r\n"
		}
	}
	return r.exchange(who, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", path, head, len(body), body))
}

// TestESTRenewal: a gateway, and nobody else, is read the certificate of; it reaches nothing but renewal.
func TestESTRenewal(t *testing.T) {
	r := renewing(t, newPlant(t), func(n *factory.Renewal, _ *factory.ServiceConfig) { n.Policy.FromDays = 365 })
	gw, station := r.gateway(t, "gw-1"), r.station(t, "line-1")
	d, o := r.owner(t, "dev-1"), r.owner(t, "dev-2")
	r.now.add(time.Hour)
	q := d.asks(t)
	der := derOf(t, string(q.CSR))
	in := func(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }
	const path = "/.well-known/est/simplereenroll"
	before := r.rows()
	for name, c := range map[string]struct {
		who            identity
		path, cert     string
		body           []byte
		status, saying string
	}{
		"no certificate":     {gw, path, "", der, "422", "stands 0 times"},
		"two":                {gw, path, in(d.cert.Raw) + "\n" + in(d.cert.Raw), der, "422", "stands 2 times"},
		"no colons":          {gw, path, strings.Trim(in(d.cert.Raw), ":"), der, "422", "no byte sequence"},
		"empty":              {gw, path, "::", der, "422", "no byte sequence"},
		"PEM":                {gw, path, ":LS0tLS1CRUdJTg==:", der, "422", "cannot be read"},
		"another device's":   {gw, path, in(o.cert.Raw), der, "422", "certification request"},
		"with a label":       {gw, "/.well-known/est/lot-1/simplereenroll", in(d.cert.Raw), der, "404", "names no lot"},
		"enrols":             {gw, "/.well-known/est/simpleenroll", in(d.cert.Raw), der, "403", "may not call"},
		"a station's header": {station, path, in(o.cert.Raw), derOf(t, string(o.asks(t).CSR)), "200", ""},
	} {
		answer := r.reenroll(c.who, c.path, c.cert, c.body)
		status, text := "", strings.ReplaceAll(answer, "\n", "")
		if f := strings.Fields(answer); len(f) > 1 {
			status = f[1]
		}
		if status != c.status || !strings.Contains(text, c.saying) {
			t.Errorf("%s: %s", name, answer)
		}
	}
	for _, call := range []string{"GET /v1/devices/dev-1", "GET /v1/crl", "GET /v1/cacerts", "GET /healthz", "GET /metrics", "POST /v1/enroll", "POST /v1/revoke", "POST /v1/known", "GET /v1/log/latest", "GET /v1/store", "GET /x"} {
		method, path, _ := strings.Cut(call, " ")
		if status, _, body, err := r.raw(gw, method, path, "application/json", []byte("{}")); err != nil || status != 403 {
			t.Errorf("%s: %d %s %v", call, status, body, err)
		}
	}
	if after := r.rows(); after != before {
		t.Fatalf("wrote %s, was %s", after, before)
	}
	for _, op := range []string{"cacerts", "csrattrs"} {
		if status, _, body, err := r.raw(gw, "GET", "/.well-known/est/"+op, "", nil); err != nil || status != 200 {
			t.Errorf("%s: %d %s %v", op, status, body, err)
		}
	}
	answer := r.reenroll(gw, path, in(d.cert.Raw), der)
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Fatal(answer)
	}
	rec, err := r.store.ByDevice(context.Background(), "dev-1")
	if err != nil || rec.Generation != 2 || rec.Station != "gateway gw-1" {
		t.Fatalf("%+v, %v", rec, err)
	}
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	p7, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil || !strings.Contains(string(p7), string(rec.Certificate)) {
		t.Errorf("the answer does not hold the certificate: %v", err)
	}
	if again := r.reenroll(gw, path, in(d.cert.Raw), der); !strings.Contains(again, body) {
		t.Errorf("the same request got %s", again)
	}
	// What the gateway says of devices, no other role may say.
	for _, role := range ca.Roles() {
		status, _, said, err := r.raw(r.caller(t, role, "anna"), "POST", "/v1/renewal/seen", "application/json", []byte(`{"certificates": ""}`))
		if err != nil || (status == 403) == (role == ca.RoleGateway) {
			t.Errorf("%s: %d %s %v", role, status, said, err)
		}
	}
}
