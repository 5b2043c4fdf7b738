package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// fleetUnderFire is a server that is killed again and again, and what its devices need.
type fleetUnderFire struct {
	t     *testing.T
	desk  *desk
	admin atomic.Pointer[string]
	// over is set after the last kill.
	over atomic.Bool
	// answered counts requests, so that each server has done something before it is killed, however slow the machine is.
	answered atomic.Int64
	first    *uptane.Root
	gateway  *http.Client // on the devices' side, as the gateway is
	browser  *http.Client
}

func (f *fleetUnderFire) start() *exec.Cmd {
	cmd, _, _ := f.desk.server("uptane", "serve", "--config", f.desk.path("repo.yaml"))
	cmd.Stderr = nil
	pipe, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.t.Error(err)
		return nil
	}
	lines := bufio.NewScanner(pipe)
	var said strings.Builder
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if m := addresses.FindStringSubmatch(lines.Text()); m != nil {
			f.admin.Store(&m[1])
			go func() { _, _ = io.Copy(io.Discard, pipe) }()
			return cmd
		}
	}
	_ = cmd.Wait()
	f.t.Errorf("the server did not start: %s", said.String())
	return nil
}

// ask repeats a request until it is answered with success: the server is away for a while, or the device has to wait. Any other
// refusal fails the test.
func (f *fleetUnderFire) ask(device, method, path string, body []byte) []byte {
	last, tries := "", 0
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end) && !f.t.Failed(); time.Sleep(20 * time.Millisecond) {
		tries++
		client, url := f.gateway, "http://devices"
		if device == "" {
			client, url = f.browser, *f.admin.Load()
		}
		req, err := http.NewRequest(method, url+path, bytes.NewReader(body))
		if err != nil {
			f.t.Error(err)
			return nil
		}
		if device == "" {
			req.SetBasicAuth("build", buildSecret)
		} else {
			req.Header.Set(reposerver.DeviceHeader, device)
		}
		res, err := client.Do(req)
		if err != nil {
			last = err.Error()
			continue
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		switch {
		case err != nil || res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
			last = fmt.Sprint(err, res.StatusCode, string(answer))
			continue
		case res.StatusCode >= 400:
			f.t.Errorf("%s %s %s: %d %s", device, method, path, res.StatusCode, answer)
			return nil
		}
		f.answered.Add(1)
		return answer
	}
	f.t.Errorf("%s %s %s: no answer for ten minutes, after %d tries; the last: %s", device, method, path, tries, last)
	return nil
}

// car is one device, which verifies everything against what it has seen, and remembers what it was told to have arrived.
type car struct {
	*fleetUnderFire
	id     string
	key    ed25519.PrivateKey
	fails  bool // at every installation
	seen   *uptane.VerifiedDirector
	has    string
	events int
	want   string // its state, after the last report that arrived
}

func (c *car) signed(doc string) []byte {
	canonical, err := uptane.Canonical([]byte(doc))
	if err != nil {
		c.t.Error(err)
	}
	sig, _ := c.key.Sign(nil, canonical, crypto.Hash(0))
	out, _ := json.Marshal(map[string]any{"signed": json.RawMessage(canonical), "signatures": []map[string]any{{"keyid": "x", "method": "ed25519", "sig": sig}}})
	return out
}

