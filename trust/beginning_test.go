package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestLostTimestamp: a folder that has lost its timestamp.json is not taken for a new one, which would begin at version 1.
func TestLostTimestamp(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	if err := os.Remove(filepath.Join(w.Dir, "metadata", "timestamp.json")); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(filepath.Join(w.Dir, "metadata"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.NewPublisher(w.PublisherConfig()); !errors.Is(err, trust.ErrIncomplete) {
		t.Error(err)
	}
	if after, err := os.ReadDir(filepath.Join(w.Dir, "metadata")); err != nil || len(after) != len(before) {
		t.Errorf("%d files, were %d: %v", len(after), len(before), err)
	}
}
