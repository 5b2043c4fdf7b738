package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

// DefaultDevice is the TPM behind Linux' resource manager.
const DefaultDevice = "/dev/tpmrm0"

const (
	// commandTime is how long one command may take; slowTime is for those that make a key, which take half a minute on slow
	// hardware (RSA-3072).
	commandTime = 30 * time.Second
	slowTime    = 5 * time.Minute
	// maxAnswer bounds an answer; TPMs have buffers of 4096 bytes.
	maxAnswer = 8 << 10
	// headerSize is that of a command and of an answer: tag, size, code.
	headerSize = 10
)

// wire is one connection to a TPM, for one operation. It implements transport.TPM. A file descriptor without blocking serves the
// device and the socket alike: a blocking write to /dev/tpmrm0 returns when the command is done, whenever that is.
type wire struct {
	ctx    context.Context
	fd     int
	broken error
	// loaded are the objects that this operation has in the TPM.
	loaded []tpm2.TPMHandle
}

// dial opens the device or the socket. Another process may have /dev/tpm0, which has one user at a time: it is waited for.
func dial(ctx context.Context, path string) (*wire, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hsm.ErrGone, err)
	}
	w := &wire{ctx: ctx}
	for {
		switch {
		case st.Mode()&os.ModeSocket != 0:
			w.fd, err = dialSocket(path)
		case st.Mode()&os.ModeCharDevice != 0:
			w.fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		default:
			return nil, fmt.Errorf("%s is neither a device nor a socket", show.Text(path))
		}
		if err == nil {
			return w, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("%w: open %s: %w", hsm.ErrGone, show.Text(path), err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another program has %s: %w", show.Text(path), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func dialSocket(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	err = unix.SetNonblock(fd, true)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// managed says whether the kernel's resource manager is behind a path: it gives each user a TPM of its own, and flushes what a
// process leaves that ends.
func managed(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return strings.HasPrefix(filepath.Base(path), "tpmrm")
}

// close ends the connection; what is loaded was flushed before.
func (w *wire) close() { unix.Close(w.fd) }

// Send sends a command and reads its answer. It sends again, as the TPM asks, where the TPM was not ready. Once the operation's
// context is over, nothing but flushing is sent.
func (w *wire) Send(command []byte) ([]byte, error) {
	if len(command) < headerSize {
		return nil, errors.New("a TPM command that is cut short")
	}
	code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
	limit := commandTime
	if code == tpm2.TPMCCCreate || code == tpm2.TPMCCCreatePrimary || code == tpm2.TPMCCCreateLoaded {
		limit = slowTime
	}
	until := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		if err := w.ctx.Err(); err != nil && code != tpm2.TPMCCFlushContext {
			return nil, err
		}
		answer, err := w.exchange(command, until)
		if err != nil {
			return nil, err
		}
		if !notReady(tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:]))) || time.Now().Add(pause).After(until) {
			return answer, nil
		}
		time.Sleep(pause)
	}
}

// notReady says whether the TPM asks to send the command again: it did nothing (TPM 2.0 Library, part 2, section 6.6.3, warnings).
func notReady(rc tpm2.TPMRC) bool {
	switch rc {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return true
	}
	return false
}

func (w *wire) exchange(command []byte, until time.Time) ([]byte, error) {
	if w.broken != nil {
		return nil, w.broken
	}
	answer, err := w.roundTrip(command, until)
	if err != nil {
		// Whatever comes later is not the answer to the next command.
		w.broken = fmt.Errorf("%w: %w", hsm.ErrGone, err)
		return nil, w.broken
	}
	return answer, nil
}

func (w *wire) roundTrip(command []byte, until time.Time) ([]byte, error) {
	for sent := 0; sent < len(command); {
		n, err := unix.Write(w.fd, command[sent:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if err := w.wait(unix.POLLOUT, until); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, fmt.Errorf("send a command: %w", err)
		default:
			sent += n
		}
	}
	buf := make([]byte, maxAnswer)
	for have := 0; ; {
		if err := w.wait(unix.POLLIN, until); err != nil {
			return nil, err
		}
		n, err := unix.Read(w.fd, buf[have:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return nil, fmt.Errorf("read an answer: %w", err)
		case n == 0:
			return nil, errors.New("the TPM hung up")
		}
		have += n
		if have < headerSize {
			continue
		}
		size := int(binary.BigEndian.Uint32(buf[2:]))
		switch {
		case size < headerSize || size > maxAnswer || have > size:
			return nil, errors.New("the TPM's answer is malformed")
		case have == size:
			return buf[:size], nil
		}
	}
}

// wait waits until the descriptor is ready, or the time is over.
func (w *wire) wait(events int16, until time.Time) error {
	for {
		left := time.Until(until)
		if left <= 0 {
			return errors.New("the TPM does not answer")
		}
		fds := []unix.PollFd{{Fd: int32(w.fd), Events: events}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n > 0 {
			return nil // an error of the descriptor shows when it is used
		}
	}
}

// sweep removes the objects and sessions that a process left in a TPM without a resource manager. This connection has the TPM alone.
func (w *wire) sweep() error {
	for _, kind := range []uint32{0x80000000, 0x02000000} { // transient objects, loaded sessions
		handles, err := w.handles(kind)
		if err != nil {
			return err
		}
		for _, h := range handles {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(w); err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
				return err
			}
		}
	}
	return nil
}

// handles lists those of one kind, from first on.
func (w *wire) handles(first uint32) ([]tpm2.TPMHandle, error) {
	var all []tpm2.TPMHandle
	for {
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 64}.Execute(w)
		if err != nil {
			return nil, err
		}
		list, err := answer.CapabilityData.Data.Handles()
		if err != nil {
			return nil, err
		}
		all = append(all, list.Handle...)
		if !answer.MoreData || len(list.Handle) == 0 || len(all) > 1024 {
			return all, nil
		}
		first = uint32(list.Handle[len(list.Handle)-1]) + 1
	}
}

// keep notes an object to be flushed at the end of the operation.
func (w *wire) keep(h tpm2.TPMHandle) { w.loaded = append(w.loaded, h) }

// flush removes an object now.
func (w *wire) flush(h tpm2.TPMHandle) {
	for i, o := range w.loaded {
		if o == h {
			w.loaded = append(w.loaded[:i], w.loaded[i+1:]...)
			_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(w)
			return
		}
	}
}

// finish removes what the operation loaded.
func (w *wire) finish() {
	for len(w.loaded) > 0 {
		w.flush(w.loaded[len(w.loaded)-1])
	}
}