// update is one round: something is assigned, and the device polls, downloads, installs or fails, and reports.
func (c *car) update(round int) {
	name := fmt.Sprint("image-", round%2)
	path := "/api/v1/director/admin/devices/" + c.id
	c.ask("", http.MethodPut, path+"/assignment", fmt.Appendf(nil, `{"target":%q}`, name))
	data := c.ask(c.id, http.MethodGet, "/director/targets.json", nil)
	if data == nil {
		return
	}
	seen, err := uptane.VerifyDirector(c.first, uptane.DirectorFiles{Targets: data}, c.seen, time.Now())
	if err != nil {
		c.t.Errorf("%s, round %d: %v", c.id, round, err)
		return
	}
	c.seen = seen
	doc, err := uptane.ParseTargets(uptane.Director, data)
	if err != nil || len(doc.Names()) != 1 || doc.Names()[0] != name {
		c.t.Errorf("%s: told to install %v, not %s (%v)", c.id, doc.Names(), name, err)
		return
	}
	content := c.ask(c.id, http.MethodGet, "/repo/targets/"+name, nil)
	var custom struct {
		Correlation string `json:"correlationId"`
	}
	_ = json.Unmarshal(doc.Config().Custom, &custom)
	result := `{"success":true,"code":"OK","description":""}`
	c.want = reposerver.StateUpToDate
	if c.fails {
		result = `{"success":false,"code":"INSTALL_FAILED","description":"bad block"}`
		c.want = reposerver.StateFailed
	} else {
		c.has = string(content)
	}
	event := fmt.Sprintf(`[{"id":"%s-%d","deviceTime":"2026-01-02T03:04:05Z","eventType":{"id":"EcuInstallationCompleted","version":0},"event":{"ecu":"e","success":%v}}]`, c.id, round, !c.fails)
	c.ask(c.id, http.MethodPost, "/events", []byte(event))
	c.events++
	ecu := fmt.Sprintf(`{"ecu_serial":"e","installed_image":{"fileinfo":{"hashes":{"sha256":"%x"},"length":%d},"filepath":%q}}`, sha256.Sum256([]byte(c.has)), len(c.has), name)
	c.ask(c.id, http.MethodPut, "/director/manifest", c.signed(fmt.Sprintf(`{"ecu_version_manifests":{"e":%s},"primary_ecu_serial":"e","installation_report":{"report":{"correlation_id":%q,"result":%s,"items":[{"ecu":"e","result":%s}]}}}`,
		c.signed(ecu), custom.Correlation, result, result)))
	var view reposerver.View
	if err := json.Unmarshal(c.ask("", http.MethodGet, path, nil), &view); err != nil || view.State != c.want {
		c.t.Errorf("%s, round %d: shown as %q, not %q (%v)", c.id, round, view.State, c.want, err)
	}
}

func (c *car) drive(wg *sync.WaitGroup) {
	defer wg.Done()
	c.ask(c.id, http.MethodPost, "/director/ecus", fmt.Appendf(nil, `{"primary_ecu_serial":"e","ecus":[{"ecu_serial":"e","hardware_identifier":"board","clientKey":{"keytype":"ED25519","keyval":{"public":"%X"}}}]}`,
		[]byte(c.key.Public().(ed25519.PublicKey))))
	for round := 0; (round == 0 || !c.over.Load()) && !c.t.Failed(); round++ {
		c.update(round)
	}
}

