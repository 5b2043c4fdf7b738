package machine

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWrittenUnprepared: nothing is remembered as written that was not about to be.
func TestWrittenUnprepared(t *testing.T) {
	s := At(filepath.Join(t.TempDir(), "state"))
	m, err := s.Begin(begun(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	before, err := os.ReadFile(s.path(nonces[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Written(); err == nil {
		t.Error("accepted")
	}
	if after, err := os.ReadFile(s.path(nonces[0])); err != nil || string(after) != string(before) {
		t.Errorf("the memory was changed: %v", err)
	}
}
