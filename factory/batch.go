package factory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/ca"
)

const (
	batchPath  = "/v1/enroll/batch"
	typeNDJSON = "application/x-ndjson"
)

// batchLine is one line of a batch's answer: what POST /v1/enroll would answer to the request line with this index, and its status.
type batchLine struct {
	Index  int `json:"index"`
	Status int `json:"status"`
	*EnrollAnswer
	*refusal
	// RetryAfter is in seconds, 0 unless trying again may help.
	RetryAfter int `json:"retry_after,omitempty"`
}

// batchEnd is the last line: without it an answer broke off.
type batchEnd struct {
	End bool `json:"end"`
	// Lines is how many request lines were answered.
	Lines int `json:"lines"`
	// Log is the issuance log's last checkpoint; nil where there is no log.
	Log *LogAnswer `json:"log,omitempty"`
	// refusal says why hanaperd read no further; nil where it read to the end.
	*refusal
	RetryAfter int `json:"retry_after,omitempty"`
}

// batch is one POST /v1/enroll/batch at work: one goroutine reads lines, some enrol, one writes answers. While it waits for its caller to send
// or to read, it holds no slot.
type batch struct {
	api  *api
	r    *http.Request
	who  Caller
	rc   *http.ResponseController
	ctx  context.Context
	ends time.Time
	// lines were read, out is to be written.
	lines chan batchRequest
	out   chan []byte
	// stopped says why nothing more is to be read.
	stopped atomic.Pointer[Fault]
}

type batchRequest struct {
	index int
	line  []byte
	// long says that the line was longer than a line may be, and is not here.
	long bool
}

// enrollBatch answers the lines of a body while they come, each for itself and in whatever order they are done.
func (a *api) enrollBatch(w http.ResponseWriter, r *http.Request) {
	b := &batch{api: a, r: r, rc: http.NewResponseController(w), lines: make(chan batchRequest), out: make(chan []byte, batchWidth), ends: time.Now().Add(batchTime)}
	who, err := a.admit(http.MethodPost, []string{ca.RoleStation}, r)
	if err == nil {
		err = checkType(r, typeNDJSON)
	}
	if err == nil && !r.ProtoAtLeast(1, 1) {
		err = fault(CodeRequest, "use HTTP/1.1", "a batch cannot be answered by HTTP/1.0")
	}
	if err == nil {
		err = b.rc.EnableFullDuplex()
	}
	b.who = who
	if err != nil {
		write(w, a.refuse(w, r, who, http.MethodPost, err))
		return
	}
	w.Header().Set("Content-Type", typeNDJSON)
	w.Header().Set("Cache-Control", "no-store")
	// net/http ends a request's context when reading fails, also for a deadline: the lines in work are finished all the same.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(r.Context()), b.ends)
	defer cancel()
	b.ctx = ctx
	defer context.AfterFunc(stopping(r.Context()), func() {
		b.stop(&Fault{Code: CodeUnavailable, Text: "hanaperd is being stopped", Hint: "send the lines without an answer again", RetryAfter: retryAfter})
	})()

	written := make(chan struct{})
	go func() {
		defer close(written)
		b.write(w, cancel)
	}()
	n, why := b.read()
	close(b.out)
	<-written
	end := batchEnd{End: true, Lines: n, Log: a.logAnswer(ctx, r)}
	if why != nil {
		a.logRefusal(ctx, r, who, why)
		end.refusal, end.RetryAfter = refusalOf(why)
	}
	_ = b.rc.SetWriteDeadline(time.Now().Add(lineTime))
	_, _ = w.Write(encodeLine(end))
	if why != nil {
		b.hangUp()
	}
}

// hangUp ends an answer, and the connection with it: what is left of a body that was not read to its end is no next request. net/http would
// take it for one (of a body that could not be read to its end in time it only notices too much that is left).
func (b *batch) hangUp() {
	unsent := b.rc.Flush()
	conn, buffered, err := b.rc.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	_, _ = buffered.WriteString("0\r\n\r\n")
	if unsent != nil || buffered.Flush() != nil {
		return
	}
	// Closed at once, the rest of the body would have the system take back what the caller has not read yet.
	if c, is := conn.(interface{ CloseWrite() error }); is {
		_ = c.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, maxTakeInBody)
}

// stop has nothing more read, for this reason; the lines in work are finished.
func (b *batch) stop(why *Fault) {
	if b.stopped.CompareAndSwap(nil, why) {
		_ = b.rc.SetReadDeadline(time.Unix(1, 0))
	}
}

