package factory

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory/record"
)

// why says what a list is looked at for.
type why int

const (
	// whenDue signs one that is old, lacks a revocation, or is behind the published one.
	whenDue why = iota
	// whenRevoked is asked at each revocation: it looks no further where a list was signed a moment ago.
	whenRevoked
)

// renew gives the latest list of an issuing CA, signing a new one where one is due. One that is due only for new revocations waits until
// CRLInterval is over, however many there are. All that decides is read, numbered, signed and stored under the issuer's lock in the store.
func (s *Service) renew(ctx context.Context, by *issuing, reason why) (*record.CRL, error) {
	if reason == whenRevoked && s.justSigned(by) {
		return by.crl.Load(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	now, err := s.clock.check()
	if err != nil {
		return nil, clockFault(err)
	}
	var seen *record.CRL
	made, err := s.c.Store.NextCRL(ctx, by.id, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		if seen = turn.Last; !s.due(by, turn, now) {
			return nil, nil
		}
		return s.signCRL(ctx, by, turn, now)
	})
	if err != nil {
		return nil, err
	}
	if made != nil {
		seen = made
		by.signedAt.Store(counted())
		s.c.Log.Info("CRL signed", "number", made.Number, "issuer", by.cert.Subject.String(), "next_update", made.NextUpdate)
	}
	if seen == nil {
		return nil, nil
	}
	by.crl.Store(seen)
	s.publish(by, seen, reason == whenDue)
	return seen, nil
}

// justSigned says that this process signed a list less than CRLInterval ago. It does not ask the clock of the day.
func (s *Service) justSigned(by *issuing) bool {
	at := by.signedAt.Load()
	return at != 0 && counted()-at < int64(s.c.CRLInterval)
}

// due decides whether a list must be signed.
func (s *Service) due(by *issuing, turn record.ListTurn, now time.Time) bool {
	if turn.Last == nil {
		return true
	}
	age := now.Sub(turn.Last.ThisUpdate)
	if age < 0 && age >= -clockStep {
		return false // a clock that stepped back a little will soon have caught up
	}
	if age >= s.c.CRLRefresh || age < 0 || s.newerPublished(by, turn.Last.Number) != nil {
		return true
	}
	// Another server may have signed one a moment ago.
	return turn.UpTo > turn.Last.UpTo && !s.justSigned(by) && age >= s.c.CRLInterval
}

// signCRL makes the next list.
func (s *Service) signCRL(ctx context.Context, by *issuing, turn record.ListTurn, now time.Time) (*record.CRL, error) {
	var previous *x509.RevocationList
	above := int64(0)
	if turn.Last != nil {
		var err error
		if previous, err = by.parse(turn.Last.DER); err != nil {
			return nil, fmt.Errorf("CRL %d in the store: %w", turn.Last.Number, err)
		}
		above = turn.Last.Number
	}
	// after is how far the revocations are on the previous list for sure.
	after := int64(0)
	if previous != nil && by.whole.Load() {
		if age := now.Sub(turn.Last.ThisUpdate); age >= 0 && age < s.c.CRLRefresh {
			after = turn.Last.UpTo
		}
	}
	if newer := s.newerPublished(by, above); newer != nil {
		previous, above, after = newer, newer.Number.Int64(), 0
	}
	revoked, earlier, err := turn.Revoked(ctx, after)
	if err == nil && after > 0 && int64(len(previous.RevokedCertificateEntries)) < earlier {
		s.c.Log.Error("the last list lacks revocations that it should have; all are read again", "number", turn.Last.Number, "entries", len(previous.RevokedCertificateEntries), "revoked", earlier)
		after = 0
		revoked, _, err = turn.Revoked(ctx, 0)
	}
	if err != nil {
		return nil, err
	}
	upTo := after
	for _, r := range revoked {
		upTo = max(upTo, r.Sequence)
	}
	if upTo < turn.UpTo {
		return nil, fmt.Errorf("the store counts a revocation with the number %d and lists none above %d: %w", turn.UpTo, upTo, record.ErrDamaged)
	}
	number, err := turn.Number(ctx, above)
	if err != nil {
		return nil, err
	}
	t := s.listing(revoked, previous, now)
	t.Number = big.NewInt(number)
	var list *x509.RevocationList
	err = s.each(ctx, by, func(ctx context.Context, i *ca.Issuer) error {
		p, err := i.PrepareCRL(t, previous)
		if err != nil {
			return err
		}
		if list, err = p.Sign(ctx, s.c.Rand); err != nil {
			return &tokenError{err}
		}
		return nil
	})
	s.signed(ctx, err)
	if err != nil {
		return nil, err
	}
	by.keep(list)
	if after == 0 {
		by.whole.Store(true)
	}
	return &record.CRL{Number: number, DER: list.Raw, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, UpTo: upTo}, nil
}

// listing is the content of the next list: what the previous list had, and what the store has revoked since, or in all. What the store does
// not know stays, for a store put back from a copy must not make a revocation be forgotten, nor later than it was.
func (s *Service) listing(revoked []record.Revocation, previous *x509.RevocationList, now time.Time) ca.CRLTemplate {
	fresh := make([]x509.RevocationListEntry, 0, len(revoked))
	known := make(map[string]int, len(revoked))
	for _, r := range revoked {
		serial := new(big.Int).SetBytes(r.Serial)
		if !listable(serial) {
			// Kept by a release that took it. It is no certificate's, and one such entry would keep all others from being listed.
			s.c.Log.Error("a revocation is on no list: its serial number is longer than one can be", "serial", fmt.Sprintf("%x", r.Serial))
			continue
		}
		known[string(serial.Bytes())] = len(fresh)
		fresh = append(fresh, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: r.At.UTC(), ReasonCode: r.Reason})
	}
	t := ca.CRLTemplate{Entries: fresh}
	if previous != nil {
		// Those of the previous list come first, as they stand there: the next comparison of the two finds them at once.
		t.Entries = make([]x509.RevocationListEntry, 0, len(previous.RevokedCertificateEntries)+len(fresh))
		for n := range previous.RevokedCertificateEntries {
			e := &previous.RevokedCertificateEntries[n]
			at, ok := known[string(e.SerialNumber.Bytes())]
			switch {
			case !ok:
				t.Entries = append(t.Entries, x509.RevocationListEntry{SerialNumber: e.SerialNumber, RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode})
			case e.RevocationTime.Before(fresh[at].RevocationTime):
				fresh[at].RevocationTime = e.RevocationTime
			}
		}
		t.Entries = append(t.Entries, fresh...)
		if t.Redated = previous.ThisUpdate.After(now); t.Redated {
			s.c.Log.Error("the last list was dated by a clock that was wrong; it is followed by one with the right date", "dated", previous.ThisUpdate, "now", now)
		}
	}
	// A revocation that a wrong clock dated is not kept from being published, and not dated later than the list.
	for n := range t.Entries {
		if e := &t.Entries[n]; e.RevocationTime.After(now) {
			e.RevocationTime = now
		}
	}
	t.ThisUpdate, t.NextUpdate = now, now.Add(s.c.CRLValidity)
	return t
}

