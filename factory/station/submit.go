package station

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
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
func SubmitSpool(ctx context.Context, conf *Config, path, out string, w With) (*Submitted, error) {
	if err := conf.checkFactory(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, advice.New(advice.Usage, "move it away, or choose another name", "%s exists already", show.Text(out))
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
	// hanaperd judges what a desk submits as the desk's own: whoever has another station's key would pass by that one's lots and rate.
	if len(conf.Spool.Stations) == 0 && !strings.EqualFold(by, name) {
		return nil, advice.New(advice.Refused, "name it in spool.stations if this desk is meant to submit its spools: hanaperd takes them for the desk's own, with the desk's lots and rate",
			"%s is signed by station %s, and this desk is %s", show.Text(path), show.Text(by), show.Text(name))
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
	if err := d.submit(ctx, w); err != nil {
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

// submit sends the requests as a batch. What hanaperd refuses is an answer; what keeps it from answering is an error.
func (d *desk) submit(ctx context.Context, w With) error {
	last, err := d.got.last()
	if err != nil {
		return err
	}
	if last == "" {
		last = d.spool.Last
	}
	var batch []factory.EnrollRequest
	var places []int
	for i, r := range d.spool.Requests {
		d.answers[i] = spoolAnswer{DeviceID: r.DeviceID, Request: digestOf(r.CSR)}
		if parsed, err := csr.Parse([]byte(r.CSR), csr.DevicePolicy()); err != nil || parsed.CommonName() != r.DeviceID {
			d.refuse(i, factory.CodePolicy, "the spool's request is not one for this device id", "export the board again")
			continue
		}
		// One of them shows what the desk got last: that is enough for a record that lags to be noticed.
		batch, places, last = append(batch, factory.EnrollRequest{CSR: r.CSR, HardwareID: r.HardwareID, Lot: r.Lot, Last: last}), append(places, i), ""
	}
	if len(batch) == 0 {
		return nil
	}
	var failed error
	done := 0
	d.log, err = d.client.EnrollBatch(ctx, batch, d.spool.Held, func(r factory.BatchResult) {
		done++
		w.Step("%d of %d requests", done, len(batch))
		i := places[r.Index]
		var f *factory.Fault
		switch {
		case r.Err == nil:
			failed = errors.Join(failed, d.take(i, r.Answer))
		case errors.As(r.Err, &f) && !standsStill(f) && f.Code != factory.CodeInternal:
			d.refuse(i, f.Code, f.Text, f.Hint)
		case failed == nil:
			failed = r.Err
		}
	})
	if err != nil {
		return err
	}
	return failed
}

func (d *desk) refuse(i int, code factory.Code, text, hint string) {
	d.answers[i].Code, d.answers[i].Error, d.answers[i].Hint = code, text, hint
}

// take keeps an answer.
func (d *desk) take(i int, a *factory.EnrollAnswer) error {
	certs, err := factory.ParseCertificates([]byte(a.Chain))
	if err != nil {
		return fmt.Errorf("the answer of hanaperd: chain: %w", err)
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
