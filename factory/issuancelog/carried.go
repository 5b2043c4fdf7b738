package issuancelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/internal/show"
)

// Known is how many events the folder's checkpoint, which the log's key signed, covers: a record with fewer was put back from a
// copy. It is 0 where there is none.
func (l *Log) Known(ctx context.Context) (int64, error) {
	c, err := l.published(ctx)
	if err != nil || c == nil {
		// A checkpoint that does not verify tells nothing of the record; Check refuses it.
		return 0, nil
	}
	return c.Size, nil
}

// Carried is how many events the largest checkpoint covers that callers have shown (Report), 0 for none.
func (l *Log) Carried(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carried, nil
}

// ErrCarried means that a caller carries a checkpoint, signed by the log's key, that the log does not follow.
var ErrCarried = errors.New("a caller carries a checkpoint that the log does not follow")

// Report takes a checkpoint that a caller keeps. Only one that the log's key signed counts: nobody else can make the log look
// bad. One of more entries than there are events says that the record was put back (Carried); one of another history, that the log
// was forked: forked says so in words. Both stay until the server is started anew. size is how many entries it covers.
func (l *Log) Report(ctx context.Context, who string, note []byte) (size int64, forked string, err error) {
	c, err := l.c.Policy.VerifySigned(note)
	if err != nil {
		return 0, "", fmt.Errorf("not a checkpoint of this log: %w", err)
	}
	events, err := l.c.Record.LogSize(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("the record: %w", err)
	}
	if uint64(c.Size) > events {
		words := fmt.Sprintf("%v: %s has one of %d entries, and the record has %d events", ErrCarried, show.Text(who), c.Size, events)
		l.accuse(words)
		if uint64(c.Size)-events > maxCarried {
			// No record has lost so many. Who has the log's key made it up, and must not have us make up as many events.
			return c.Size, words, nil
		}
		l.mu.Lock()
		l.carried = max(l.carried, c.Size)
		l.mu.Unlock()
		return c.Size, "", nil
	}
	last := l.last.Load()
	if last == nil || c.Size > last.Size {
		return c.Size, "", nil
	}
	root, err := logbook.RootOf(ctx, logbook.Folder(l.c.Folder), c.Size, last.Size)
	if err != nil {
		return 0, "", err
	}
	if root != c.Root {
		forked = fmt.Sprintf("%v: %s has one of %d entries with another root", ErrCarried, show.Text(who), c.Size)
		l.accuse(forked)
	}
	return c.Size, forked, nil
}

// maxCarried is how many events more than the record has a checkpoint may cover, to be taken for one of events that it lost.
const maxCarried = 1 << 20

func (l *Log) accuse(what string) {
	l.mu.Lock()
	was := l.accused
	if was == "" {
		l.accused = what
	}
	l.mu.Unlock()
	if was == "" {
		l.c.Log.Error("the issuance log and what others hold of it disagree", "error", what)
	}
}
