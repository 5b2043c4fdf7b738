package console_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a Chromium without a window, driven by the DevTools protocol over two pipes: JSON, each message with a zero byte behind it.
type browser struct {
	t       testing.TB
	out     *os.File
	session string

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	loaded  chan struct{}
	// said is what the page's console and its security policy complained of.
	said []string
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// newBrowser starts Chromium with a home of its own: its certificate store trusts root, and holds the identities, each of which is
// presented to the origin that stands before it.
func newBrowser(t testing.TB, root identity, port string, identities map[string]identity) *browser {
	t.Helper()
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	profile := filepath.Join(home, "profile")
	for _, dir := range []string{db, filepath.Join(profile, "Default")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tool("certutil", "-d", "sql:"+db, "-N", "--empty-password")
	tool("certutil", "-d", "sql:"+db, "-A", "-n", "operations", "-t", "C,,", "-i", file("root.pem", pemOf("CERTIFICATE", root.cert.Raw)))
	chosen := map[string]any{}
	for origin, who := range identities {
		key := file("one.key", pemOf("PRIVATE KEY", pkcs8(t, who.key)))
		cert := file("one.pem", pemOf("CERTIFICATE", who.cert.Raw))
		tool("openssl", "pkcs12", "-export", "-in", cert, "-inkey", key, "-passout", "pass:", "-name", origin, "-out", filepath.Join(home, "one.p12"))
		tool("pk12util", "-d", "sql:"+db, "-i", filepath.Join(home, "one.p12"), "-W", "", "-K", "")
		chosen["https://"+origin+":"+port+",*"] = map[string]any{"setting": map[string]any{"filters": []any{map[string]any{"SUBJECT": map[string]string{"CN": who.cert.Subject.CommonName}}}}}
	}
	settings, err := json.Marshal(map[string]any{"profile": map[string]any{"content_settings": map[string]any{"exceptions": map[string]any{"auto_select_certificate": chosen}}}})
	if err != nil {
		t.Fatal(err)
	}
	file("profile/Default/Preferences", settings)
	b := &browser{t: t, waiting: map[int]chan message{}, loaded: make(chan struct{}, 16)}
	in, out := b.start(home, profile)
	b.out = out
	go b.read(in)
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "DOM"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// start runs the program; it ends with the test.
func (b *browser) start(home, profile string) (in, out *os.File) {
	theirIn, out, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	args := []string{"--headless=new", "--remote-debugging-pipe", "--user-data-dir=" + profile, "--no-first-run", "--disable-gpu", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--host-resolver-rules=MAP *.example 127.0.0.1"}
	if os.Getuid() == 0 {
		args = append(args, "--no-sandbox") // its sandbox does not start as root
	}
	cmd := exec.Command("chromium", append(args, "about:blank")...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "XDG_DATA_HOME=")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	if os.Getenv("BROWSER_LOG") != "" {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatalf("chromium (Debian: chromium): %v", err)
	}
	theirIn.Close()
	theirOut.Close()
	b.t.Cleanup(func() {
		out.Close()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		in.Close()
	})
	return in, out
}

func (b *browser) read(in *os.File) {
	for r := bufio.NewReader(in); ; {
		raw, err := r.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var m message
		if json.Unmarshal(raw[:len(raw)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			if c := b.waiting[m.ID]; c != nil {
				delete(b.waiting, m.ID)
				c <- m
			}
		case m.Method == "Page.loadEventFired":
			select {
			case b.loaded <- struct{}{}:
			default:
			}
		case m.Method == "Log.entryAdded", m.Method == "Runtime.consoleAPICalled", m.Method == "Runtime.exceptionThrown":
			b.said = append(b.said, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// call asks the browser for something.
func (b *browser) call(method string, params any, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func (b *browser) try(method string, params any, result any) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	if params == nil {
		raw = []byte("{}")
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	if b.waiting == nil {
		b.mu.Unlock()
		return fmt.Errorf("the browser has ended")
	}
	b.last++
	m := message{ID: b.last, Method: method, Params: raw, SessionID: b.session}
	b.waiting[m.ID] = answer
	b.mu.Unlock()
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := b.out.Write(append(line, 0)); err != nil {
		return err
	}
	select {
	case a, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("the browser has ended")
		case a.Error != nil:
			return fmt.Errorf("%s", a.Error.Message)
		case result != nil:
			return json.Unmarshal(a.Result, result)
		}
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("no answer within a minute")
	}
}

// open loads a page, and gives the browser's own error where it cannot.
func (b *browser) open(address string) (failure string) {
	b.t.Helper()
	b.drain()
	var a struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": address}, &a)
	// A page that says what went wrong loads too; its event must not be taken for the next page's.
	b.wait()
	return a.ErrorText
}

func (b *browser) drain() {
	for {
		select {
		case <-b.loaded:
		default:
			return
		}
	}
}

func (b *browser) wait() {
	b.t.Helper()
	select {
	case <-b.loaded:
	case <-time.After(time.Minute):
		b.t.Fatal("the page did not load within a minute")
	}
}

// js gives the text that an expression comes to in the page.
func (b *browser) js(expression string) string {
	b.t.Helper()
	var a struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &a)
	if a.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s %s", expression, a.ExceptionDetails.Text, a.ExceptionDetails.Exception.Description)
	}
	if a.Result.Value == nil {
		return ""
	}
	return fmt.Sprint(a.Result.Value)
}

// text is what the page shows.
func (b *browser) text() string { return b.js("document.body.innerText") }

// follow does what loads another page, and waits for that.
func (b *browser) follow(expression string) {
	b.t.Helper()
	b.drain()
	b.js(expression)
	b.wait()
}

// click presses the first link or button with these words, with the mouse's own event.
func (b *browser) click(words string) {
	b.t.Helper()
	quoted, _ := json.Marshal(words)
	b.follow(`(() => { const e = [...document.querySelectorAll("main a, main button, nav a")].find(e => e.innerText.trim() === ` + string(quoted) + `); if (!e) throw new Error("no such button: " + document.body.innerText); e.click(); })()`)
}

// fill types into the fields of a form, by their labels' words.
func (b *browser) fill(pairs ...string) {
	b.t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		label, _ := json.Marshal(pairs[i])
		value, _ := json.Marshal(pairs[i+1])
		b.js(`(() => { const l = [...document.querySelectorAll("label")].find(l => l.innerText.trim().startsWith(` + string(label) + `)); if (!l) throw new Error("no such label"); const e = document.getElementById(l.htmlFor);
			if (e.type === "checkbox") e.checked = ` + string(value) + ` === "yes"; else e.value = ` + string(value) + `; })()`)
	}
}

// choose puts a file into the upload with this id.
func (b *browser) choose(id, path string) {
	b.t.Helper()
	var document struct{ Root struct{ NodeID int } }
	b.call("DOM.getDocument", nil, &document)
	var found struct{ NodeID int }
	b.call("DOM.querySelector", map[string]any{"nodeId": document.Root.NodeID, "selector": "#" + id}, &found)
	b.call("DOM.setFileInputFiles", map[string]any{"nodeId": found.NodeID, "files": []string{path}}, nil)
}

// look is how a page is looked at.
type look struct {
	width int
	scale float64
	dark  bool
}

// picture puts what the page looks like into a file of the folder that CONSOLE_PICTURES names, for people to look at.
func (b *browser) picture(name string, l look) {
	b.t.Helper()
	dir := os.Getenv("CONSOLE_PICTURES")
	if dir == "" {
		return
	}
	b.dark(l.dark)
	// Zoomed to 200 %, a page has half as many pixels of its own, each of them twice as large.
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": int(float64(l.width) / l.scale), "height": int(900 / l.scale), "deviceScaleFactor": l.scale, "mobile": false}, nil)
	var p struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "format": "png"}, &p)
	raw, err := base64.StdEncoding.DecodeString(p.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), raw, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.wide()
}

// pictures are taken as people sit before it: in the light, in the dark, on a narrow screen, and zoomed to 200 %.
func (b *browser) pictures(name string) {
	b.t.Helper()
	b.picture(name+"-light", look{1200, 1, false})
	b.picture(name+"-dark", look{1200, 1, true})
	b.picture(name+"-narrow", look{360, 1, false})
	b.picture(name+"-zoomed", look{1200, 2, true})
}

// narrow makes the window as narrow as WCAG 2.2, 1.4.10, has it, and dark; wide takes that back.
func (b *browser) narrow() {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.dark(true)
}

func (b *browser) wide() {
	b.call("Emulation.clearDeviceMetricsOverride", nil, nil)
	b.dark(false)
}

func (b *browser) dark(on bool) {
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": map[bool]string{true: "dark", false: "light"}[on]}}}, nil)
}

// judge has axe-core, a script of others that CONSOLE_AXE names, look at the page, in both schemes.
func (b *browser) judge(script, page string) {
	b.t.Helper()
	source, err := os.ReadFile(script)
	if err != nil {
		b.t.Fatal(err)
	}
	b.js(string(source) + ";undefined")
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		found := b.js(`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => r.violations.map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.html).slice(0, 3).join(" | ")).join("\n"))`)
		if found != "" {
			b.t.Errorf("axe: %s, dark %v: %s", page, dark, found)
		}
	}
	b.dark(false)
}

// complaints are what the browser said of the pages since it was asked last, but for what tells only of a status.
func (b *browser) complaints() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.said {
		if !strings.Contains(s, "the server responded with a status of") {
			out = append(out, s)
		}
	}
	b.said = nil
	return out
}
