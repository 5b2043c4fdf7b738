package console_test

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/console"
)

// pagesOf lists every page that answers GET.
func pagesOf(t testing.TB) []string {
	t.Helper()
	source, err := os.ReadFile("console.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`"GET (/console/[^"]*)"`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, strings.NewReplacer("{$}", "").Replace(m[1]))
	}
	for _, a := range console.ActNames() {
		all = append(all, "/console/act/"+a)
	}
	if len(all) < 9 {
		t.Fatalf("only %v: the test looks in the wrong place", all)
	}
	return all
}

// TestWhoMaySee: operators and viewers see every page, with the headers that protect it; stations, publishers and gateways see none, and no page at all comes
// without a certificate.
func TestWhoMaySee(t *testing.T) {
	r := newRig(t)
	r.line()
	before := r.rows()
	for role, may := range map[string]bool{"operator": true, "viewer": true, "station": false, "publisher": false} {
		v := r.visitor(r.person(role, "x-"+role))
		for _, path := range pagesOf(t) {
			if strings.HasSuffix(path, ".css") || strings.HasSuffix(path, ".svg") {
				continue
			}
			if path == "/console/lot" {
				path += "?name=2026-47"
			}
			status, h, text := v.ask(http.MethodGet, path, nil)
			if (status == http.StatusOK) != may {
				t.Errorf("%s, %s: %d", role, path, status)
			}
			if !may && (status != http.StatusForbidden || strings.Contains(text, "vin-0001")) {
				t.Errorf("%s, %s: %d, %s", role, path, status, text)
			}
			checkHeaders(t, role+" "+path, h)
			if !strings.Contains(text, `<html lang="en">`) || strings.Contains(text, "<script") || strings.Contains(text, "style=") || regexp.MustCompile(`(?i)\son\w+=`).MatchString(text) {
				t.Errorf("%s, %s: no page, or one with a script or a style of its own: %s", role, path, text)
			}
		}
	}
	bare := r.visitor(r.person("operator", "x"))
	bare.client.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	if _, err := bare.client.Get("https://" + r.address + "/console/"); err == nil {
		t.Error("a page without a certificate")
	}
	device := r.visitor(r.fleet.issue(t, "device", templateOf("vin-0001")))
	if _, err := device.client.Get("https://" + r.address + "/console/"); err == nil {
		t.Error("a page for a device")
	}
	if after := r.rows(); after != before {
		t.Errorf("looking wrote %s, was %s", after, before)
	}
}

func checkHeaders(t testing.TB, what string, h http.Header) {
	t.Helper()
	for name, want := range map[string]string{"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
		if h.Get(name) != want {
			t.Errorf("%s: %s is %q", what, name, h.Get(name))
		}
	}
}

var sealOf = regexp.MustCompile(`name="seal" value="([^"]+)"`)

// TestForms: an act is done once, for the certificate, the answers and the state that its page showed, by an operator, from our own page, with a
// note; each other way to send it is refused, in words, and nothing is written.
func TestForms(t *testing.T) {
	r := newRig(t)
	r.line()
	olga, vera := r.visitor(r.person("operator", "olga")), r.visitor(r.person("viewer", "vera"))
	path, first := "/console/act/revoke", url.Values{"device_id": {"vin-0001"}, "reason": {"superseded"}}
	confirm := func(v visitor, answers url.Values) url.Values {
		t.Helper()
		status, _, text := v.ask(http.MethodPost, path, answers)
		m := sealOf.FindStringSubmatch(text)
		if status != http.StatusOK || m == nil || !strings.Contains(text, "vin-000") {
			t.Fatalf("%d: %s", status, text)
		}
		second := url.Values{"seal": {m[1]}, "note": {"it was seen in a market"}}
		for k, v := range answers {
			second[k] = v
		}
		return second
	}
	with := func(f url.Values, pairs ...string) url.Values {
		out := url.Values{}
		for k, v := range f {
			out[k] = v
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			out.Set(pairs[i], pairs[i+1])
		}
		return out
	}
	before := r.rows()
	good := confirm(olga, first)
	other := confirm(r.visitor(r.person("operator", "otto")), first)
	for name, c := range map[string]struct {
		who    visitor
		form   url.Values
		header []string
		status int
		words  string
	}{
		"without a seal only asks again":       {olga, with(first, "note", "x"), nil, 200, "is this right?"},
		"no note":                              {olga, with(good, "note", " "), nil, 422, "A note is missing"},
		"a note of two lines":                  {olga, with(good, "note", "a\nb"), nil, 422, "no text"},
		"a note that is too long":              {olga, with(good, "note", strings.Repeat("x", 1001)), nil, 422, "longer"},
		"another device than was shown":        {olga, with(good, "device_id", "vin-0002"), nil, 403, "was not made for you"},
		"another reason than was shown":        {olga, with(good, "reason", "key_compromise"), nil, 403, "was not made for you"},
		"another operator's seal":              {olga, with(other), nil, 403, "was not made for you"},
		"a changed seal":                       {olga, with(good, "seal", "A"+good.Get("seal")[1:]), nil, 403, "was not made for you"},
		"a seal with something behind it":      {olga, with(good, "seal", good.Get("seal")+"A"), nil, 403, "was not made for you"},
		"a viewer":                             {vera, good, nil, 403, "A viewer looks"},
		"a viewer's question":                  {vera, first, nil, 403, "A viewer looks"},
		"from another site":                    {olga, good, []string{"Sec-Fetch-Site", "cross-site"}, 403, "another site"},
		"from another site of the same domain": {olga, good, []string{"Sec-Fetch-Site", "same-site"}, 403, "another site"},
		"from another origin":                  {olga, good, []string{"Origin", "https://evil.example"}, 403, "another site"},
		"from no origin":                       {olga, good, []string{"Origin", "null"}, 403, "another site"},
		"no device":                            {olga, with(first, "device_id", ""), nil, 422, "Device id is missing"},
		"a device that is not there":           {olga, with(first, "device_id", "vin-9"), nil, 422, "vin-9"},
		"a reason that is none":                {olga, with(first, "reason", "certificateHold"), nil, 422, "none of the choices"},
		"an id that is no text":                {olga, with(first, "device_id", "a\x00b"), nil, 422, "no text"},
	} {
		if status, h, text := c.who.ask(http.MethodPost, path, c.form, c.header...); status != c.status || !strings.Contains(text, c.words) {
			t.Errorf("%s: %d, %s", name, status, text)
		} else {
			checkHeaders(t, name, h)
		}
	}
	if status, _, _ := olga.ask(http.MethodGet, path+"?"+good.Encode(), nil); status != 200 {
		t.Error("GET", status)
	}
	if status, _, _ := olga.ask(http.MethodPost, "/console/devices", url.Values{}); status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
		t.Error("POST to a page", status)
	}
	r.offset = 31 * time.Minute
	if status, _, text := olga.ask(http.MethodPost, path, good); status != 403 || !strings.Contains(text, "older than half an hour") {
		t.Errorf("too late: %d, %s", status, text)
	}
	r.offset = 0
	if after := r.rows(); after != before {
		t.Fatalf("refusals wrote %s, was %s", after, before)
	}
	if status, _, text := olga.ask(http.MethodPost, path, good, "Sec-Fetch-Site", "same-origin"); status != 200 || !strings.Contains(text, "is revoked") {
		t.Fatalf("%d: %s", status, text)
	}
	done := r.rows()
	// What the page showed is so no more, and its seal is spent.
	if status, _, text := olga.ask(http.MethodPost, path, good); status == 200 {
		t.Errorf("sent again: %s", text)
	}
	if after := r.rows(); after != done {
		t.Errorf("sent again, it wrote %s, was %s", after, done)
	}
}
