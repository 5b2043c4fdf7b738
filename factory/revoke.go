package factory

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/factory/record"
)

// target is what a revocation is about: a certificate on record, or a serial number that is on no record.
type target struct {
	rec   record.Record
	known bool
	// serial and issuers are what is revoked; for a serial that no record knows, each issuing CA of ours lists it.
	serial  []byte
	issuers []*issuing
}

// Revoke marks a certificate as revoked, durably, and signs a CRL that says so. When the token is away, or a list was signed a moment ago,
// the revocation stands all the same, and the list follows by itself. Revoking again changes nothing.
func (s *Service) Revoke(ctx context.Context, operator string, q RevokeRequest) (*RevokeAnswer, error) {
	reason, err := reasonCode(q.Reason)
	if err != nil {
		return nil, err
	}
	if err := checkNote(q.Note); err != nil {
		return nil, err
	}
	what, err := s.find(ctx, q)
	if err != nil {
		return nil, err
	}
	a := &RevokeAnswer{DeviceID: what.rec.DeviceID, Serial: fmt.Sprintf("%x", what.serial), Known: what.known}
	at := s.clock.best()
	for n, by := range what.issuers {
		on, changed, err := s.c.Store.Revoke(ctx, record.Revocation{Issuer: by.id, Serial: what.serial, Reason: reason, At: at, Who: "operator " + operator, Note: q.Note})
		s.wrote(ctx, err)
		if err != nil {
			return nil, away("the store", err)
		}
		if changed {
			s.c.Log.Info("revoked", "device", a.DeviceID, "serial", a.Serial, "reason", q.Reason, "operator", operator, "known", what.known)
		}
		if q.DeviceID != "" {
			// A renewed device may have more than one that is valid, and one that is being signed now.
			if err := s.endOthers(ctx, what.rec, reason, "operator "+operator); err != nil {
				return nil, err
			}
		}
		number := s.carrying(ctx, by, on.Sequence)
		if n == 0 {
			a.Reason, a.RevokedAt, a.CRLNumber = reasonName(on.Reason), on.At.UTC(), number
		}
	}
	return a, nil
}

// find looks for what is to be revoked.
func (s *Service) find(ctx context.Context, q RevokeRequest) (target, error) {
	if q.DeviceID != "" {
		if err := checkID(q.DeviceID); err != nil {
			return target{}, err
		}
		rec, err := s.c.Store.ByDevice(ctx, q.DeviceID)
		if err != nil {
			return target{}, s.notFound(err, q.DeviceID, "")
		}
		if rec.Open() && rec.Generation > 1 {
			// Its renewal is being signed: what it has now is revoked, and the renewal with it.
			if rec, err = s.lastIssued(ctx, q.DeviceID); err != nil {
				return target{}, err
			}
		}
		if rec.Open() {
			return target{}, fault(CodeNotFound, "its enrolment is still open", "device id %q has no certificate", rec.DeviceID)
		}
		return s.targetOf(rec)
	}
	serial, err := parseSerial(q.Serial)
	if err != nil {
		return target{}, err
	}
	known, err := s.c.Store.Issuers(ctx)
	if err != nil {
		return target{}, away("the store", err)
	}
	for _, issuer := range known {
		rec, err := s.c.Store.BySerial(ctx, issuer, serial.Bytes())
		if err == nil {
			return s.targetOf(rec)
		}
		if !errors.Is(err, record.ErrNotFound) {
			return target{}, away("the store", err)
		}
	}
	if !q.Unknown {
		return target{}, s.notFound(record.ErrNotFound, q.Serial, "is the serial right? one that this record does not know is revoked if you say so (--unknown)")
	}
	return target{serial: serial.Bytes(), issuers: s.issuers}, nil
}

// lastIssued is a device's latest certificate that is no open intent.
func (s *Service) lastIssued(ctx context.Context, id string) (record.Record, error) {
	all, err := s.c.Store.Generations(ctx, id, maxGenerations)
	if err != nil {
		return record.Record{}, away("the store", err)
	}
	for _, g := range all {
		if g.State == record.StateIssued {
			return g, nil
		}
	}
	return record.Record{}, s.notFound(record.ErrNotFound, id, "")
}

// endRenewals revokes what a certificate was renewed to through gateways, up to the next generation that came by a station.
func (s *Service) endRenewals(ctx context.Context, rec record.Record, reason int, who string) error {
	all, err := s.c.Store.Generations(ctx, rec.DeviceID, maxGenerations)
	if err != nil {
		return away("the store", err)
	}
	for _, g := range slices.Backward(all) {
		if g.Generation <= rec.Generation {
			continue
		}
		if !strings.HasPrefix(g.Station, gatewayWord) {
			return nil
		}
		if s.live(g) {
			if err := s.end(ctx, g, reason, who); err != nil {
				return err
			}
		}
	}
	return nil
}

// endOthers revokes what else a device has that is valid.
func (s *Service) endOthers(ctx context.Context, rec record.Record, reason int, who string) error {
	all, err := s.c.Store.Generations(ctx, rec.DeviceID, maxGenerations)
	if err != nil {
		return away("the store", err)
	}
	for _, g := range all {
		if s.live(g) {
			if err := s.end(ctx, g, reason, who); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxSerial is the length of the longest serial number, in octets of its DER, which has one more where the highest bit is set (RFC 5280,
// section 4.1.2.2). A longer one is no certificate's, and a list that holds one cannot be signed.
const maxSerial = 20

// listable says that a list may hold the serial number.
func listable(n *big.Int) bool { return n.Sign() > 0 && n.BitLen() < 8*maxSerial }

// parseSerial reads a serial number in hex as tools print it: 5f3a, 005F3A, 0x5f3a, 5f:3a, "5F 3A" or serial=5F3A.
func parseSerial(text string) (*big.Int, error) {
	bare := strings.ToLower(strings.TrimSpace(text))
	bare = strings.TrimPrefix(bare, "serial=")
	bare = strings.TrimPrefix(bare, "0x")
	bare = strings.NewReplacer(":", "", " ", "").Replace(bare)
	n, ok := new(big.Int), len(text) <= 4*maxSerial && bare != "" && strings.Trim(bare, "0123456789abcdef") == ""
	if ok {
		n, ok = n.SetString(bare, 16)
	}
	if !ok || !listable(n) {
		return nil, fault(CodeRequest, "give it in hex, as `openssl x509 -noout -serial` prints it", "serial %.90q is no serial number", text)
	}
	return n, nil
}

func (s *Service) targetOf(rec record.Record) (target, error) {
	by := s.by(rec.Issuer)
	if by == nil {
		return target{}, otherIssuer(rec)
	}
	return target{rec: rec, known: true, serial: rec.Serial, issuers: []*issuing{by}}, nil
}

func (s *Service) notFound(err error, name, hint string) error {
	if errors.Is(err, record.ErrNotFound) {
		return fault(CodeNotFound, hint, "no certificate was issued for %q", name)
	}
	return away("the store", err)
}

// carrying gives the number of a list that holds the revocation, signing one where none does yet; 0 where that has to wait.
// Revocations that wait for each other share one list.
func (s *Service) carrying(ctx context.Context, by *issuing, sequence int64) int64 {
	// The revocation stands: nobody is kept waiting for a token that hangs.
	ctx, cancel := context.WithTimeout(ctx, failover)
	defer cancel()
	c, err := s.renew(ctx, by, whenRevoked)
	switch {
	case err != nil:
		s.c.Log.Error("revocation recorded, but its CRL is still to be signed", "error", err)
	case c != nil && c.UpTo >= sequence:
		return c.Number
	}
	s.wakeCRL()
	return 0
}
