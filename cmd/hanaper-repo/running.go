package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/socket"
)

// running is what a running service says of itself.
type running struct {
	Faults []fault `json:"faults"`
}

// statusSocket is where the running service is asked, beside the high-water mark: no disk need have room, and nobody without access to the
// service's own folder may ask.
func (c *config) statusSocket() string { return c.path(c.HighWater) + ".status" }

// answerStatus tells whoever connects to the status socket which faults there are, until ctx ends.
func (f *faults) answerStatus(ctx context.Context, c *config) {
	l, _, err := listenAt(c, "unix:"+c.statusSocket())
	if err != nil {
		f.log.Warn("'hanaper-repo status' cannot ask this service what it could not publish", "error", err, "hint", advice.Hint(err))
		return
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if ctx.Err() == nil {
					f.log.Error("the status socket", "error", err.Error())
				}
				return
			}
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_ = json.NewEncoder(conn).Encode(running{f.list()})
			conn.Close()
		}
	}()
}

// askRunning asks the running service; nil if none runs.
func (c *config) askRunning() (*running, error) {
	at := c.statusSocket()
	const hint = "run it as the service's user: runuser -u hanaper-repo -- hanaper-repo status"
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := socket.Dial(ctx, at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, advice.New(advice.Failed, hint, "whether all is published is not known: 'serve' cannot be asked: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := &running{}
	data, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err != nil {
		return nil, advice.New(advice.Failed, "look into its log, and start 'hanaper-repo serve' anew", "whether all is published is not known: 'serve' does not answer at %s: %w", show.Text(at), err)
	}
	return r, nil
}
