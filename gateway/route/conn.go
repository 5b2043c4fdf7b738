package route

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is one connection to an upstream, used by one request at a time.
type conn struct {
	net.Conn
	raw     syscall.RawConn // of the socket below; nil if it has none
	address *address
	r       *bufio.Reader
	w       *bufio.Writer
	// head is how many bytes of a response's header may still be read; less than 0 in a body, which has no bound.
	head int64
	// fault is why the last reading from the connection failed: what came before it would be taken for a line.
	fault error
	// got is whether anything of the response has come.
	got bool
	// used is whether it has carried a request before.
	used      bool
	idleSince time.Time
}

var errResponseHead = errors.New("the header of the upstream's response is too large")

func newConn(c, below net.Conn, a *address) *conn {
	out := &conn{Conn: c, address: a}
	if s, ok := below.(syscall.Conn); ok {
		out.raw, _ = s.SyscallConn()
	}
	out.r, out.w = bufio.NewReaderSize(readsOf{out}, 4<<10), bufio.NewWriterSize(c, 4<<10)
	return out
}

// readsOf is what the buffer reads.
type readsOf struct{ c *conn }

func (r readsOf) Read(p []byte) (int, error) {
	c := r.c
	if c.head == 0 {
		c.fault = errResponseHead
		return 0, c.fault
	}
	if c.head > 0 && int64(len(p)) > c.head {
		p = p[:c.head]
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.got = true
		if c.head > 0 {
			c.head -= int64(n)
		}
	}
	if err != nil {
		c.fault = err
	}
	return n, err
}

// quiet says that a connection between two requests is as it should be: open, and nothing to read. What an upstream sends unasked would be taken for
// the answer to the next request, which is another device's.
func (c *conn) quiet() bool {
	if c.r.Buffered() != 0 {
		return false
	}
	if _, secure := c.Conn.(*tls.Conn); secure {
		// TLS reads ahead of the record that it is asked for: the time that is over lets it give what it holds, and read no more.
		_ = c.SetReadDeadline(time.Unix(1, 0))
		if _, err := c.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	if c.raw == nil {
		return true
	}
	quiet := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
	})
	return err == nil && quiet
}
