package reposerver_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// vehicle is a device with several ECUs, each with a key of its own.
type vehicle struct {
	o        *office
	id       string
	keys     map[string]crypto.Signer
	hardware map[string]string
	has      map[string]string // what each ECU has installed: the content
	attacks  map[string]string
	// targets is the highest version that it has seen; lower ones it refuses, as the real client does.
	targets int
}

func (o *office) vehicle(id string, ecus ...string) *vehicle {
	v := &vehicle{o: o, id: id, keys: map[string]crypto.Signer{}, hardware: map[string]string{}, has: map[string]string{}, attacks: map[string]string{}}
	for _, e := range ecus {
		serial, hardware, _ := strings.Cut(e, "=")
		v.keys[serial], v.hardware[serial], v.has[serial] = newSigner(o.t), hardware, "factory"
	}
	return v
}

func (v *vehicle) registration() string {
	v.o.t.Helper()
	var list []string
	for _, s := range slices.Sorted(maps.Keys(v.keys)) {
		form := must(keyOf(v.o.t, v.keys[s]).MarshalJSON())(v.o.t)
		list = append(list, fmt.Sprintf(`{"ecu_serial":%q,"hardware_identifier":%q,"clientKey":%s}`, s, v.hardware[s], form))
	}
	return fmt.Sprintf(`{"primary_ecu_serial":%q,"ecus":[%s]}`, v.primary(), strings.Join(list, ","))
}

func (v *vehicle) primary() string { return slices.Sorted(maps.Keys(v.keys))[0] }

func (v *vehicle) register(want int) {
	v.o.t.Helper()
	if status, body := v.o.register(v.id, v.registration()); status != want {
		v.o.t.Fatalf("%s registers: %d %s", v.id, status, body)
	}
}

// report sends a manifest, with an installation report if there is one.
func (v *vehicle) report(installation string) {
	v.o.t.Helper()
	parts := []string{}
	for _, s := range slices.Sorted(maps.Keys(v.keys)) {
		ecu := fmt.Sprintf(`{"attacks_detected":%q,"ecu_serial":%q,"installed_image":{"fileinfo":{"hashes":{"sha256":%q},"length":%d},"filepath":"f"}}`,
			v.attacks[s], s, digest([]byte(v.has[s])), len(v.has[s]))
		parts = append(parts, fmt.Sprintf("%q:%s", s, envelope(v.o.t, v.keys[s], ecu)))
	}
	if installation != "" {
		installation = `"installation_report":{"content_type":"application/vnd.com.here.otac.installationReport.v1","report":` + installation + `},`
	}
	doc := fmt.Sprintf(`{"ecu_version_manifests":{%s},%s"primary_ecu_serial":%q}`, strings.Join(parts, ","), installation, v.primary())
	if status, body := v.o.send(v.id, envelope(v.o.t, v.keys[v.primary()], doc)); status != http.StatusOK {
		v.o.t.Fatalf("%s's manifest: %d %s", v.id, status, body)
	}
}

// poll reads the targets, and refuses a rollback.
func (v *vehicle) poll() *uptane.Targets {
	v.o.t.Helper()
	doc := must(uptane.ParseTargets(uptane.Director, v.o.file(v.id, "/director/targets.json")))(v.o.t)
	if doc.Version() < v.targets {
		v.o.t.Fatalf("%s: rollback from %d to %d", v.id, v.targets, doc.Version())
	}
	v.targets = doc.Version()
	return doc
}

func correlationOf(t testing.TB, doc *uptane.Targets) string {
	t.Helper()
	var custom struct {
		Correlation string `json:"correlationId"`
	}
	if err := json.Unmarshal(doc.Config().Custom, &custom); err != nil {
		t.Fatal(err)
	}
	return custom.Correlation
}

// publish uploads contents under their names and lists them for hardware.
func (o *office) publish(hardware string, contents map[string]string) {
	o.t.Helper()
	for name, content := range contents {
		if err := o.client.Upload(o.t.Context(), reposerver.Upload{Name: name, Source: strings.NewReader(content), Size: int64(len(content))}); err != nil {
			o.t.Fatal(err)
		}
	}
	key := must(o.keys.Labelled(o.t.Context(), "uptane-image-targets"))(o.t)
	if err := o.push(key, func(c *uptane.TargetsConfig) {
		for name, content := range contents {
			c.Targets[name] = entry(o.t, content, name, "1", hardware)
		}
	}); err != nil {
		o.t.Fatal(err)
	}
}

