package console_test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/console"
	"github.com/hanaper/hanaper/factory/order"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/browsertest"
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
	t.Run("ill", func(t *testing.T) { walkIll(t, r, b, at) })
}

// walkPages loads every page, as operator and as viewer, and looks for what makes a page hard to use.
func walkPages(t *testing.T, r *rig, b *browsertest.Browser, at func(who, path string) string) {
	for _, who := range []string{"operator", "viewer"} {
		for _, path := range append(pagesOf(t), "/console/lot?name=2026-47", "/console/devices?by=lot&q=2026-47", "/console/devices?by=station&q=line-1&from=soon", "/console/devices?by=id&q=vin-0001", "/console/devices?by=id&q=vin-9", "/console/nowhere") {
			if failure := b.Open(at(who, path)); failure != "" {
				t.Fatal(path, failure)
			}
			if strings.HasSuffix(path, ".css") || strings.HasSuffix(path, ".svg") {
				continue
			}
			if bad := b.JS(accessible); bad != "" {
				t.Errorf("%s %s: %s", who, path, bad)
			}
			if text := b.Text(); !strings.Contains(text, who+" ") || strings.Contains(text, "\u202e") {
				t.Errorf("%s %s: %s", who, path, text)
			}
			if acts := b.JS(`document.querySelectorAll('a.button').length`); who == "viewer" && acts != "0" {
				t.Errorf("%s: a viewer is offered acts", path)
			}
			// On the narrowest screen that WCAG 2.2 names (1.4.10) nothing is cut off: wide tables are moved by themselves.
			b.Narrow()
			if wide := b.JS(`document.documentElement.scrollWidth > document.documentElement.clientWidth ? document.documentElement.scrollWidth : ""`); wide != "" {
				t.Errorf("%s %s: on 320 pixels it is %s wide", who, path, wide)
			}
			b.Wide()
			if axe := os.Getenv("CONSOLE_AXE"); axe != "" {
				b.Judge(axe, who+" "+path)
			}
			if who == "operator" {
				name := strings.Trim(strings.NewReplacer("/console/", "", "/", "-", "?", "-", "&", "-", "=", "-").Replace(path), "-")
				b.Pictures("page-" + name)
			}
		}
	}
	if said := b.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", said)
	}
	if b.Open(at("operator", "/console/refusals")); !strings.Contains(b.Text(), `"<script>x</script>"`) || b.JS("window.x") != "" {
		t.Errorf("a hostile id: %s", b.Text())
	}
	b.Open(at("operator", "/console/"))
	b.Click("Load this page anew every 30 seconds")
	if content := b.JS(`document.querySelector('meta[http-equiv=refresh]').content`); content != "30" {
		t.Error(content)
	}
	b.Click("Stop that")
	if b.JS(`document.querySelector('meta[http-equiv=refresh]') ? "there" : ""`) != "" {
		t.Error("it does not stop")
	}
}

