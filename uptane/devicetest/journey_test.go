package devicetest_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/devicetest"
)

// tokenKeys are an RSA and an Ed25519 key in a token.
func tokenKeys(t *testing.T) (rsa, ed hsm.Key) {
	t.Helper()
	board := must(t, first(softhsm.ForTest(t).Create("ecus")), nil)
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: first(hsm.ParseURI(board.URI)), PIN: hsm.PINFile(board.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	for _, k := range []struct {
		to  *hsm.Key
		alg hsm.Algorithm
	}{{&rsa, hsm.RSA2048}, {&ed, hsm.Ed25519}} {
		if *k.to, err = token.Generate(t.Context(), hsm.GenerateSpec{Label: string(k.alg), Algorithm: k.alg}); err != nil {
			t.Fatal(err)
		}
	}
	return rsa, ed
}

// TestUpdate: a device of four ECUs, with each kind of key, registers, is updated, and goes on after a restart. It calls what the
// client in the field calls, in its order, and none of that is answered with 404 but the next root.
func TestUpdate(t *testing.T) {
	s := newStand(t)
	tokenRSA, tokenEd := tokenKeys(t)
	got := map[string]string{}
	ecu := func(serial, hardware string, e devicetest.ECU) devicetest.ECU {
		e.Serial, e.HardwareID = serial, hardware
		e.Install = func(name string, image []byte) error { got[serial] = name + " " + string(image); return nil }
		return e
	}
	c := s.device("car", ecu("p", "main", devicetest.ECU{Key: tokenRSA}), ecu("s1", "side", devicetest.ECU{Key: tokenEd}),
		ecu("s2", "side", devicetest.ECU{Key: rsaKey(t)}), ecu("s3", "tail", devicetest.ECU{Key: edKey(t)}))
	missing := map[string]bool{}
	c.HTTP.Transport = between{c.HTTP.Transport, nil}.note(missing)
	d := s.on(c)
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	s.publish("main-1", []byte("new main"), "main")
	s.publish("side-1", []byte("new side"), "side")
	s.assign("car", "main-1", "p")
	s.assign("car", "side-1", "s1", "s2")
	d.Calls = nil
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"PUT /director/manifest",
		"GET /director/2.root.json", "GET /director/timestamp.json", "GET /director/snapshot.json", "GET /director/targets.json",
		"GET /repo/2.root.json", "GET /repo/timestamp.json", "GET /repo/snapshot.json", "GET /repo/targets.json",
		"GET /repo/targets/main-1", "GET /repo/targets/side-1",
		"PUT /director/manifest", "POST /events",
	}
	if !slices.Equal(d.Calls, want) {
		t.Errorf("the calls were\n%s", strings.Join(d.Calls, "\n"))
	}
	if got["p"] != "main-1 new main" || got["s1"] != "side-1 new side" || got["s2"] != "side-1 new side" || got["s3"] != "" {
		t.Errorf("installed: %v", got)
	}
	for serial, want := range map[string]string{"p": "installed", "s1": "installed", "s2": "installed", "s3": ""} {
		if o := s.outcome("car", serial); o != want {
			t.Errorf("outcome of %s: %q", serial, o)
		}
		if r := s.record("car").Reported[serial].Target; r != d.Installed(serial).Name {
			t.Errorf("%s reported %q, has %q", serial, r, d.Installed(serial).Name)
		}
	}
	told := must(t, first(s.director.Told(t.Context(), "car")), nil)
	if len(told.Told) != 4 || len(told.Events) != 12 {
		t.Errorf("told %d things and %d events", len(told.Told), len(told.Events))
	}

	// Switched off and on: nothing is installed or registered again.
	clear(got)
	d = s.on(c)
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	if len(got) > 0 || slices.Contains(d.Calls, "POST /director/ecus") || slices.ContainsFunc(d.Calls, func(s string) bool { return strings.HasPrefix(s, "GET /repo/") }) {
		t.Errorf("after a restart: %v, calls %v", got, d.Calls)
	}
	for p := range missing {
		if !strings.HasSuffix(p, ".root.json") {
			t.Errorf("%s is answered with 404", p)
		}
	}
}

