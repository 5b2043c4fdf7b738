package factory

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
)

// Witness holds, outside of the store, how far the record had come: a file beside it, or the issuance log.
type Witness struct {
	// Name is what it is called in words: "the issuance log".
	Name string
	// Sequence is the number of the last event that it knows, 0 for none.
	Sequence func(ctx context.Context) (int64, error)
	// Record tells it how far the record is; nil if it finds out by itself.
	Record func(ctx context.Context, sequence int64) error
}

// maxLost bounds the events that one comparison makes up for numbers that were given before.
const maxLost = 1 << 20

// Compare holds the record against what others have had of it: the published lists, and the witnesses. One that lags was put back from a
// copy, or lost. Then no device is enrolled any more, for its id may have a certificate already; the revocations that were published are
// taken in, numbers that were given are not given again, and an operator decides when the record is whole (Accept).
func (s *Service) Compare(ctx context.Context) error {
	failed := s.startClock(ctx)
	for _, by := range s.issuers {
		failed = errors.Join(failed, s.compareList(ctx, by))
	}
	for _, w := range s.c.Witnesses {
		if err := s.compareWitness(ctx, w); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", show.Text(w.Name), err))
		}
	}
	return failed
}

// compareList holds the store against the published list of an issuing CA, and takes in what it lacks.
func (s *Service) compareList(ctx context.Context, by *issuing) error {
	last, err := s.c.Store.LatestCRLNumber(ctx, by.id)
	if err != nil {
		return err
	}
	list := s.newerPublished(by, last)
	if list == nil {
		return nil
	}
	if err := s.hold(ctx, fmt.Sprintf("CRL %v of %s was published, and the store knows of none after %d", list.Number, by.cert.Subject.CommonName, last)); err != nil {
		return err
	}
	for _, e := range list.RevokedCertificateEntries {
		_, _, err := s.c.Store.Revoke(ctx, record.Revocation{Issuer: by.id, Serial: e.SerialNumber.Bytes(), At: e.RevocationTime.UTC(), Reason: e.ReasonCode,
			Who: fmt.Sprintf("published CRL %v", list.Number)})
		if err != nil {
			return err
		}
	}
	return nil
}

// compareWitness holds the store's last number against a witness's.
func (s *Service) compareWitness(ctx context.Context, w Witness) error {
	known, err := w.Sequence(ctx)
	if err != nil {
		return err
	}
	have, err := s.c.Store.Sequence(ctx)
	if err != nil {
		return err
	}
	if known <= have {
		if w.Record != nil && known < have {
			return w.Record(ctx, have)
		}
		return nil
	}
	if err := s.hold(ctx, fmt.Sprintf("%s knows %d events, the store %d", w.Name, known, have)); err != nil {
		return err
	}
	if known-have > maxLost {
		return fmt.Errorf("it knows %d events more than the store: is it that of another store?", known-have)
	}
	for have < known {
		have, err = s.c.Store.Append(ctx, record.Event{Kind: record.Lost, At: s.clock.best(), Who: "hanaperd", Note: "known to " + w.Name})
		if err != nil {
			return err
		}
	}
	return nil
}

// hold keeps new devices out from now on.
func (s *Service) hold(ctx context.Context, reason string) error {
	was, err := s.c.Store.Holding(ctx)
	if err != nil || was != "" {
		return err
	}
	if err := s.c.Store.Hold(ctx, reason); err != nil {
		return err
	}
	s.c.Log.Error("the store is older than what others hold of it: it was put back from a copy, or lost. No device is enrolled until an operator has accepted it: see `hanaperd store`",
		"reason", reason)
	return nil
}

func (s *Service) heldFault(ctx context.Context) error {
	why, err := s.c.Store.Holding(ctx)
	if err != nil || why == "" {
		why = "the reason is in hanaperd's log"
	}
	return fault(CodeHeld, "an operator takes in what is missing and runs `hanaperd store accept`; see the runbook's \"Restoring the store\"", "no device is enrolled: the factory's record is not complete (%s)", why)
}

// compareStation looks at the last certificate that a station got, in PEM; empty where it has none. One that the store does not know
// is proof that the store lags: only the issuing key can have made it. One that is not ours says nothing.
func (s *Service) compareStation(ctx context.Context, station, last string) error {
	if last == "" {
		return nil
	}
	_, err := s.TakeIn(ctx, "station "+station, last)
	if err != nil && asFault(err).Code == CodePolicy {
		s.c.Log.Warn("a station shows a certificate that is not ours", "station", station, "error", err)
		return nil
	}
	return err
}

