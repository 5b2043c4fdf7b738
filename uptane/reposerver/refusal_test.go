package reposerver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func folderOffice(t *testing.T) *office {
	t.Helper()
	return newOffice(t, must(reposerver.NewFolderKeys(t.TempDir()+"/keys", "Ed25519"))(t))
}

// status is the answer's status and code.
func status(err error) (int, string) {
	var res *reposerver.ResponseError
	if errors.As(err, &res) {
		return res.Status, res.Code
	}
	return 0, fmt.Sprint(err)
}

// TestRootRefusals pushes roots that the server must not take; each leaves every file as it was.
func TestRootRefusals(t *testing.T) {
	o := folderOffice(t)
	ctx := t.Context()
	root, targets, other := newSigner(t), newSigner(t), newSigner(t)
	current := o.root(o.client)
	held := must(o.keys.Find(ctx, current.Keys(uptane.RoleRoot).Keys[0].ID()))(t)
	complete := func(doc *uptane.Root, keys ...crypto.Signer) []byte { return must(uptane.Sign(doc, keys...))(t) }
	next := func(change func(*uptane.RootConfig)) *uptane.Root {
		return must(current.Next(o.clock.now().Add(1000*time.Hour), func(c *uptane.RootConfig) error { change(c); return nil }))(t)
	}
	set := func(role uptane.Role, threshold int, keys ...crypto.Signer) func(*uptane.RootConfig) {
		return func(c *uptane.RootConfig) {
			rk := uptane.RoleKeys{Threshold: threshold}
			for _, k := range keys {
				rk.Keys = append(rk.Keys, keyOf(t, k))
			}
			c.Roles[role] = rk
		}
	}
	good := next(set(uptane.RoleRoot, 1, root))
	config := good.Config()
	config.Version = 3
	skipped := must(uptane.NewRoot(config))(t)
	config = current.Config()
	config.Expires = config.Expires.Add(time.Hour)
	sibling := must(uptane.NewRoot(config))(t)
	config = good.Config()
	config.Expires = o.clock.now().Add(-time.Hour)
	expired := must(uptane.NewRoot(config))(t)
	extra := bytes.Replace(complete(good, held, root), []byte(`"_type":"Root"`), []byte(`"_type":"Root","more":1`), 1)
	cases := map[string][]byte{
		"no JSON":                               []byte("x"),
		"nothing":                               {},
		"targets":                               first(o.client.Targets(ctx)),
		"an extra member":                       extra,
		"not signed by the old key":             complete(good, root),
		"not signed by the new key":             complete(good, held),
		"signed by a stranger too":              complete(good, held, root, other),
		"a version left out":                    complete(skipped, held, root),
		"the same version, other content":       complete(sibling, held),
		"expired":                               complete(expired, held, root),
		"a snapshot key that the server lacks":  complete(next(set(uptane.RoleSnapshot, 1, other)), held),
		"a timestamp key that the server lacks": complete(next(set(uptane.RoleTimestamp, 1, other)), held),
		"threshold 2 with one signature":        complete(next(set(uptane.RoleRoot, 2, root, other)), held, root),
		"a signature changed":                   bytes.Replace(complete(good, held, root), []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1),
		"too large":                             bytes.Repeat([]byte(" "), 1<<20),
	}
	for name, data := range cases {
		o.unchanged(name, func() {
			if err := o.client.PushRoot(ctx, data); err == nil {
				t.Errorf("%s: accepted", name)
			} else if s, code := status(err); s != 400 && s != 413 || code == "" {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	for name, data := range map[string][]byte{
		"cosign without the new key":            good.Bytes(),
		"cosign with a stranger":                complete(good, root, other),
		"cosign, a version left out":            complete(skipped, root),
		"cosign threshold 2 with one signature": complete(next(set(uptane.RoleRoot, 2, root, other)), root),
	} {
		o.unchanged(name, func() {
			if out, err := o.client.CosignRoot(ctx, data); err == nil || out != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	// The good one passes, and again, with its parts in another order; the old key cannot sign for another.
	if err := o.client.PushRoot(ctx, complete(good, held, root)); err != nil {
		t.Fatal(err)
	}
	o.unchanged("the same again", func() {
		if err := o.client.PushRoot(ctx, complete(good, held, root)); err != nil {
			t.Error(err)
		}
	})
	current = o.root(o.client)
	if _, err := o.client.CosignRoot(ctx, complete(next(set(uptane.RoleTargets, 1, targets)), other)); err == nil {
		t.Error("the server's old key signs on")
	}
	if _, err := o.client.RootVersion(ctx, 2); err != nil {
		t.Error(err)
	}
	if _, err := o.client.RootVersion(ctx, 3); !errors.Is(err, reposerver.ErrNotFound) {
		t.Errorf("version 3: %v", err)
	}
}

func TestTargetsRefusals(t *testing.T) {
	o := folderOffice(t)
	ctx := t.Context()
	root, key, other, team := newSigner(t), newSigner(t), newSigner(t), newSigner(t)
	o.moveOffline(o.client, root, key)
	if err := o.push(key, func(c *uptane.TargetsConfig) {
		c.Targets["image-1"] = entry(t, "one", "image", "1", "board")
		c.Delegations = []uptane.Delegation{{Name: "team", RoleKeys: uptane.RoleKeys{Keys: []uptane.Key{keyOf(t, team)}, Threshold: 1}, Paths: []string{"team-*"}}}
	}); err != nil {
		t.Fatal(err)
	}
	data, sum, err := o.client.Targets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	old := must(uptane.ParseTargets(uptane.Image, data))(t)
	next := func(change func(*uptane.TargetsConfig)) *uptane.Targets {
		return must(old.Next(o.clock.now().Add(1000*time.Hour), func(c *uptane.TargetsConfig) error { change(c); return nil }))(t)
	}
	nothing := func(*uptane.TargetsConfig) {}
	sign := func(doc *uptane.Targets, keys ...crypto.Signer) []byte { return must(uptane.Sign(doc, keys...))(t) }
	good := sign(next(nothing), key)
	expired := must(old.Next(o.clock.now().Add(-time.Hour), nil))(t)
	for name, c := range map[string]struct {
		data   []byte
		sum    string
		status int
	}{
		"no JSON":                    {[]byte("{"), sum, 400},
		"a root":                     {must(o.client.Root(ctx))(t), sum, 400},
		"no checksum":                {good, "", 428},
		"another checksum":           {good, strings.Repeat("0", 64), 412},
		"the wrong key":              {sign(next(nothing), other), sum, 400},
		"no signature":               {next(nothing).Bytes(), sum, 400},
		"a stranger's beside":        {sign(next(nothing), key, other), sum, 400},
		"the same version":           {data, sum, 400},
		"expired":                    {sign(expired, key), sum, 400},
		"a member that is unknown":   {sign(next(func(c *uptane.TargetsConfig) { c.Extra = map[string]json.RawMessage{"more": json.RawMessage("1")} }), key), sum, 400},
		"a custom of the Director":   {sign(next(func(c *uptane.TargetsConfig) { c.Custom = json.RawMessage(`{"correlationId":"x"}`) }), key), sum, 400},
		"a new entry without custom": {sign(next(func(c *uptane.TargetsConfig) { c.Targets["bare"] = uptane.Target{Length: 1, SHA256: digest(nil)} }), key), sum, 400},
		"a new entry for no hardware": {sign(next(func(c *uptane.TargetsConfig) {
			c.Targets["bare"] = uptane.Target{Length: 1, SHA256: digest(nil), Custom: json.RawMessage(`{"name":"a","version":"1","hardwareIds":[]}`)}
		}), key), sum, 400},
		"too large": {bytes.Repeat([]byte(" "), 17<<20), sum, 413},
	} {
		o.unchanged(name, func() {
			err := o.client.PushTargets(ctx, c.data, c.sum)
			if s, _ := status(err); s != c.status {
				t.Errorf("%s: %v", name, err)
			}
			if errors.Is(err, reposerver.ErrChecksum) != (c.status == 412 || c.status == 428) {
				t.Errorf("%s: ErrChecksum is wrong for %v", name, err)
			}
		})
	}

	// Delegations.
	del := func(version int, name string, keys ...crypto.Signer) []byte {
		doc := must(uptane.NewTargets(uptane.TargetsConfig{Version: version, Expires: o.clock.now().Add(100 * time.Hour),
			Targets: map[string]uptane.Target{name: entry(t, "two", "team", "1", "board")}}))(t)
		return sign(doc, keys...)
	}
	for name, c := range map[string]struct {
		role   string
		data   []byte
		status int
	}{
		"a role that nobody delegated to": {"gang", del(1, "team-1", team), 404},
		"a path":                          {"../index", del(1, "team-1", team), 404},
		"the wrong key":                   {"team", del(1, "team-1", key), 400},
		"a target outside":                {"team", del(1, "image-9", team), 400},
	} {
		o.unchanged(name, func() {
			if s, _ := status(o.client.PushDelegation(ctx, c.role, c.data)); s != c.status {
				t.Errorf("%s: %d", name, s)
			}
		})
	}
	if err := o.client.PushDelegation(ctx, "team", del(2, "team-1", team)); err != nil {
		t.Fatal(err)
	}
	o.unchanged("an older delegation", func() {
		if s, _ := status(o.client.PushDelegation(ctx, "team", del(1, "team-1", team))); s != 400 {
			t.Errorf("rollback: %d", s)
		}
	})
	if got := must(o.client.Delegation(ctx, "team"))(t); !bytes.Equal(got, del(2, "team-1", team)) {
		t.Error("the delegation came back otherwise")
	}
	device := newSigner(t)
	o.register("device-1", registration(t, device))
	if err := o.client.Upload(ctx, reposerver.Upload{Name: "team-1", Source: strings.NewReader("two"), Size: 3}); err != nil {
		t.Fatal(err)
	}
	o.assign("device-1", `{"target":"team-1","ecus":["ecu-1"]}`, http.StatusOK)
	if a, err := o.drive("device-1", map[string]string{"ecu-1": "board"}, "team"); err != nil || len(a) != 1 {
		t.Errorf("through a delegation: %v %v", a, err)
	}
	// New keys for the delegation: what the old ones signed is dropped, and its version remembered.
	if err := o.push(key, func(c *uptane.TargetsConfig) { c.Delegations[0].Keys = []uptane.Key{keyOf(t, other)} }); err != nil {
		t.Fatal(err)
	}
	if _, err := o.client.Delegation(ctx, "team"); !errors.Is(err, reposerver.ErrNotFound) {
		t.Errorf("a delegation that nobody vouches for: %v", err)
	}
	if s, _ := status(o.client.PushDelegation(ctx, "team", del(2, "team-1", other))); s != 400 {
		t.Errorf("its version is forgotten: %d", s)
	}
	if err := o.client.PushDelegation(ctx, "team", del(3, "team-1", other)); err != nil {
		t.Error(err)
	}
	if a, err := o.drive("device-1", map[string]string{"ecu-1": "board"}, "team"); err != nil || len(a) != 1 {
		t.Errorf("after new keys: %v %v", a, err)
	}
}

// TestSoftwareKeys is the original's flow: fetch the old root key, sign with it, delete, push, in its own order.
func TestSoftwareKeys(t *testing.T) {
	for _, algorithm := range []string{"Ed25519", "RSA-2048"} {
		o := newOffice(t, must(reposerver.NewFolderKeys(t.TempDir()+"/keys", algorithm))(t))
		ctx := t.Context()
		for _, c := range []*reposerver.Client{o.client, o.dirc} {
			current := o.root(c)
			id := current.Keys(uptane.RoleRoot).Keys[0].ID()
			old, err := c.FetchPrivateKey(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.DeletePrivateKey(ctx, id); err != nil {
				t.Fatalf("a key that was given out: %v", err)
			}
			if _, err := c.FetchPrivateKey(ctx, id); !errors.Is(err, reposerver.ErrNotFound) {
				t.Errorf("a deleted key: %v", err)
			}
			for _, role := range []uptane.Role{uptane.RoleSnapshot, uptane.RoleTimestamp} {
				if err := c.DeletePrivateKey(ctx, current.Keys(role).Keys[0].ID()); !errors.Is(err, reposerver.ErrKeyInUse) {
					t.Errorf("%s key: %v", role, err)
				}
			}
			key := newSigner(t)
			next := must(uptane.AddSignatures(o.offline(current, key, nil), old))(t)
			if err := c.PushRoot(ctx, next.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range []string{"", "x", strings.Repeat("0", 64), keyOf(t, newSigner(t)).ID()} {
			if err := o.client.DeletePrivateKey(ctx, id); !errors.Is(err, reposerver.ErrNotFound) {
				t.Errorf("key %q: %v", id, err)
			}
		}
		// One repository's keys are not the other's to give.
		id := o.root(o.dirc).Keys(uptane.RoleTimestamp).Keys[0].ID()
		if _, err := o.client.FetchPrivateKey(ctx, id); !errors.Is(err, reposerver.ErrNotFound) {
			t.Errorf("the Director's key through the Image repository: %v", err)
		}
	}
}

func TestDeviceRefusals(t *testing.T) {
	o := folderOffice(t)
	key, other := newSigner(t), newSigner(t)
	good := registration(t, key)
	if s, body := o.register("device-1", good); s != 201 {
		t.Fatalf("%d %s", s, body)
	}
	if s, _ := o.register("device-1", good); s != 200 {
		t.Errorf("the same again: %d", s)
	}
	for name, c := range map[string]struct {
		device, doc string
		status      int
	}{
		"other keys":          {"device-1", registration(t, other), 409},
		"other hardware":      {"device-1", strings.Replace(good, "board", "b", 1), 409},
		"no identity":         {"", good, 400},
		"a space in it":       {"a b", good, 400},
		"too long":            {strings.Repeat("x", 300), good, 400},
		"no JSON":             {"device-2", "x", 400},
		"no primary":          {"device-2", strings.Replace(good, `"ecu_serial":"ecu-1"`, `"ecu_serial":"ecu-2"`, 1), 400},
		"repeated members":    {"device-2", strings.Replace(good, `"ecus"`, `"primary_ecu_serial":"x","ecus"`, 1), 400},
		"a curve":             {"device-2", strings.Replace(good, `ED25519`, `ECPRIME256V1`, 1), 400},
		"a serial too long":   {"device-2", strings.ReplaceAll(good, "ecu-1", strings.Repeat("e", 65)), 400},
		"not printable ASCII": {"device-2", strings.ReplaceAll(good, "ecu-1", "\u00e9"), 400},
		"large":               {"device-2", strings.Repeat(" ", 1<<20), 413},
	} {
		o.unchanged(name, func() {
			if s, body := o.register(c.device, c.doc); s != c.status {
				t.Errorf("%s: %d %s", name, s, body)
			}
		})
	}
	good2 := string(o.manifest(key, digest(nil)))
	foreign := string(o.manifest(other, digest(nil)))
	for name, c := range map[string]struct {
		device, doc string
		status      int
	}{
		"another's key":        {"device-1", foreign, 400},
		"one byte":             {"device-1", strings.Replace(good2, "image-1", "image-2", 1), 400},
		"nobody's signature":   {"device-1", `{"signatures":[],"signed":{"primary_ecu_serial":"ecu-1","ecu_version_manifests":{"ecu-1":{"signatures":[],"signed":{"ecu_serial":"ecu-1"}}}}}`, 400},
		"unknown device":       {"device-9", good2, 409},
		"nothing":              {"device-1", "{}", 400},
		"no JSON":              {"device-1", "", 400},
		"an ECU under another": {"device-1", string(envelope(t, key, `{"primary_ecu_serial":"ecu-1","ecu_version_manifests":{"ecu-1":{"signatures":[],"signed":{"ecu_serial":"ecu-2"}}}}`)), 400},
	} {
		o.unchanged(name, func() {
			if s, body := o.send(c.device, []byte(c.doc)); s != c.status {
				t.Errorf("%s: %d %s", name, s, body)
			}
		})
	}
	if s, _ := o.fetch("device-9", "/director/targets.json"); s != 409 {
		t.Errorf("an unknown device's targets: %d", s)
	}
	if s, _ := o.fetch("", "/director/targets.json"); s != 403 {
		t.Errorf("nobody's targets: %d", s)
	}
	req := must(http.NewRequest(http.MethodGet, o.devices.URL+"/director/targets.json", nil))(t)
	req.Header[reposerver.DeviceHeader] = []string{"device-1", "device-2"}
	if s, _ := o.do(req); s != 403 {
		t.Errorf("two identities: %d", s)
	}
	for _, path := range []string{"/repo/0.root.json", "/repo/01.root.json", "/repo/x", "/repo/../image/index.json", "/repo/delegations/x.json", "/repo/delegations/..%2findex.json", "/repo/targets/..%2f..%2findex.json",
		"/repo/targets/x", "/director/2.root.json", "/api/v1/user_repo/root.json", "/"} {
		if s, body := o.fetch("device-1", path); s != 404 && s != 400 && s != 301 && s != 307 {
			t.Errorf("%s: %d %s", path, s, body)
		}
	}
	// Too often.
	last := 0
	for range 30 {
		last, _ = o.register("device-1", good)
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("30 registrations: %d", last)
	}
}

func TestBodies(t *testing.T) {
	o := folderOffice(t)
	bomb := func(n int) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(bytes.Repeat([]byte(" "), n))
		_ = w.Close()
		return b.Bytes()
	}
	for name, c := range map[string]struct {
		encoding string
		body     []byte
		status   int
	}{
		"a bomb":               {"gzip", bomb(64 << 20), 413},
		"no gzip":              {"gzip", []byte("x"), 400},
		"an unknown encoding":  {"br", []byte("x"), 415},
		"a body cut short":     {"gzip", bomb(1000)[:20], 400},
		"an honest empty body": {"", nil, 400},
	} {
		o.unchanged(name, func() {
			req := must(http.NewRequest(http.MethodPut, o.admin.URL+"/api/v1/user_repo/targets", bytes.NewReader(c.body)))(t)
			req.SetBasicAuth("build", secret)
			req.Header.Set("Content-Encoding", c.encoding)
			if s, body := o.do(req); s != c.status {
				t.Errorf("%s: %d %s", name, s, body)
			}
		})
	}
	// A large document goes compressed, and arrives.
	root, key := newSigner(t), newSigner(t)
	o.moveOffline(o.client, root, key)
	if err := o.push(key, func(c *uptane.TargetsConfig) {
		for i := range 3000 {
			c.Targets[fmt.Sprintf("image-%d", i)] = entry(t, "x", "image", fmt.Sprint(i), "board")
		}
	}); err != nil {
		t.Fatal(err)
	}
	data, sum, err := o.client.Targets(t.Context())
	if err != nil || len(data) < 500_000 || sum != digest(data) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func first(data []byte, _ string, _ error) []byte { return data }

// broken is a key store whose token has gone away.
type broken struct {
	reposerver.KeyStore
	gone bool
}

func (b *broken) Find(ctx context.Context, keyid string) (crypto.Signer, error) {
	if b.gone {
		return nil, errors.New("token went away")
	}
	key, err := b.KeyStore.Find(ctx, keyid)
	return brokenSigner{key, b}, err
}

type brokenSigner struct {
	crypto.Signer
	store *broken
}

func (s brokenSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.store.gone {
		return nil, errors.New("token went away")
	}
	return s.Signer.Sign(rand, digest, opts)
}

// TestTokenGone: what was signed is served while it is good, and then nothing; when the token is back, all is well.
func TestTokenGone(t *testing.T) {
	keys := &broken{KeyStore: must(reposerver.NewFolderKeys(t.TempDir()+"/keys", "Ed25519"))(t)}
	o := newOffice(t, keys)
	o.register("device-1", registration(t, newSigner(t)))
	keys.gone = true
	paths := []string{"/repo/timestamp.json", "/director/targets.json"}
	o.clock.add(23 * time.Hour)
	for _, p := range paths {
		if s, body := o.fetch("device-1", p); s != http.StatusOK {
			t.Errorf("%s while it is good: %d %s", p, s, body)
		}
	}
	o.clock.add(7 * 24 * time.Hour)
	for _, p := range paths {
		if s, body := o.fetch("device-1", p); s != http.StatusServiceUnavailable || bytes.Contains(body, []byte("signed")) && bytes.Contains(body, []byte("signatures")) {
			t.Errorf("%s when it has expired: %d %s", p, s, body)
		}
	}
	if s, _ := o.fetch("", "/repo/root.json"); s != http.StatusOK {
		t.Errorf("the root, which is offline: %d", s)
	}
	keys.gone = false
	if _, err := o.drive("device-1", nil); err != nil {
		t.Errorf("the token is back: %v", err)
	}
}
