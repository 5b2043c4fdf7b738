package factory

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/factory/record"
)

// Reissue lets a device be enrolled again, with another key: its certificates are revoked as superseded, and the next request with another key
// gets the next generation's. who: "operator olga".
func (s *Service) Reissue(ctx context.Context, who string, q ReissueRequest) (*ActAnswer, error) {
	by, err := s.actOn(ctx, q.Note, q.DeviceID)
	if err != nil {
		return nil, err
	}
	changed, err := s.c.Store.Reissue(ctx, record.Act{DeviceID: q.DeviceID, Who: who, Note: q.Note, At: s.clock.best()})
	return s.acted(ctx, "reissue permitted", who, q.Note, changed, err, by, q.DeviceID)
}

// Scrap ends a device id: its certificates are revoked, and it gets no further one. q.FreeSlot gives its place in the lot to another.
func (s *Service) Scrap(ctx context.Context, who string, q ScrapRequest) (*ActAnswer, error) {
	by, err := s.actOn(ctx, q.Note, q.DeviceID)
	if err != nil {
		return nil, err
	}
	changed, err := s.c.Store.Scrap(ctx, record.Act{DeviceID: q.DeviceID, Who: who, Note: q.Note, At: s.clock.best()}, q.FreeSlot)
	return s.acted(ctx, "scrapped", who, q.Note, changed, err, by, q.DeviceID)
}

// Swap mends that boards were scanned wrongly: each of two ids gets the key of the other, and is enrolled with it anew. Neither id need have a device yet,
// but one must.
func (s *Service) Swap(ctx context.Context, who string, q SwapRequest) (*ActAnswer, error) {
	if record.Fold(q.A) == record.Fold(q.B) {
		return nil, fault(CodeRequest, "give the two ids whose boards were scanned wrongly", "a swap is of two devices, not of %q alone", q.A)
	}
	by, err := s.actOn(ctx, q.Note, q.A, q.B)
	if err != nil {
		return nil, err
	}
	x := record.Exchange{A: q.A, B: q.B, Who: who, Note: q.Note, At: s.clock.best()}
	for _, k := range []struct {
		name, text string
		into       *[]byte
	}{{"key_a", q.KeyA, &x.KeyA}, {"key_b", q.KeyB, &x.KeyB}} {
		if k.text == "" {
			continue
		}
		d, err := parseDigest(k.name, k.text)
		if err != nil {
			return nil, err
		}
		*k.into = d[:]
	}
	for _, id := range []string{q.A, q.B} {
		if _, err := s.c.Store.ByDevice(ctx, id); !errors.Is(err, record.ErrNotFound) {
			continue
		}
		if p, err := s.profile(""); err == nil && !p.IDs.MatchString(id) {
			return nil, p.checkID(id)
		}
	}
	err = s.c.Store.Swap(ctx, x)
	return s.acted(ctx, "swapped", who, q.Note, err == nil, err, by, q.A, q.B)
}

func parseDigest(name, text string) (d [32]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(d) {
		return d, fault(CodeRequest, "give the 64 hex digits of key_digest", "%s is no SHA-256 of a key", name)
	}
	copy(d[:], raw)
	return d, nil
}

// actOn looks at devices before something is done to them: whose lists will carry the revocations must be an issuing CA of ours.
func (s *Service) actOn(ctx context.Context, note string, ids ...string) (lists []*issuing, err error) {
	if err := checkNote(note); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return nil, err
		}
		rec, err := s.c.Store.ByDevice(ctx, id)
		switch {
		case errors.Is(err, record.ErrNotFound):
			continue
		case err != nil:
			return nil, away("the store", err)
		}
		by := s.by(rec.Issuer)
		if by == nil {
			return nil, otherIssuer(rec)
		}
		lists = append(lists, by)
	}
	return lists, nil
}

// acted answers for an act, and signs the lists that carry its revocations.
func (s *Service) acted(ctx context.Context, what, who, note string, changed bool, err error, lists []*issuing, ids ...string) (*ActAnswer, error) {
	s.wrote(ctx, err)
	switch {
	case errors.Is(err, record.ErrNotFound):
		return nil, fault(CodeNotFound, "is the id right?", "no device has the id %q", ids[0])
	case errors.Is(err, record.ErrHeld):
		return nil, s.heldFault(ctx)
	case errors.Is(err, record.ErrOpen):
		return nil, fault(CodeUnfinished, "have the station finish it (enrol the board again), or scrap the device", "an enrolment of %q is still open", ids)
	case errors.Is(err, record.ErrScrapped):
		return nil, fault(CodeScrapped, "a scrapped id stays scrapped: enrol the board under another id", "a device of %q was scrapped", ids)
	case errors.Is(err, record.ErrChanged):
		return nil, fault(CodeChanged, "look at both devices again: was the swap made already?", "the devices %q have other keys than the request says; nothing was swapped", ids)
	case err != nil:
		return nil, away("the store", err)
	}
	a := &ActAnswer{Devices: ids, Changed: changed}
	if !changed {
		return a, nil
	}
	s.c.Log.Info(what, "devices", ids, "by", who, "note", note)
	for n, by := range lists {
		if n > 0 && by == lists[0] {
			continue
		}
		sequence, err := s.c.Store.RevokedUpTo(ctx, by.id)
		if err != nil {
			s.c.Log.Error("the revocations stand, and their list follows", "error", err)
			s.wakeCRL()
			continue
		}
		if number := s.carrying(ctx, by, sequence); n == 0 {
			a.CRLNumber = number
		}
	}
	return a, nil
}

// further answers a request with a key that a device does not have, or whose certificate is revoked, where an operator permitted a further generation: the
// intent of that generation, or false.
func (s *Service) further(ctx context.Context, rec record.Record, in record.Intent) (record.Intent, bool, error) {
	p, err := s.c.Store.Permit(ctx, in.DeviceID)
	switch {
	case errors.Is(err, record.ErrNotFound):
		return in, false, nil
	case err != nil:
		return in, false, away("the store", err)
	}
	if p.Key != nil && !bytes.Equal(p.Key, in.SPKIDigest[:]) || p.Key == nil && rec.SPKIDigest == in.SPKIDigest {
		return in, false, nil
	}
	// The lot stays that of the device: it took its place there.
	in.Generation, in.Permitted, in.Lot = rec.Generation+1, true, rec.Lot
	return in, true, nil
}

// reserved is the fault for an id that waits for another key.
func reserved(id string) *Fault {
	return fault(CodeOtherKey, "is the right board connected? a swap has this id wait for the key of the board that was scanned wrongly", "device id %q waits for another key", id)
}

// scrapped is the fault for an id that was scrapped.
func scrapped(id string) *Fault {
	return fault(CodeScrapped, "a scrapped id stays scrapped: enrol the board under another id", "device id %q was scrapped", id)
}

// permitOf describes what a device may do next; nil for nothing.
func (s *Service) permitOf(ctx context.Context, id string) (*PermitAnswer, error) {
	p, err := s.c.Store.Permit(ctx, id)
	switch {
	case errors.Is(err, record.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, away("the store", err)
	}
	return &PermitAnswer{Key: fmt.Sprintf("%x", p.Key), By: p.Who, At: p.At, Note: p.Note}, nil
}
