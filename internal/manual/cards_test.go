package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
)

// TestOfficersWithCards runs the commands of officer.md's section about PIV cards, as they stand there, on a blank virtual card.
func TestOfficersWithCards(t *testing.T) {
	r := cardtest.New(t)
	c := cardtest.NewCard()
	c.SetPIN(pin)
	c.SetPUK(puk)
	r.Insert(t, 0, c)
	_, section, _ := strings.Cut(runbook(t, "officer"), "### Officers with PIV cards\n")
	section, _, _ = strings.Cut(section, "\n## ")
	script, wanted := "set -e\n", []string{}
	for i, block := range strings.Split(section, "```") {
		if body, is := strings.CutPrefix(block, "console\n"); is && i%2 == 1 {
			script += body
		} else if body, is := strings.CutPrefix(block, "shown\n"); is {
			wanted = append(wanted, strings.Split(strings.TrimSpace(body), "\n")...)
		}
	}
	if len(wanted) < 5 || strings.Count(script, "hanaper ") < 6 {
		t.Fatalf("the section is read wrongly: %s", script)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, ".play.sh")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir, "XDG_STATE_HOME=", "HANAPER_STATE=", "TERM=dumb")
	seen, err := atTerminal(t, dir, path, env, "", 2*time.Minute)
	if err != nil {
		t.Fatalf("%v\n%s", err, seen)
	}
	for _, want := range wanted {
		if !strings.Contains(squeezed(seen), squeezed(want)) {
			t.Errorf("officer.md says that you will see %q; it was not to be seen:\n%s", want, seen)
		}
	}
}
