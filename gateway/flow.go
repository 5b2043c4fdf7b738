package gateway

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// flow bounds a request's body in size, and body and response in how long they may stand still: a download may take
// hours, a device that neither reads nor writes may not.
type flow struct {
	http.ResponseWriter
	control  *http.ResponseController
	stall    time.Duration
	extended time.Time
	status   int
	body     *flowingBody // nil if there is none
}

func newFlow(w http.ResponseWriter, r *http.Request, l LimitsConfig) *flow {
	f := &flow{ResponseWriter: w, control: http.NewResponseController(w), stall: l.Stall}
	if r.Body != nil && r.Body != http.NoBody {
		// The deadline of an earlier request's response must not be that of the "100 Continue" which the server may write by itself.
		_ = f.control.SetWriteDeadline(time.Time{})
		f.body = &flowingBody{ReadCloser: http.MaxBytesReader(w, r.Body, l.BodyBytes), flow: f}
		r.Body = f.body
	}
	return f
}

func (f *flow) extend() {
	now := time.Now()
	if now.Sub(f.extended) < f.stall/8 { // not at each write, for each sets a timer
		return
	}
	f.extended = now
	_ = f.control.SetWriteDeadline(now.Add(f.stall))
}

// end gives what is still buffered its time, for the server writes it after the handler; and also what is still to come of
// a body that nobody read, for the server waits for some of it before it answers.
func (f *flow) end() {
	if f.body != nil && !f.body.ended.Load() {
		_ = f.control.SetReadDeadline(time.Now().Add(f.stall))
	}
	f.extend()
}

func (f *flow) WriteHeader(status int) {
	f.status = status // the last one is the final response's
	f.extend()
	f.ResponseWriter.WriteHeader(status)
}

func (f *flow) Write(p []byte) (int, error) {
	f.extend()
	return f.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the server's writer.
func (f *flow) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// flowingBody extends the read deadline with every read.
type flowingBody struct {
	io.ReadCloser
	flow     *flow
	extended time.Time
	// It is read beside the handler.
	ended atomic.Bool
}

func (b *flowingBody) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(b.extended) >= b.flow.stall/8 {
		b.extended = now
		_ = b.flow.control.SetReadDeadline(now.Add(b.flow.stall))
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
		// The server goes on reading to notice a device that leaves; a deadline would look like one.
		_ = b.flow.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