// read hands the body's lines to workers, and tells how many there were, and why it read no further; nil where it read to the end. The workers
// have ended then.
func (b *batch) read() (n int, why *Fault) {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(b.lines)
	width := 0
	in := bufio.NewReaderSize(b.r.Body, maxEnrollBody+1)
	for seen := 0; ; seen++ {
		line, long, err := b.next(in)
		switch f := b.stopped.Load(); {
		case f != nil:
			return n, f
		case err != nil && err != io.EOF: // half a line before another end is no line
			return n, b.unread(err)
		case seen >= maxBatchLines && len(line) > 0:
			return n, fault(CodeTooLarge, "send the lines without an answer in another batch", "a batch has at most %d lines", maxBatchLines)
		}
		if long || len(bytes.TrimSpace(line)) > 0 {
			q := batchRequest{n, bytes.Clone(line), long}
			n++
			select {
			case b.lines <- q:
			default:
				if width < batchWidth {
					width++
					workers.Go(b.work)
				}
				b.lines <- q
			}
		}
		if err != nil {
			return n, nil
		}
	}
}

// next reads one line, in the time that a line may take. io.EOF comes with the last one, which may be empty.
func (b *batch) next(in *bufio.Reader) (line []byte, long bool, err error) {
	until := time.Now().Add(lineTime)
	if until.After(b.ends) {
		until = b.ends
	}
	_ = b.rc.SetReadDeadline(until)
	if b.stopped.Load() != nil {
		// stop came before this deadline took the place of its own.
		return nil, false, os.ErrDeadlineExceeded
	}
	for {
		line, err = in.ReadSlice('\n')
		if err != bufio.ErrBufferFull { // ReadSlice gives this very error
			break
		}
		long = true
	}
	if long {
		line = nil
	}
	return line, long, err
}

// unread says why a body could not be read to its end.
func (b *batch) unread(err error) *Fault {
	const hint = "send the lines without an answer again"
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return &Fault{Code: CodeRequest, Text: "the body broke off", Hint: hint, cause: err}
	case time.Now().Before(b.ends):
		return fault(CodeTimeout, hint, "no whole line came for %v", lineTime)
	}
	return fault(CodeTimeout, hint, "the batch took longer than %v", batchTime)
}

// write writes answers as they come, several together where several are there. What a caller does not read in the time of a line is not
// waited for, and the batch ends.
func (b *batch) write(w http.ResponseWriter, cancel func()) {
	failed := false
	var some []byte
	for line := range b.out {
		some = append(some[:0], line...)
	more:
		for len(some) < flushAt {
			select {
			case line, open := <-b.out:
				if !open {
					break more
				}
				some = append(some, line...)
			default:
				break more
			}
		}
		if failed {
			continue // nobody who enrols waits for the caller
		}
		_ = b.rc.SetWriteDeadline(time.Now().Add(lineTime))
		_, err := w.Write(some)
		if err == nil {
			err = b.rc.Flush()
		}
		if err != nil {
			failed = true
			b.stop(&Fault{Code: CodeTimeout, Text: "the caller does not read the answers", Hint: "send the lines without an answer again", cause: err})
			cancel()
		}
	}
}

func (b *batch) work() {
	for q := range b.lines {
		ans, isNew, err := b.enroll(q)
		line := batchLine{Index: q.index, Status: http.StatusOK, EnrollAnswer: ans}
		if isNew {
			line.Status = http.StatusCreated
		}
		if err != nil {
			f := asFault(err)
			b.api.logRefusal(b.ctx, b.r, b.who, f)
			line.EnrollAnswer, line.Status = nil, f.Status()
			line.refusal, line.RetryAfter = refusalOf(f)
		}
		b.api.service.tally.answered(batchPath, line.Status)
		b.out <- encodeLine(line)
	}
}

// enroll does for one line what api.enroll does for a request. The lines of all batches together leave half of the slots for enrolment to
// callers with one device.
func (b *batch) enroll(q batchRequest) (*EnrollAnswer, bool, error) {
	if q.long {
		return nil, false, fault(CodeTooLarge, "", "the line is longer than %d bytes", maxEnrollBody)
	}
	// A connection that is open for long ends with its certificate.
	who, err := b.api.callers.Of(b.r.TLS)
	if err != nil {
		return nil, false, err
	}
	request, err := decodeEnroll(q.line)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, requestTime)
	defer cancel()
	select {
	case b.api.batching <- struct{}{}:
		defer func() { <-b.api.batching }()
	case <-ctx.Done():
		return nil, false, away("hanaperd", errors.New("all slots for batches are in use"))
	}
	free, err := b.api.slot(ctx, true)
	if err != nil {
		return nil, false, err
	}
	defer free()
	return b.api.service.Enroll(ctx, who.Name, request)
}

func refusalOf(f *Fault) (*refusal, int) {
	return &refusal{Error: f.Text, Hint: f.Hint, Code: f.Code}, int(f.RetryAfter.Seconds())
}

func encodeLine(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte(`{"status":500,"error":"internal error","code":"internal"}`)
	}
	return append(b, '\n')
}

type stoppingKey struct{}

// stopping gives the context that ends when the server that a request came to is being stopped.
func stopping(request context.Context) context.Context {
	if ctx, is := request.Value(stoppingKey{}).(context.Context); is {
		return ctx
	}
	return context.Background()
}
