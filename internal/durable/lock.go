package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// ErrLocked: another process holds the lock.
var ErrLocked = errors.New("is in use by another process")

// Lock takes an exclusive lock on the file at path, which it makes if need be, until the result is closed or the
// process ends. It does not wait: where another holds it the error wraps ErrLocked.
func Lock(path string) (io.Closer, error) {
	f, err := input.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s %w", show.Text(path), ErrLocked)
		}
		return nil, fmt.Errorf("locking %s: %w", show.Text(path), err)
	}
	return f, nil
}

// Locked says whether somebody, of this process or another, holds the lock on the file at path. Nothing is written.
func Locked(path string) (bool, error) {
	f, err := input.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// LockFolder takes a lock on a folder itself, which must be there and need not be writable, until the result is closed or the process ends: a
// shared one for who reads, an exclusive one for who puts another file or folder into the place of one in it. It waits: hold it for moments.
func LockFolder(path string, exclusive bool) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		if err = syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", show.Text(path), err)
	}
	return f, nil
}