// TakeIn compares certificates that somebody got from us, in PEM, with the record. Those that it lacks are taken in, and the
// store is held. It refuses all where one is not ours.
func (s *Service) TakeIn(ctx context.Context, who, certificates string) (*TakeInAnswer, error) {
	certs, err := ParseCertificates([]byte(certificates))
	if err != nil {
		return nil, fault(CodeRequest, "", "certificates: %v", err)
	}
	a := &TakeInAnswer{Certificates: len(certs)}
	var lacking []*x509.Certificate
	var from []*issuing
	for _, c := range certs {
		by := s.issuerOf(c)
		if by == nil {
			return nil, fault(CodePolicy, "send only certificates that this hanaperd issued", "the certificate of %.80q, serial %x, was not issued by this hanaperd", c.Subject.CommonName, c.SerialNumber)
		}
		rec, err := s.c.Store.BySerial(ctx, by.id, c.SerialNumber.Bytes())
		if err != nil && !errors.Is(err, record.ErrNotFound) {
			return nil, away("the store", err)
		}
		if err == nil && rec.State == record.StateIssued {
			continue
		}
		// The signature is looked at only where it decides something.
		if err := c.CheckSignatureFrom(by.cert); err != nil {
			return nil, fault(CodePolicy, "send only certificates that this hanaperd issued", "the certificate of %.80q, serial %x, was not signed by this hanaperd", c.Subject.CommonName, c.SerialNumber)
		}
		lacking, from = append(lacking, c), append(from, by)
	}
	for i, c := range lacking {
		if err := s.hold(ctx, fmt.Sprintf("%s has the certificate with serial %x, which the store does not know", who, c.SerialNumber)); err != nil {
			return nil, away("the store", err)
		}
		in := record.Intent{DeviceID: c.Subject.CommonName, Station: who, SPKI: c.RawSubjectPublicKeyInfo, SPKIDigest: sha256.Sum256(c.RawSubjectPublicKeyInfo),
			Issuer: from[i].id, Serial: c.SerialNumber.Bytes(), TBSDigest: sha256.Sum256(c.RawTBSCertificate), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
			At: s.clock.best()}
		if in.Generation, err = ca.Generation(c); err != nil {
			return nil, fault(CodePolicy, "send only certificates that this hanaperd issued", "the certificate of %.80q, serial %x: %v", c.Subject.CommonName, c.SerialNumber, err)
		}
		_, isNew, err := s.c.Store.TakeIn(ctx, in, c.Raw, who)
		if err != nil {
			return nil, away("the store", err)
		}
		if isNew {
			a.TakenIn++
			s.c.Log.Warn("taken in", "device", in.DeviceID, "serial", fmt.Sprintf("%x", in.Serial), "from", who)
		}
	}
	return a, nil
}

// issuerOf is the issuing CA that a certificate names.
func (s *Service) issuerOf(c *x509.Certificate) *issuing {
	for _, by := range s.issuers {
		if string(c.RawIssuer) == string(by.cert.RawSubject) && (len(s.issuers) == 1 || string(c.AuthorityKeyId) == string(by.cert.SubjectKeyId)) {
			return by
		}
	}
	return nil
}

// StoreState tells how the record stands against what others hold of it.
func (s *Service) StoreState(ctx context.Context) (*StoreAnswer, error) {
	var a StoreAnswer
	var err error
	if a.Held, err = s.c.Store.Holding(ctx); err == nil {
		a.Sequence, err = s.c.Store.Sequence(ctx)
	}
	if err != nil {
		return nil, away("the store", err)
	}
	return &a, nil
}

// Accept ends the holding of the store, when it does not lag any more behind what can be read: what is missing still was lost, and the
// operator says so.
func (s *Service) Accept(ctx context.Context, operator, note string) (*StoreAnswer, error) {
	if err := s.Compare(ctx); err != nil {
		return nil, away("the store, or what it is compared with,", err)
	}
	was, err := s.c.Store.Holding(ctx)
	if err != nil {
		return nil, away("the store", err)
	}
	if was == "" {
		return nil, fault(CodeNotFound, "", "the store is not held")
	}
	// The revocations that were taken in are on a list, with a number above the published one's, before anything else goes on.
	if err := s.FreshCRL(ctx); err != nil {
		return nil, away("the issuing token", err)
	}
	if err := s.markAccepted(ctx); err != nil {
		return nil, away("the store", err)
	}
	if err := s.c.Store.Accept(ctx, "operator "+operator, note); err != nil {
		return nil, away("the store", err)
	}
	s.c.Log.Warn("the store was accepted", "operator", operator, "was_held_because", was, "note", note)
	return s.StoreState(ctx)
}