// note writes down what is answered with 404.
func (b between) note(missing map[string]bool) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		res, err := b.next.RoundTrip(r)
		if err == nil && res.StatusCode == http.StatusNotFound {
			missing[r.URL.Path] = true
		}
		return res, err
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFailedInstallation: an ECU that fails is shown as failed with its code, is not tried without end, and is tried again
// when an operator says so.
func TestFailedInstallation(t *testing.T) {
	s := newStand(t)
	tries, broken := 0, true
	c := s.device("car", devicetest.ECU{Serial: "p", HardwareID: "main", Key: edKey(t)}, devicetest.ECU{Serial: "s", HardwareID: "main", Key: rsaKey(t),
		Install: func(string, []byte) error {
			tries++
			if broken {
				return errors.New("the flash is worn out")
			}
			return nil
		}})
	c.DirectorSnapshot = false // as the client in the field
	d := s.on(c)
	s.publish("main-1", []byte("new"), "main")
	s.assign("car", "main-1")
	d.Calls = nil
	for i := range 3 {
		if err := s.cycle(d); err != nil {
			t.Fatal(err)
		}
		if want := "PUT /director/manifest, GET /director/2.root.json, GET /director/targets.json, GET /repo/2.root.json, GET /repo/timestamp.json, GET /repo/snapshot.json, GET /repo/targets.json, " +
			"GET /repo/targets/main-1, PUT /director/manifest, POST /events"; i == 0 && strings.Join(d.Calls, ", ") != want {
			t.Errorf("the calls were %v", d.Calls)
		}
		d = s.on(c)
	}
	if tries != 1 {
		t.Errorf("%d tries", tries)
	}
	if p, e := s.outcome("car", "p"), s.outcome("car", "s"); p != "installed" || e != "failed INSTALL_FAILED" {
		t.Errorf("outcomes: %q, %q", p, e)
	}
	if o := s.record("car").Outcomes["s"]; o.Description != "the flash is worn out" {
		t.Errorf("%+v", o)
	}
	broken = false
	s.assign("car", "main-1", "s")
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	if tries != 2 || s.outcome("car", "s") != "installed" {
		t.Errorf("%d tries, then %q", tries, s.outcome("car", "s"))
	}
}

