package route

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request and its response.
//
// It is net/http/httputil.ReverseProxy on net/http.Transport in what it does, and does it in the goroutine that serves the device: no other
// one is woken for a request without a body. net/http reads the responses.
type exchange struct {
	router   *Router
	upstream *upstream
	w        http.ResponseWriter
	r        *http.Request
	id       *Identity
	trace    traceContext
	target   string
	status   *int
	sent     *sending // nil without a body
}

// BodyError is a fault in reading the device's body: the device's, or one of the way to it.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "the device's body: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *BodyError) Unwrap() error { return e.Err }

// UpstreamError is a fault of the upstream's, or of the way to it.
type UpstreamError struct {
	Upstream, Address string
	Err               error
}

func (e *UpstreamError) Error() string {
	if e.Address == "" {
		return fmt.Sprintf("upstream %s: %v", e.Upstream, e.Err)
	}
	return fmt.Sprintf("upstream %s at %s: %v", e.Upstream, e.Address, e.Err)
}

// Unwrap gives the cause.
func (e *UpstreamError) Unwrap() error { return e.Err }

func (x *exchange) body() bool { return x.r.Body != nil && x.r.Body != http.NoBody }

// again says that a request may be sent a second time: it changes nothing, and nothing of its answer has come.
func (x *exchange) again() bool {
	return !x.body() && (x.r.Method == http.MethodGet || x.r.Method == http.MethodHead || x.r.Method == http.MethodOptions)
}

func (x *exchange) run() error {
	ctx := x.r.Context()
	if err := x.upstream.enter(ctx); err != nil {
		return &UpstreamError{Upstream: x.upstream.name, Err: err}
	}
	defer x.upstream.leave()
	for fresh := false; ; fresh = true {
		c, err := x.upstream.take(ctx, fresh)
		if err != nil {
			return &UpstreamError{Upstream: x.upstream.name, Err: err}
		}
		used := c.used
		err = x.on(ctx, c)
		if err == nil {
			return nil
		}
		var device *BodyError
		if errors.As(err, &device) {
			return err
		}
		// A connection that was kept may have been closed by the upstream just when it was used again.
		if used && !fresh && !c.got && x.again() && ctx.Err() == nil && !timedOut(err) {
			continue
		}
		return &UpstreamError{Upstream: x.upstream.name, Address: c.address.text, Err: err}
	}
}

