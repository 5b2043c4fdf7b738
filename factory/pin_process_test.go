package factory_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/programtest"
)

// TestWrongPINEndsForGood: a hanaperd whose PIN is wrong ends as refused, which its unit does not start again: each start would spend a try, until the token
// is locked.
func TestWrongPINEndsForGood(t *testing.T) {
	p := newPlant(t)
	for name, more := range map[string]string{"in a process of its own": "", "in this process": "\nissuing: {apart: false, "} {
		dir := t.TempDir()
		config, _ := p.writeConfig(t, dir)
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		wrong := filepath.Join(dir, "wrong.pin")
		if err := os.WriteFile(wrong, []byte("000000"), 0o600); err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), p.board.PINFile, wrong, 1)
		if more != "" {
			changed = strings.Replace(changed, "\nissuing: {", more, 1)
		}
		if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if exit, _, errs := run(t, programtest.Path(t, "hanaperd"), "serve", "--config", config); exit != 3 || !strings.Contains(errs, "PIN refused") {
			t.Errorf("%s: exit code %d: %s", name, exit, errs)
		}
	}
}
