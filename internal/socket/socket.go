// Package socket makes and calls the socket files that programs of one machine meet at (unix(7)), by paths of any length.
//
// Who may write to the folder that the file lies in decides who answers there, and may take the file away; who has neither its owner nor its group cannot
// open it. The package only sees to it that nothing that is no socket, and no socket that somebody still listens at, is taken away.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// longest is how many bytes of a path fit into a socket's address, with the NUL that ends it (unix(7): sun_path has 108).
const longest = 107

// ErrInUse means that somebody listens there.
var ErrInUse = errors.New("another process is serving there")

// masks guards the process's umask while a socket is made.
var masks sync.Mutex

// reach gives use a name for path that fits into a socket's address: path itself, or one by way of its folder, which is open meanwhile.
func reach[T any](path string, use func(name string) (T, error)) (result T, err error) {
	if len(path) <= longest {
		return use(path)
	}
	folder, err := os.OpenFile(filepath.Dir(path), os.O_RDONLY|syscall.O_DIRECTORY, 0) // no pipe
	if err != nil {
		return result, err
	}
	defer folder.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path))
	if len(name) > longest {
		return result, &fs.PathError{Op: "socket", Path: path, Err: syscall.ENAMETOOLONG}
	}
	result, err = use(name)
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		op.Addr = &net.UnixAddr{Name: path, Net: "unix"} // nobody looks for the other name
	}
	return result, err
}

// Dial connects to the socket at path. It fails with fs.ErrNotExist where there is none, and with syscall.ECONNREFUSED where nobody listens.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	return reach(path, func(name string) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", name) })
}

// Listen makes the socket at path, of the given mode, and of the group gid where it is not -1; nobody gets in before it has them. One that a process left
// that was killed is taken away; ErrInUse means that somebody listens there, and fs.ErrExist that something else is there. Closing it removes the file.
func Listen(path string, mode fs.FileMode, gid int) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, &fs.PathError{Op: "listen", Path: path, Err: fs.ErrExist}
	default:
		if conn, err := Dial(context.Background(), path); err == nil {
			conn.Close()
			return nil, &fs.PathError{Op: "listen", Path: path, Err: ErrInUse}
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := reach(path, func(name string) (*net.UnixListener, error) {
		masks.Lock()
		defer masks.Unlock()
		defer syscall.Umask(syscall.Umask(0o177))
		return net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by the name that it was made by, which may mean something else then
	made := &listener{UnixListener: l, path: path}
	if gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err = errors.Join(err, os.Chmod(path, mode)); err != nil {
		return nil, errors.Join(err, made.Close())
	}
	return made, nil
}

type listener struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Addr is the path that was asked for.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close removes the file, once, and ends Accept: in this order, so that it is never a successor's file.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		if err = os.Remove(l.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	})
	return errors.Join(err, l.UnixListener.Close())
}