// TestVersionsOutliveRemoval: a device that was removed and registers again sees versions above those that it remembers.
func TestVersionsOutliveRemoval(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	for range 3 {
		o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	}
	v.poll()
	if v.targets < 4 {
		t.Fatalf("version %d", v.targets)
	}
	o.adminDo(http.MethodDelete, "/api/v1/director/admin/devices/vin-1", "", http.StatusNoContent)
	o.adminDo(http.MethodGet, "/api/v1/director/admin/devices/vin-1", "", http.StatusNotFound)
	v.keys["e1"] = newSigner(t)
	v.register(http.StatusCreated)
	v.poll()
	// And again, after a second removal.
	o.adminDo(http.MethodDelete, "/api/v1/director/admin/devices/vin-1", "", http.StatusNoContent)
	v.register(http.StatusCreated)
	if doc := v.poll(); len(doc.Names()) != 0 {
		t.Errorf("assignments outlive the removal: %v", doc.Names())
	}
}

// TestReplacement: other ECUs are refused, and taken once after an operator allowed it; versions go on.
func TestReplacement(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	v := o.vehicle("vin-1", "e1=board", "e2=cluster")
	v.register(http.StatusCreated)
	o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	v.poll()
	replaced := func() { v.keys["e2"] = newSigner(t) }
	replaced()
	o.unchanged("not allowed", func() { v.register(http.StatusConflict) })
	for _, body := range []string{`{}`, `{"seconds":1}`, `{"seconds":99999999}`, `{"seconds":-5}`} {
		o.unchanged(body, func() {
			o.adminDo(http.MethodPut, "/api/v1/director/admin/devices/vin-1/replacement", body, http.StatusBadRequest)
		})
	}
	o.adminDo(http.MethodPut, "/api/v1/director/admin/devices/vin-2/replacement", `{"seconds":3600}`, http.StatusNotFound)
	o.adminDo(http.MethodPut, "/api/v1/director/admin/devices/vin-1/replacement", `{"seconds":3600}`, http.StatusOK)
	o.clock.add(time.Hour)
	o.unchanged("too late", func() { v.register(http.StatusConflict) })
	o.adminDo(http.MethodPut, "/api/v1/director/admin/devices/vin-1/replacement", `{"seconds":3600}`, http.StatusOK)
	v.register(http.StatusCreated)
	if doc := v.poll(); len(doc.Names()) != 1 {
		t.Errorf("what was assigned to the ECU that stayed: %v", doc.Names())
	}
	v.report("")
	replaced()
	o.unchanged("a second time", func() { v.register(http.StatusConflict) })
	// An ECU that goes takes its assignment along.
	o.adminDo(http.MethodPut, "/api/v1/director/admin/devices/vin-1/replacement", `{"seconds":3600}`, http.StatusOK)
	delete(v.keys, "e1")
	delete(v.hardware, "e1")
	v.register(http.StatusCreated)
	if doc := v.poll(); len(doc.Names()) != 0 {
		t.Errorf("an ECU that is gone is still to install %v", doc.Names())
	}
}