// TestAttacksOnTheWay: whatever somebody between server and device changes, nothing is installed, no version goes back, and
// what the device found out reaches the operator. When he is gone, the update goes on.
func TestAttacksOnTheWay(t *testing.T) {
	s := newStand(t)
	ecu := devicetest.ECU{Serial: "p", HardwareID: "main", Key: edKey(t)}
	c := s.device("car", ecu)
	d := s.on(c)
	s.publish("main-1", []byte("first"), "main")
	s.assign("car", "main-1")
	// What was said before is kept by the attacker, who plays it again.
	before := map[string][]byte{}
	way := c.HTTP.Transport
	c.HTTP.Transport = between{way, func(path string, body []byte) (int, []byte) { before[path] = body; return 0, body }}
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	s.publish("main-2", []byte("second"), "main")
	s.assign("car", "main-2")
	_, versions, _, imageVersions := d.Versions()

	swap := func(path, old, new string) func(string, []byte) (int, []byte) {
		return func(p string, body []byte) (int, []byte) {
			if p == path {
				return 0, bytes.Replace(body, []byte(old), []byte(new), 1)
			}
			return 0, body
		}
	}
	replay := func(path string) func(string, []byte) (int, []byte) {
		return func(p string, body []byte) (int, []byte) {
			if p == path {
				return 0, before[path]
			}
			return 0, body
		}
	}
	for name, attack := range map[string]struct {
		answer func(string, []byte) (int, []byte)
		want   error
	}{
		"director targets played again":   {replay("/director/targets.json"), devicetest.ErrRollback},
		"director timestamp played again": {replay("/director/timestamp.json"), devicetest.ErrRollback},
		"director snapshot played again":  {replay("/director/snapshot.json"), devicetest.ErrRollback},
		"image timestamp played again":    {replay("/repo/timestamp.json"), devicetest.ErrRollback},
		"image snapshot played again":     {replay("/repo/snapshot.json"), devicetest.ErrRollback},
		"image targets played again":      {replay("/repo/targets.json"), devicetest.ErrRollback},
		"another length in the director":  {swap("/director/targets.json", `"length":6`, `"length":7`), devicetest.ErrSignature},
		"another length in the image":     {swap("/repo/targets.json", `"length":6`, `"length":7`), devicetest.ErrSignature},
		"another version in a timestamp":  {swap("/repo/timestamp.json", `"version":`, `"version":9`), devicetest.ErrSignature},
		"the image role's document": {func(p string, b []byte) (int, []byte) {
			return 0, pick(p == "/director/targets.json", before["/repo/targets.json"], b)
		}, devicetest.ErrSignature},
		"no JSON": {func(p string, b []byte) (int, []byte) { return 0, pick(p == "/repo/snapshot.json", []byte("{"), b) }, devicetest.ErrMalformed},
		"more than devices read": {func(p string, b []byte) (int, []byte) {
			return 0, pick(p == "/director/targets.json", bytes.Repeat([]byte(" "), 70<<10), b)
		}, devicetest.ErrMalformed},
		"a root by others": {func(p string, b []byte) (int, []byte) {
			if p == "/director/2.root.json" {
				return 200, bytes.Replace(c.DirectorRoot, []byte(`"version":1`), []byte(`"version":2`), 1)
			}
			return 0, b
		}, devicetest.ErrSignature},
		"the same root again": {func(p string, b []byte) (int, []byte) {
			if p == "/director/2.root.json" {
				return 200, c.DirectorRoot
			}
			return 0, b
		}, devicetest.ErrRollback},
	} {
		c.HTTP.Transport = between{way, attack.answer}
		d = must(t, first(devicetest.New(c)), nil)
		err := s.cycle(d)
		// What is played again may be as old as what the device has: then it is not what the newer file above it lists.
		again := strings.Contains(name, "played again") && errors.Is(err, devicetest.ErrMismatch)
		if !errors.Is(err, attack.want) && !again {
			t.Errorf("%s: %v, want %v", name, err, attack.want)
		}
		if has := d.Installed("p").Name; has != "main-1" {
			t.Errorf("%s: %s is installed", name, has)
		}
		if _, v, _, iv := d.Versions(); v < versions || iv < imageVersions {
			t.Errorf("%s: versions went back to %d and %d", name, v, iv)
		}
		// The next manifest tells it.
		c.HTTP.Transport = way
		_ = s.cycle(must(t, first(devicetest.New(withoutInstall(c))), nil))
		if told := s.record("car").Attacks["p"]; err == nil || !strings.Contains(err.Error(), told) || told == "" {
			t.Errorf("%s: the operator sees %q", name, told)
		}
	}

	// The image itself: three tries, and then it is reported as failed.
	fetched := 0
	c.HTTP.Transport = between{way, func(p string, body []byte) (int, []byte) {
		if p != "/repo/targets/main-2" {
			return 0, body
		}
		fetched++
		return 0, []byte("evil!!")
	}}
	d = must(t, first(devicetest.New(c)), nil)
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	if fetched != 3 || d.Installed("p").Name != "main-1" || s.outcome("car", "p") != "failed DOWNLOAD_FAILED" {
		t.Errorf("%d tries, has %s, outcome %q", fetched, d.Installed("p").Name, s.outcome("car", "p"))
	}

	// Assigned anew, twice cut short, the third try succeeds.
	s.assign("car", "main-2")
	fetched = 0
	c.HTTP.Transport = between{way, func(p string, body []byte) (int, []byte) {
		if fetched++; p == "/repo/targets/main-2" && fetched < 3 {
			return 0, body[:2]
		}
		return 0, body
	}}
	if err := s.cycle(d); err != nil || d.Installed("p").Name != "main-2" {
		t.Errorf("%v, has %s", err, d.Installed("p").Name)
	}

	// Everything is held back until it has ended.
	frozen := map[string][]byte{}
	c.HTTP.Transport = between{way, func(p string, body []byte) (int, []byte) { frozen[p] = body; return 0, body }}
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	s.wait(400 * 24 * time.Hour)
	c.HTTP.Transport = between{way, func(p string, body []byte) (int, []byte) {
		if b, ok := frozen[p]; ok && path.Ext(p) == ".json" {
			return 0, b
		}
		return 0, body
	}}
	if err := s.cycle(d); !errors.Is(err, devicetest.ErrExpired) {
		t.Errorf("held back: %v", err)
	}
}

