package console_test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func pkcs8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestBrowser is an operator's day, in one browser: each page is seen, each act done once, and those who may not are turned away.
func TestBrowser(t *testing.T) {
	r := newRig(t)
	_, port, err := net.SplitHostPort(r.address)
	if err != nil {
		t.Fatal(err)
	}
	r.line()
	b := newBrowser(t, r.operations, port, map[string]identity{"operator.example": r.person("operator", "olga"), "viewer.example": r.person("viewer", "vera"), "station.example": r.person("station", "line-9")})
	at := func(who, path string) string { return "https://" + who + ".example:" + port + path }
	t.Run("pages", func(t *testing.T) { walkPages(t, r, b, at) })
	t.Run("acts", func(t *testing.T) { walkActs(t, r, b, at) })
	t.Run("turned away", func(t *testing.T) { turnedAway(t, r, b, at) })
}

// walkPages loads every page, as operator and as viewer, and looks for what makes a page hard to use.
func walkPages(t *testing.T, r *rig, b *browser, at func(who, path string) string) {
	for _, who := range []string{"operator", "viewer"} {
		for _, path := range append(pagesOf(t), "/console/devices?by=id&q=vin-0001", "/console/devices?by=id&q=vin-9", "/console/nowhere") {
			if failure := b.open(at(who, path)); failure != "" {
				t.Fatal(path, failure)
			}
			if strings.HasSuffix(path, ".css") || strings.HasSuffix(path, ".svg") {
				continue
			}
			if bad := b.js(accessible); bad != "" {
				t.Errorf("%s %s: %s", who, path, bad)
			}
			if text := b.text(); !strings.Contains(text, who+" ") || strings.Contains(text, "\u202e") {
				t.Errorf("%s %s: %s", who, path, text)
			}
			if acts := b.js(`document.querySelectorAll('a.button').length`); who == "viewer" && acts != "0" {
				t.Errorf("%s: a viewer is offered acts", path)
			}
			// On the narrowest screen that WCAG 2.2 names (1.4.10) nothing is cut off: wide tables are moved by themselves.
			b.narrow()
			if wide := b.js(`document.documentElement.scrollWidth > document.documentElement.clientWidth ? document.documentElement.scrollWidth : ""`); wide != "" {
				t.Errorf("%s %s: on 320 pixels it is %s wide", who, path, wide)
			}
			b.wide()
			if axe := os.Getenv("CONSOLE_AXE"); axe != "" {
				b.judge(axe, who+" "+path)
			}
			if who == "operator" {
				name := strings.Trim(strings.NewReplacer("/console/", "", "/", "-", "?", "-", "&", "-", "=", "-").Replace(path), "-")
				b.pictures("page-" + name)
			}
		}
	}
	if said := b.complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", said)
	}
	if b.open(at("operator", "/console/refusals")); !strings.Contains(b.text(), `"<script>x</script>"`) || b.js("window.x") != "" {
		t.Errorf("a hostile id: %s", b.text())
	}
	b.open(at("operator", "/console/"))
	b.click("Load this page anew every 30 seconds")
	if content := b.js(`document.querySelector('meta[http-equiv=refresh]').content`); content != "30" {
		t.Error(content)
	}
	b.click("Stop that")
	if b.js(`document.querySelector('meta[http-equiv=refresh]') ? "there" : ""`) != "" {
		t.Error("it does not stop")
	}
}

// walkActs does each act once, as somebody at a desk does it.
func walkActs(t *testing.T, r *rig, b *browser, at func(who, path string) string) {
	b.open(at("operator", "/console/devices"))
	b.fill("Look for", "VIN-0002")
	b.click("Look up")
	b.click("Revoke a device")
	b.fill("Reason", "key_compromise")
	b.click("Go on")
	if text := b.text(); !strings.Contains(text, "is this right?") || !strings.Contains(text, "vin-0002") || !strings.Contains(text, "for good") {
		t.Fatal(text)
	}
	b.pictures("confirm-revoke")
	if d, err := r.service.Device(t.Context(), "vin-0002"); err != nil || d.Status != "issued" {
		t.Fatalf("a question revoked: %+v, %v", d, err)
	}
	b.fill("Note", "seen in a market")
	b.click("Revoke")
	if text := b.text(); !strings.Contains(text, "The certificate of device vin-0002 is revoked") {
		t.Fatal(text)
	}
	b.pictures("done-revoke")
	if d, err := r.service.Device(t.Context(), "vin-0002"); err != nil || d.Status != "revoked" || d.Reason != "key_compromise" {
		t.Fatalf("%+v, %v", d, err)
	}
	b.click("Look at the device")
	if text := b.text(); !strings.Contains(text, "revoked (key_compromise)") {
		t.Fatal(text)
	}
}