// TestReports: what devices report ends the assignment or not, and is shown.
func TestReports(t *testing.T) {
	const failed = `{"success":false,"code":"INSTALL_FAILED","description":"no room"}`
	const good = `{"success":true,"code":"OK","description":""}`
	for name, c := range map[string]struct {
		result, one, two string // of the device, of ECU e1, of ECU e2; empty: says nothing
		has              string // what e1 has afterwards
		state, code      string
		left             int // assignments left
	}{
		"installed":               {good, good, "", "content a", reposerver.StateUpToDate, "", 1},
		"no report, installed":    {"", "", "", "content a", reposerver.StateUpToDate, "", 1},
		"no report, not yet":      {"", "", "", "factory", reposerver.StateAssigned, "", 1},
		"needs a restart":         {`{"success":true,"code":"NEED_COMPLETION","description":""}`, good, "", "factory", reposerver.StateAssigned, "", 1},
		"failed":                  {failed, failed, "", "factory", reposerver.StateFailed, "INSTALL_FAILED", 0},
		"failed to download":      {`{"success":false,"code":"DOWNLOAD_FAILED","description":""}`, "", "", "factory", reposerver.StateFailed, "DOWNLOAD_FAILED", 0},
		"says good, and is not":   {good, good, "", "other", reposerver.StateAssigned, "", 1},
		"says failed, and is not": {failed, failed, "", "content a", reposerver.StateUpToDate, "", 1},
		"another ECU's failure":   {`{"success":false,"code":"b:INSTALL_FAILED","description":""}`, good, failed, "content a", reposerver.StateUpToDate, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := folderOffice(t)
			o.publish("board", map[string]string{"a": "content a"})
			v := o.vehicle("vin-1", "e1=board", "e2=cluster")
			v.register(http.StatusCreated)
			if s := o.view("vin-1")["state"]; s != reposerver.StateNever {
				t.Errorf("at the start: %v", s)
			}
			o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
			doc := v.poll()
			report := ""
			if c.result != "" {
				var items []string
				for ecu, result := range map[string]string{"e1": c.one, "e2": c.two} {
					if result != "" {
						items = append(items, fmt.Sprintf(`{"ecu":%q,"result":%s}`, ecu, result))
					}
				}
				report = fmt.Sprintf(`{"correlation_id":%q,"result":%s,"items":[%s],"raw_report":""}`, correlationOf(t, doc), c.result, strings.Join(items, ","))
			}
			v.has["e1"], v.attacks["e2"] = c.has, "targets were replayed"
			v.report(report)
			v.report(report) // as a device does whose answer was lost
			view := o.view("vin-1")
			if view["state"] != c.state || view["seen"] == "" {
				t.Errorf("state %v", view["state"])
			}
			if fmt.Sprint(view["attacks_detected"]) != "map[e2:targets were replayed]" {
				t.Errorf("attacks: %v", view["attacks_detected"])
			}
			if c.code != "" {
				o := view["outcomes"].(map[string]any)["e1"].(map[string]any)
				if o["code"] != c.code || o["target"] != "a" || o["result"] != "failed" {
					t.Errorf("outcome %v", o)
				}
			}
			if doc := v.poll(); len(doc.Names()) != c.left {
				t.Errorf("still assigned: %v", doc.Names())
			}
			// An operator may assign the same again, which forgets how it ended.
			o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
			if doc := v.poll(); len(doc.Names()) != 1 || c.code != "" && o.view("vin-1")["state"] != reposerver.StateAssigned {
				t.Errorf("assigned again: %v", doc.Names())
			}
		})
	}
}

func TestRolledBack(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	v.has["e1"] = "content a"
	v.report("")
	v.has["e1"] = "factory"
	v.report("")
	if s := o.view("vin-1")["state"]; s != reposerver.StateRolledBack {
		t.Errorf("state %v", s)
	}
	if doc := v.poll(); len(doc.Names()) != 0 {
		t.Errorf("it is tried without end: %v", doc.Names())
	}
}

// TestOldReport: a report of another assignment, or of none, ends nothing.
func TestOldReport(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	for _, id := range []string{"", "urn:other", "urn:hanaper:assignment:1:00", "urn:hanaper:assignment:-7:00", "urn:hanaper:assignment:99999999999:00"} {
		v.report(fmt.Sprintf(`{"correlation_id":%q,"result":{"success":false,"code":"X"},"items":[]}`, id))
		if s := o.view("vin-1")["state"]; s != reposerver.StateAssigned {
			t.Errorf("%q: %v", id, s)
		}
	}
	for _, report := range []string{`1`, `{"report":{"correlation_id":5}}`, `{"report":null}`} {
		v.report(report) // what is no report is none, and the manifest counts
	}
}

// TestWordsOfDevices: a report in any language counts, whether the device signs it with escapes or as UTF-8.
func TestWordsOfDevices(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	for _, words := range []string{`Ger\u00e4t kaputt`, "Gerät kaputt", `\u001b[2J`, `\ud83d\ude97`, "🚗 \x7f", `a\n\\u00e4`} {
		o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
		v.report(fmt.Sprintf(`{"correlation_id":%q,"items":[],"result":{"code":"X","description":"%s","success":false}}`, correlationOf(t, v.poll()), words))
		if s := o.view("vin-1")["state"]; s != reposerver.StateFailed {
			t.Errorf("%s: %v", words, s)
		}
	}
}