// newerPublished is the list that others have had from us, if its number is above this one.
func (s *Service) newerPublished(by *issuing, number int64) *x509.RevocationList {
	list := s.publishedList(by)
	if list == nil || list.Number.Int64() <= number {
		return nil
	}
	return list
}

// publishedList is the list that others have had from us; nil where there is none that this issuing CA signed.
func (s *Service) publishedList(by *issuing) *x509.RevocationList {
	if by.PublishedCRL == nil {
		return nil
	}
	der, err := by.PublishedCRL()
	if err == nil && der == nil {
		return nil
	}
	var list *x509.RevocationList
	if err == nil {
		list, err = by.parse(der)
	}
	if err != nil {
		s.c.Log.Error("the published CRL cannot be read", "error", err)
		return nil
	}
	if list.Number == nil || !list.Number.IsInt64() || list.CheckSignatureFrom(by.cert) != nil {
		return nil
	}
	return list
}

// publish hands a list on; one that could not be handed on is tried again by FreshCRL. An older one never takes the place of a newer one. With
// look it reads back what it handed on before, in whose place somebody may have put an older list.
func (s *Service) publish(by *issuing, c *record.CRL, look bool) {
	by.publishing.Lock()
	defer by.publishing.Unlock()
	if by.PublishCRL == nil || by.published > c.Number {
		return
	}
	if by.published == c.Number {
		if !look || by.PublishedCRL == nil {
			return
		}
		if list := s.publishedList(by); list != nil && list.Number.Int64() >= c.Number {
			return
		}
		s.c.Log.Error("the published CRL is gone, or was put back: the latest is written again. Find out who did it", "number", c.Number)
	}
	if err := by.PublishCRL(c.DER); err != nil {
		s.c.Log.Error("the CRL could not be written to crl.file; it is tried again", "number", c.Number, "error", err)
		return
	}
	by.published = c.Number
}

// FreshCRL signs a new list of each issuing CA where one is due, or where a revocation is not in the latest, and hands it on.
func (s *Service) FreshCRL(ctx context.Context) error {
	var failed error
	for _, by := range s.issuers {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !s.c.Now().Before(by.cert.NotAfter) && by != s.issuers[0] {
			continue // it can sign no list, and nothing of it is valid
		}
		if _, err := s.renew(ctx, by, whenDue); err != nil && !errors.Is(err, record.ErrOvertaken) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// waiting says that a revocation is on no list yet.
func (s *Service) waiting(ctx context.Context) bool {
	for _, by := range s.issuers {
		c := by.crl.Load()
		if n, err := s.c.Store.RevokedUpTo(ctx, by.id); err == nil && n > 0 && (c == nil || n > c.UpTo) {
			return true
		}
	}
	return false
}

func (s *Service) wakeCRL() {
	select {
	case s.crlDue <- struct{}{}:
	default:
	}
}