// turnedAway: no page without a certificate; none for a station; and what another site's page has the operator's browser send does nothing.
func turnedAway(t *testing.T, r *rig, b *browser, at func(who, path string) string) {
	before := r.rows()
	if failure := b.open(at("nobody", "/console/")); failure != "net::ERR_BAD_SSL_CLIENT_AUTH_CERT" {
		t.Errorf("without a certificate: %q, %s", failure, b.text())
	}
	if failure := b.open(at("station", "/console/")); failure != "" || !strings.Contains(b.text(), "This page is for operators and viewers") || strings.Contains(b.text(), "vin-0001") {
		t.Errorf("a station: %q, %s", failure, b.text())
	}
	b.pictures("station")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s"><input name="device_id" value="vin-0003"><input name="reason" value="superseded"></form><iframe src="%s"></iframe>`,
			at("operator", "/console/act/revoke"), at("operator", "/console/devices?by=id&q=vin-0003"))
	}))
	defer evil.Close()
	if failure := b.open(strings.Replace(evil.URL, "127.0.0.1", "evil.example", 1)); failure != "" {
		t.Fatal(failure)
	}
	b.follow(`document.forms[0].submit()`)
	if text := b.text(); !strings.Contains(text, "This request came from another site's page") {
		t.Errorf("another origin: %s", text)
	}
	b.pictures("cross-site")
	if said := strings.Join(b.complaints(), " "); !strings.Contains(said, "frame-ancestors") {
		t.Errorf("nothing is said of the frame: %s", said)
	}
	if after := r.rows(); after != before {
		t.Errorf("it wrote %s, was %s", after, before)
	}
}

// line has a day at the line happen: devices, refusals, text that means harm.
func (r *rig) line() {
	r.t.Helper()
	if err := r.store.SetLot(r.t.Context(), "2026-47", 10, "operator olga"); err != nil {
		r.t.Fatal(err)
	}
	for _, id := range []string{"vin-0001", "vin-0002", "vin-0003"} {
		if err := r.enroll("line-1", id, newKey(r.t), "2026-47"); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := r.enroll("line-2", "vin-0001", newKey(r.t), "2026-47"); err == nil {
		r.t.Fatal("another key was taken")
	}
	if err := r.enroll("line-2", "<script>x</script>", newKey(r.t), "2026-47"); err == nil {
		r.t.Fatal("an id that is no id was taken")
	}
}

// accessible says what makes a page hard to use for who does not see it, or has no mouse; "" if nothing is found. It is no proof of more.
const accessible = `(() => {
	const bad = [], all = s => [...document.querySelectorAll(s)];
	if (document.documentElement.lang !== "en" || !document.title.includes("Hanaper")) bad.push("language or title");
	if (all("h1").length !== 1 || all("main").length !== 1 || all("header").length !== 1 || all("footer").length !== 1) bad.push("landmarks");
	if (document.querySelector("a").getAttribute("href") !== "#main") bad.push("the first link does not skip to the content");
	let level = 0;
	for (const h of all("h1,h2,h3")) { const n = +h.tagName[1]; if (n > level + 1) bad.push("heading " + h.innerText); level = n; }
	for (const e of all("input:not([type=hidden]),select,textarea")) if (!e.labels.length || !e.labels[0].innerText.trim()) bad.push("no label: " + e.name);
	for (const e of all("a,button")) if (!e.innerText.trim()) bad.push("no words: " + e.outerHTML);
	for (const t of all("table")) if (!t.caption || [...t.querySelectorAll("th")].some(h => !h.scope) || !t.querySelector("thead th")) bad.push("table " + (t.caption || {}).innerText);
	const ids = all("[id]").map(e => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push("twice: " + id);
	for (const e of all("[aria-describedby],[aria-labelledby]")) for (const id of (e.getAttribute("aria-describedby") || e.getAttribute("aria-labelledby")).split(" ")) if (!ids.includes(id)) bad.push("no " + id);
	if (all("script,[style],[onclick],[onload]").length) bad.push("script or style inside");
	for (const e of all("a,button,input:not([type=hidden]),select")) if (e.tabIndex < 0) bad.push("not by keyboard: " + e.outerHTML);
	const rgb = c => c.match(/[\d.]+/g).map(Number), lum = c => { const [r, g, b] = rgb(c).slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
	for (const e of all("body *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
		let g = e; while (g && rgb(getComputedStyle(g).backgroundColor)[3] === 0) g = g.parentElement;
		const a = lum(getComputedStyle(e).color), c = lum(getComputedStyle(g || document.documentElement).backgroundColor);
		if ((Math.max(a, c) + .05) / (Math.min(a, c) + .05) < 4.5) bad.push("contrast: " + e.outerHTML.slice(0, 80));
	}
	return bad.join("; ");
})()`
