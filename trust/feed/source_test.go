package feed_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestPipe: a pipe in the place of a file is refused at once; opening it would hold up every later look.
func TestPipe(t *testing.T) {
	w := trusttest.New(t)
	g := newGateway(t, w)
	at := filepath.Join(w.Dir, "metadata", "timestamp.json")
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Refresh(context.Background()) }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "no plain file") || g.Current() != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the look hangs")
	}
}
