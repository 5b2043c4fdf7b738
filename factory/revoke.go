package factory

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
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
	defer s.devices.lock("\x00crl")()
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

// signCRL signs and stores the next list; the caller holds the CRL's lock.
func (s *Service) signCRL(ctx context.Context) (*CRL, error) {
	ctx = context.WithoutCancel(ctx)
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
	revoked, err := s.c.Store.Revocations(ctx, s.issuer)
	if err != nil {
		return nil, err
	}
	number, err := s.c.Store.NextCRLNumber(ctx)
	if err != nil {
		return nil, err
	}
	now := s.c.Now().UTC().Truncate(time.Second)
	if previous != nil && now.Before(previous.ThisUpdate) {
		return nil, fmt.Errorf("the clock says %s, before the last CRL's %s", now, previous.ThisUpdate)
	}
	t := ca.CRLTemplate{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.Add(s.c.CRLValidity)}
	for _, r := range revoked {
		t.Entries = append(t.Entries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(r.Serial), RevocationTime: r.At.UTC(), ReasonCode: r.Reason})
	}
	p, err := s.c.Issuer.PrepareCRL(t, previous)
	if err != nil {
		return nil, err
	}
	list, err := p.Sign(s.c.Rand)
	if err != nil {
		s.tokenDown.Store(true)
		return nil, err
	}
	s.tokenDown.Store(false)
	c := CRL{Number: number, DER: list.Raw, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate}
	if err := s.c.Store.PutCRL(ctx, s.issuer, c); err != nil {
		return nil, err
	}
	s.crl.Store(&c)
	s.c.Log.Info("CRL signed", "number", number, "revoked", len(revoked), "next_update", c.NextUpdate)
	if s.c.PublishCRL != nil {
		if err := s.c.PublishCRL(c.DER); err != nil {
			s.c.Log.Error("the CRL could not be written to crl.file", "error", err)
		}
	}
	return &c, nil
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
	defer s.devices.lock("\x00crl")()
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
		if s.c.Now().Sub(last.ThisUpdate) < s.c.CRLRefresh && len(revoked) == len(list.RevokedCertificateEntries) {
			return nil
		}
	}
	_, err = s.signCRL(ctx)
	return err
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
	if _, err := s.c.Store.BySerial(ctx, []byte{0}); err != nil && !errors.Is(err, ErrNotFound) {
		h.Status, h.Store = "degraded", "does not answer"
	}
	if c := s.crl.Load(); c != nil {
		h.CRLNumber = c.Number
	}
	return h
}
