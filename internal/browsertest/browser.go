// Package browsertest drives a browser without a window in tests of pages.
package browsertest

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

// Browser is a Chromium without a window, driven by the DevTools protocol over two pipes: JSON, each message with a zero byte behind it.
type Browser struct {
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

// Start starts Chromium; home is its user's folder, profile its own, both of which may hold what the test has put there.
func Start(t testing.TB, home, profile string) *Browser {
	t.Helper()
	b := &Browser{t: t, waiting: map[int]chan message{}, loaded: make(chan struct{}, 16)}
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
func (b *Browser) start(home, profile string) (in, out *os.File) {
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

func (b *Browser) read(in *os.File) {
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
func (b *Browser) call(method string, params any, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func (b *Browser) try(method string, params any, result any) error {
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

// Open loads a page, and gives the browser's own error where it cannot.
func (b *Browser) Open(address string) (failure string) {
	b.t.Helper()
	b.drain()
	var a struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": address}, &a)
	// A page that says what went wrong loads too; its event must not be taken for the next page's.
	b.wait()
	return a.ErrorText
}

func (b *Browser) drain() {
	for {
		select {
		case <-b.loaded:
		default:
			return
		}
	}
}

func (b *Browser) wait() {
	b.t.Helper()
	select {
	case <-b.loaded:
	case <-time.After(time.Minute):
		b.t.Fatal("the page did not load within a minute")
	}
}

// JS gives the text that an expression comes to in the page.
func (b *Browser) JS(expression string) string {
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

// Text is what the page shows.
func (b *Browser) Text() string { return b.JS("document.body.innerText") }

// Follow does what loads another page, and waits for that.
func (b *Browser) Follow(expression string) {
	b.t.Helper()
	b.drain()
	b.JS(expression)
	b.wait()
}

// Click presses the first link or button with these words, with the mouse's own event.
func (b *Browser) Click(words string) {
	b.t.Helper()
	quoted, _ := json.Marshal(words)
	b.Follow(`(() => { const e = [...document.querySelectorAll("main a, main button, nav a")].find(e => e.innerText.trim() === ` + string(quoted) + `); if (!e) throw new Error("no such button: " + document.body.innerText); e.click(); })()`)
}

// Fill types into the fields of a form, by their labels' words.
func (b *Browser) Fill(pairs ...string) {
	b.t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		label, _ := json.Marshal(pairs[i])
		value, _ := json.Marshal(pairs[i+1])
		b.JS(`(() => { const l = [...document.querySelectorAll("label")].find(l => l.innerText.trim().startsWith(` + string(label) + `)); if (!l) throw new Error("no such label"); const e = document.getElementById(l.htmlFor);
			if (e.type === "checkbox") e.checked = ` + string(value) + ` === "yes"; else e.value = ` + string(value) + `; })()`)
	}
}

// Choose puts a file into the upload with this id.
func (b *Browser) Choose(id, path string) {
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
func (b *Browser) picture(name string, l look) {
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
	b.Wide()
}

// Pictures are taken as people sit before it: in the light, in the dark, on a narrow screen, and zoomed to 200 %.
func (b *Browser) Pictures(name string) {
	b.t.Helper()
	b.picture(name+"-light", look{1200, 1, false})
	b.picture(name+"-dark", look{1200, 1, true})
	b.picture(name+"-narrow", look{360, 1, false})
	b.picture(name+"-zoomed", look{1200, 2, true})
}

// Narrow makes the window as narrow as WCAG 2.2, 1.4.10, has it, and dark; Wide takes that back.
func (b *Browser) Narrow() {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": false}, nil)
	b.dark(true)
}

// Wide takes Narrow back.
func (b *Browser) Wide() {
	b.call("Emulation.clearDeviceMetricsOverride", nil, nil)
	b.dark(false)
}

func (b *Browser) dark(on bool) {
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": map[bool]string{true: "dark", false: "light"}[on]}}}, nil)
}

// Judge has axe-core, a script of others that CONSOLE_AXE names, look at the page, in both schemes.
func (b *Browser) Judge(script, page string) {
	b.t.Helper()
	source, err := os.ReadFile(script)
	if err != nil {
		b.t.Fatal(err)
	}
	b.JS(string(source) + ";undefined")
	for _, dark := range []bool{false, true} {
		b.dark(dark)
		found := b.JS(`axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => r.violations.map(v => v.id + ": " + v.help + " " + v.nodes.map(n => n.html).slice(0, 3).join(" | ")).join("\n"))`)
		if found != "" {
			b.t.Errorf("axe: %s, dark %v: %s", page, dark, found)
		}
	}
	b.dark(false)
}

// Complaints are what the browser said of the pages since it was asked last, but for what tells only of a status.
func (b *Browser) Complaints() (out []string) {
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