// on does the exchange on c, and gives c back or closes it.
func (x *exchange) on(ctx context.Context, c *conn) error {
	keep := false
	// The device's going away ends it, whatever it waits for.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			keep = false
		}
		if keep {
			x.upstream.give(c)
		} else {
			c.Close()
		}
		x.sent.wait(x)
	}()
	c.got, c.fault, c.head = false, nil, maxResponseHead
	_ = c.SetDeadline(time.Now().Add(x.upstream.wait))
	if ctx.Err() != nil {
		return ctx.Err() // AfterFunc may have been before the deadline
	}
	x.writeHead(c)
	if x.body() {
		// The answer may come before the body was read, and is not to wait for it.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
		x.sent = x.send(c)
	} else if err := c.w.Flush(); err != nil {
		c.w.Reset(c.Conn)
		return err
	}
	resp, err := x.response(c)
	if err != nil {
		// Where the body could not be read, that is why the upstream did not answer.
		if fault := x.sent.fault(); fault != nil {
			return fault
		}
		return err
	}
	c.head = -1
	whole := x.pass(c, resp)
	keep = whole && !resp.Close && c.r.Buffered() == 0 && x.sent.whole()
	if !whole {
		_ = http.NewResponseController(x.w).Flush() // what came before may be of use: a download goes on from there
		c.Close()
		panic(http.ErrAbortHandler)
	}
	return nil
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// response reads the head of the final response, and hands interim ones on.
func (x *exchange) response(c *conn) (*http.Response, error) {
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(c.r, x.r)
		switch {
		case err != nil && errors.Is(c.fault, io.EOF):
			return nil, fmt.Errorf("it ended the connection before its response: %w", io.ErrUnexpectedEOF)
		case err != nil && c.fault != nil:
			return nil, c.fault
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("it switches protocols, which nobody asked for")
		case resp.StatusCode < 100 || resp.StatusCode > 999:
			return nil, fmt.Errorf("its status is %d", resp.StatusCode)
		case resp.StatusCode >= 200:
			return resp, nil
		case resp.StatusCode != http.StatusContinue && x.r.ProtoAtLeast(1, 1):
			// 100 is the server's to say, when it begins to read the body (RFC 9110, section 10.1.1).
			copyHeader(x.w.Header(), resp.Header)
			x.w.WriteHeader(resp.StatusCode)
			clear(x.w.Header())
		}
	}
	return nil, fmt.Errorf("it sends more than %d interim responses", maxInterim)
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// pass gives the response to the device; false if it is not whole.
func (x *exchange) pass(c *conn, resp *http.Response) bool {
	h := x.w.Header()
	copyHeader(h, resp.Header)
	announced := len(resp.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range resp.Trailer {
			names = append(names, name)
		}
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	if _, said := h["Content-Type"]; !said {
		h["Content-Type"] = nil // or the server would guess one
	}
	*x.status = resp.StatusCode
	x.w.WriteHeader(resp.StatusCode)
	if resp.Body == http.NoBody || resp.ContentLength == 0 {
		return true
	}
	// What has no known end is shown as it comes, for the device may wait for it; but what has come already goes together.
	flush, pending := resp.ContentLength < 0, true
	control := http.NewResponseController(x.w)
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	now := time.Now()
	for {
		if flush && pending && c.r.Buffered() == 0 {
			_ = control.Flush()
			pending = false
		}
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			pending = true
			if _, werr := x.w.Write((*buf)[:n]); werr != nil {
				return false
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false
		}
		if t := time.Now(); t.Sub(now) > x.upstream.wait/8 {
			now = t
			_ = c.SetReadDeadline(t.Add(x.upstream.wait))
			if x.r.Context().Err() != nil {
				return false // what ended the wait may have been overwritten just now
			}
		}
	}
	if len(resp.Trailer) > 0 {
		_ = control.Flush() // or the server, which knows the length, would send no trailers
		for name, values := range resp.Trailer {
			if len(resp.Trailer) != announced {
				name = http.TrailerPrefix + name
			}
			h[name] = values
		}
	}
	return true
}

// sending is a body on its way to the upstream, beside the reading of the response: an upstream may answer before it has read all.
type sending struct {
	done chan struct{}
	err  error // set before done is closed
	// reading is whether it waits for the device; ending, whether the device has said all, and only the upstream is to take it.
	reading, ending atomic.Bool
	// device is why the body could not be read; set before anybody is woken by it.
	device atomic.Pointer[BodyError]
}

func (x *exchange) send(c *conn) *sending {
	s := &sending{done: make(chan struct{})}
	// Until the body is sent, the device's pace counts: it has its own bounds.
	_ = c.SetReadDeadline(time.Time{})
	go func() {
		defer close(s.done)
		var device *BodyError
		switch s.err = x.copyBody(c, s); {
		case s.err == nil:
			_ = c.SetReadDeadline(time.Now().Add(x.upstream.wait))
		case errors.As(s.err, &device):
			// Half a request must not be taken for a whole one, and nobody is to wait for its answer.
			s.device.Store(device)
			_ = c.SetReadDeadline(time.Unix(1, 0))
		default:
			// An upstream that takes no more may have said why.
			_ = c.SetReadDeadline(time.Now().Add(min(x.upstream.wait, lastWords)))
		}
		if x.r.Context().Err() != nil {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	}()
	return s
}

func (x *exchange) copyBody(c *conn, s *sending) error {
	var to io.Writer = c.w
	var chunks io.WriteCloser
	if x.r.ContentLength <= 0 {
		// The upstream may have its answer ready at the head, and the first chunk may be long in coming.
		if err := c.w.Flush(); err != nil {
			return err
		}
		chunks = httputil.NewChunkedWriter(c.w)
		to = chunks
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	var sent int64
	for {
		s.reading.Store(true)
		n, err := x.r.Body.Read(*buf)
		s.reading.Store(false)
		s.ending.Store(err == io.EOF)
		if n > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(x.upstream.wait))
			if _, werr := to.Write((*buf)[:n]); werr != nil {
				return werr
			}
			if werr := c.w.Flush(); werr != nil {
				return werr
			}
			sent += int64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return &BodyError{err}
		}
	}
	if chunks == nil {
		if sent != x.r.ContentLength {
			return &BodyError{io.ErrUnexpectedEOF}
		}
		return c.w.Flush()
	}
	_ = c.SetWriteDeadline(time.Now().Add(x.upstream.wait))
	if err := chunks.Close(); err != nil {
		return err
	}
	if _, err := io.WriteString(c.w, "\r\n"); err != nil { // no trailers
		return err
	}
	return c.w.Flush()
}

// whole says that all of the body was sent.
func (s *sending) whole() bool {
	if s == nil {
		return true
	}
	if s.ending.Load() {
		<-s.done // an answer can overtake the end of the writing
	}
	select {
	case <-s.done:
		return s.err == nil
	default:
		return false
	}
}

// fault is why the body could not be read from the device, if that is what went wrong.
func (s *sending) fault() error {
	if s == nil || s.device.Load() == nil {
		return nil
	}
	return s.device.Load()
}

// wait lets nothing of the exchange outlive it. The connection is closed by now, or the body is sent.
func (s *sending) wait(x *exchange) {
	if s == nil || s.whole() {
		return
	}
	// The upstream had its answer ready before the body was sent. What is still to come of the body is nobody's. A device that is sending gets
	// its answer and then time to read it: net/http does not linger where a read was cut short, and the kernel would end the connection by a
	// reset, which takes the answer with it.
	control := http.NewResponseController(x.w)
	if *x.status != 0 {
		_ = control.Flush()
	}
	for tick := linger; ; tick = time.Millisecond {
		select {
		case <-s.done:
			return
		case <-time.After(tick):
			if s.reading.Load() {
				_ = control.SetReadDeadline(time.Unix(1, 0))
			}
		}
	}
}
