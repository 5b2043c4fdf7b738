package main

import (
	"os"
	"strings"
	"testing"
)

// TestLineage: the state folder lets the same script carry on from a checkpoint again, and no other.
func TestLineage(t *testing.T) {
	f := nonceFolder(t.TempDir() + "/state/nonces")
	one, two, other := [32]byte{1}, [32]byte{2}, [32]byte{3}
	for _, step := range []struct {
		checkpoint, script [32]byte
		refused            bool
	}{{one, two, false}, {one, two, false}, {one, other, true}, {two, other, false}, {one, other, true}} {
		err := f.Follow(step.checkpoint, step.script)
		if (err != nil) != step.refused {
			t.Fatalf("%x after %x: %v", step.script[:1], step.checkpoint[:1], err)
		}
		if err != nil && !strings.Contains(err.Error(), "carry on from that one") {
			t.Errorf("no advice: %v", err)
		}
	}
	if list, err := os.ReadDir(string(f)); err != nil || len(list) != 2 {
		t.Errorf("%d notes, %v", len(list), err)
	}
}
