package station

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

type spoolAnswers struct {
	Format  string `json:"format"`
	ID      string `json:"id"`
	Digest  string `json:"digest"` // of the spool that is answered
	Desk    string `json:"desk"`
	Created string `json:"created"`
	// Log is the issuance log's checkpoint after the last answer, with the proof from what the station held; nil where there is no log.
	Log     *factory.LogAnswer `json:"log,omitempty"`
	Answers []spoolAnswer      `json:"answers"`
}

// spoolAnswer is a chain (leaf first, PEM), or why there is none.
type spoolAnswer struct {
	DeviceID string       `json:"device_id"`
	Request  string       `json:"request"`
	Chain    string       `json:"chain,omitempty"`
	Differs  string       `json:"differs,omitempty"`
	Code     factory.Code `json:"code,omitempty"`
	Error    string       `json:"error,omitempty"`
	Hint     string       `json:"hint,omitempty"`
}

// Submitted says what became of a spool at the desk.
type Submitted struct {
	ID       string `json:"id"`
	Station  string `json:"station"`
	Devices  int    `json:"devices"`
	Enrolled int    `json:"enrolled"`
	Refused  int    `json:"refused"`
	File     string `json:"file"`
}

// SubmitSpool brings the requests of a spool to hanaperd as this desk, which is a station with a certificate of its own, and writes the
// answers into a new file. Where hanaperd is away nothing is written; the same again gets the same certificates.
func SubmitSpool(ctx context.Context, conf *Config, path, out string, concurrent int, w With) (*Submitted, error) {
	if err := conf.checkFactory(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, advice.New(advice.Usage, "move it away, or choose another name", "%s exists already", show.Text(out))
	}
	if concurrent < 1 || concurrent > maxConcurrent {
		return nil, advice.New(advice.Usage, "4 is a good value", "%d requests at once: 1 to %d can be", concurrent, maxConcurrent)
	}
	w = w.filled()
	id, err := factory.LoadIdentity(conf.Factory.Certificate, conf.Factory.Key)
	if err != nil {
		return nil, err
	}
	name, err := stationName(id.Leaf)
	if err != nil {
		return nil, err
	}
	payload, by, err := conf.readCarried(path, spoolType, w.Now)
	if err != nil {
		return nil, err
	}
	var s spooled
	if err := strict.JSON(path, payload, &s); err != nil {
		return nil, advice.Wrap(advice.Unverified, err, "")
	}
	if s.Format != spoolFormat || s.Station != by || !spoolID.MatchString(s.ID) || len(s.Requests) == 0 || len(s.Requests) > maxSpooled || s.Held < 0 {
		return nil, advice.New(advice.Unverified, "have it written again, by this release", "%s is no spool of station %s of a form known here", show.Text(path), show.Text(by))
	}
	client, err := conf.client(func(err error, wait time.Duration) { w.Done("%v; next try in %s", err, wait.Round(time.Second)) })
	if err != nil {
		return nil, err
	}
	d := &desk{client: client, got: &archive{path: conf.Factory.Got}, spool: &s, answers: make([]spoolAnswer, len(s.Requests))}
	if err := d.submit(ctx, concurrent, w); err != nil {
		return nil, advice.Wrap(advice.KindOf(err), err, advice.Hint(err)+"; no answers were written: submit the spool again when it is mended, and the same certificates come")
	}
	a := spoolAnswers{Format: answersFormat, ID: s.ID, Digest: digestOf(string(payload)), Desk: name, Created: w.Now().UTC().Format(time.RFC3339), Log: d.log, Answers: d.answers}
	file, _, err := seal(id, answersType, a)
	if err != nil {
		return nil, err
	}
	if err := durable.Create(out, file, 0o644); err != nil {
		return nil, err
	}
	r := &Submitted{ID: s.ID, Station: by, Devices: len(s.Requests), File: out}
	for _, answer := range d.answers {
		if answer.Chain != "" {
			r.Enrolled++
		} else {
			r.Refused++
		}
	}
	return r, nil
}

// desk submits one spool.
type desk struct {
	client  *factory.Client
	got     *archive
	spool   *spooled
	answers []spoolAnswer
	log     *factory.LogAnswer
}

func (d *desk) submit(ctx context.Context, concurrent int, w With) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan int)
	var workers sync.WaitGroup
	for range min(concurrent, len(d.answers)) {
		workers.Go(func() {
			for i := range work {
				if err := d.one(ctx, i, false); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range d.answers {
		if ctx.Err() != nil {
			break
		}
		w.Step("%d of %d requests", i+1, len(d.answers))
		work <- i
	}
	close(work)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// The log's checkpoint is wanted after all certificates, with the proof from what the station holds.
	for i, a := range d.answers {
		if a.Chain != "" {
			return d.one(ctx, i, true)
		}
	}
	return nil
}

// one submits a request; with the last, the log's checkpoint is kept. What hanaperd refuses is an answer; what keeps hanaperd from answering is an error.
func (d *desk) one(ctx context.Context, i int, last bool) error {
	r := d.spool.Requests[i]
	d.answers[i] = spoolAnswer{DeviceID: r.DeviceID, Request: digestOf(r.CSR)}
	refuse := func(code factory.Code, text, hint string) error {
		d.answers[i].Code, d.answers[i].Error, d.answers[i].Hint = code, text, hint
		return nil
	}
	q := factory.EnrollRequest{CSR: r.CSR, HardwareID: r.HardwareID, Lot: r.Lot}
	if parsed, err := csr.Parse([]byte(r.CSR), csr.DevicePolicy()); err != nil || parsed.CommonName() != r.DeviceID {
		return refuse(factory.CodePolicy, "the spool's request is not one for this device id", "export the board again")
	}
	var err error
	if q.Last, err = d.got.last(); err != nil {
		return err
	}
	if q.Last == "" {
		q.Last = d.spool.Last
	}
	held := int64(0)
	if last {
		held = d.spool.Held
	}
	a, _, err := d.client.EnrollHolding(ctx, q, held)
	var f *factory.Fault
	switch {
	case err == nil:
	case errors.As(err, &f) && !standsStill(err) && f.Code != factory.CodeInternal:
		return refuse(f.Code, f.Text, f.Hint)
	default:
		return err
	}
	certs, err := factory.ParseCertificates([]byte(a.Chain))
	if err != nil {
		return fmt.Errorf("the answer of hanaperd: chain: %w", err)
	}
	if last {
		d.log = a.Log
	}
	d.answers[i].Chain, d.answers[i].Differs = a.Chain, a.Differs
	return d.got.add(certs[0])
}

func stationName(leaf *x509.Certificate) (string, error) {
	role, name, err := ca.RoleOf(leaf)
	if err != nil || role != ca.RoleStation {
		return "", advice.New(advice.Refused, "a desk has a station's certificate of its own", "the certificate with serial %s is no station's", serialOf(leaf))
	}
	return name, nil
}
