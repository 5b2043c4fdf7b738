package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// A source is watched, so that a revocation is in force at once and not at the next look. What a watch says is believed by nobody: it only has
// the feed look. A source that cries wolf is heard less and less; one that says nothing, or cannot be watched, is looked at every interval.

const (
	// waitFor is how long a server is asked to hold its answer back (RFC 7240, section 4.3).
	waitFor = 25 * time.Second
	// unwatchedFor is how long after a source that cannot be watched this is tried again.
	unwatchedFor = 5 * time.Minute
	// folderEvery is the time between two looks at the date of a folder's timestamp.
	folderEvery = 200 * time.Millisecond
)

var (
	// errSame: nothing has changed for as long as was asked for.
	errSame = errors.New("nothing has changed")
	// errUnwatched: the source cannot be watched.
	errUnwatched = errors.New("the source cannot be watched")
)

// watch looks each time that the source says it has changed, until ctx ends, and calls looked after each look.
func (f *Feed) watch(ctx context.Context, looked func()) {
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		err := f.source.wait(ctx)
		switch {
		case err == nil:
			before := f.current.Load()
			// The outcome is in Status.
			_ = f.Refresh(ctx)
			looked()
			if pause = max(2*pause, MinInterval); f.current.Load() != before {
				pause = 0
			}
			pause = min(pause, f.config.Interval)
		case errors.Is(err, errSame):
			pause = 0
		case errors.Is(err, errUnwatched):
			pause = max(unwatchedFor, f.config.Interval)
		default:
			pause = f.config.Interval
		}
	}
}

// wait looks at the date of the timestamp until it is another one than when a look began.
func (f *folder) wait(ctx context.Context) error {
	tick := time.NewTicker(folderEvery)
	defer tick.Stop()
	for end := time.Now().Add(waitFor); time.Now().Before(end); {
		if f.stirred() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return errSame
}

// mark is what a file's entry in its folder says; another one has another.
type mark struct {
	at   time.Time
	size int64
	info os.FileInfo
}

func (f *folder) look() mark {
	info, err := os.Stat(filepath.Join(f.dir, filepath.FromSlash(trust.TimestampPath)))
	if err != nil {
		return mark{}
	}
	return mark{info.ModTime(), info.Size(), info}
}

func (f *folder) stirred() bool {
	is := f.look()
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.last
	same := was.at.Equal(is.at) && was.size == is.size && (was.info == nil) == (is.info == nil) && (is.info == nil || os.SameFile(was.info, is.info))
	return !same
}

// tagged is the last timestamp that a site gave, and the name it gave it (RFC 9110, section 8.8.3). It is what a site said, and no more.
type tagged struct {
	mu   sync.Mutex
	tag  string
	data []byte
}

func (t *tagged) get() (string, []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tag, t.data
}

// put keeps a timestamp with its tag; one without is fetched each time.
func (t *tagged) put(tag string, data []byte) {
	if len(tag) > 256 || len(data) > trust.MaxTimestampSize {
		tag = ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tag, t.data = tag, data
}

// wait asks the server to answer only once it has another timestamp than the last.
func (s *site) wait(ctx context.Context) error {
	tag, _ := s.last.get()
	if tag == "" {
		return errUnwatched
	}
	ctx, cancel := context.WithTimeout(ctx, waitFor+patience)
	defer cancel()
	req, err := s.request(ctx, trust.TimestampPath)
	if err != nil {
		return err
	}
	req.Header.Set("If-None-Match", tag)
	req.Header.Set("Prefer", fmt.Sprintf("wait=%d", int(waitFor.Seconds())))
	began := time.Now()
	res, err := s.waiting.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		data, err := io.ReadAll(io.LimitReader(res.Body, trust.MaxTimestampSize+1))
		if err != nil {
			return err
		}
		s.last.put(res.Header.Get("ETag"), data)
		return nil
	case http.StatusNotModified:
		if !strings.Contains(res.Header.Get("Preference-Applied"), "wait") || time.Since(began) < time.Second {
			return errUnwatched
		}
		return errSame
	}
	return fmt.Errorf("the server answers %s for %s", show.Text(res.Status), trust.TimestampPath)
}