func TestAssignRefusals(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	key := must(o.keys.Labelled(t.Context(), "uptane-image-targets"))(t)
	inside, outside := newSigner(t), newSigner(t)
	if err := o.client.Upload(t.Context(), reposerver.Upload{Name: "elsewhere", Source: strings.NewReader("x"), Size: 1}); err != nil {
		t.Fatal(err)
	}
	if err := o.push(key, func(c *uptane.TargetsConfig) {
		c.Targets["never-uploaded"] = entry(t, "x", "x", "1", "board")
		c.Targets["elsewhere"] = entry(t, "x", "x", "1", "cluster")
		c.Delegations = []uptane.Delegation{
			{Name: "first", RoleKeys: uptane.RoleKeys{Keys: []uptane.Key{keyOf(t, inside)}, Threshold: 1}, Paths: []string{"team-*"}, Terminating: true},
			{Name: "second", RoleKeys: uptane.RoleKeys{Keys: []uptane.Key{keyOf(t, outside)}, Threshold: 1}, Paths: []string{"*-1"}},
		}
	}); err != nil {
		t.Fatal(err)
	}
	second := must(uptane.NewTargets(uptane.TargetsConfig{Repository: uptane.Image, Version: 1, Expires: o.clock.now().Add(24 * time.Hour),
		Targets: map[string]uptane.Target{"team-1": entry(t, "content a", "team", "1", "board")}}))(t)
	if err := o.client.PushDelegation(t.Context(), "second", must(uptane.Sign(second, outside))(t)); err != nil {
		t.Fatal(err)
	}
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	for _, c := range []struct {
		body   string
		status int
		why    string
	}{
		{`{"target":"never-uploaded"}`, 409, "never uploaded"},
		{`{"target":"elsewhere"}`, 409, "for hardware cluster"},
		{`{"target":"elsewhere","ecus":["e1"]}`, 409, "for hardware cluster"},
		{`{"target":"nothing"}`, 404, "neither the targets nor a delegation"},
		{`{"target":"a","ecus":["e9"]}`, 404, "no ECU"},
		{`{"target":"team-1"}`, 404, "delegation first ends the search"},
		{`{"target":"a","other":1}`, 400, "other"},
	} {
		o.unchanged(c.body, func() {
			req := must(http.NewRequest(http.MethodPut, o.admin.URL+"/api/v1/director/admin/devices/vin-1/assignment", strings.NewReader(c.body)))(t)
			req.SetBasicAuth("build", secret)
			if status, body := o.do(req); status != c.status || !bytes.Contains(body, []byte(c.why)) {
				t.Errorf("%s: %d %s", c.body, status, body)
			}
		})
	}
	// An upload that the targets do not list any more.
	if err := o.push(key, func(c *uptane.TargetsConfig) { c.Targets["a"] = entry(t, "content b", "a", "2", "board") }); err != nil {
		t.Fatal(err)
	}
	o.unchanged("another file", func() { o.assign("vin-1", `{"target":"a"}`, http.StatusConflict) })
	o.clock.add(40 * 24 * time.Hour)
	o.unchanged("ended targets", func() { o.assign("vin-1", `{"target":"a"}`, http.StatusNotFound) })
}

func (o *office) tell(method, device, path, body string) (int, []byte) {
	o.t.Helper()
	req := must(http.NewRequest(method, o.devices.URL+path, strings.NewReader(body)))(o.t)
	req.Header.Set(reposerver.DeviceHeader, device)
	return o.do(req)
}

