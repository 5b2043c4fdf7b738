package factory

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// IssuanceLog follows the record, as far as callers have to do with it. None of its methods waits for the log.
type IssuanceLog interface {
	// Latest is the last checkpoint, with the proof that it follows the one of held entries; 0 for a caller who keeps none.
	Latest(ctx context.Context, held int64) LogAnswer
	// Trouble says in words what is wrong with the log; "" if nothing is.
	Trouble() string
	// Read gives a file of the log by its path in the tlog-tiles layout, or fs.ErrNotExist.
	Read(ctx context.Context, path string) ([]byte, error)
	// Report takes a checkpoint that a caller keeps and finds to disagree with ours. A record that it covers more of than there is shows in
	// Witnesses; forked says in words that it is of another history than the record's, "" if it is not. size is how many entries it covers.
	Report(ctx context.Context, who string, note []byte) (size int64, forked string, err error)
}

// LogAnswer is the last checkpoint of the issuance log, beside an answer.
type LogAnswer struct {
	// Checkpoint is a signed note, empty where there is none to hand out; Words say why.
	Checkpoint string `json:"checkpoint,omitempty"`
	Words      string `json:"words,omitempty"`
	// From is the size that the caller named, Consistency the proof from there, hashes in base64.
	From        int64    `json:"from"`
	Consistency []string `json:"consistency,omitempty"`
}

// LogSizeHeader is where a caller names how many entries the checkpoint covers that he keeps.
const LogSizeHeader = "Hanaper-Log-Size"

// ReportRequest is the body of POST /v1/log/seen: the checkpoint that a caller keeps, as a signed note.
type ReportRequest struct {
	Checkpoint string `json:"checkpoint"`
}

// maxLogFile bounds a file of the log, and maxReport the body of a report, in bytes.
const (
	maxLogFile = 64 << 10
	maxReport  = 128 << 10
)

// logAnswer is what goes beside an answer; nil where there is no log, and for callers who do not ask.
func (a *api) logAnswer(ctx context.Context, r *http.Request) *LogAnswer {
	if a.service.c.IssuanceLog == nil {
		return nil
	}
	held, err := strconv.ParseInt(r.Header.Get(LogSizeHeader), 10, 64)
	if err != nil || held < 0 {
		held = 0
	}
	ans := a.service.c.IssuanceLog.Latest(ctx, held)
	return &ans
}

func (a *api) logLatest(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	ans := a.logAnswer(ctx, r)
	if ans == nil {
		return nil, errNoLog
	}
	return &answer{status: http.StatusOK, body: ans}, nil
}

var errNoLog = fault(CodeNotFound, "see log in hanaperd's configuration", "this hanaperd keeps no issuance log")

func (a *api) logFile(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	if a.service.c.IssuanceLog == nil {
		return nil, errNoLog
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/log/")
	data, err := a.service.c.IssuanceLog.Read(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault(CodeNotFound, "", "the issuance log has no file %s", show.Text(path))
	}
	if err != nil {
		return nil, away("the issuance log", err)
	}
	kind := "application/octet-stream"
	if path == "checkpoint" {
		kind = "text/plain; charset=utf-8"
	}
	return &answer{status: http.StatusOK, raw: data, kind: kind}, nil
}

// logSeen takes a checkpoint that a caller keeps. A record that it proves to lag is held before the caller has his answer.
func (a *api) logSeen(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	if a.service.c.IssuanceLog == nil {
		return nil, errNoLog
	}
	var q ReportRequest
	if err := strict.JSON("body", body, &q); err != nil {
		return nil, fault(CodeRequest, `send {"checkpoint": "..."}`, "%v", err)
	}
	size, forked, err := a.service.c.IssuanceLog.Report(ctx, who.String(), []byte(q.Checkpoint))
	if err != nil {
		return nil, fault(CodePolicy, "send a checkpoint of this log", "%v", err)
	}
	if forked != "" {
		if err := a.service.holdForked(ctx, size, forked); err != nil {
			return nil, away("the store", err)
		}
	}
	if err := a.service.Compare(ctx); err != nil {
		return nil, away("the store, or what it is compared with,", err)
	}
	ans := &LogAnswer{Words: a.service.c.IssuanceLog.Trouble()}
	return &answer{status: http.StatusOK, body: ans}, nil
}

// acceptedMark is the name under which the store keeps how many events there were when an operator accepted it last.
const acceptedMark = "accepted"

// holdForked holds a record that is not the one which a checkpoint of so many entries was made of: it was put back from a copy, and went on. A
// checkpoint of fewer entries than there were when an operator accepted the record tells of what he has decided on, and is only told again.
func (s *Service) holdForked(ctx context.Context, size int64, why string) error {
	mark, err := s.c.Store.Mark(ctx, acceptedMark)
	if err != nil {
		return err
	}
	if accepted, err := strconv.ParseInt(string(mark), 10, 64); err == nil && size <= accepted {
		return nil
	}
	return s.hold(ctx, why)
}

// markAccepted keeps how many events there are now.
func (s *Service) markAccepted(ctx context.Context) error {
	n, err := s.c.Store.Sequence(ctx)
	if err != nil {
		return err
	}
	old, err := s.c.Store.Mark(ctx, acceptedMark)
	if value := strconv.AppendInt(nil, n, 10); err == nil && string(old) != string(value) {
		_, err = s.c.Store.SwapMark(ctx, acceptedMark, old, value)
	}
	return err
}

// Log asks for the last checkpoint, with the proof that it follows the one of held entries.
func (c *Client) Log(ctx context.Context, held int64) (*LogAnswer, error) {
	a := &LogAnswer{}
	_, err := c.callHolding(ctx, held, http.MethodGet, "/v1/log/latest", nil, a)
	return a, err
}

// ReportCheckpoint shows hanaperd a checkpoint that the caller keeps, a signed note, because it does not agree with hanaperd's.
func (c *Client) ReportCheckpoint(ctx context.Context, checkpoint []byte) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/log/seen", ReportRequest{string(checkpoint)}, &LogAnswer{})
	return err
}

// Read fetches a file of the issuance log by its path in the tlog-tiles layout; one that is not there is fs.ErrNotExist.
func (c *Client) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	var data []byte
	_, err := c.call(ctx, http.MethodGet, "/v1/log/"+path, nil, &data)
	var f *Fault
	if errors.As(err, &f) && f.Code == CodeNotFound {
		return nil, fs.ErrNotExist
	}
	if err == nil && int64(len(data)) > limit {
		return nil, errors.New("a file of the issuance log is longer than it can be")
	}
	return data, err
}