// TestKilledFleet: devices update all at once, 5 % of them failing, and the server is killed meanwhile, again and again. No
// device is shown a version that goes back, no report is lost, and the failed are shown as failed. HANAPER_SOAK multiplies.
func TestKilledFleet(t *testing.T) {
	cars, kills := 20, 3
	if n, err := strconv.Atoi(os.Getenv("HANAPER_SOAK")); err == nil && n > 1 {
		cars, kills = 20*n, 2*n
	}
	d := vehicles(t)
	d.config(`uptane:
  keys: {algorithm: Ed25519}
  admin: {listen: "127.0.0.1:0", clients: [{id: build, secret: build.secret, may: [publish, hand-over, assign, remove, look]}]}
  devices: {listen: "unix:devices.sock"}
`)
	d.ok("uptane", "init")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.path("devices.sock"))
	}
	f := &fleetUnderFire{t: t, desk: d, browser: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 50, MaxConnsPerHost: 50}}, gateway: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 50, MaxConnsPerHost: 100}}}
	server := f.start()
	if server == nil {
		t.FailNow()
	}
	defer func() {
		if server != nil {
			_ = server.Process.Kill()
			_ = server.Wait()
		}
	}()
	f.publish(map[string]string{"image-0": "content 0", "image-1": "content 1"})
	root, err := uptane.ParseRoot(f.ask("any", http.MethodGet, "/director/1.root.json", nil))
	if err != nil {
		t.Fatal(err)
	}
	f.first = root
	var wg sync.WaitGroup
	var fleet []*car
	for i := range cars {
		_, key, _ := ed25519.GenerateKey(nil)
		c := &car{fleetUnderFire: f, id: fmt.Sprintf("vin-%03d", i), key: key, fails: i%20 == 7, has: "factory"}
		fleet = append(fleet, c)
		wg.Add(1)
		go c.drive(&wg)
	}
	for range kills {
		for before := f.answered.Load(); f.answered.Load() < before+int64(2*cars) && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		_ = server.Process.Kill()
		_ = server.Wait()
		if server = f.start(); server == nil {
			break
		}
	}
	f.over.Store(true)
	wg.Wait()
	if t.Failed() {
		return
	}
	// What another process says of the fleet afterwards, from the disk.
	_ = server.Process.Kill()
	_ = server.Wait()
	var list []reposerver.View
	if err := json.Unmarshal([]byte(d.ok("director", "list", "--json")), &list); err != nil || len(list) != cars {
		t.Fatalf("%d devices of %d (%v)", len(list), cars, err)
	}
	failed, rounds := 0, 0
	for i, v := range list {
		c := fleet[i]
		if v.State != c.want || v.Device != c.id || c.fails && v.Outcomes["e"].Code != "INSTALL_FAILED" {
			t.Errorf("%s: %s, %+v; it should be %s", v.Device, v.State, v.Outcomes, c.want)
		}
		if c.fails {
			failed++
		}
		rounds += c.events
	}
	var shown struct {
		Events []any `json:"events"`
	}
	for _, c := range []*car{fleet[0], fleet[7]} {
		if err := json.Unmarshal([]byte(d.ok("director", "show", "--json", c.id)), &shown); err != nil || len(shown.Events) != min(c.events, reposerver.KeepEvents) {
			t.Errorf("%s: %d events of %d (%v)", c.id, len(shown.Events), c.events, err)
		}
	}
	if out := d.ok("director", "list", "--state", "failed"); strings.Count(out, "INSTALL_FAILED") != failed {
		t.Errorf("the failed: %s", out)
	}
	t.Logf("%d updates of %d devices, %d kills", rounds, cars, kills)
}

// publish uploads images and lists them, with the targets key that is still the server's.
func (f *fleetUnderFire) publish(contents map[string]string) {
	f.t.Helper()
	ctx := f.t.Context()
	client, err := reposerver.NewClient(reposerver.ClientConfig{URL: *f.admin.Load(), Auth: reposerver.Basic{User: "build", Password: buildSecret}})
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := client.Root(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	root, err := uptane.ParseRoot(data)
	if err != nil {
		f.t.Fatal(err)
	}
	_, key, _ := ed25519.GenerateKey(nil)
	pub, err := uptane.NewKey(key.Public())
	if err != nil {
		f.t.Fatal(err)
	}
	next, err := root.Next(time.Now().Add(24*time.Hour).Truncate(time.Second), func(c *uptane.RootConfig) error {
		c.Roles[uptane.RoleTargets] = uptane.RoleKeys{Keys: []uptane.Key{pub}, Threshold: 1}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := client.CosignRoot(ctx, next.Bytes()); err != nil {
		f.t.Fatal(err)
	}
	old, sum, err := client.Targets(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	targets, err := uptane.ParseTargets(uptane.Image, old)
	if err != nil {
		f.t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	more, err := targets.Next(at.Add(24*time.Hour), func(c *uptane.TargetsConfig) error {
		c.Targets = map[string]uptane.Target{}
		for name, content := range contents {
			custom, err := uptane.ImageCustom{Name: name, Version: "1", HardwareIDs: []string{"board"}, Format: uptane.Binary, CreatedAt: at, UpdatedAt: at}.JSON()
			if err != nil {
				return err
			}
			c.Targets[name] = uptane.Target{Length: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Custom: custom}
			if err := client.Upload(ctx, reposerver.Upload{Name: name, Source: strings.NewReader(content), Size: int64(len(content))}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	signed, err := uptane.Sign(more, key)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := client.PushTargets(ctx, signed, sum); err != nil {
		f.t.Fatal(err)
	}
}
