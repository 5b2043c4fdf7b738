package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// TestRunbook runs the ```sh blocks of the release engineer's runbook as they stand there; only the path of the library
// is this machine's, and the token has been made before.
func TestRunbook(t *testing.T) {
	o, out, err := perform(t, blocks(runbook(t), "sh"))
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out))
	}
	v, err := o.device(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"firmware-2.1", "supplier01-app-1.0"} {
		if _, err := v.Find(name); err != nil {
			t.Error(err)
		}
	}
}

// TestStolenTargetsKey performs the runbook's page about a stolen targets key, with a thief who published after the last
// pull, a build that did so before the thief, and a thief who tries again after the root has changed.
func TestStolenTargetsKey(t *testing.T) {
	page := runbook(t)
	main, disaster, ok := strings.Cut(page, "### A targets key was stolen")
	if !ok {
		t.Fatal("the page is gone")
	}
	steps := blocks(disaster, "console")
	if len(steps) != 2 || !strings.Contains(steps[0], "root push") || !strings.Contains(steps[1], "--superseded") {
		t.Fatalf("the page's commands are others: %q", steps)
	}
	release, _, _ := strings.Cut(main, "## 6. ")
	// Both have the credentials of a build machine; the thief has the key's token too.
	publish := func(who, target string) string {
		return "hanaper-sign init --home-dir " + who + " --repo r --credentials build.zip\n" +
			"hanaper-sign targets pull --home-dir " + who + " --repo r\n" +
			"hanaper-sign targets add --home-dir " + who + " --repo r --name " + target + " --version 1 --length 4 --sha256 " + strings.Repeat("ee", 32) + " --hardwareids imx8-board\n" +
			"hanaper-sign targets sign --home-dir " + who + " --repo r --key-name targets\n"
	}
	script := append(blocks(release, "sh"),
		publish("build", "nightly"), "hanaper-sign targets push --home-dir build --repo r\n",
		publish("thief", "evil"), "hanaper-sign targets push --home-dir thief --repo r\n",
		steps[0],
		// The deadlock: neither way led out of here.
		"! hanaper-sign targets pull --repo myrepo || exit 21\n",
		"hanaper-sign targets add --home-dir thief --repo r --name evil --version 2 --length 4 --sha256 "+strings.Repeat("ee", 32)+" --hardwareids imx8-board\n",
		"hanaper-sign targets sign --home-dir thief --repo r --key-name targets\n",
		"! hanaper-sign targets push --home-dir thief --repo r || exit 22\n",
		"echo ======== look\n", steps[1],
		"! hanaper-sign targets push --home-dir thief --repo r || exit 23\n",
	)
	o, out, err := perform(t, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out))
	}
	_, shown, _ := strings.Cut(out, "======== look")
	for _, want := range []string{`+ "evil-1"`, `+ "nightly-1"`, "SUPERSEDED: targets version"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the engineer does not see %q:\n%s", want, shown)
		}
	}
	v, err := o.device(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"firmware-2.1", "nightly-1"} {
		if _, err := v.Find(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"evil-1", "evil-2"} {
		if _, err := v.Find(name); err == nil {
			t.Errorf("a device would install %s", name)
		}
	}
}

// TestPushReplacesSuperseded: who did not look at what the thief published replaces it, under a version that is told.
func TestPushReplacesSuperseded(t *testing.T) {
	main, disaster, _ := strings.Cut(runbook(t), "### A targets key was stolen")
	release, _, _ := strings.Cut(main, "## 6. ")
	o, out, err := perform(t, append(blocks(release, "sh"),
		"for i in 1 2 3; do\n  hanaper-sign targets add --home-dir sign-repo --repo tufrepo --name evil --version $i --length 4 --sha256 "+strings.Repeat("ee", 32)+" --hardwareids imx8-board\n"+
			"  hanaper-sign targets sign --home-dir sign-repo --repo tufrepo --key-name targets\n  hanaper-sign targets push --home-dir sign-repo --repo tufrepo\ndone\n",
		blocks(disaster, "console")[0],
		"hanaper-sign targets sign --repo myrepo --key-name mytargets2\n",
		"if hanaper-sign targets push --repo myrepo 2> refusal; then exit 31; fi\n",
		"hanaper-sign targets sign --repo myrepo --key-name mytargets2 --version $(sed -n 's/.*targets sign --version \\([0-9]*\\).*/\\1/p' refusal)\n",
		"hanaper-sign targets push --repo myrepo\n"))
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out))
	}
	v, err := o.device(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Find("firmware-2.1"); err != nil {
		t.Error(err)
	}
	if _, err := v.Find("evil-3"); err == nil {
		t.Error("a device would install evil-3")
	}
}

func runbook(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/runbooks/release-engineer.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// blocks are the fenced blocks of a kind.
func blocks(page, kind string) []string {
	var out []string
	for i, part := range strings.Split(page, "```") {
		if body, ok := strings.CutPrefix(part, kind+"\n"); ok && i%2 == 1 {
			out = append(out, body)
		}
	}
	return out
}

func tail(out string) string {
	lines := strings.Split(out, "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// perform runs commands of the runbook against a server of their own.
func perform(t *testing.T, steps []string) (*testServer, string, error) {
	t.Helper()
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	board := newBoard(t)
	text := strings.ReplaceAll("set -e\n"+strings.Join(steps, ""), "/usr/lib/softhsm/libsofthsm2.so", module)
	text = strings.ReplaceAll(text, "token=release?", "token="+board.Label+"?")
	dir := t.TempDir()
	o := newTestServer(t, "sealed", "oauth")
	o.start(t, "oauth")
	t.Cleanup(o.http.Close)
	for name, data := range map[string][]byte{"release.pin": board.PIN, "credentials.zip": o.credentials(t, "oauth", nil)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "-xc", text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+programtest.Dir(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return o, string(out), err
}
