package durable_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/programtest"
)

// TestFullDisk: what is written to a full disk is refused with the file's own name and what to do; what was there stays, and nothing is left beside it.
func TestFullDisk(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "small")
	fill, empty := programtest.SmallDisk(t, dir, "256k")
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	old, fresh := filepath.Join(dir, "old"), filepath.Join(dir, "fresh")
	if err := durable.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill()
	for path, write := range map[string]func(string, []byte, os.FileMode) error{old: durable.WriteFile, fresh: durable.Create} {
		err := write(path, []byte("new"), 0o600)
		if err == nil || !errors.Is(err, syscall.ENOSPC) || err.Error() != path+" cannot be written: no space left on device" || !strings.Contains(advice.Hint(err), "make room") {
			t.Errorf("%v, hint %q", err, advice.Hint(err))
		}
	}
	list, err := os.ReadDir(dir)
	if data, _ := os.ReadFile(old); err != nil || len(list) != 2 || string(data) != "old" {
		t.Errorf("%v, %v, %q", err, list, data)
	}
	empty()
	if err := durable.Create(fresh, []byte("new"), 0o600); err != nil {
		t.Error(err)
	}
}

type coded int

func (c coded) Error() string { return "coded" }
func (c coded) Code() int     { return int(c) }

type stated string

func (s stated) Error() string    { return "stated" }
func (s stated) SQLState() string { return string(s) }

func TestFull(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EFBIG: true, syscall.EROFS: false, coded(13): true, coded(4874): true, coded(10): false, coded(5): false,
		stated("53100"): true, stated("53200"): false,
	} {
		if got := durable.Full(err); got != want {
			t.Errorf("%#v: %v", err, got)
		}
		if got := durable.Full(fmt.Errorf("store: %w", err)); err != nil && got != want {
			t.Errorf("wrapped %#v: %v", err, got)
		}
	}
}
