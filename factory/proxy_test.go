package factory_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/programtest"
)

// tinyproxy starts one on loopback, with these lines more in its configuration, and gives its address.
func tinyproxy(t *testing.T, lines string) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(programtest.FreeAddress(t))
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	if err := os.WriteFile(conf, []byte("Port "+port+"\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\n"+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tinyproxy", "-d", "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatalf("tinyproxy (see scripts/packages-test.txt): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := "127.0.0.1:" + port
	for range 600 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("tinyproxy does not listen")
	return ""
}

// TestProxy: a station enrols through a proxy of another maker's; what the proxy refuses is said to be the proxy's refusal, with what to
// do, and its credentials stand in nothing that is said.
func TestProxy(t *testing.T) {
	l := newLine(t)
	_, port, _ := net.SplitHostPort(l.address)
	open := tinyproxy(t, "ConnectPort "+port+"\n")
	wants := tinyproxy(t, "ConnectPort "+port+"\nBasicAuth line geheim-4711\n")
	closed := tinyproxy(t, "ConnectPort 1\n")
	right, wrong, loose := filepath.Join(l.dir, "right"), filepath.Join(l.dir, "wrong"), filepath.Join(l.dir, "loose")
	for path, text := range map[string]string{right: "line:geheim-4711\n", wrong: "line:verraten-1\n", loose: "line:geheim-4711\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	config := func(name, more string) string {
		path := filepath.Join(l.dir, name+".yaml")
		text := strings.Replace(string(b), "factory: {", "factory: {"+more+", ", 1)
		if err := os.WriteFile(path, []byte(strings.Replace(text, "device: {", "device: {key_store: file, ", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n := 0
	for _, c := range []struct {
		name, proxy string
		env         []string
		exit        int
		says        string
	}{
		{"open", `proxy: "http://` + open + `"`, nil, 0, ""},
		{"with the right credentials", `proxy: "http://` + wants + `", proxy_credentials: ` + right, nil, 0, ""},
		{"with wrong credentials", `proxy: "http://` + wants + `", proxy_credentials: ` + wrong, nil, 3, "the proxy"},
		{"without credentials", `proxy: "http://` + wants + `"`, nil, 3, "factory.proxy_credentials"},
		{"that does not let us through", `proxy: "http://` + closed + `"`, nil, 3, "403 Forbidden"},
		{"that is not there", `proxy: "http://127.0.0.1:1"`, nil, 1, "its proxy"},
		{"with a mode that lets others read", `proxy: "http://` + wants + `", proxy_credentials: ` + loose, nil, 3, "lets group or others in"},
		{"whose URL holds a password", `proxy: "http://line:geheim-4711@` + wants + `"`, nil, 2, "holds credentials"},
		{"of another kind", `proxy: "socks5://` + open + `"`, nil, 2, "cannot be used"},
		{"with credentials and no proxy", `proxy_credentials: ` + right, nil, 2, "no proxy"},
		{"of the environment, which has none for this machine", `proxy: environment`, []string{"HTTPS_PROXY=http://" + closed}, 0, ""},
		{"of the environment, not asked for", `proxy: ""`, []string{"HTTPS_PROXY=http://" + closed}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n++
			id := fmt.Sprint("dev-proxy-", n)
			before := l.rows(t)
			for _, v := range c.env {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			exit, out, stderr := l.enroll(t, config(id, c.proxy), id)
			if exit != c.exit || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, does not say %q: %s%s", exit, c.says, out, stderr)
			}
			for _, secret := range []string{"geheim", "verraten", "bGluZTp"} {
				if strings.Contains(out+stderr, secret) {
					t.Errorf("the proxy's credentials are shown: %s%s", out, stderr)
				}
			}
			if after := l.rows(t); c.exit != 0 && after != before {
				t.Errorf("wrote %s, was %s", after, before)
			}
			if _, err := os.Lstat(filepath.Join(l.dir, "import-"+id)); c.exit != 0 && err == nil {
				t.Error("there is an import folder")
			}
		})
	}
}

// TestEnvironmentProxy: HTTPS_PROXY and NO_PROXY decide where the configuration says so.
func TestEnvironmentProxy(t *testing.T) {
	for _, c := range []struct{ proxy, no, url, want string }{
		{"http://proxy.example:3128", "", "https://hanaperd.example:8443", "proxy.example:3128"},
		{"http://proxy.example:3128", "hanaperd.example", "https://hanaperd.example:8443", ""},
	} {
		// The library reads the environment once in a process.
		cmd := exec.Command(os.Args[0], "-test.run", "^TestEnvironmentProxyChild$", "-test.v")
		cmd.Env = append(os.Environ(), "HANAPER_CHILD=1", "HTTPS_PROXY="+c.proxy, "NO_PROXY="+c.no, "CHILD_URL="+c.url)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "said <"+c.want+">") {
			t.Errorf("%+v: %v, %s", c, err, out)
		}
	}
}

// TestEnvironmentProxyChild is TestEnvironmentProxy's process; alone it has nothing to do.
func TestEnvironmentProxyChild(t *testing.T) {
	if os.Getenv("HANAPER_CHILD") == "" {
		return
	}
	f, err := factory.ProxyFunc(factory.ProxyFromEnvironment, "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, os.Getenv("CHILD_URL"), nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := f(r)
	switch {
	case err != nil:
		t.Fatal(err)
	case u == nil:
		fmt.Println("said <>")
	default:
		fmt.Printf("said <%s>\n", u.Host)
	}
}

// TestPauses: pauses double up to a bound, differ by chance, are never shorter than what was asked for, and never zero.
func TestPauses(t *testing.T) {
	seen := map[time.Duration]bool{}
	for try := 1; try <= 100; try++ {
		for range 20 {
			full := 30 * time.Second
			if try < 6 {
				full = time.Second << (try - 1)
			}
			p := factory.PauseBefore(try, time.Second, 30*time.Second, 0)
			if p < full/2 || p > full {
				t.Fatalf("try %d: %s", try, p)
			}
			seen[p] = true
			if p := factory.PauseBefore(try, time.Second, 30*time.Second, 2*time.Minute); p < 2*time.Minute || p > 132*time.Second {
				t.Fatalf("try %d, asked for two minutes: %s", try, p)
			}
		}
	}
	if len(seen) < 1000 {
		t.Errorf("only %d pauses differ", len(seen))
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{"0": 0, "5": 5 * time.Second, "86400": 24 * time.Hour, "Thu, 26 Nov 2026 12:01:00 GMT": time.Minute, "Thu, 26 Nov 2026 11:00:00 GMT": 0,
		"": -1, "-1": -1, "soon": -1, "1e9": -1, "99999999999": -1} {
		got, ok := factory.RetryAfterOf(header, now)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %s, %v", header, got, ok)
		}
	}
}
