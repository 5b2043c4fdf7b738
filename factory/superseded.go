package factory

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// SeenRequest is the body of POST /v1/renewal/seen: certificates that devices came to a gateway with, in PEM.
type SeenRequest struct {
	Certificates string `json:"certificates"`
}

// SeenAnswer is the answer to it: how many were sent, and how many earlier certificates ended for it.
type SeenAnswer struct {
	Certificates int `json:"certificates"`
	Ended        int `json:"ended"`
}

// Seen takes a gateway's word that devices use these certificates: what they had before is revoked as superseded. A certificate that is not on
// record octet for octet changes nothing, so that a lie ends a certificate early whose successor was issued, and no other.
func (s *Service) Seen(ctx context.Context, gateway, certificates string) (*SeenAnswer, error) {
	if s.c.Renewal == nil {
		return nil, errNoRenewal
	}
	list, err := ParseCertificates([]byte(certificates))
	if err != nil {
		return nil, fault(CodeRequest, "send certificates in PEM", "%v", err)
	}
	a := &SeenAnswer{Certificates: len(list)}
	for _, cert := range list {
		by := s.renews(cert)
		if by == nil {
			continue
		}
		rec, err := s.c.Store.BySerial(ctx, by.id, cert.SerialNumber.Bytes())
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return nil, away("the store", err)
		}
		if err != nil || rec.Generation < 2 || !sameCertificate(rec, cert) {
			continue
		}
		n, err := s.endEarlier(ctx, rec, gatewayWord+gateway)
		if err != nil {
			return nil, err
		}
		a.Ended += n
	}
	return a, nil
}

// sameCertificate says that a certificate is the one on record, and not revoked.
func sameCertificate(rec record.Record, cert *x509.Certificate) bool {
	return rec.State == record.StateIssued && rec.RevokedAt.IsZero() && bytes.Equal(rec.Certificate, cert.Raw)
}

// endEarlier revokes, as superseded, what the device of a certificate had before it, and that neither expired nor is revoked.
func (s *Service) endEarlier(ctx context.Context, rec record.Record, who string) (ended int, err error) {
	all, err := s.c.Store.Generations(ctx, rec.DeviceID, maxGenerations)
	if err != nil {
		return 0, away("the store", err)
	}
	for _, g := range all {
		if g.Generation >= rec.Generation || !s.live(g) {
			continue
		}
		if err := s.end(ctx, g, record.ReasonSuperseded, who); err != nil {
			return ended, err
		}
		ended++
	}
	return ended, nil
}

// live says that a certificate is on record, is not revoked and has not expired: an expired one needs no place on a list.
func (s *Service) live(rec record.Record) bool {
	return rec.State == record.StateIssued && rec.RevokedAt.IsZero() && !s.clock.best().After(rec.NotAfter)
}

// supersededMark is the name under which the store keeps the number of the last event whose earlier certificates ended. Servers that share the store
// share it.
const supersededMark = "superseded"

// endSuperseded revokes what later certificates took the place of, once the overlap is over. It follows the record's events, so that neither a crash
// nor another server's work makes it forget one.
func (s *Service) endSuperseded(ctx context.Context) error {
	for {
		now, bad := s.clock.check()
		if bad != nil {
			return clockFault(bad)
		}
		mark, err := s.c.Store.Mark(ctx, supersededMark)
		if err != nil {
			return away("the store", err)
		}
		after := int64(0)
		if mark != nil {
			if after, err = strconv.ParseInt(string(mark), 10, 64); err != nil || after < 0 {
				return fmt.Errorf("the mark %q in the store is no number", supersededMark)
			}
		}
		events, err := s.c.Store.Events(ctx, after, 500)
		if err != nil {
			return away("the store", err)
		}
		last := after
		for _, e := range events {
			if now.Sub(e.At) < s.c.Renewal.Overlap {
				break
			}
			if err := s.endBefore(ctx, e); err != nil {
				return err
			}
			last = e.Sequence
		}
		if last == after {
			return nil
		}
		if _, err := s.c.Store.SwapMark(ctx, supersededMark, mark, strconv.AppendInt(nil, last, 10)); err != nil {
			return away("the store", err)
		}
	}
}

// endBefore does so for the certificate that an event tells of.
func (s *Service) endBefore(ctx context.Context, e record.Event) error {
	if e.Kind != record.Reissue && e.Kind != record.TakenIn || len(e.Serial) == 0 {
		return nil
	}
	rec, err := s.c.Store.BySerial(ctx, e.Issuer, e.Serial)
	if errors.Is(err, record.ErrNotFound) || err == nil && rec.State != record.StateIssued {
		return nil
	}
	if err != nil {
		return away("the store", err)
	}
	// A crash may have kept its own server from finding that the device was revoked meanwhile.
	if err := s.withdrawLater(ctx, rec); err != nil {
		return err
	}
	_, err = s.endEarlier(ctx, rec, "hanaperd")
	return err
}

// keepSuperseded ends what is superseded, until ctx ends.
func (s *Service) keepSuperseded(ctx context.Context) {
	if s.c.Renewal == nil {
		return
	}
	for {
		if err := s.endSuperseded(ctx); err != nil && ctx.Err() == nil {
			s.c.Log.Error("certificates that were renewed cannot be ended; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(max(s.c.Renewal.Overlap/10, 500*time.Millisecond), time.Minute)):
		}
	}
}
