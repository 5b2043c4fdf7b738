package station

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// ImportSpool takes the answers to a spool that this station wrote, checks all of them, and finishes each board. Boards that are finished
// already are left alone; one that is not connected now fails, and the same file again goes on with it.
func ImportSpool(ctx context.Context, conf *Config, path string, w With) (*Tally, error) {
	w.offline = true
	base, err := load(conf, w)
	if err != nil {
		return nil, err
	}
	payload, by, err := conf.readCarried(path, answersType, base.now)
	if err != nil {
		return nil, err
	}
	var a spoolAnswers
	if err := strict.JSON(path, payload, &a); err != nil {
		return nil, advice.Wrap(advice.Unverified, err, "")
	}
	if a.Format != answersFormat || a.Desk != by {
		return nil, advice.New(advice.Unverified, "have them written again, by this release", "%s holds no answers of desk %s of a form known here", show.Text(path), show.Text(by))
	}
	kept, err := conf.readPending(a.ID)
	if err != nil {
		return nil, err
	}
	if a.Digest != kept.Digest {
		return nil, advice.New(advice.Unverified, "tell who looks after the sticks: somebody made a spool of the same name", "%s answers another spool than the one that this station wrote", show.Text(path))
	}
	todo, err := base.checkAnswers(kept, a.Answers)
	if err != nil {
		return nil, err
	}
	ends, err := openResults(filepath.Join(filepath.Dir(conf.pendingFile(a.ID)), "ends"))
	if err != nil {
		return nil, err
	}
	defer ends.close()
	t := &Tally{Boards: len(todo), NotBegun: len(todo), Summary: filepath.Join(filepath.Dir(conf.pendingFile(a.ID)), "summary.csv")}
	begun := base.now()
	// Before anything is written to a device, as after an answer of hanaperd itself.
	if err := base.acceptCarried(ctx, kept.Held, a.Log); err != nil {
		return nil, err
	}
	var boards []Board
	for _, d := range todo {
		boards = append(boards, d.board)
		if err := base.importOne(ctx, d, ends, t); err != nil {
			return nil, err
		}
	}
	t.Seconds = base.now().Sub(begun).Seconds()
	return t, writeSummary(t.Summary, boards, ends)
}

// answered is one board of a spool with its checked answer: a chain, or a refusal.
type answered struct {
	board   Board
	station *Station
	key     []byte
	chain   []*x509.Certificate
	answer  spoolAnswer
}

// checkAnswers holds every answer to what the station kept. One that is wrong refuses the whole file: who changed it may have changed more.
func (s *Station) checkAnswers(kept *pending, answers []spoolAnswer) ([]answered, error) {
	var all []answered
	var wrong []string
	no := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if len(answers) != len(kept.Boards) {
		no("it has %d answers, and %d were asked for", len(answers), len(kept.Boards))
		answers = nil
	}
	for i, a := range answers {
		d := kept.Boards[i]
		one := answered{board: d.board(), key: d.Key, answer: a}
		if a.DeviceID != d.DeviceID || a.Request != d.Request {
			no("answer %d is for %.80q, not for the request of %s", i+1, a.DeviceID, show.Text(d.DeviceID))
			continue
		}
		var err error
		if one.station, err = s.forBoard(one.board); err != nil {
			no("%s: %v", show.Text(d.DeviceID), err)
			continue
		}
		if (a.Chain == "") == (a.Error == "") {
			no("%s: it holds neither a certificate nor a reason, or both", show.Text(d.DeviceID))
			continue
		}
		if a.Chain != "" {
			if one.chain, err = one.check(s); err != nil {
				no("%s: %v", show.Text(d.DeviceID), err)
				continue
			}
		}
		all = append(all, one)
	}
	if len(wrong) > 0 {
		return nil, advice.New(advice.Unverified, "nothing was written to any device; have the spool submitted again, and keep this file for the security officer", "the answers: %s", show.Line(strings.Join(wrong[:min(len(wrong), 10)], "; ")))
	}
	return all, nil
}

func (d *answered) check(s *Station) ([]*x509.Certificate, error) {
	pub, err := x509.ParsePKIXPublicKey(d.key)
	if err != nil {
		return nil, err
	}
	chain, err := factory.ParseCertificates([]byte(d.answer.Chain))
	if err != nil {
		return nil, err
	}
	return checkAnswer(&factory.EnrollAnswer{DeviceID: d.board.ID, Certificate: string(encode(chain[:1])), Chain: d.answer.Chain}, d.station.c, pub, s.fleet, s.now())
}

// importOne brings one board to its end. An error means that ends cannot be kept, or that the run was interrupted.
func (s *Station) importOne(ctx context.Context, d answered, ends *results, t *Tally) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e, ok := ends.end(d.board.ID); ok && e.Outcome == Enrolled && e.Row == d.board.digest() && d.chain != nil && serialOf(d.chain[0]) == e.Serial && d.station.folder.holds(d.board.ID, e.Serial) {
		t.Before, t.NotBegun = t.Before+1, t.NotBegun-1
		return nil
	}
	result, err := d.finish(ctx)
	if err != nil && ctx.Err() != nil {
		return err
	}
	e := endOf(d.board, result, err, s.now())
	t.NotBegun--
	switch e.Outcome {
	case Enrolled:
		t.Enrolled++
	case Refused:
		t.Refused++
	default:
		t.Failed++
	}
	if err != nil {
		s.done("%s: %v", show.Text(d.board.ID), err)
	}
	return ends.add(e)
}

func (d *answered) finish(ctx context.Context) (*Result, error) {
	s := d.station
	if d.chain == nil {
		return nil, advice.New(advice.Refused, d.answer.Hint, "hanaperd refused it at the desk: %s", show.Line(d.answer.Error))
	}
	if d.answer.Differs != "" {
		s.tellDiffers(&factory.EnrollAnswer{Differs: d.answer.Differs})
	}
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	keys, err := openKeyStore(ctx, s.c, s.openToken, s.done)
	if err != nil {
		return nil, err
	}
	defer keys.close()
	key, err := keys.find(ctx)
	if err != nil {
		return nil, err
	}
	spki, err := csr.MarshalKey(key.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(spki, d.key) {
		return nil, advice.New(advice.Refused, "is the right board connected? was its token erased since? Nothing was written to it", "the board has another key than the one that was exported for %s", show.Text(d.board.ID))
	}
	if err := s.got.add(d.chain[0]); err != nil {
		return nil, err
	}
	o := &opened{keys: keys, key: key}
	if err := s.finish(ctx, o, d.chain); err != nil {
		return nil, err
	}
	s.done("%s: enrolled", show.Text(d.board.ID))
	return s.result(o, serialOf(d.chain[0]), d.chain, true), nil
}

// acceptCarried is accept for a checkpoint that came on a stick, with the proof from what the station held when it wrote the spool. A
// station that has taken a later one since, from another spool, cannot compare the two without the log: it keeps what it has.
func (s *Station) acceptCarried(ctx context.Context, held int64, a *factory.LogAnswer) error {
	if s.issuances == nil {
		return nil
	}
	now, err := s.issuances.held()
	if err != nil {
		return err
	}
	if now != held {
		s.done("no checkpoint of the issuance log is taken: the kept one changed since the spool was written")
		return nil
	}
	return s.issuances.accept(ctx, held, a)
}