func pick(other bool, a, b []byte) []byte {
	if other {
		return a
	}
	return b
}

// withoutInstall is the device while it can say what it has, and reach nothing else.
func withoutInstall(c devicetest.Config) devicetest.Config {
	next := c.HTTP.Transport
	c.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet {
			return nil, errors.New("no network")
		}
		return next.RoundTrip(r)
	})}
	return c
}

// TestRootRotation: both roots go from version 1 to 4. A device that slept through all of it follows, one by one, and so
// does one that saw each; what the old keys sign counts no more.
func TestRootRotation(t *testing.T) {
	s := newStand(t)
	asleep := s.device("asleep", devicetest.ECU{Serial: "a", HardwareID: "main", Key: edKey(t)})
	awake := s.device("awake", devicetest.ECU{Serial: "b", HardwareID: "main", Key: rsaKey(t)})
	d, a := s.on(awake), s.on(asleep)
	for i := range 3 {
		name := fmt.Sprintf("main-%d", i)
		s.publish(name, []byte(name), "main")
		s.rotate(uptane.Director)
		s.rotate(uptane.Image)
		s.assign("awake", name)
		s.assign("asleep", name)
		if err := s.cycle(d); err != nil {
			t.Fatal(err)
		}
		if root, _, image, _ := d.Versions(); int(root) != i+2 || int(image) != i+2 || d.Installed("b").Name != name {
			t.Errorf("after rotation %d: roots %d and %d, has %s", i+1, root, image, d.Installed("b").Name)
		}
	}
	a.Calls = nil
	if err := s.cycle(a); err != nil {
		t.Fatal(err)
	}
	if root, _, image, _ := a.Versions(); root != 4 || image != 4 || a.Installed("a").Name != "main-2" {
		t.Errorf("after sleep: roots %d and %d, has %s", root, image, a.Installed("a").Name)
	}
	for _, want := range []string{"GET /director/2.root.json", "GET /director/3.root.json", "GET /director/4.root.json", "GET /director/5.root.json", "GET /repo/4.root.json"} {
		if !slices.Contains(a.Calls, want) {
			t.Errorf("no %s in %v", want, a.Calls)
		}
	}
	// The second root is left out: the third does not follow the first.
	lost := s.device("lost", devicetest.ECU{Serial: "c", HardwareID: "main", Key: edKey(t)})
	lost.DirectorRoot = asleep.DirectorRoot
	way := lost.HTTP.Transport
	third := must(t, first(s.dirc.RootVersion(t.Context(), 3)), nil)
	lost.HTTP.Transport = between{way, func(p string, body []byte) (int, []byte) { return 0, pick(p == "/director/2.root.json", third, body) }}
	if err := s.cycle(s.on(lost)); !errors.Is(err, devicetest.ErrRollback) {
		t.Errorf("a root left out: %v", err)
	}
}

// TestDelegation: what a supplier signs is installed, as long as the targets delegate to it.
func TestDelegation(t *testing.T) {
	s := newStand(t)
	supplier := edKey(t)
	c := s.device("car", devicetest.ECU{Serial: "p", HardwareID: "main", Key: edKey(t)})
	d := s.on(c)
	content := []byte("an app of the supplier")
	s.upload("supplier-app", content)
	s.change(func(c *uptane.TargetsConfig) {
		c.Delegations = []uptane.Delegation{{Name: "supplier", Paths: []string{"supplier-*"}, Terminating: true,
			RoleKeys: uptane.RoleKeys{Keys: []uptane.Key{first(uptane.NewKey(supplier.Public()))}, Threshold: 1}}}
	})
	doc := first(uptane.NewTargets(uptane.TargetsConfig{Version: 1, Expires: s.now().UTC().Truncate(time.Second).AddDate(0, 1, 0),
		Targets: map[string]uptane.Target{"supplier-app": s.entry("supplier-app", content, "main")}}))
	if err := s.client.PushDelegation(t.Context(), "supplier", first(uptane.Sign(doc, supplier))); err != nil {
		t.Fatal(err)
	}
	s.assign("car", "supplier-app")
	// Somebody else's signature does not do.
	way := c.HTTP.Transport
	evil := first(uptane.Sign(doc, edKey(t)))
	c.HTTP.Transport = between{way, func(p string, body []byte) (int, []byte) {
		return 0, pick(p == "/repo/delegations/supplier.json", evil, body)
	}}
	if err := s.cycle(d); !errors.Is(err, devicetest.ErrSignature) || d.Installed("p").Name != "factory" {
		t.Errorf("signed by somebody else: %v, has %s", err, d.Installed("p").Name)
	}
	c.HTTP.Transport = way
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	if d.Installed("p").Name != "supplier-app" || s.outcome("car", "p") != "installed" {
		t.Errorf("has %s, outcome %q", d.Installed("p").Name, s.outcome("car", "p"))
	}
	if !slices.Contains(d.Calls, "GET /repo/delegations/supplier.json") {
		t.Errorf("calls: %v", d.Calls)
	}
}

