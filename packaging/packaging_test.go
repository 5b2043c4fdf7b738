// Package packaging has tests of what the packages bring: units and examples. What happens on a machine that they are installed on is shown by
// 'make packages-test'.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/gateway"
)

func units(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("debian/*.service")
	if err != nil || len(list) != 3 {
		t.Fatalf("units %v, %v", list, err)
	}
	return list
}

// TestUnitsHardened: systemd itself counts each unit's exposure, in tenths, at most 20.
func TestUnitsHardened(t *testing.T) {
	for _, unit := range units(t) {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

// TestUnits: what the page says of each unit.
func TestUnits(t *testing.T) {
	page, err := os.ReadFile("../docs/packages.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range units(t) {
		data, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(unit), ".service")
		for _, line := range []string{"Type=notify", "WatchdogSec=60s", "User=" + name, "StateDirectory=" + name, "ExecStart=/usr/bin/" + name + " serve --config /etc/hanaper/" + name + ".yaml",
			// A program that the watchdog ended exits with 2, as every Go program does at SIGABRT, and must be started anew.
			"Restart=on-failure", "RestartPreventExitStatus=3 4",
			// logind lets every user have units of their own run, out of this one, if asked by D-Bus.
			"InaccessiblePaths=-/run/dbus"} {
			if !strings.Contains("\n"+string(data), "\n"+line+"\n") {
				t.Errorf("%s lacks %s", unit, line)
			}
		}
		// What is read in a home, as units of the user's and keys that let in by ssh are, would be the service's own to write.
		if user, err := os.ReadFile(strings.TrimSuffix(unit, ".service") + ".sysusers"); err != nil || !strings.HasSuffix(string(user), " /nonexistent\n") {
			t.Errorf("%s: the user has a home: %s, %v", unit, user, err)
		}
		for _, m := range regexp.MustCompile(`(?m)^LoadCredential\w*=(.*)$`).FindAllStringSubmatch(string(data), -1) {
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/packages.md does not name the credential %s", m[1])
			}
		}
	}
}

// TestExamples: the examples are configurations that the programs read, whose state lies where the units let them write, and whose PINs are credentials
// that the units load.
func TestExamples(t *testing.T) {
	for name, load := range map[string]func(string) error{
		"hanaperd":        func(path string) error { _, err := factory.LoadConfig(path); return err },
		"hanaper-gateway": func(path string) error { _, err := gateway.LoadSettings(path); return err },
		"hanaper-repo":    func(string) error { return nil }, // make packages-test serves with it
	} {
		path := filepath.Join("examples", name, name+".yaml")
		if err := load(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		unit, err := os.ReadFile(filepath.Join("debian", name+".service"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`pin-source=credential:([\w.-]+)`).FindAllStringSubmatch(string(data), -1) {
			if !strings.Contains(string(unit), "\nLoadCredentialEncrypted="+m[1]+"\n") {
				t.Errorf("%s wants the credential %s, which the unit does not load", path, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:state|publish|high_water|path|file|key): (/\S+)$`).FindAllStringSubmatch(string(data), -1) {
			if !strings.HasPrefix(m[1], "/var/lib/"+name+"/") {
				t.Errorf("%s: the service cannot write or own %s", path, m[1])
			}
		}
	}
}