// TestTold makes the calls of the real client in its order: none ends in 404 but the next roots.
func TestTold(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	v := o.vehicle("vin-1", "e1=board")
	event := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"deviceTime":"2026-01-02T03:04:05Z","eventType":{"id":"EcuInstallationCompleted","version":0},"event":{"ecu":"e1","success":true}}`, id)
	}
	calls := []struct{ method, path, body string }{
		{"PUT", "/core/installed", `[{"name":"bash","version":"5"}]`},
		{"PUT", "/system_info", `{"id":"board"}`},
		{"PUT", "/system_info/network", `{"hostname":"x","local_ipv4":"10.0.0.2","mac":"00:11:22:33:44:55"}`},
		{"POST", "/system_info/config", "[tls]\nserver = \"x\"\n"},
		{"POST", "/events", "[" + event("1") + "," + event("2") + "]"},
		{"GET", "/campaigner/campaigns", ""},
	}
	o.unchanged("before it registered", func() {
		for _, c := range calls[:5] {
			if status, _ := o.tell(c.method, v.id, c.path, c.body); status != http.StatusConflict {
				t.Errorf("%s: %d", c.path, status)
			}
		}
	})
	v.register(http.StatusCreated)
	o.assign("vin-1", `{"target":"a"}`, http.StatusOK)
	for _, c := range calls {
		if status, body := o.tell(c.method, v.id, c.path, c.body); status != http.StatusOK {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	v.report("")
	for _, p := range []string{"/director/targets.json", "/repo/root.json", "/repo/timestamp.json", "/repo/snapshot.json", "/repo/targets.json", "/repo/targets/a"} {
		o.file(v.id, p)
	}
	for _, p := range []string{"/director/2.root.json", "/repo/2.root.json"} {
		if status, _ := o.fetch(v.id, p); status != http.StatusNotFound {
			t.Errorf("%s: %d", p, status)
		}
	}
	// The same again, as after an answer that was lost, and more than are kept.
	o.clock.add(time.Hour)
	for i := range 3 {
		var list []string
		for n := range 60 {
			list = append(list, event(fmt.Sprint(i*50+n)))
		}
		if status, body := o.tell("POST", v.id, "/events", "["+strings.Join(list, ",")+"]"); status != http.StatusOK {
			t.Fatalf("events: %d %s", status, body)
		}
	}
	told := o.adminDo(http.MethodGet, "/api/v1/director/admin/devices/vin-1/told", "", http.StatusOK)
	events := told["events"].([]any)
	if len(events) != reposerver.KeepEvents {
		t.Errorf("%d events are kept", len(events))
	}
	if last := events[len(events)-1].(map[string]any)["event"].(map[string]any)["id"]; last != "159" {
		t.Errorf("the last event is %v", last)
	}
	if n := len(told["told"].(map[string]any)); n != 4 {
		t.Errorf("%d things are told", n)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
	}{
		"no list":        {"POST", "/events", `{}`, 400},
		"no JSON":        {"POST", "/events", `[`, 400},
		"no event":       {"POST", "/events", `[1]`, 400},
		"no id":          {"POST", "/events", `[{"eventType":{"id":"x"}}]`, 400},
		"a long id":      {"POST", "/events", "[" + event(strings.Repeat("x", 65)) + "]", 400},
		"too many":       {"POST", "/events", "[" + strings.Repeat(event("1")+",", 100) + event("2") + "]", 413},
		"too large":      {"POST", "/events", "[" + strings.Repeat(" ", 200<<10) + "]", 413},
		"system info":    {"PUT", "/system_info", `{`, 400},
		"large packages": {"PUT", "/core/installed", `"` + strings.Repeat("x", 600<<10) + `"`, 413},
		"binary config":  {"POST", "/system_info/config", "\xff", 400},
		"treehub":        {"GET", "/treehub/refs/heads/x", "", 501},
	} {
		o.clock.add(time.Minute)
		o.unchanged(name, func() {
			if status, body := o.tell(c.method, v.id, c.path, c.body); status != c.status {
				t.Errorf("%s: %d %s", name, status, body)
			}
		})
	}
	// What is told goes with the device.
	o.adminDo(http.MethodDelete, "/api/v1/director/admin/devices/vin-1", "", http.StatusNoContent)
	if list := must(o.fleet.Events(t.Context(), "vin-1"))(t); len(list) != 0 {
		t.Errorf("%d events of a removed device", len(list))
	}
	if m := must(o.fleet.Manifest(t.Context(), "vin-1"))(t); m != nil {
		t.Error("the manifest of a removed device")
	}
}

// TestTags: who has the file is told so, by every route that devices read metadata from.
func TestTags(t *testing.T) {
	o := folderOffice(t)
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	for _, p := range []string{"/director/root.json", "/director/targets.json", "/director/snapshot.json", "/director/timestamp.json",
		"/repo/1.root.json", "/repo/timestamp.json", "/repo/snapshot.json", "/repo/targets.json"} {
		ask := func(tag string) *http.Response {
			req := must(http.NewRequest(http.MethodGet, o.devices.URL+p, nil))(t)
			req.Header.Set(reposerver.DeviceHeader, v.id)
			if tag != "" {
				req.Header.Set("If-None-Match", tag)
			}
			res := must(http.DefaultClient.Do(req))(t)
			res.Body.Close()
			return res
		}
		tag := ask("").Header.Get("ETag")
		if tag != `"`+digest(o.file(v.id, p))+`"` {
			t.Errorf("%s: tag %s", p, tag)
		}
		for given, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, `"x"`: 200, "*": 304} {
			if res := ask(given); res.StatusCode != want {
				t.Errorf("%s with %s: %d", p, given, res.StatusCode)
			}
		}
	}
}

func TestFilters(t *testing.T) {
	o := folderOffice(t)
	o.publish("board", map[string]string{"a": "content a"})
	for _, id := range []string{"vin-1", "vin-2", "bus-1"} {
		v := o.vehicle(id, "e1=board", "e2=cluster")
		v.register(http.StatusCreated)
		if id == "vin-2" {
			o.assign(id, `{"target":"a"}`, http.StatusOK)
			v.report("")
		}
	}
	for query, want := range map[string]string{
		"": "bus-1 vin-1 vin-2", "?prefix=vin": "vin-1 vin-2", "?target=a": "vin-2", "?hardware=cluster": "bus-1 vin-1 vin-2", "?hardware=x": "",
		"?state=never+heard+of": "bus-1 vin-1", "?silent_since=2001-01-01T00:00:00Z": "bus-1 vin-1", "?silent_since=2101-01-01T00:00:00Z": "bus-1 vin-1 vin-2",
	} {
		req := must(http.NewRequest(http.MethodGet, o.admin.URL+"/api/v1/director/admin/devices"+query, nil))(t)
		req.SetBasicAuth("build", secret)
		status, body := o.do(req)
		var list []reposerver.View
		if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, status, body)
		}
		var ids []string
		for _, v := range list {
			ids = append(ids, v.Device)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s", query, got)
		}
	}
	for _, query := range []string{"?state=x", "?silent_since=yesterday"} {
		req := must(http.NewRequest(http.MethodGet, o.admin.URL+"/api/v1/director/admin/devices"+query, nil))(t)
		req.SetBasicAuth("build", secret)
		if status, _ := o.do(req); status != http.StatusBadRequest {
			t.Errorf("%s: %d", query, status)
		}
	}
}

// TestErrorID: people search the server's log for the id in a client's message.
func TestErrorID(t *testing.T) {
	o := folderOffice(t)
	var log bytes.Buffer
	server := must(reposerver.NewServer(reposerver.ServerConfig{Image: o.image, Director: o.director, Now: o.clock.now, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Storage: reposerver.StorageConfig{Dir: o.dir + "/uploads"}, Access: reposerver.AccessConfig{Open: true}}))(t)
	for _, h := range []http.Handler{server.Admin(), server.Devices()} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/nowhere", nil))
		var doc struct {
			ID string `json:"errorId"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.ID) != 36 || !strings.Contains(log.String(), "id="+doc.ID+"\n") {
			t.Errorf("%s is not in the log: %s (%v)", doc.ID, log.String(), err)
		}
	}
}

