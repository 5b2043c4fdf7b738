package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/control"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
	"github.com/hanaper/hanaper/internal/browsertest"
)

// rig is a registry behind a socket, and a tunnel to that, as ssh -L makes one.
type rig struct {
	t      *testing.T
	reg    *sqlite.Registry
	socket string
	tunnel string
	client *control.Client
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// production is the rig's only environment.
func production(name string) error {
	if name != "production" {
		return fmt.Errorf("there is no environment %q", name)
	}
	return nil
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, socket: filepath.Join(dir, "c.sock")}
	var err error
	if r.reg, err = sqlite.Open(sqlite.Config{Path: filepath.Join(dir, "devices.db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.reg.Close() })
	s, err := control.New(control.Config{Records: r.reg, Environment: production, Log: slog.New(slog.NewTextHandler(&r.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if r.client, err = control.Dial(r.socket); err != nil || r.client == nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.client.Close() })
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	r.tunnel = far.Addr().String()
	go func() {
		for {
			c, err := far.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := net.Dial("unix", r.socket)
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(to, c); to.(*net.UnixConn).CloseWrite() }()
				_, _ = io.Copy(c, to)
			}()
		}
	}()
	return r
}

func (r *rig) meet(device string, key byte) {
	r.t.Helper()
	m := gateway.Meeting{Environment: "production", Device: device, Key: [32]byte{key}, Certificate: [32]byte{key}, Serial: "1f", Issuer: "CN=Factory <b>1</b>", Generation: 1,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), At: time.Now()}
	if _, err := r.reg.Meet(r.t.Context(), m); err != nil && !errors.Is(err, gateway.ErrOtherKey) {
		r.t.Fatal(err)
	}
}

func me(t *testing.T) string {
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("uid %s (%s)", u.Uid, u.Username)
}

// TestClient: what the registry says and does comes over the socket as it is, and who acts is whom the kernel names, whatever he says.
func TestClient(t *testing.T) {
	r, ctx := newRig(t), context.Background()
	for i := range 25 {
		r.meet(fmt.Sprintf("vin-%02d", i), byte(i))
	}
	act := gateway.Act{Verb: gateway.Block, Environment: "production", Device: "vin-03", By: gateway.By{Who: "somebody else", Why: "stolen", At: time.Unix(1, 0)}}
	if err := r.client.Do(ctx, act); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Do(ctx, act); !errors.Is(err, gateway.ErrState) {
		t.Errorf("twice: %v", err)
	}
	if r.reg.Standing("production", "vin-03", [32]byte{}) == nil {
		t.Error("it is not blocked")
	}
	log, err := r.client.Log(ctx, gateway.LogFilter{Newest: true, Limit: 10})
	if err != nil || len(log) != 1 || log[0].Who != me(t) || log[0].Why != "stolen" || time.Since(log[0].At) > time.Minute {
		t.Errorf("%+v, %v", log, err)
	}
	list, err := r.client.Devices(ctx, gateway.Filter{Prefix: "vin-0", Limit: 100})
	want, _ := r.reg.Devices(ctx, gateway.Filter{Prefix: "vin-0", Limit: 100})
	if err != nil || fmt.Sprint(list) != fmt.Sprint(want) || len(list) != 10 {
		t.Errorf("%v, %v", list, err)
	}
	one, err := r.client.Device(ctx, "production", "VIN-03")
	direct, _ := r.reg.Device(ctx, "production", "VIN-03")
	if err != nil || fmt.Sprintf("%+v", one) != fmt.Sprintf("%+v", direct) {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := r.client.Device(ctx, "production", "none"); !errors.Is(err, gateway.ErrNoDevice) {
		t.Error(err)
	}
	counts, err := r.client.Counts(ctx)
	if mine, _ := r.reg.Counts(ctx); err != nil || fmt.Sprint(counts) != fmt.Sprint(mine) {
		t.Errorf("%v, %v", counts, err)
	}
	var known gateway.Duplicates
	if err := r.client.Import(ctx, []gateway.Registration{{Environment: "production", Device: "new", Key: [32]byte{9}}, {Environment: "production", Device: "Vin-01"}}, gateway.By{}); !errors.As(err, &known) || known[0] != "Vin-01" {
		t.Errorf("%v", err)
	}
	if err := r.client.Import(ctx, []gateway.Registration{{Environment: "production", Device: "new", Key: [32]byte{9}, Generation: 2, Notes: "lot 7"}}, gateway.By{Why: "delivery"}); err != nil {
		t.Error(err)
	}
	if d, err := r.reg.Device(ctx, "production", "new"); err != nil || d.State != gateway.Pending || d.Generation != 2 || d.Notes != "lot 7" || !strings.HasPrefix(d.Key, "09") {
		t.Errorf("%+v, %v", d, err)
	}
	if c, err := control.Dial(filepath.Join(t.TempDir(), "none")); c != nil || err != nil {
		t.Errorf("nobody listens: %v %v", c, err)
	}
}

// TestRefused: what another site's page, a name that was made to lead here, or a form without its token asks for is not done.
func TestRefused(t *testing.T) {
	r := newRig(t)
	r.meet("vin-1", 1)
	body := `{"act":"block","environment":"production","device_id":"vin-1"}`
	form := "act=block&environment=production&id=vin-1&why=x&seal="
	seal := func() string {
		resp, err := http.Get("http://" + r.tunnel + "/act?act=block&environment=production&id=vin-1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		page, _ := io.ReadAll(resp.Body)
		m := regexp.MustCompile(`name="seal" value="([^"]+)"`).FindSubmatch(page)
		if m == nil {
			t.Fatalf("%d %s", resp.StatusCode, page)
		}
		return string(m[1])
	}
	good := seal()
	for _, c := range []struct {
		what, method, path, host, kind, body string
		header                               map[string]string
		status                               int
	}{
		{"another name", "GET", "/devices", "evil.example.com", "", "", nil, 403},
		{"another name, with a port", "GET", "/v1/devices", "evil.example.com:80", "", "", nil, 403},
		{"a name that begins like ours", "GET", "/", "localhost.evil.example.com", "", "", nil, 403},
		{"no name", "GET", "/", "user@localhost", "", "", nil, 403},
		{"another site's script", "POST", "/v1/act", "localhost", "application/json", body, map[string]string{"Origin": "https://evil.example.com"}, 403},
		{"another site's form", "POST", "/act", "localhost", "application/x-www-form-urlencoded", form + good, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"a form that sends JSON", "POST", "/v1/act", "localhost", "text/plain", body, nil, 400},
		{"no token", "POST", "/act", "localhost", "application/x-www-form-urlencoded", form, nil, 200},
		{"another token", "POST", "/act", "localhost", "application/x-www-form-urlencoded", form + good[:len(good)-2] + "AA", nil, 200},
		{"a token of another act", "POST", "/act", "localhost", "application/x-www-form-urlencoded", strings.Replace(form, "block", "retire", 1) + good, nil, 200},
		{"by its address", "GET", "/act?act=block&environment=production&id=vin-1&why=x&seal=" + good, "localhost", "", "", nil, 200},
		{"no such act", "POST", "/v1/act", "localhost", "application/json", strings.Replace(body, "block", "import", 1), nil, 400},
		{"one of the registry's own", "POST", "/v1/act", "localhost", "application/json", strings.Replace(body, "block", "rekeyed", 1), nil, 400},
		{"a key that is unknown", "POST", "/v1/act", "localhost", "application/json", strings.Replace(body, "{", `{"who":"olga",`, 1), nil, 400},
		{"control characters", "POST", "/v1/act", "localhost", "application/json", strings.Replace(body, "{", `{"why":"a\u001b[2J",`, 1), nil, 400},
		{"an environment that the gateway has not", "POST", "/v1/act", "localhost", "application/json", strings.Replace(body, "production", "other", 1), nil, 400},
		{"a list of another environment", "POST", "/v1/import", "localhost", "application/json", `{"devices":[{"environment":"other","device_id":"vin-9"}]}`, nil, 400},
		{"no such page", "GET", "/etc/passwd", "localhost", "", "", nil, 400},
		{"a state that is none", "GET", "/devices?state=x", "localhost", "", "", nil, 400},
	} {
		req, err := http.NewRequest(c.method, "http://"+r.tunnel+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.kind != "" {
			req.Header.Set("Content-Type", c.kind)
		}
		for k, v := range c.header {
			req.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(c.what, err)
		}
		said, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d %.300s", c.what, resp.StatusCode, said)
		}
		if log, err := r.reg.Log(t.Context(), gateway.LogFilter{Limit: 10}); err != nil || len(log) != 0 || r.reg.Standing("production", "vin-1", [32]byte{}) != nil {
			t.Fatalf("%s: it was done: %+v, %v", c.what, log, err)
		}
	}
	// With what the page holds, once.
	for i, want := range []int{http.StatusSeeOther, http.StatusOK} {
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := client.Post("http://"+r.tunnel+"/act", "application/x-www-form-urlencoded", strings.NewReader(form+good))
		if err != nil || resp.StatusCode != want {
			t.Errorf("%d: %v %v", i, resp, err)
		}
		resp.Body.Close()
	}
	if log, err := r.reg.Log(t.Context(), gateway.LogFilter{Limit: 10}); err != nil || len(log) != 1 || log[0].Who != me(t) {
		t.Errorf("%+v, %v", log, err)
	}
}

// TestBrowser goes through the pages as an operator does, through a tunnel. CONSOLE_PICTURES names a folder for pictures of them.
func TestBrowser(t *testing.T) {
	r := newRig(t)
	for i := range 120 {
		r.meet(fmt.Sprintf("vin-%04d", i), byte(i))
	}
	r.meet("vin-0007", 200)
	if err := r.reg.Import(t.Context(), []gateway.Registration{{Environment: "staging", Device: "bench<script>alert(1)</script>", Notes: "<img src=x onerror=alert(1)> \u202egnp.exe"}}, gateway.By{Who: "olga", At: time.Now()}); err == nil {
		t.Fatal("a slash in an id")
	}
	if err := r.reg.Import(t.Context(), []gateway.Registration{{Environment: "staging", Device: "bench<b>\"&", Notes: "<img src=x onerror=alert(1)> \u202egnp.exe"}}, gateway.By{Who: "olga", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	profile := filepath.Join(home, "profile")
	if err := os.MkdirAll(filepath.Join(profile, "Default"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := browsertest.Start(t, home, profile)
	has := func(words ...string) {
		t.Helper()
		text := b.Text()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in %s", w, text)
			}
		}
	}
	_, port, _ := net.SplitHostPort(r.tunnel)
	base := "http://localhost:" + port
	b.Open(base + "/")
	has("production", "120", "staging", me(t))
	b.Pictures("fleet-overview")
	b.Click("production")
	has("vin-0000", "vin-0099", "More devices")
	b.Click("More devices")
	has("vin-0100", "vin-0119")
	b.Open(base + "/devices")
	b.JS(`document.getElementById("flag").value = "any"`)
	b.Click("Look up")
	has("vin-0007", "other-key-refused")
	b.Pictures("fleet-devices")
	b.Click("vin-0007")
	has("Another key came with its id", "CN=Factory <b>1</b>", "flagged", "Block", "Allow another key")
	b.Pictures("fleet-device")
	b.Click("Block")
	has("is this right?", "vin-0007")
	b.Fill("Why", "stolen, ticket 4711")
	b.Pictures("fleet-confirm")
	b.Click("Block")
	has("blocked", "stolen, ticket 4711", me(t), "Unblock")
	if r.reg.Standing("production", "vin-0007", [32]byte{}) == nil {
		t.Error("it is not blocked")
	}
	b.Click("Unblock")
	b.Fill("Why", "found again")
	b.Click("Unblock")
	has("active", "found again")
	b.Click("Acts")
	has("block", "unblock", "import", "flagged")
	b.Pictures("fleet-acts")
	// What others chose is text, and steers nothing.
	b.Open(base + "/devices?environment=staging")
	has(`"bench<b>\"&"`)
	b.Click(`"bench<b>\"&"`)
	has("<img src=x onerror=alert(1)>", `\u202e`)
	if b.JS(`document.querySelectorAll("main img, main b, script").length`) != "0" {
		t.Error("foreign text became a part of the page")
	}
	if axe := os.Getenv("CONSOLE_AXE"); axe != "" {
		b.Judge(axe, "device")
	}
	b.Narrow()
	for _, path := range []string{"/", "/devices", "/device?environment=production&id=vin-0007", "/log", "/act?act=note&environment=production&id=vin-0007"} {
		b.Open(base + path)
		if w := b.JS("document.documentElement.scrollWidth"); w != "320" {
			t.Errorf("%s is %s pixels wide on a narrow screen", path, w)
		}
	}
	b.Wide()
	if said := b.Complaints(); len(said) != 0 {
		t.Errorf("the browser complains: %v", said)
	}
}
