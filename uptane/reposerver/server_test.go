package reposerver_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/fleet"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// tokenKeys is a SoftHSM token as a KeyStore, as the program wires it.
type tokenKeys struct{ token hsm.Token }

func (k tokenKeys) Generate(ctx context.Context, label string) (crypto.Signer, error) {
	return k.token.Generate(ctx, hsm.GenerateSpec{Label: label, Algorithm: hsm.Ed25519})
}

func (k tokenKeys) Labelled(ctx context.Context, label string) (crypto.Signer, error) {
	return k.one(ctx, func(key hsm.Key) bool { return key.Attributes().Label == label })
}

func (k tokenKeys) Find(ctx context.Context, keyid string) (crypto.Signer, error) {
	return k.one(ctx, func(key hsm.Key) bool {
		pub, err := uptane.NewKey(key.Public())
		return err == nil && pub.ID() == keyid
	})
}

func (k tokenKeys) one(ctx context.Context, fits func(hsm.Key) bool) (hsm.Key, error) {
	list, err := k.token.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range list {
		if fits(key) {
			return key, nil
		}
	}
	return nil, reposerver.ErrNoKey
}

func (k tokenKeys) Destroy(ctx context.Context, keyid string) error {
	key, err := k.Find(ctx, keyid)
	if err != nil {
		return err
	}
	return k.token.Destroy(ctx, hsm.Query{ID: key.(hsm.Key).Attributes().ID})
}

var boards struct {
	sync.Mutex
	n int
}