// TestFromMemory: what was read once is served without its file, and a change by another process is seen all the same.
func TestFromMemory(t *testing.T) {
	o := folderOffice(t)
	v := o.vehicle("vin-1", "e1=board")
	v.register(http.StatusCreated)
	paths := []string{"/repo/root.json", "/repo/timestamp.json", "/repo/snapshot.json", "/repo/targets.json", "/director/root.json", "/director/targets.json"}
	was := map[string]string{}
	for _, p := range paths {
		was[p] = string(o.file("vin-1", p))
	}
	for _, kind := range []string{"image", "director"} {
		if err := os.Rename(filepath.Join(o.dir, kind, "objects"), filepath.Join(o.dir, kind, "away")); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range paths {
		if string(o.file("vin-1", p)) != was[p] {
			t.Errorf("%s is another", p)
		}
	}
	for _, kind := range []string{"image", "director"} {
		if err := os.Rename(filepath.Join(o.dir, kind, "away"), filepath.Join(o.dir, kind, "objects")); err != nil {
			t.Fatal(err)
		}
	}
	other := must(reposerver.OpenImage(o.config("")))(t)
	o.clock.add(13 * time.Hour)
	if err := other.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if string(o.file("", "/repo/timestamp.json")) != string(must(other.Timestamp())(t)) {
		t.Error("another process's timestamp is not served")
	}
}