// TestPowerCut: the device loses its power wherever it can. Switched on again it carries on: every ECU has the image in the
// end, no version goes back, and the operator sees it as installed. A download goes on where it ended.
func TestPowerCut(t *testing.T) {
	s := newStand(t)
	content := bytes.Repeat([]byte("firmware "), 4<<10)
	s.publish("main-1", content, "main")
	errCut := errors.New("no power")
	cuts, resumed := 0, false
	for at := 1; ; at++ {
		name := fmt.Sprintf("car-%d", at)
		c := s.device(name, devicetest.ECU{Serial: name + "p", HardwareID: "main", Key: edKey(t)}, devicetest.ECU{Serial: name + "s", HardwareID: "main", Key: edKey(t)})
		n, where, armed := 0, "", true
		c.At = func(point string) error {
			if n++; n == at && armed {
				where = point
				return errCut
			}
			return nil
		}
		way := c.HTTP.Transport
		c.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			resumed = resumed || r.Header.Get("Range") != ""
			return way.RoundTrip(r)
		})
		d := must(t, first(devicetest.New(c)), nil)
		if err := d.Start(t.Context()); err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		var seen int64
		if where == "" {
			s.assign(name, "main-1")
			if err := s.cycle(d); err != nil && !errors.Is(err, errCut) {
				t.Fatalf("cut %d: %v", at, err)
			}
			_, seen, _, _ = d.Versions()
		}
		whole := where == ""
		armed = false
		for round := range 3 {
			d = must(t, first(devicetest.New(c)), nil)
			if err := d.Start(t.Context()); err != nil {
				t.Fatalf("cut at %q, switched on again: %v", where, err)
			}
			if round == 0 && len(s.record(name).Assigned) == 0 && s.outcome(name, name+"p") == "" {
				s.assign(name, "main-1")
			}
			if err := s.cycle(d); err != nil {
				t.Fatalf("cut at %q, then: %v", where, err)
			}
			_, now, _, _ := d.Versions()
			if now < seen {
				t.Errorf("cut at %q: targets went from version %d to %d", where, seen, now)
			}
			seen = now
		}
		for _, e := range []string{name + "p", name + "s"} {
			if d.Installed(e).Name != "main-1" || s.outcome(name, e) != "installed" {
				t.Errorf("cut at %q: %s has %s, outcome %q", where, e, d.Installed(e).Name, s.outcome(name, e))
			}
		}
		if whole {
			break
		}
		cuts++
	}
	if cuts < 12 || !resumed {
		t.Errorf("%d cuts, a download resumed: %v", cuts, resumed)
	}
}

