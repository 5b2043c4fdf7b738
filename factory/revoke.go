package factory

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/hanaper/hanaper/ca"
)

// Revoke marks a device's certificate as revoked, durably, and signs a CRL that says so. When the token is away the
// revocation stands all the same, and the list follows by itself. Revoking again changes nothing.
func (s *Service) Revoke(ctx context.Context, operator string, q RevokeRequest) (*RevokeAnswer, error) {
	reason, err := reasonCode(q.Reason)
	if err != nil {
		return nil, err
	}
	rec, err := s.find(ctx, q)
	if err != nil {
		return nil, err
	}
	if rec.Issuer != s.issuer {
		return nil, otherIssuer(rec)
	}
	if rec.Open() {
		return nil, fault(CodeNotFound, "its enrolment is still open", "device id %q has no certificate", rec.DeviceID)
	}
	changed, err := s.c.Store.Revoke(ctx, rec.ID, reason, s.c.Now().UTC().Truncate(time.Second))
	if err != nil {
		return nil, away("the store", err)
	}
	if rec, err = s.c.Store.BySerial(ctx, rec.Serial); err != nil {
		return nil, away("the store", err)
	}
	a := &RevokeAnswer{DeviceID: rec.DeviceID, Serial: fmt.Sprintf("%x", rec.Serial), Reason: reasonName(rec.Reason), RevokedAt: rec.RevokedAt.UTC()}
	if changed {
		s.c.Log.Info("revoked", "device", rec.DeviceID, "serial", a.Serial, "reason", a.Reason, "operator", operator)
	}
	crl, err := s.carrying(ctx, rec)
	if err != nil {
		s.c.Log.Error("revocation recorded, but its CRL is still to be signed", "error", err)
		s.wakeCRL()
		return a, nil
	}
	a.CRLNumber = crl.Number
	return a, nil
}

func (s *Service) find(ctx context.Context, q RevokeRequest) (rec Record, err error) {
	name := q.DeviceID
	if q.DeviceID != "" {
		rec, err = s.c.Store.ByDevice(ctx, q.DeviceID)
	} else {
		serial, bad := new(big.Int).SetString(q.Serial, 16)
		if bad = bad && len(q.Serial) <= 40 && serial.Sign() > 0; !bad {
			return rec, fault(CodeRequest, "give it in hex, without separators", "serial %.50q is no serial number", q.Serial)
		}
		name = q.Serial
		rec, err = s.c.Store.BySerial(ctx, serial.Bytes())
	}
	if errors.Is(err, ErrNotFound) {
		return rec, fault(CodeNotFound, "", "no certificate was issued for %q", name)
	}
	if err != nil {
		return rec, away("the store", err)
	}
	return rec, nil
}

// carrying gives a list that holds the revocation, signing one where the latest does not. Revocations that wait for
// each other share one list.
func (s *Service) carrying(ctx context.Context, rec Record) (*CRL, error) {
	unlock, err := s.devices.lock(ctx, "\x00crl")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c := s.crl.Load(); c != nil {
		list, err := x509.ParseRevocationList(c.DER)
		if err != nil {
			return nil, err
		}
		serial := new(big.Int).SetBytes(rec.Serial)
		for _, e := range list.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(serial) == 0 {
				return c, nil
			}
		}
	}
	return s.signCRL(ctx)
}

// signCRL signs and stores the next list; the caller holds the CRL's lock. The token is waited for as long as asked says; what
// the store is told is not cut short.
func (s *Service) signCRL(asked context.Context) (*CRL, error) {
	ctx := context.WithoutCancel(asked)
	var previous *x509.RevocationList
	last, err := s.c.Store.LatestCRL(ctx, s.issuer)
	switch {
	case err == nil:
		if previous, err = x509.ParseRevocationList(last.DER); err != nil {
			return nil, fmt.Errorf("CRL %d in the store: %w", last.Number, err)
		}
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	if newer := s.newerPublished(previous); newer != nil {
		s.c.Log.Error("the store is older than the CRL that is published: it was put back from a copy, or lost; numbers and revocations go on from the published list",
			"published", newer.Number, "revoked", len(newer.RevokedCertificateEntries))
		previous = newer
	}
	revoked, err := s.c.Store.Revocations(ctx, s.issuer)
	if err != nil {
		return nil, err
	}
	above := int64(0)
	if previous != nil {
		above = previous.Number.Int64()
	}
	number, err := s.c.Store.NextCRLNumber(ctx, above)
	if err != nil {
		return nil, err
	}
	t := s.listing(revoked, previous)
	t.Number = big.NewInt(number)
	p, err := s.c.Issuer.PrepareCRL(t, previous)
	if err != nil {
		return nil, err
	}
	list, err := p.Sign(asked, s.c.Rand)
	if err != nil {
		s.unsigned(asked)
		return nil, err
	}
	s.tokenDown.Store(false)
	c := CRL{Number: number, DER: list.Raw, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}
	if err := s.c.Store.PutCRL(ctx, s.issuer, c); err != nil {
		return nil, err
	}
	s.crl.Store(&c)
	s.c.Log.Info("CRL signed", "number", number, "revoked", len(t.Entries), "next_update", c.NextUpdate)
	s.publish(&c)
	return &c, nil
}

// listing is the content of the next list: what the store has revoked, and what the previous list had and the store does
// not know, for a store put back from a copy must not make a revocation be forgotten.
func (s *Service) listing(revoked []Revocation, previous *x509.RevocationList) ca.CRLTemplate {
	var t ca.CRLTemplate
	now, known := s.c.Now().UTC().Truncate(time.Second), map[string]bool{}
	latest := now
	for _, r := range revoked {
		known[string(r.Serial)] = true
		t.Entries = append(t.Entries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(r.Serial), RevocationTime: r.At.UTC(), ReasonCode: r.Reason})
		if r.At.After(latest) {
			latest = r.At.UTC()
		}
	}
	if previous != nil {
		for _, e := range previous.RevokedCertificateEntries {
			if !known[string(e.SerialNumber.Bytes())] {
				t.Entries = append(t.Entries, x509.RevocationListEntry{SerialNumber: e.SerialNumber, RevocationTime: e.RevocationTime, ReasonCode: e.ReasonCode})
			}
		}
		if previous.ThisUpdate.After(latest) {
			latest = previous.ThisUpdate.UTC()
		}
	}
	// A clock that went back must not keep a revocation from being published; times in a list only rise.
	if latest.After(now) {
		s.c.Log.Error("the clock is behind what was signed or revoked earlier; check it", "clock", now, "earlier", latest)
	}
	t.ThisUpdate, t.NextUpdate = latest, latest.Add(s.c.CRLValidity)
	return t
}