func newToken(t *testing.T) tokenKeys {
	t.Helper()
	store := softhsm.ForTest(t)
	boards.Lock()
	boards.n++
	board, err := store.Create(fmt.Sprintf("uptane-%d", boards.n))
	boards.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	uri, err := hsm.ParseURI(board.URI)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri, PIN: hsm.PINFile(board.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return tokenKeys{token}
}

// clock is set by tests.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// office is a server with both repositories, and what a release engineer has.
type office struct {
	t        *testing.T
	dir      string
	keys     reposerver.KeyStore
	clock    *clock
	image    *reposerver.Image
	director *reposerver.Director
	fleet    *fleet.SQLite
	admin    *httptest.Server
	devices  *httptest.Server
	client   *reposerver.Client // of the Image repository
	dirc     *reposerver.Client // of the Director
	mark     *reposerver.Mark   // nil in most tests
}

const secret = "a secret of the build machine"

func newOffice(t *testing.T, keys reposerver.KeyStore) *office {
	t.Helper()
	o := &office{t: t, dir: t.TempDir(), keys: keys, clock: &clock{at: time.Now().UTC().Truncate(time.Second)}}
	for _, kind := range []uptane.Repository{uptane.Image, uptane.Director} {
		if err := reposerver.Create(t.Context(), o.config(kind), reposerver.Start{}); err != nil {
			t.Fatal(err)
		}
	}
	o.open()
	return o
}

func (o *office) config(kind uptane.Repository) reposerver.Config {
	return reposerver.Config{Dir: o.dir, Kind: kind, Keys: o.keys, Now: o.clock.now, Mark: o.mark}
}

func (o *office) open() {
	t := o.t
	t.Helper()
	var err error
	if o.image, err = reposerver.OpenImage(o.config("")); err != nil {
		t.Fatal(err)
	}
	store, err := fleet.Open(t.Context(), filepath.Join(o.dir, "director"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	storage := reposerver.StorageConfig{Dir: filepath.Join(o.dir, "uploads"), PartSize: 4 << 10, MaxFile: 1 << 20}
	if o.director, err = reposerver.OpenDirector(reposerver.DirectorConfig{Config: o.config(""), Image: o.image, Fleet: store, Storage: storage}); err != nil {
		t.Fatal(err)
	}
	o.fleet = store
	server, err := reposerver.NewServer(reposerver.ServerConfig{
		Image: o.image, Director: o.director, Now: o.clock.now,
		Storage: storage,
		Access:  reposerver.AccessConfig{Credentials: []reposerver.Credential{{ID: "build", Secret: []byte(secret), May: reposerver.Rights()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.admin, o.devices = httptest.NewServer(server.Admin()), httptest.NewServer(server.Devices())
	t.Cleanup(o.admin.Close)
	t.Cleanup(o.devices.Close)
	o.client, o.dirc = o.newClient(false), o.newClient(true)
}

func (o *office) newClient(director bool) *reposerver.Client {
	o.t.Helper()
	c, err := reposerver.NewClient(reposerver.ClientConfig{URL: o.admin.URL, Director: director, RetryDelay: time.Millisecond,
		Auth: reposerver.OAuth2{Server: o.admin.URL, ClientID: "build", ClientSecret: secret}})
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

// tree is the state of every file but lock files, to show that nothing was written.
func (o *office) tree() string {
	o.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(o.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" || strings.HasPrefix(d.Name(), "fleet.db") {
			return err
		}
		data, err := os.ReadFile(p)
		fmt.Fprintf(&b, "%s %x\n", p, data)
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	b.WriteString(o.records())
	return b.String()
}

// records is what the fleet store keeps.
func (o *office) records() string {
	o.t.Helper()
	ctx := o.t.Context()
	var list []string
	if err := o.fleet.Each(ctx, func(d *reposerver.Device) error { list = append(list, d.ID); return nil }); err != nil {
		o.t.Fatal(err)
	}
	slices.Sort(list)
	var b strings.Builder
	for _, id := range list {
		dev := must(o.fleet.Device(ctx, id))(o.t)
		record := must(json.Marshal(dev))(o.t)
		told, events := must(o.fleet.Told(ctx, id))(o.t), must(o.fleet.Events(ctx, id))(o.t)
		fmt.Fprintf(&b, "%s revision %d %s %s %v %v\n", id, dev.Revision, record, must(o.fleet.Manifest(ctx, id))(o.t), told, events)
	}
	return b.String()
}

// unchanged runs f and fails when a file has changed.
func (o *office) unchanged(name string, f func()) {
	o.t.Helper()
	before := o.tree()
	f()
	if o.tree() != before {
		o.t.Errorf("%s: something was written", name)
	}
}

func newSigner(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyOf(t testing.TB, s crypto.Signer) uptane.Key {
	t.Helper()
	k, err := uptane.NewKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (o *office) root(c *reposerver.Client) *uptane.Root {
	o.t.Helper()
	return must(uptane.ParseRoot(must(c.Root(o.t.Context()))(o.t)))(o.t)
}

// offline is the next root with these keys for root and targets, signed by them alone.
func (o *office) offline(current *uptane.Root, root, targets crypto.Signer) *uptane.Root {
	o.t.Helper()
	next := must(current.Next(o.clock.now().Add(365*24*time.Hour), func(c *uptane.RootConfig) error {
		c.Roles[uptane.RoleRoot] = uptane.RoleKeys{Keys: []uptane.Key{keyOf(o.t, root)}, Threshold: 1}
		if targets != nil {
			c.Roles[uptane.RoleTargets] = uptane.RoleKeys{Keys: []uptane.Key{keyOf(o.t, targets)}, Threshold: 1}
		}
		return nil
	}))(o.t)
	return must(uptane.AddSignatures(next, root))(o.t)
}

// moveOffline does what move-offline does with a server that keeps its keys in a token.
func (o *office) moveOffline(c *reposerver.Client, root, targets crypto.Signer) *uptane.Root {
	o.t.Helper()
	ctx := o.t.Context()
	current := o.root(c)
	stored, err := c.CosignRoot(ctx, o.offline(current, root, targets).Bytes())
	if err != nil {
		o.t.Fatal(err)
	}
	for _, k := range current.Keys(uptane.RoleRoot).Keys {
		if err := c.DeletePrivateKey(ctx, k.ID()); err != nil {
			o.t.Fatal(err)
		}
	}
	return must(uptane.ParseRoot(stored))(o.t)
}

func entry(t testing.TB, content, name, version string, hardware ...string) uptane.Target {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	custom := must(uptane.ImageCustom{Name: name, Version: version, HardwareIDs: hardware, Format: uptane.Binary, CreatedAt: at, UpdatedAt: at}.JSON())(t)
	return uptane.Target{Length: int64(len(content)), SHA256: digest([]byte(content)), Custom: custom}
}

// push adds entries to the targets, signs with key, and pushes.
func (o *office) push(key crypto.Signer, change func(*uptane.TargetsConfig)) error {
	o.t.Helper()
	data, sum, err := o.client.Targets(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	old := must(uptane.ParseTargets(uptane.Image, data))(o.t)
	next := must(old.Next(o.clock.now().Add(31*24*time.Hour), func(c *uptane.TargetsConfig) error {
		if c.Targets == nil {
			c.Targets = map[string]uptane.Target{}
		}
		change(c)
		return nil
	}))(o.t)
	return o.client.PushTargets(o.t.Context(), must(uptane.Sign(next, key))(o.t), sum)
}

// fetch gets a device's file.
func (o *office) fetch(device, path string) (int, []byte) {
	o.t.Helper()
	req := must(http.NewRequest(http.MethodGet, o.devices.URL+path, nil))(o.t)
	if device != "" {
		req.Header.Set(reposerver.DeviceHeader, device)
	}
	return o.do(req)
}

func (o *office) do(req *http.Request) (int, []byte) {
	o.t.Helper()
	res := must(http.DefaultClient.Do(req))(o.t)
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		o.t.Fatal(err)
	}
	return res.StatusCode, b.Bytes()
}

func (o *office) file(device, path string) []byte {
	o.t.Helper()
	status, data := o.fetch(device, path)
	if status != http.StatusOK {
		o.t.Fatalf("%s: %d %s", path, status, data)
	}
	return data
}

// chain walks N.root.json as a device does, until there is none.
func (o *office) chain(prefix string, from int) (out [][]byte) {
	o.t.Helper()
	for n := from; ; n++ {
		status, data := o.fetch("", fmt.Sprintf("%s/%d.root.json", prefix, n))
		if status == http.StatusNotFound {
			return out
		}
		if status != http.StatusOK {
			o.t.Fatalf("%s %d: %d %s", prefix, n, status, data)
		}
		out = append(out, data)
	}
}

// drive is a device's whole walk: both root chains, timestamp, snapshot, targets, delegations, and the agreement.
func (o *office) drive(device string, ecus map[string]string, delegations ...string) ([]uptane.Assignment, error) {
	o.t.Helper()
	files := uptane.ImageFiles{Roots: o.chain("/repo", 2), Timestamp: o.file("", "/repo/timestamp.json"), Snapshot: o.file("", "/repo/snapshot.json"),
		Targets: o.file("", "/repo/targets.json"), Delegations: map[string][]byte{}}
	for _, d := range delegations {
		files.Delegations[d] = o.file("", "/repo/delegations/"+d+".json")
	}
	first := must(uptane.ParseRoot(o.file("", "/repo/1.root.json")))(o.t)
	image, err := uptane.VerifyImage(first, files, nil, o.clock.now())
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	first = must(uptane.ParseRoot(o.file("", "/director/1.root.json")))(o.t)
	director, err := uptane.VerifyDirector(first, uptane.DirectorFiles{Roots: o.chain("/director", 2), Targets: o.file(device, "/director/targets.json")}, nil, o.clock.now())
	if err != nil {
		return nil, fmt.Errorf("director: %w", err)
	}
	return uptane.VerifyAgreement(director, image, ecus)
}

func (o *office) register(device string, doc string) (int, []byte) {
	o.t.Helper()
	req := must(http.NewRequest(http.MethodPost, o.devices.URL+"/director/ecus", strings.NewReader(doc)))(o.t)
	req.Header.Set(reposerver.DeviceHeader, device)
	return o.do(req)
}

func registration(t testing.TB, key crypto.Signer) string {
	t.Helper()
	form := must(keyOf(t, key).MarshalJSON())(t)
	return fmt.Sprintf(`{"primary_ecu_serial":"ecu-1","ecus":[{"ecu_serial":"ecu-1","hardware_identifier":"board","clientKey":%s}]}`, form)
}

func TestWholePage(t *testing.T) {
	o := newOffice(t, newToken(t))
	ctx := t.Context()
	device := newSigner(t)
	if status, body := o.register("device-1", registration(t, device)); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	if a, err := o.drive("device-1", nil); err != nil || len(a) != 0 {
		t.Fatalf("at the start: %v %v", a, err)
	}

	root, targets, droot := newSigner(t), newSigner(t), newSigner(t)
	old := o.root(o.client)
	oldRoot, oldTargets := old.Keys(uptane.RoleRoot).Keys[0], old.Keys(uptane.RoleTargets).Keys[0]
	if _, err := o.client.FetchPrivateKey(ctx, oldRoot.ID()); !errors.Is(err, reposerver.ErrKeySealed) {
		t.Fatalf("a sealed key: %v", err)
	}
	o.unchanged("a key in use", func() {
		if err := o.client.DeletePrivateKey(ctx, oldRoot.ID()); !errors.Is(err, reposerver.ErrKeyInUse) {
			t.Fatalf("the root key in use: %v", err)
		}
	})
	next := o.moveOffline(o.client, root, targets)
	if next.Version() != 2 {
		t.Fatalf("version %d", next.Version())
	}
	for _, k := range []uptane.Key{oldRoot} {
		if _, err := o.keys.Find(ctx, k.ID()); !errors.Is(err, reposerver.ErrNoKey) {
			t.Errorf("the old root key is still in the token: %v", err)
		}
		if _, err := o.client.FetchPrivateKey(ctx, k.ID()); !errors.Is(err, reposerver.ErrNotFound) {
			t.Errorf("a destroyed key: %v", err)
		}
		if err := o.client.DeletePrivateKey(ctx, k.ID()); !errors.Is(err, reposerver.ErrNotFound) {
			t.Errorf("a destroyed key again: %v", err)
		}
	}
	if err := o.client.DeletePrivateKey(ctx, oldTargets.ID()); err != nil {
		t.Errorf("the old targets key: %v", err)
	}
	o.moveOffline(o.dirc, droot, nil)

	// Image, file and assignment.
	content := strings.Repeat("image one ", 1000)
	if err := o.client.Upload(ctx, reposerver.Upload{Name: "image-1", Source: strings.NewReader(content), Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if sum, n, err := o.client.Uploaded(ctx, "image-1"); err != nil || sum != digest([]byte(content)) || n != int64(len(content)) {
		t.Errorf("uploaded: %s %d %v", sum, n, err)
	}
	if status, _ := o.fetch("", "/repo/targets/image-1"); status != http.StatusNotFound {
		t.Errorf("a file that no targets list is served: %d", status)
	}
	if err := o.push(targets, func(c *uptane.TargetsConfig) {
		c.Targets["image-1"] = entry(t, content, "image", "1", "board")
		c.Targets["other-1"] = entry(t, "other", "other", "1", "elsewhere")
	}); err != nil {
		t.Fatal(err)
	}
	if got := o.file("", "/repo/targets/image-1"); string(got) != content {
		t.Errorf("the file has %d bytes", len(got))
	}
	view := o.assign("device-1", `{"target":"image-1"}`, http.StatusOK)
	if view["state"] != "update assigned" {
		t.Errorf("state %v", view["state"])
	}
	o.unchanged("wrong hardware", func() { o.assign("device-1", `{"target":"other-1"}`, http.StatusConflict) })
	o.unchanged("no such target", func() { o.assign("device-1", `{"target":"image-2"}`, http.StatusNotFound) })
	o.unchanged("no such device", func() { o.assign("device-2", `{"target":"image-1"}`, http.StatusNotFound) })
	a, err := o.drive("device-1", map[string]string{"ecu-1": "board"})
	if err != nil || len(a) != 1 || a[0].Name != "image-1" || a[0].ECU != "ecu-1" {
		t.Fatalf("assignments %+v, %v", a, err)
	}

	// Time passes: what is online is signed anew, and stays good.
	versions := func() string {
		return string(o.file("", "/repo/timestamp.json")) + string(o.file("device-1", "/director/targets.json"))
	}
	was := versions()
	o.clock.add(20 * time.Hour)
	if versions() == was {
		t.Error("nothing was signed anew")
	}
	o.clock.add(5 * 24 * time.Hour)
	if _, err := o.drive("device-1", map[string]string{"ecu-1": "board"}); err != nil {
		t.Errorf("six days later: %v", err)
	}

	// Manifest.
	good := o.manifest(device, digest([]byte(content)))
	if status, body := o.send("device-1", good); status != http.StatusOK {
		t.Fatalf("manifest: %d %s", status, body)
	}
	if v := o.view("device-1"); v["state"] != "up to date" {
		t.Errorf("state %v", v["state"])
	}
}

func (o *office) assign(device, doc string, want int) map[string]any {
	o.t.Helper()
	return o.adminDo(http.MethodPut, "/api/v1/director/admin/devices/"+device+"/assignment", doc, want)
}

func (o *office) view(device string) map[string]any {
	o.t.Helper()
	return o.adminDo(http.MethodGet, "/api/v1/director/admin/devices/"+device, "", http.StatusOK)
}

func (o *office) adminDo(method, path, doc string, want int) map[string]any {
	o.t.Helper()
	req := must(http.NewRequest(method, o.admin.URL+path, strings.NewReader(doc)))(o.t)
	req.SetBasicAuth("build", secret)
	status, body := o.do(req)
	if status != want {
		o.t.Fatalf("%s %s: %d %s", method, path, status, body)
	}
	out := map[string]any{}
	_ = json.Unmarshal(body, &out)
	return out
}

// manifest is signed twice by the device's key: the ECU's part, and the whole.
func (o *office) manifest(key crypto.Signer, sum string) []byte {
	o.t.Helper()
	ecu := fmt.Sprintf(`{"attacks_detected":"","ecu_serial":"ecu-1","installed_image":{"fileinfo":{"hashes":{"sha256":"%s"},"length":10000},"filepath":"image-1"}}`, sum)
	return envelope(o.t, key, fmt.Sprintf(`{"ecu_version_manifests":{"ecu-1":%s},"primary_ecu_serial":"ecu-1"}`, envelope(o.t, key, ecu)))
}

func envelope(t testing.TB, key crypto.Signer, signed string) []byte {
	t.Helper()
	canonical, err := uptane.Canonical([]byte(signed))
	if errors.Is(err, uptane.ErrNotASCII) {
		canonical, err = []byte(signed), nil // written by the test as it is to be signed
	}
	if err != nil {
		t.Fatal(err)
	}
	sig := must(key.Sign(nil, canonical, crypto.Hash(0)))(t)
	return must(json.Marshal(map[string]any{"signed": json.RawMessage(canonical),
		"signatures": []map[string]any{{"keyid": "whatever", "method": "ed25519", "sig": sig}}}))(t)
}

func (o *office) send(device string, manifest []byte) (int, []byte) {
	o.t.Helper()
	req := must(http.NewRequest(http.MethodPut, o.devices.URL+"/director/manifest", bytes.NewReader(manifest)))(o.t)
	req.Header.Set(reposerver.DeviceHeader, device)
	return o.do(req)
}

var digest = reposerver.Digest

// TestOnlineKeys replaces every online key of both repositories, and destroys the old ones.
func TestOnlineKeys(t *testing.T) {
	keys := must(reposerver.NewFolderKeys(t.TempDir()+"/keys", "Ed25519"))(t)
	o := newOffice(t, keys)
	ctx := t.Context()
	o.register("device-1", registration(t, newSigner(t)))
	was := o.file("device-1", "/director/targets.json")
	for kind, c := range map[uptane.Repository]*reposerver.Client{uptane.Image: o.client, uptane.Director: o.dirc} {
		current := o.root(c)
		next := must(current.Next(o.clock.now().Add(1000*time.Hour), func(rc *uptane.RootConfig) error {
			for _, role := range reposerver.OnlineRoles(kind) {
				key := must(keys.Generate(ctx, string(kind)+"-new-"+string(role)))(t)
				rc.Roles[role] = uptane.RoleKeys{Keys: []uptane.Key{keyOf(t, key)}, Threshold: 1}
			}
			return nil
		}))(t)
		// The root key is still the server's: it signs alone.
		if _, err := c.CosignRoot(ctx, next.Bytes()); err != nil {
			t.Fatal(err)
		}
		for _, role := range reposerver.OnlineRoles(kind) {
			if err := c.DeletePrivateKey(ctx, current.Keys(role).Keys[0].ID()); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := o.drive("device-1", nil); err != nil {
		t.Error(err)
	}
	if bytes.Equal(was, o.file("device-1", "/director/targets.json")) {
		t.Error("the device's targets are still the old key's")
	}
}

// TestClockAhead: what was signed while the server's clock was ahead is signed anew once it is right, and does not stay good for longer than it was given.
func TestClockAhead(t *testing.T) {
	o := newOffice(t, newToken(t))
	if status, body := o.register("device-1", registration(t, newSigner(t))); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	lives := map[string]int{"/repo/timestamp.json": 1, "/repo/snapshot.json": 7, "/director/targets.json": 7}
	served := func() map[string]string {
		all := map[string]string{}
		for path := range lives {
			all[path] = string(o.file("device-1", path))
		}
		return all
	}
	o.clock.add(20 * 24 * time.Hour)
	served()
	o.clock.add(-20*24*time.Hour + time.Hour)
	right := served()
	for path, days := range lives {
		var doc struct{ Signed struct{ Expires time.Time } }
		if err := json.Unmarshal([]byte(right[path]), &doc); err != nil {
			t.Fatal(path, err)
		}
		if doc.Signed.Expires.After(o.clock.now().AddDate(0, 0, days)) {
			t.Errorf("%s is good until %s, and was given %d days", path, doc.Signed.Expires, days)
		}
	}
	// Once.
	o.clock.add(-time.Minute)
	if !maps.Equal(served(), right) {
		t.Error("a clock that is a minute behind has it signed anew")
	}
}