// TestGateway: a gateway that starts anew loses no device; a device whose certificate is revoked is out at once, on a
// connection that it has, and the others are not.
func TestGateway(t *testing.T) {
	s := newStand(t)
	good := s.device("good", devicetest.ECU{Serial: "g", HardwareID: "main", Key: edKey(t)})
	stolen := s.fleet.Device(t, "stolen")
	bad := s.device("unused", devicetest.ECU{Serial: "b", HardwareID: "main", Key: edKey(t)})
	bad.HTTP = s.httpFor(stolen)
	g, b := s.on(good), s.on(bad)
	s.publish("main-1", []byte("new"), "main")
	s.assign("good", "main-1")
	s.assign("stolen", "main-1")
	s.restartGateway()
	if err := s.cycle(g); err != nil {
		// The connection that it had may end just as it is used. The device comes again.
		if err := s.cycle(g); err != nil {
			t.Fatal(err)
		}
	}
	if s.outcome("good", "g") != "installed" {
		t.Errorf("after a restart of the gateway: %q", s.outcome("good", "g"))
	}
	// It ends while the device downloads, and is back after a while: nothing is lost, and nothing is installed twice.
	installs, stopped := 0, make(chan struct{})
	good.Primary.Install = func(string, []byte) error { installs++; return nil }
	good.At = func(point string) error {
		if point == "downloading" && stopped != nil {
			ended := stopped
			stopped = nil
			go func() { defer close(ended); s.stop() }()
		}
		return nil
	}
	ended := stopped
	s.publish("main-2", bytes.Repeat([]byte("new "), 64<<10), "main")
	s.assign("good", "main-2")
	g = must(t, first(devicetest.New(good)), nil)
	away := s.cycle(g)
	<-ended
	s.startGateway()
	good.At = nil
	for range 2 {
		g = s.on(good)
		if err := s.cycle(g); err != nil {
			t.Fatal(err)
		}
	}
	if installs != 1 || s.outcome("good", "g") != "installed" || g.Installed("g").Name != "main-2" {
		t.Errorf("the gateway went away (%v): %d installations, outcome %q, has %s", away, installs, s.outcome("good", "g"), g.Installed("g").Name)
	}

	// In mid-session: after it has seen what to do, and before it downloads.
	way := bad.HTTP.Transport
	bad.HTTP.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/repo/targets/main-1" && s.view == s.fleet.View {
			s.view = s.fleet.View.Revoke(s.fleet.Factory.Cert, stolen.Cert.SerialNumber)
			if err := s.gateway.SetTrust(s.view); err != nil {
				return nil, err
			}
		}
		return way.RoundTrip(r)
	})
	if err := s.cycle(b); err == nil {
		t.Error("the revoked device ended its round")
	}
	if b.Installed("b").Name != "factory" || s.outcome("stolen", "b") != "" {
		t.Errorf("the revoked device has %s, outcome %q", b.Installed("b").Name, s.outcome("stolen", "b"))
	}
	s.restartGateway()
	if err := s.cycle(b); err == nil {
		t.Error("the revoked device came back")
	}
	if err := s.cycle(g); err != nil {
		t.Errorf("the other device: %v", err)
	}
}

// TestReplacedECU: a new ECU in an old device is refused until an operator allows it, once; versions go on where they were.
func TestReplacedECU(t *testing.T) {
	s := newStand(t)
	primary := devicetest.ECU{Serial: "p", HardwareID: "main", Key: edKey(t)}
	c := s.device("car", primary, devicetest.ECU{Serial: "old", HardwareID: "side", Key: edKey(t)})
	d := s.on(c)
	s.publish("side-1", []byte("side"), "side")
	s.assign("car", "side-1")
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	_, before, _, _ := d.Versions()
	c.Secondaries = []devicetest.ECU{{Serial: "new", HardwareID: "side", Key: rsaKey(t)}}
	d = must(t, first(devicetest.New(c)), nil)
	if err := d.Start(t.Context()); !errors.Is(err, devicetest.ErrAnswer) || !strings.Contains(err.Error(), "409") {
		t.Errorf("a new ECU: %v", err)
	}
	if r := s.record("car"); r.ECUs["new"].HardwareID != "" {
		t.Errorf("%+v", r.ECUs)
	}
	s.wait(time.Minute)
	if _, err := s.director.AllowReplacement(t.Context(), "car", time.Hour); err != nil {
		t.Fatal(err)
	}
	d = s.on(c)
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	s.assign("car", "side-1", "new")
	if err := s.cycle(d); err != nil {
		t.Fatal(err)
	}
	if _, after, _, _ := d.Versions(); after <= before || d.Installed("new").Name != "side-1" || s.outcome("car", "new") != "installed" {
		t.Errorf("version %d after %d, has %s, outcome %q", after, before, d.Installed("new").Name, s.outcome("car", "new"))
	}
	// Once: another one is refused again.
	c.Secondaries = nil
	d = must(t, first(devicetest.New(c)), nil)
	if err := d.Start(t.Context()); !errors.Is(err, devicetest.ErrAnswer) {
		t.Errorf("a second replacement: %v", err)
	}
}