// walkActs does each act once, as somebody at a desk does it.
func walkActs(t *testing.T, r *rig, b *browsertest.Browser, at func(who, path string) string) {
	done := map[string]bool{}
	// act goes through the two pages of an act, from its form on, and gives what the last page says.
	act := func(name, sees, verb string, fills ...string) string {
		t.Helper()
		done[name] = true
		before := r.rows()
		b.Fill(fills...)
		b.Pictures("act-" + name)
		b.Click("Go on")
		if text := b.Text(); !strings.Contains(text, "is this right?") || !strings.Contains(text, sees) {
			t.Fatalf("%s: %s", name, text)
		}
		if bad := b.JS(accessible); bad != "" {
			t.Errorf("%s: %s", name, bad)
		}
		b.Pictures("confirm-" + name)
		if after := r.rows(); after != before {
			t.Fatalf("%s: a question wrote %s, was %s", name, after, before)
		}
		b.Fill("Note", "seen in a market by "+name)
		b.Click(verb)
		b.Pictures("done-" + name)
		return b.Text()
	}
	must := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Fatalf("no %q: %s", w, text)
			}
		}
	}
	device := func(id string) *factory.DeviceAnswer {
		t.Helper()
		d, err := r.service.Device(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	olga := r.person("operator", "olga")
	path := filepath.Join(t.TempDir(), "brakes.order")
	if err := os.WriteFile(path, r.order(olga, "brakes/48", 3, func(o *order.Order) { o.IDs.Pattern = "ecu-[0-9]+" }), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Open(at("operator", "/console/acts"))
	b.Click("Open a lot")
	b.Choose("f-order", path)
	must(act("open", "brakes/48", "Open"), "Lot brakes/48 is open", "ecu-[0-9]+")
	if l, err := r.service.Lot(t.Context(), "brakes/48"); err != nil || l.State != "open" || l.Quantity != 3 {
		t.Fatalf("%+v, %v", l, err)
	}
	// Two boards are scanned wrongly, a third dies, a fourth comes from a station that is stolen.
	keys := []crypto.Signer{newKey(t), newKey(t)}
	for i, id := range []string{"ecu-1", "ecu-2"} {
		if err := r.enroll("line-3", id, keys[i], "brakes/48"); err != nil {
			t.Fatal(err)
		}
	}
	b.Open(at("operator", "/console/devices"))
	b.Fill("Look for", "ECU-1")
	b.Click("Look up")
	b.Click("Swap it with another")
	must(act("swap", device("ecu-2").KeyDigest, "Swap", "The other device id", "ecu-2"), "have swapped their keys")
	for i, id := range []string{"ecu-2", "ecu-1"} {
		if err := r.enroll("line-3", id, keys[i], "brakes/48"); err != nil {
			t.Fatalf("%s with the other's key: %v", id, err)
		}
	}
	b.Open(at("operator", "/console/act/reissue?device_id=ecu-1"))
	must(act("reissue", "revoked as superseded", "Permit"), "Device ecu-1 may be enrolled anew")
	b.Click("Look at the device")
	must(b.Text(), "May be enrolled anew", "permitted by operator olga")
	if err := r.enroll("line-3", "ecu-1", newKey(t), "brakes/48"); err != nil {
		t.Fatal(err)
	}
	b.Open(at("operator", "/console/devices?by=lot&q=brakes%2F48"))
	must(b.Text(), "ecu-1", "ecu-2", "revoked")
	b.Pictures("list")
	b.Open(at("operator", "/console/act/scrap?device_id=ecu-2"))
	must(act("scrap", "is given back", "Scrap", "Give its place", "yes"), "Device ecu-2 is scrapped")
	if d := device("ecu-2"); !d.Scrapped || d.Status != "revoked" {
		t.Fatalf("%+v", d)
	}
	b.Open(at("operator", "/console/devices?by=id&q=vin-0002"))
	b.Click("Revoke it")
	must(act("revoke", "vin-0002", "Revoke", "Reason", "key_compromise"), "The certificate of device vin-0002 is revoked")
	if d := device("vin-0002"); d.Status != "revoked" || d.Reason != "key_compromise" {
		t.Fatalf("%+v", d)
	}
	b.Click("Look at the device")
	must(b.Text(), "revoked (key_compromise)")
	for _, id := range []string{"vin-1001", "vin-1002"} {
		if err := r.enroll("line-7", id, newKey(t), "2026-47"); err != nil {
			t.Fatal(err)
		}
	}
	b.Open(at("operator", "/console/act/revoke-station"))
	must(act("revoke-station", "Certificates to revoke", "Revoke all", "Station", "line-7", "Reason", "privilege_withdrawn", "Enrolled from", "2026-01-01"), "2 certificates of station line-7 are revoked")
	if device("vin-1002").Status != "revoked" || device("vin-0003").Status != "issued" {
		t.Fatal("others than the station's devices are revoked, or not all of them")
	}
	b.Open(at("operator", "/console/lot?name=brakes%2F48"))
	b.Click("Close a lot")
	must(act("close", "closed for good", "Close"), "Lot brakes/48 is closed, with 1 of 3 devices")
	b.Click("Look at the lot")
	must(b.Text(), "closed")
	if err := r.enroll("line-3", "ecu-3", newKey(t), "brakes/48"); err == nil {
		t.Error("a closed lot takes a device")
	}
	for _, name := range console.ActNames() {
		if !done[name] {
			t.Errorf("act %s was not done", name)
		}
	}
	// Each note is in the record, beside who did it.
	events, err := r.service.Recent(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for name := range done {
		if !slices.ContainsFunc(events, func(e record.Event) bool {
			return e.Who == "operator olga" && strings.HasSuffix(e.Note, "seen in a market by "+name)
		}) {
			t.Errorf("the note of %s is not in the record", name)
		}
	}
	b.Open(at("operator", "/console/events"))
	b.Pictures("events-after")
}

// walkIll: what is wrong stands on the first page, in words, and an act that is refused says why and what to do.
func walkIll(t *testing.T, r *rig, b *browsertest.Browser, at func(who, path string) string) {
	if err := r.store.Hold(t.Context(), "it was restored from factory-monday.db"); err != nil {
		t.Fatal(err)
	}
	b.Open(at("operator", "/console/"))
	if text := b.Text(); !strings.Contains(text, "Something is wrong") || !strings.Contains(text, "held: it was restored from factory-monday.db") {
		t.Error(text)
	}
	if bad := b.JS(accessible); bad != "" {
		t.Error(bad)
	}
	b.Pictures("ill")
	b.Open(at("operator", "/console/act/reissue?device_id=vin-0003"))
	b.Click("Go on")
	before := r.rows()
	b.Fill("Note", "x")
	b.Click("Permit")
	if text := b.Text(); !strings.Contains(text, "Not done") || !strings.Contains(text, "record is not complete") || !strings.Contains(text, "Code: held") {
		t.Error(text)
	}
	b.Pictures("refused-act")
	if after := r.rows(); after != before {
		t.Errorf("it wrote %s, was %s", after, before)
	}
}

// turnedAway: no page without a certificate; none for a station; and what another site's page has the operator's browser send does nothing.
func turnedAway(t *testing.T, r *rig, b *browsertest.Browser, at func(who, path string) string) {
	before := r.rows()
	// In TLS 1.3 the server refuses after the browser's side of the handshake is done: it says so, or only that the connection was closed.
	if failure := b.Open(at("nobody", "/console/")); !strings.HasPrefix(failure, "net::ERR_") || strings.Contains(b.Text(), "Hanaper factory") {
		t.Errorf("without a certificate: %q, %s", failure, b.Text())
	}
	if failure := b.Open(at("station", "/console/")); failure != "" || !strings.Contains(b.Text(), "This page is for operators and viewers") || strings.Contains(b.Text(), "vin-0001") {
		t.Errorf("a station: %q, %s", failure, b.Text())
	}
	b.Pictures("station")
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s"><input name="device_id" value="vin-0003"><input name="reason" value="superseded"></form><iframe src="%s"></iframe>`,
			at("operator", "/console/act/revoke"), at("operator", "/console/devices?by=id&q=vin-0003"))
	}))
	defer evil.Close()
	if failure := b.Open(strings.Replace(evil.URL, "127.0.0.1", "evil.example", 1)); failure != "" {
		t.Fatal(failure)
	}
	b.Follow(`document.forms[0].submit()`)
	if text := b.Text(); !strings.Contains(text, "This request came from another site's page") {
		t.Errorf("another origin: %s", text)
	}
	b.Pictures("cross-site")
	if said := strings.Join(b.Complaints(), " "); !strings.Contains(said, "frame-ancestors") {
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
	for (const e of all("input:not([type=hidden]),select,textarea")) if (!e.labels.length || !e.labels[0].textContent.trim()) bad.push("no label: " + e.name);
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
