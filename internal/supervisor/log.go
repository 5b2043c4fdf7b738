package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/hanaper/hanaper/internal/show"
)

// Handler writes a service's log to standard error, as text or (json) as one JSON object a line. Foreign text in it is shown as everywhere.
// Where standard error is the journal (JOURNAL_STREAM), which notes the time of each line itself, a line of text has none, and every line begins
// with its priority (sd-daemon(3)), so that 'journalctl -p warning' finds it.
func Handler(level slog.Level, json bool) slog.Handler {
	return handler(os.Stderr, toJournal(os.Stderr, os.Getenv("JOURNAL_STREAM")), level, json)
}

func handler(w io.Writer, journal bool, level slog.Level, json bool) slog.Handler {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: show.Attr}
	if !journal {
		if json {
			return slog.NewJSONHandler(w, opts)
		}
		return slog.NewTextHandler(w, opts)
	}
	h := &journalHandler{line: &line{to: w}}
	if json {
		h.Handler = slog.NewJSONHandler(&h.line.text, opts)
		return h
	}
	opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return show.Attr(groups, a)
	}
	h.Handler = slog.NewTextHandler(&h.line.text, opts)
	return h
}

// toJournal says whether f is the stream that the journal reads: systemd names it by device and inode.
func toJournal(f *os.File, stream string) bool {
	var device, inode uint64
	if n, err := fmt.Sscanf(stream, "%d:%d", &device, &inode); err != nil || n != 2 {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		return false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Dev == device && sys.Ino == inode
}

// journalHandler puts the priority of each record before its line.
type journalHandler struct {
	slog.Handler
	line *line
}

// line is where one record becomes text, shared by all handlers that were made from one.
type line struct {
	mu   sync.Mutex
	text bytes.Buffer
	to   io.Writer
}

// Handle writes one record.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.text.Reset()
	fmt.Fprintf(&h.line.text, "<%d>", priority(r.Level))
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.line.to.Write(h.line.text.Bytes())
	return err
}

// WithAttrs is the handler that writes these attributes, too.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.Handler.WithAttrs(attrs), h.line}
}

// WithGroup is the handler whose further attributes are in a group.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.Handler.WithGroup(name), h.line}
}

// priority is syslog's for a level: 3 error, 4 warning, 6 information, 7 debugging.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
