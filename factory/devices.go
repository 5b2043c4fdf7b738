package factory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/hanaper/hanaper/factory/record"
)

// bounded is the length of a page of a list.
func bounded(limit int) int {
	if limit < 1 {
		return usualPage
	}
	return min(limit, maxPage)
}

// place writes where a list goes on, and parsePlace reads it.
func place(c record.Cursor) string { return fmt.Sprintf("%d-%d", c.At, c.ID) }

func parsePlace(text string) (c record.Cursor, err error) {
	if text == "" {
		return c, nil
	}
	at, id, ok := strings.Cut(text, "-")
	var bad1, bad2 error
	c.At, bad1 = strconv.ParseInt(at, 10, 64)
	c.ID, bad2 = strconv.ParseInt(id, 10, 64)
	if !ok || bad1 != nil || bad2 != nil || c.At < 0 || c.ID < 0 || place(c) != text {
		return c, fault(CodeRequest, "give what the last page said as next", "after is %.40q", text)
	}
	return c, nil
}

// filter checks a query.
func (q DeviceQuery) filter() (f record.DeviceFilter, err error) {
	if f.After, err = parsePlace(q.After); err != nil {
		return f, err
	}
	if q.Key != "" {
		d, err := parseDigest("key", q.Key)
		if err != nil {
			return f, err
		}
		f.Key = &d
	}
	if err := errors.Join(checkText("station", q.Station), checkText("lot", q.Lot)); err != nil {
		return f, err
	}
	if !q.From.IsZero() && !q.Until.IsZero() && !q.From.Before(q.Until) {
		return f, fault(CodeRequest, "", "until is not after from")
	}
	f.Station, f.Lot, f.From, f.Until, f.Limit = q.Station, q.Lot, q.From, q.Until, bounded(q.Limit)
	return f, nil
}

// Devices lists enrolments by key, station, lot and time, in the order in which they were begun, a page at a time: all generations of a device. The
// certificates themselves are left out.
func (s *Service) Devices(ctx context.Context, q DeviceQuery) (*DevicesAnswer, error) {
	f, err := q.filter()
	if err != nil {
		return nil, err
	}
	list, err := s.c.Store.Devices(ctx, f)
	if err != nil {
		return nil, away("the store", err)
	}
	a := &DevicesAnswer{Devices: []DeviceAnswer{}}
	for _, l := range list {
		d := describe(l.Record)
		d.Certificate, d.Scrapped = "", l.Scrapped
		a.Devices = append(a.Devices, *d)
	}
	if len(list) == f.Limit {
		a.Next = place(list[len(list)-1].Place)
	}
	return a, nil
}

// revokeAtOnce is how many revocations of one call are on their way to the disk together.
const revokeAtOnce = 16

// RevokeDevices revokes the certificates of a page of devices, as of a stolen station. Its caller goes on with Next until there is none; the last call signs
// the list that carries all. A call that is made again changes nothing. who: "operator olga".
func (s *Service) RevokeDevices(ctx context.Context, who string, q RevokeDevicesRequest) (*RevokeDevicesAnswer, error) {
	reason, err := reasonCode(q.Reason)
	if err != nil {
		return nil, err
	}
	if err := checkNote(q.Note); err != nil {
		return nil, err
	}
	if q.Station == "" && q.Lot == "" && q.Key == "" {
		return nil, fault(CodeRequest, "name the station, the lot or the key whose devices are revoked", "all devices at once are not revoked")
	}
	f, err := q.DeviceQuery.filter()
	if err != nil {
		return nil, err
	}
	list, err := s.c.Store.Devices(ctx, f)
	if err != nil {
		return nil, away("the store", err)
	}
	a := &RevokeDevicesAnswer{}
	var mu sync.Mutex
	var failed error
	slots := make(chan struct{}, revokeAtOnce)
	var all sync.WaitGroup
	for _, l := range list {
		switch {
		case l.Open():
			a.Open++
			continue
		case !l.RevokedAt.IsZero():
			a.Already++
			// It may be one that was renewed: what it was renewed to came by no station, and is the same device's.
			if err := s.endRenewals(ctx, l.Record, reason, who); err != nil {
				all.Wait()
				return nil, err
			}
			continue
		case s.by(l.Issuer) == nil:
			all.Wait()
			return nil, otherIssuer(l.Record)
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			_, changed, err := s.c.Store.Revoke(ctx, record.Revocation{Issuer: l.Issuer, Serial: l.Serial, Reason: reason, At: s.clock.best(), Who: who, Note: q.Note})
			if err == nil {
				err = s.endRenewals(ctx, l.Record, reason, who)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failed = err
			case changed:
				a.Revoked++
			default:
				a.Already++
			}
		})
	}
	all.Wait()
	s.wrote(ctx, failed)
	if failed != nil {
		return nil, away("the store", failed)
	}
	if len(list) == f.Limit {
		a.Next = place(list[len(list)-1].Place)
		return a, nil
	}
	s.c.Log.Info("devices revoked together", "station", q.Station, "lot", q.Lot, "reason", q.Reason, "by", who)
	for n, by := range s.issuers {
		sequence, err := s.c.Store.RevokedUpTo(ctx, by.id)
		if err != nil {
			return nil, away("the store", err)
		}
		if sequence == 0 {
			continue
		}
		if number := s.carrying(ctx, by, sequence); n == 0 {
			a.CRLNumber = number
		}
	}
	return a, nil
}