// newerPublished is the list that others have had from us, if its number is above the previous one's.
func (s *Service) newerPublished(previous *x509.RevocationList) *x509.RevocationList {
	if s.c.PublishedCRL == nil {
		return nil
	}
	list, err := s.c.PublishedCRL()
	if err != nil {
		s.c.Log.Error("the published CRL cannot be read", "error", err)
		return nil
	}
	if list == nil || list.Number == nil || !list.Number.IsInt64() || list.CheckSignatureFrom(s.c.Issuer.Certificate()) != nil ||
		previous != nil && list.Number.Cmp(previous.Number) <= 0 {
		return nil
	}
	return list
}

// publish hands a list on; one that could not be handed on is tried again by FreshCRL. The caller holds the CRL's lock.
func (s *Service) publish(c *CRL) {
	if s.c.PublishCRL == nil || s.published == c.Number {
		return
	}
	if err := s.c.PublishCRL(c.DER); err != nil {
		s.c.Log.Error("the CRL could not be written to crl.file; it is tried again", "number", c.Number, "error", err)
		return
	}
	s.published = c.Number
}

// LatestCRL is the list that GET /v1/crl serves.
func (s *Service) LatestCRL() (*CRL, error) {
	c := s.crl.Load()
	if c == nil {
		return nil, away("the issuing token", errors.New("no CRL is signed yet"))
	}
	return c, nil
}

// FreshCRL loads the latest list and signs a new one where it is due, or where a revocation is not in it.
func (s *Service) FreshCRL(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	unlock, err := s.devices.lock(ctx, "\x00crl")
	if err != nil {
		return err
	}
	defer unlock()
	last, err := s.c.Store.LatestCRL(ctx, s.issuer)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil {
		s.crl.Store(&last)
		list, err := x509.ParseRevocationList(last.DER)
		if err != nil {
			return fmt.Errorf("CRL %d in the store: %w", last.Number, err)
		}
		revoked, err := s.c.Store.Revocations(ctx, s.issuer)
		if err != nil {
			return err
		}
		if s.c.Now().Sub(last.ThisUpdate) < s.c.CRLRefresh && holds(list, revoked) && s.newerPublished(list) == nil {
			s.publish(&last)
			return nil
		}
	}
	_, err = s.signCRL(ctx)
	return err
}

// holds says whether every revocation is in the list.
func holds(list *x509.RevocationList, revoked []Revocation) bool {
	listed := make(map[string]bool, len(list.RevokedCertificateEntries))
	for _, e := range list.RevokedCertificateEntries {
		listed[string(e.SerialNumber.Bytes())] = true
	}
	return !slices.ContainsFunc(revoked, func(r Revocation) bool { return !listed[string(r.Serial)] })
}

func (s *Service) wakeCRL() {
	select {
	case s.crlDue <- struct{}{}:
	default:
	}
}

// Run finishes what a crash left open and keeps the CRL fresh, until ctx ends. It tries again by itself while the token
// or the store is away.
func (s *Service) Run(ctx context.Context) {
	recovered := false
	for {
		wait := min(s.c.CRLRefresh/4+time.Second, time.Minute)
		if !recovered {
			done, left, err := s.Recover(ctx)
			recovered = err == nil || asFault(err).Code != CodeUnavailable
			if done > 0 || left > 0 {
				s.c.Log.Info("open intents", "finished", done, "left", left)
			}
			if !recovered && ctx.Err() == nil {
				s.c.Log.Error("open intents are left; they are tried again", "error", err)
				wait = retryAfter
			}
		}
		if err := s.FreshCRL(ctx); err != nil && ctx.Err() == nil {
			s.c.Log.Error("no fresh CRL; it is tried again", "error", err)
			wait = retryAfter
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.crlDue:
			timer.Stop()
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryAfter):
			}
		case <-timer.C:
		}
	}
}

// Health tells whether token and store answered last.
func (s *Service) Health(ctx context.Context) Health {
	h := Health{Status: "ok", Token: "ok", Store: "ok"}
	if s.tokenDown.Load() {
		h.Status, h.Token = "degraded", "the last signature failed"
	}
	if s.storeDown.Load() {
		h.Status, h.Store = "degraded", "the last write failed"
	}
	if _, err := s.c.Store.BySerial(ctx, []byte{0}); err != nil && !errors.Is(err, ErrNotFound) {
		h.Status, h.Store = "degraded", "does not answer"
	}
	if c := s.crl.Load(); c != nil {
		h.CRLNumber = c.Number
	}
	return h
}
