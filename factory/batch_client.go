package factory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// BatchResult is what became of one request of a batch: an answer, or why there is none.
type BatchResult struct {
	// Index is the request's, counted from 0.
	Index  int
	Answer *EnrollAnswer
	// New is false where the certificate was on record.
	New bool
	Err error
}

// EnrollBatch sends many requests together, over one connection and in batches no longer than hanaperd takes; sending them again is safe. each
// is told what became of every request, once, from this goroutine and in whatever order it is known. What hanaperd did not answer, or asks to
// have sent again, is sent again as often as one request would be. held is the size of the checkpoint of the issuance log that the caller
// keeps, 0 for none; the last one comes back, nil where there is no log. err is nil where hanaperd has answered every request, be it with a
// refusal.
func (c *Client) EnrollBatch(ctx context.Context, requests []EnrollRequest, held int64, each func(BatchResult)) (log *LogAnswer, err error) {
	for from := 0; from < len(requests); from += maxBatchLines {
		p := &passage{client: c, requests: requests, each: each}
		for i := from; i < min(from+maxBatchLines, len(requests)); i++ {
			if p.left = append(p.left, i); err != nil {
				each(BatchResult{Index: i, Err: err})
			}
		}
		if err != nil {
			continue
		}
		if err = p.run(ctx, held); p.log != nil {
			log = p.log
		}
	}
	return log, err
}

// passage brings some of the requests to their end.
type passage struct {
	client   *Client
	requests []EnrollRequest
	each     func(BatchResult)
	// left are the indexes of those without an answer, why and wait what hanaperd said last of one that is to be sent again.
	left []int
	why  error
	wait time.Duration
	log  *LogAnswer
}

// run sends what is left until nothing is, or no try may help.
func (p *passage) run(ctx context.Context, held int64) error {
	c := p.client.c
	for try := 1; ; try++ {
		p.why, p.wait = nil, 0
		again, err := p.send(ctx, held, try >= c.Tries)
		if len(p.left) == 0 {
			return nil
		}
		if err == nil {
			again, err = p.wait, p.why
		}
		if again < 0 || again > longestRetryAfter || try >= c.Tries || ctx.Err() != nil {
			for _, i := range p.left {
				p.each(BatchResult{Index: i, Err: err})
			}
			return err
		}
		pause := pauseBefore(try, c.Wait, c.MaxWait, again)
		if c.Note != nil {
			c.Note(err, pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// send makes one call with what is left. again is how long to wait at least before another, negative where none may help.
func (p *passage) send(ctx context.Context, held int64, last bool) (again time.Duration, err error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	for _, i := range p.left {
		if err := enc.Encode(p.requests[i]); err != nil {
			return -1, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The call may take long in all, but hanaperd says something now and then.
	silent := time.AfterFunc(p.client.c.Timeout, cancel)
	defer func() {
		if !silent.Stop() && err != nil {
			again, err = 0, advice.New(advice.Failed, "try again", "%s said nothing for %v", show.Text(p.client.base.String()), p.client.c.Timeout)
		}
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.client.base.String()+batchPath, &body)
	if err != nil {
		return -1, err
	}
	r.Header.Set("Content-Type", typeNDJSON)
	if held > 0 {
		r.Header.Set(LogSizeHeader, strconv.FormatInt(held, 10))
	}
	long := *p.client.http
	long.Timeout = 0
	resp, err := long.Do(r)
	if err != nil {
		return retryable(err), p.client.unreached(err)
	}
	defer resp.Body.Close()
	in := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(in)
		return refusedBy(resp, said)
	}
	return p.read(bufio.NewReaderSize(in, flushAt), last, func() { silent.Reset(p.client.c.Timeout) })
}

// answerLine is any line of an answer.
type answerLine struct {
	Index  int `json:"index"`
	Status int `json:"status"`
	EnrollAnswer
	refusal
	RetryAfter int        `json:"retry_after"`
	End        bool       `json:"end"`
	Log        *LogAnswer `json:"log"`
}

// read takes the answers as they come, and keeps in left what is to be sent again.
func (p *passage) read(in *bufio.Reader, last bool, heard func()) (again time.Duration, err error) {
	sent := p.left
	answered := make([]bool, len(sent))
	var repeat []int
	defer func() {
		p.left = repeat
		for n, is := range answered {
			if !is {
				p.left = append(p.left, sent[n])
			}
		}
		if err == nil && len(p.left) > len(repeat) {
			err = fmt.Errorf("%s did not answer every request", show.Text(p.client.base.String()))
		}
	}()
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0, advice.New(advice.Failed, "try again", "the answer of %s broke off: %v", show.Text(p.client.base.String()), err)
		}
		heard()
		var a answerLine
		if err := json.Unmarshal(line, &a); err != nil {
			return -1, fmt.Errorf("the answer of %s is not the JSON it should be: %w", show.Text(p.client.base.String()), err)
		}
		f := &Fault{Code: a.Code, Text: "hanaperd: " + a.Error, Hint: a.Hint}
		switch {
		case a.End && a.Error == "":
			p.log = a.Log
			return 0, nil
		case a.End:
			return time.Duration(a.RetryAfter) * time.Second, f.advise()
		case a.Index < 0 || a.Index >= len(sent) || answered[a.Index]:
			return -1, errors.New("the answer has a line for no request")
		}
		answered[a.Index] = true
		switch i := sent[a.Index]; {
		case a.Status == http.StatusOK || a.Status == http.StatusCreated:
			p.each(BatchResult{Index: i, Answer: &a.EnrollAnswer, New: a.Status == http.StatusCreated})
		case (a.Code == CodeUnavailable || a.RetryAfter > 0) && !last:
			repeat, p.why, p.wait = append(repeat, i), f.advise(), time.Duration(a.RetryAfter)*time.Second
		default:
			p.each(BatchResult{Index: i, Err: f.advise()})
		}
	}
}
