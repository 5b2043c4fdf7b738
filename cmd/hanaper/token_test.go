package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(cardtest.Main{Tests: m}) }

// TestTokenInitAsksAgain: a PIN that the token does not take, and one that was typed in two ways, are asked for again at a
// terminal. In a file it is refused. Either way the token is blank until both PINs are good.
func TestTokenInitAsksAgain(t *testing.T) {
	softhsm.ForTest(t)
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	d := desk{t, t.TempDir()}
	cmd := exec.Command(programtest.Path(t, "hanaper"), "token", "init", "--module", module, "--label", "asks again", "--transcript", "tokens.log")
	cmd.Dir = d.dir
	s := sit(t, cmd)
	s.answers(`New SO PIN of token "asks again": `, "sp1")
	s.sees("it has 3 bytes, the token takes 4 to")
	s.answers(`New SO PIN of token "asks again": `, "so-pin-4711")
	s.answers("The same again: ", "so-pin-4712")
	s.sees("They differ.")
	d.nothing("tokens.log")
	s.answers(`New SO PIN of token "asks again": `, "so-pin-4711")
	s.answers("The same again: ", "so-pin-4711")
	s.answers(`New user PIN of token "asks again": `, strings.Repeat("x", 256))
	s.sees("Choose another")
	s.answers(`New user PIN of token "asks again": `, "user-pin-4711")
	s.answers("The same again: ", "user-pin-4711")
	s.leaves(0)
	s = sit(t, exec.Command(programtest.Path(t, "hanaper"), "token", "init", "--module", module, "--label", "asks again", "--transcript", d.path("more.log")))
	if out := s.leaves(3); !strings.Contains(out, "exists already") || strings.Contains(out, "New SO PIN") {
		t.Errorf("a label that is taken, before a PIN is asked for: %s", out)
	}
	d.nothing("more.log")
	short := d.write("short", "sp1\n")
	if code, _, errs := runToken(t, "init", "--module", module, "--label", "from a file", "--so-pin-source", short, "--pin-source", d.write("long-enough", "pin-4711\n"), "--transcript", d.path("more.log")); code != 2 || !strings.Contains(errs, "the SO PIN: it has 3 bytes") {
		t.Errorf("%d, %s", code, errs)
	}
	infos, err := pkcs11.List(module)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if i.Label == "from a file" {
			t.Error("a token was initialised with a PIN that is too short")
		}
	}
}

// runToken runs a verb of `hanaper token` and gives the exit code and both outputs.
func runToken(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = shell.Run(&cli.App{Name: "hanaper", Commands: []*cli.Command{tokenCommand()}, Writer: &o, ErrWriter: &e}, append([]string{"hanaper", "token"}, args...))
	return code, o.String(), e.String()
}

