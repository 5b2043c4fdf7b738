package factory

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Probe is what one look at hanaperd tells a caller who checks its own machine.
type Probe struct {
	Health Health
	// Ahead is how far hanaperd's clock is ahead of the caller's, and Within how far that may be wrong: its answer tells whole seconds, and
	// was on its way for a while.
	Ahead, Within time.Duration
}

// maxProbe bounds what is read of an answer about health, in bytes.
const maxProbe = 1 << 20

// Probe asks once, without trying again, also a hanaperd that is not well.
func (c *Client) Probe(ctx context.Context) (*Probe, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+"/healthz", nil)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, unreachedError{c.unreached(err)}
	}
	defer resp.Body.Close()
	took := time.Since(sent)
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxProbe))
	if err != nil {
		return nil, err
	}
	p := &Probe{}
	if err := json.Unmarshal(b, &p.Health); err != nil || p.Health.Status == "" {
		return nil, decodeFault(resp.StatusCode, b).advise()
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s has no date", show.Text(c.base.String()))
	}
	p.Within = took/2 + time.Second
	p.Ahead = at.Add(time.Second / 2).Sub(sent.Add(took / 2)).Round(time.Millisecond)
	return p, nil
}
