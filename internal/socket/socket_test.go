package socket_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/internal/socket"
)

// folders is a folder whose sockets have paths that fit into a socket's address, and one whose sockets do not.
func folders(t *testing.T) map[string]string {
	short, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	long := filepath.Join(short, strings.Repeat("a long name/", 12))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"short": short, "long": long}
}

// TestListen: what is made is met, has its mode, and is gone afterwards; one that was left is taken away.
func TestListen(t *testing.T) {
	for name, dir := range folders(t) {
		t.Run(name, func(t *testing.T) {
			at := filepath.Join(dir, "a.socket")
			if _, err := socket.Dial(t.Context(), at); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("nothing there: %v", err)
			}
			for range 2 {
				l, err := socket.Listen(at, 0o660, os.Getgid())
				if err != nil {
					t.Fatal(err)
				}
				if l.Addr().String() != at {
					t.Errorf("it listens at %s", l.Addr())
				}
				if info, err := os.Stat(at); err != nil || info.Mode() != fs.ModeSocket|0o660 {
					t.Errorf("%v %v", info, err)
				}
				go func() {
					if c, err := l.Accept(); err == nil {
						_, _ = c.Write([]byte("x"))
						c.Close()
					}
				}()
				c, err := socket.Dial(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
				c.Close()
				if _, err := socket.Listen(at, 0o600, -1); !errors.Is(err, socket.ErrInUse) {
					t.Errorf("a second one: %v", err)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("it is still there: %v", err)
				}
			}
			// A process that is killed removes nothing.
			left(t, at)
			if _, err := socket.Dial(t.Context(), at); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), at) {
				t.Errorf("one that was left: %v", err)
			}
			l, err := socket.Listen(at, 0o600, -1)
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
		})
	}
}

// left makes a socket file that nobody listens at.
func left(t *testing.T, at string) {
	t.Helper()
	made := filepath.Join(folders(t)["short"], "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.Rename(made, at); err != nil {
		t.Fatal(err)
	}
}

// TestListenRefuses: what is no socket stays, and nothing is made in its place.
func TestListenRefuses(t *testing.T) {
	for name, dir := range folders(t) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "file")
			if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, "link")
			if err := os.Symlink(file, link); err != nil {
				t.Fatal(err)
			}
			for at, want := range map[string]error{file: fs.ErrExist, link: fs.ErrExist, filepath.Join(dir, "none", "x"): fs.ErrNotExist, filepath.Join(dir, strings.Repeat("x", 200)): syscall.ENAMETOOLONG} {
				l, err := socket.Listen(at, 0o600, -1)
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", at, err, want)
				}
				if err == nil {
					l.Close()
				}
			}
			if b, err := os.ReadFile(file); err != nil || string(b) != "kept" {
				t.Errorf("%q %v", b, err)
			}
			if entries, err := os.ReadDir(dir); err != nil || name == "long" && len(entries) != 2 {
				t.Errorf("%v %v", entries, err)
			}
			ctx, end := context.WithCancel(t.Context())
			end()
			if _, err := socket.Dial(ctx, filepath.Join(dir, "none")); err == nil {
				t.Error("connected")
			}
		})
	}
}