func TestTokenVerbs(t *testing.T) {
	softhsm.ForTest(t)
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pinFile := func(name, pin string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pin, soPIN, transcript := pinFile("pin", "user-pin-1\n"), pinFile("so", "so-pin-1\n"), filepath.Join(dir, "transcript.log")
	count := func() int {
		n := 0
		infos, err := pkcs11.List(module)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos {
			if i.Initialized {
				n++
			}
		}
		return n
	}
	before := count()
	base := []string{"init", "--module", module, "--label", "verbs", "--so-pin-source", soPIN, "--pin-source", pin}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no transcript": {base, 2, "transcript"},
		"no label":      {[]string{"init", "--module", module, "--transcript", transcript}, 2, "label"},
		"no library":    {[]string{"init", "--label", "x", "--transcript", transcript}, 2, "library"},
		"same PINs":     {append(base[:len(base):len(base)], "--pin-source", soPIN, "--transcript", transcript), 2, "same"},
		"loose file":    {append(base[:len(base):len(base)], "--pin-source", "/etc/passwd", "--transcript", transcript), 3, "0644"},
		"PIN as a flag": {append(base[:len(base):len(base)], "--pin", "1234"), 2, "flag"},
		"an argument":   {append(base[:len(base):len(base)], "1234"), 2, ""},
	} {
		code, out, errs := runToken(t, c.args...)
		if code != c.code || out != "" || !strings.Contains(errs, c.says) || !strings.Contains(errs, "hint:") {
			t.Errorf("%s: exit %d, out %q, err %q", name, code, out, errs)
		}
		if _, err := os.Stat(transcript); err == nil || count() != before {
			t.Fatalf("%s: something was written", name)
		}
	}
	code, out, errs := runToken(t, append(base, "--transcript", transcript)...)
	if code != 0 || !strings.Contains(out, "verbs") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	// A second one of that label is refused, and the refusal is in the transcript.
	if code, _, errs := runToken(t, append(base, "--transcript", transcript)...); code == 0 || !strings.Contains(errs, "exists already") {
		t.Errorf("again: exit %d, %q", code, errs)
	}
	if got := leaves(t, transcript, "pin-1"); got != "token-init-intent token-init token-init-intent token-init-failed" {
		t.Errorf("transcript: %s", got)
	}

	var listed []listedToken
	code, out, errs = runToken(t, "list", "--json", "--module", module)
	if err := json.Unmarshal([]byte(out), &listed); code != 0 || err != nil {
		t.Fatalf("exit %d, %q, %v", code, errs, err)
	}
	var uri string
	for _, l := range listed {
		if l.Label == "verbs" {
			uri = l.URI
		}
	}
	u, err := hsm.ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: hsm.PINFile(pin)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "root", Algorithm: hsm.P256}); err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	code, out, errs = runToken(t, "show", "--pin-source", pin, uri)
	for _, want := range []string{"verbs", "root", "P-256", "sealed", "never-extractable", "CKM_ECDSA"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("show does not say %q: exit %d, %q\n%s", want, code, errs, out)
		}
	}
	if strings.Contains(out, "not usable") {
		t.Errorf("show: %s", out)
	}
	// A key that other programs made and that is not used here is listed, with the reason.
	made := exec.Command("pkcs11-tool", "--module", module, "--token-label", "verbs", "--login", "--pin", "user-pin-1", "--keypairgen", "--key-type", "EC:secp521r1", "--label", "a+b", "--id", "77")
	made.Env = append(os.Environ(), softhsm.ForTest(t).Env()...)
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("pkcs11-tool: %v\n%s", err, out)
	}
	code, out, errs = runToken(t, "show", "--pin-source", pin, uri)
	for _, want := range []string{"private keys: 1", "other keys:", "a+b", "77", "not usable: curve"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("show does not say %q: exit %d, %q\n%s", want, code, errs, out)
		}
	}
	code, out, _ = runToken(t, "show", "--public", "--json", uri)
	var shown shownToken
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || len(shown.Keys) == 0 || len(shown.Mechanisms) == 0 {
		t.Errorf("show --public: exit %d, %v\n%s", code, err, out)
	}
	for _, k := range shown.Keys {
		if k.Kind != "public key" || k.NotUsable == "" || k.URI != "" {
			t.Errorf("show --public: %+v", k)
		}
	}
	wrong := pinFile("wrong", "not-the-pin")
	if code, out, errs := runToken(t, "show", "--pin-source", wrong, uri); code != 1 || out != "" || !strings.Contains(errs, "verbs") || strings.Contains(errs, "not-the-pin") {
		t.Errorf("wrong PIN: exit %d, %q, %q", code, out, errs)
	}
	for _, bad := range []string{"nonsense", "pkcs11:token=nowhere?module-path=" + module, "pkcs11:token=verbs"} {
		if code, out, errs := runToken(t, "show", "--pin-source", pin, bad); code == 0 || out != "" || !strings.Contains(errs, "hint:") {
			t.Errorf("show %s: exit %d, %q, %q", bad, code, out, errs)
		}
	}
}

// TestTokenOfNSS: a library that wants a string at its start is named with it, and everything that names the token afterwards has it too.
// Without it the error says how it is written.
func TestTokenOfNSS(t *testing.T) {
	p := peertest.NSS(t)
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, p.PIN, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := runToken(t, "list", "--module", p.Token.ModulePath)
	if code != 1 || !strings.Contains(errs, "C_Initialize") || !strings.Contains(errs, "x-init-reserved=configdir=") {
		t.Errorf("without the string: %d %s", code, errs)
	}
	code, out, errs := runToken(t, "list", "--module", p.Token.Library())
	if code != 0 || !strings.Contains(out, "x-init-reserved=configdir='sql:") {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	_, printed, _ := strings.Cut(out, "pkcs11:token=NSS%20Certificate%20DB")
	printed, _, _ = strings.Cut(printed, "\n")
	code, out, errs = runToken(t, "show", "--pin-source", pin, "pkcs11:token=NSS%20Certificate%20DB"+strings.TrimSpace(printed))
	if code != 0 || !strings.Contains(out, "NSS Certificate DB") {
		t.Errorf("by the URI that was printed: %d %s %s", code, out, errs)
	}
	if code, _, errs = runToken(t, "list", "--module", p.Token.String()); code != 2 || !strings.Contains(errs, "not that of a library alone") {
		t.Errorf("a token's URI as a library: %d %s", code, errs)
	}
}
