package factory

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory/order"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// LotPolicy says who may order lots, and what the service asks of devices beside what the orders say.
type LotPolicy struct {
	// Verify tells whether a signed order may be applied; nil takes no orders.
	Verify func(envelope []byte) (*order.Signed, error)
	// Environment is the one that orders must be for; empty takes those for any.
	Environment string
	// Required refuses devices that name no open lot.
	Required bool
	// Stations are rules for stations by name; Rate is for those that have none of their own.
	Stations map[string]StationRule
	Rate     Rate
}

// OperatorOrders verifies orders that an operator signed, whose certificate chains to an Operations Root and is not revoked.
func OperatorOrders(c *Callers) func([]byte) (*order.Signed, error) {
	return func(env []byte) (*order.Signed, error) {
		return order.ByOperator(env, func(chain []*x509.Certificate) (string, error) {
			who, err := c.Holder(chain)
			switch {
			case err != nil:
				return "", advice.New(advice.Refused, "have an operator sign whose certificate is valid", "the certificate that the order names %w", err)
			case who.Role != ca.RoleOperator:
				return "", advice.New(advice.Refused, "have an operator sign", "the order is signed by %s", show.Text(who.String()))
			}
			return who.Name, nil
		})
	}
}

// OfficerOrders verifies orders that as many officers of a roster signed.
func OfficerOrders(roster *quorum.Roster, threshold int) func([]byte) (*order.Signed, error) {
	return func(env []byte) (*order.Signed, error) { return order.ByOfficers(env, roster, threshold) }
}

// issuedAhead is how far an order's time may lie before the service's clock.
const issuedAhead = 10 * time.Minute

// OpenLot applies a signed order. who brought it: "operator olga". One that was applied before changes nothing.
func (s *Service) OpenLot(ctx context.Context, who string, envelope []byte) (*LotAnswer, error) {
	signed, o, err := s.readOrder(who, envelope)
	if err != nil {
		return nil, err
	}
	lot, changed, err := s.c.Store.OpenLot(ctx, o)
	s.wrote(ctx, err)
	s.lots.forget(o.Name)
	switch {
	case errors.Is(err, record.ErrHeld):
		return nil, s.heldFault(ctx)
	case errors.Is(err, record.ErrLotKnown):
		return nil, fault(CodeLotKnown, "open a lot with another name, or name in replaces the digest of the order in force (`hanaperd lot show`)", "lot %q is there already, by another order than the one that this replaces", o.Name)
	case errors.Is(err, record.ErrLotClosed):
		return nil, fault(CodeLotClosed, "open another lot", "lot %q is closed for good", o.Name)
	case errors.Is(err, record.ErrNotFound):
		return nil, fault(CodeNotFound, "leave replaces out to open a new lot", "there is no lot %q that the order could change", o.Name)
	case errors.Is(err, record.ErrQuota):
		return nil, fault(CodeLotFull, "order at least as many devices as were enrolled", "lot %q has more devices already than the order says", o.Name)
	case errors.Is(err, record.ErrOrderOld):
		return nil, fault(CodeOrder, "make and sign a new order, for what is left of the lot", "the order was made before the restored record was accepted, and may have been applied before")
	case err != nil:
		return nil, away("the store", err)
	}
	if changed {
		s.c.Log.Info("lot opened", "lot", o.Name, "quantity", o.Quota, "order", fmt.Sprintf("%x", o.Order), "signed_by", signed.By, "brought_by", who)
	}
	a := describeLot(lot)
	a.Changed, a.SignedBy = changed, signed.By
	return a, nil
}

// readOrder verifies a signed order, and gives it as it would be applied now.
func (s *Service) readOrder(who string, envelope []byte) (signed *order.Signed, o record.LotOrder, err error) {
	now, bad := s.clock.check()
	if bad != nil {
		return nil, o, clockFault(bad)
	}
	if s.c.Lots.Verify == nil {
		return nil, o, fault(CodeOrder, "name who may order in hanaperd's configuration", "this hanaperd takes no orders")
	}
	// An envelope has one spelling, but for white space around it.
	if signed, err = s.c.Lots.Verify(append(bytes.TrimSpace(envelope), '\n')); err != nil {
		return nil, o, &Fault{Code: CodeOrder, Text: "order: " + err.Error(), Hint: adviceOf(err)}
	}
	if err := s.checkOrder(signed.Order, now); err != nil {
		return nil, o, err
	}
	if o, err = signed.For(who, now); err != nil {
		return nil, o, &Fault{Code: CodeOrder, Text: err.Error(), Hint: adviceOf(err)}
	}
	return signed, o, nil
}

// PreviewLot verifies a signed order, and tells what OpenLot would make of it: the lot as it would be, and as it is, nil where there is none yet. Nothing is
// changed.
func (s *Service) PreviewLot(ctx context.Context, who string, envelope []byte) (would, is *LotAnswer, err error) {
	signed, o, err := s.readOrder(who, envelope)
	if err != nil {
		return nil, nil, err
	}
	would = describeLot(o.Lot)
	would.State, would.SignedBy = string(record.LotOpen), signed.By
	switch lot, err := s.c.Store.Lot(ctx, o.Name); {
	case errors.Is(err, record.ErrNotFound):
	case err != nil:
		return nil, nil, away("the store", err)
	default:
		is = describeLot(lot)
		would.Taken = lot.Taken
	}
	return would, is, nil
}

// NoteLot keeps words about a lot in the record. who: "operator olga".
func (s *Service) NoteLot(ctx context.Context, who, name, note string) error {
	if err := errors.Join(checkLotName(name), checkNote(note)); err != nil {
		return err
	}
	_, err := s.c.Store.Append(ctx, record.Event{Kind: record.LotWas, At: s.clock.best(), Who: who, Note: fmt.Sprintf("lot %q: %s", name, note)})
	s.wrote(ctx, err)
	if err != nil {
		return away("the store", err)
	}
	return nil
}

// checkOrder refuses what nobody could be enrolled by.
func (s *Service) checkOrder(o *order.Order, now time.Time) error {
	no := func(hint, format string, args ...any) error { return fault(CodeOrder, hint, "order: "+format, args...) }
	if s.c.Lots.Environment != "" && o.Environment != s.c.Lots.Environment {
		return no("order for the environment of this factory", "it is for environment %q, and this hanaperd is of %q", o.Environment, s.c.Lots.Environment)
	}
	if o.Issued.After(now.Add(issuedAhead)) {
		return no("compare the clocks of this hanaperd and of the machine that the order was made on", "it was issued at %s, which is still to come", stamp(o.Issued))
	}
	if !o.Until.IsZero() && !now.Before(o.Until) {
		return no("make a new one", "it was good until %s", stamp(o.Until))
	}
	p, err := s.profile(o.Profile)
	if err != nil {
		return err
	}
	pattern, err := o.Pattern()
	if err != nil {
		return err
	}
	for _, id := range o.IDs.List {
		if f := p.checkID(id); f != nil {
			return f
		}
		if pattern != nil && !pattern.MatchString(id) {
			return no("", "its list has the id %q, which does not match its pattern", id)
		}
	}
	return nil
}

// CloseLot ends a lot for good. who: "operator olga".
func (s *Service) CloseLot(ctx context.Context, who string, q CloseLotRequest) (*LotAnswer, error) {
	if err := errors.Join(checkLotName(q.Name), checkNote(q.Note)); err != nil {
		return nil, err
	}
	lot, changed, err := s.c.Store.CloseLot(ctx, q.Name, who, q.Note, s.clock.best())
	s.wrote(ctx, err)
	s.lots.forget(q.Name)
	if err != nil {
		return nil, s.lotError(err, q.Name)
	}
	if changed {
		s.c.Log.Info("lot closed", "lot", q.Name, "taken", lot.Taken, "quantity", lot.Quota, "by", who, "note", q.Note)
	}
	a := describeLot(lot)
	a.Changed = changed
	return a, nil
}

func (s *Service) lotError(err error, name string) error {
	if errors.Is(err, record.ErrNotFound) {
		return fault(CodeNotFound, "'hanaperd lot list' shows all", "there is no lot %q", name)
	}
	return away("the store", err)
}

// Lot tells how a lot stands.
func (s *Service) Lot(ctx context.Context, name string) (*LotAnswer, error) {
	if err := checkLotName(name); err != nil {
		return nil, err
	}
	lot, err := s.c.Store.Lot(ctx, name)
	if err != nil {
		return nil, s.lotError(err, name)
	}
	return describeLot(lot), nil
}

// LotOrder is the signed order in force of a lot.
func (s *Service) LotOrder(ctx context.Context, name string) ([]byte, error) {
	if err := checkLotName(name); err != nil {
		return nil, err
	}
	lot, err := s.c.Store.Lot(ctx, name)
	if err == nil {
		var env []byte
		if env, err = s.c.Store.LotOrder(ctx, lot.Order); err == nil {
			return env, nil
		}
	}
	return nil, s.lotError(err, name)
}

// Lots lists lots in the order of their names.
func (s *Service) Lots(ctx context.Context, q LotQuery) (*LotsAnswer, error) {
	state := record.LotState(q.State)
	if q.State != "" && state != record.LotOpen && state != record.LotClosed {
		return nil, fault(CodeRequest, "open or closed, or none for both", "state is %.20q", q.State)
	}
	if err := checkText("after", q.After); err != nil {
		return nil, err
	}
	limit := bounded(q.Limit)
	list, err := s.c.Store.Lots(ctx, state, q.After, limit)
	if err != nil {
		return nil, away("the store", err)
	}
	a := &LotsAnswer{Lots: []LotAnswer{}}
	for _, l := range list {
		a.Lots = append(a.Lots, *describeLot(l))
	}
	if len(list) == limit {
		a.Next = list[limit-1].Name
	}
	return a, nil
}

func describeLot(l record.Lot) *LotAnswer {
	a := &LotAnswer{Name: l.Name, Quantity: l.Quota, Taken: l.Taken, State: string(l.State), Profile: l.Profile, Environment: l.Environment, IDPattern: l.IDPattern, Listed: l.Listed,
		Stations: l.Stations, HardwareIDs: l.HardwareIDs, From: l.From, Until: l.Until, OpenedAt: l.OpenedAt, ClosedAt: l.ClosedAt}
	if l.Order != ([32]byte{}) {
		a.Order = hex.EncodeToString(l.Order[:])
	}
	return a
}

func checkLotName(name string) error {
	if err := checkWord("lot", name); err != nil || name == "" {
		return fault(CodeRequest, "use letters, digits and . _ : - /, at most 64", "lot %.80q is no name of a lot", name)
	}
	return nil
}

func checkNote(note string) error {
	if len(note) > maxNote {
		return fault(CodeRequest, "", "note is longer than %d bytes", maxNote)
	}
	return checkText("note", note)
}

// lotCache keeps what lots say beside how many devices they took. It may be stale: what it lets through the store decides again, by the lot's
// revision, and what it refuses is looked at afresh first.
type lotCache struct {
	mu    sync.Mutex
	known map[string]heldLot
}

// heldLot is a lot as it was read, with its pattern; there is false where the name has none.
type heldLot struct {
	record.Lot
	there bool
	ids   *regexp.Regexp
}

func (c *lotCache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, name)
}

// lotOf finds a lot, in the cache unless it is to be read afresh.
func (s *Service) lotOf(ctx context.Context, name string, afresh bool) (heldLot, error) {
	if name == "" {
		return heldLot{}, nil
	}
	s.lots.mu.Lock()
	l, ok := s.lots.known[name]
	s.lots.mu.Unlock()
	if ok && !afresh {
		return l, nil
	}
	lot, err := s.c.Store.Lot(ctx, name)
	switch {
	case errors.Is(err, record.ErrNotFound):
		l = heldLot{}
	case err != nil:
		return l, away("the store", err)
	default:
		l = heldLot{Lot: lot, there: true}
		if lot.IDPattern != "" {
			if l.ids, err = regexp.Compile(`^(?:` + lot.IDPattern + `)$`); err != nil {
				return l, fmt.Errorf("the pattern of lot %s on record: %w", show.Text(name), err)
			}
		}
	}
	s.lots.mu.Lock()
	defer s.lots.mu.Unlock()
	if s.lots.known == nil || len(s.lots.known) >= maxLotsKept {
		s.lots.known = map[string]heldLot{}
	}
	s.lots.known[name] = l
	return l, nil
}

// asks is what a request wants of a lot.
type asks struct{ lot, station, id, hardware string }

// refuseStation says why this station may not enrol under the lot, whatever the device; nil where it may.
func (s *Service) refuseStation(l heldLot, q asks) *Fault {
	if rule := s.c.Lots.Stations[q.station]; len(rule.Lots) > 0 && !slices.Contains(rule.Lots, q.lot) {
		return fault(CodeLotStation, "enrol under one of its lots, or have the station's rule changed in hanaperd's configuration", "station %q is bound to other lots than %q", q.station, q.lot)
	}
	if l.there && len(l.Stations) > 0 && !slices.Contains(l.Stations, q.station) {
		return fault(CodeLotStation, "enrol at one of the lot's stations, or have an order changed", "lot %q is not for station %q", q.lot, q.station)
	}
	return nil
}

// refuseLot says why no new device is enrolled so under the lot now; nil where one may be.
func (s *Service) refuseLot(l heldLot, q asks, now time.Time) *Fault {
	switch {
	case !l.there && !s.c.Lots.Required:
		return nil
	case !l.there && q.lot == "":
		return fault(CodeLotUnknown, "set lot in the station's configuration to a lot that an operator has opened", "the request names no lot, and every device needs one here")
	case !l.there:
		return fault(CodeLotUnknown, "an operator opens it with a signed order: 'hanaperd lot open'", "there is no lot %q", q.lot)
	case l.State != record.LotOpen:
		return fault(CodeLotClosed, "a closed lot is not opened again: an operator opens another, and the station names that", "lot %q is closed", q.lot)
	case !l.From.IsZero() && now.Before(l.From):
		return fault(CodeLotTime, "wait, or have the order replaced", "lot %q begins at %s", q.lot, stamp(l.From))
	case !l.Until.IsZero() && !now.Before(l.Until):
		return fault(CodeLotTime, "have an order for the rest of the devices", "lot %q ended at %s", q.lot, stamp(l.Until))
	case l.ids != nil && !l.ids.MatchString(q.id):
		return fault(CodeLotID, "is the right label scanned, and the right lot named? the lot takes ids of the form "+l.IDPattern, "device id %.80q is not of lot %q", q.id, q.lot)
	case len(l.HardwareIDs) > 0 && !slices.Contains(l.HardwareIDs, q.hardware):
		return fault(CodeLotID, "set hardware_id in the station's configuration to what the order says", "hardware id %.80q is not of lot %q", q.hardware, q.lot)
	}
	return nil
}

// admit holds a request against its lot, and against what its station may do: the lot as it is to be enrolled under. What is refused by a lot that was
// read before is looked at afresh. A device that an operator permitted a further generation needs no open lot.
func (s *Service) admit(ctx context.Context, l heldLot, q asks, key [32]byte, now time.Time) (heldLot, error) {
	why := s.refuseAny(l, q, now)
	if why == nil {
		return l, nil
	}
	fresh, err := s.lotOf(ctx, q.lot, true)
	if err != nil {
		return l, err
	}
	if fresh.Profile != l.Profile {
		return l, record.ErrLotChanged
	}
	if why = s.refuseAny(fresh, q, now); why == nil {
		return fresh, nil
	}
	if f := s.refuseStation(fresh, q); f != nil {
		return l, f
	}
	rec, err := s.c.Store.ByDevice(ctx, q.id)
	if errors.Is(err, record.ErrNotFound) {
		return l, why
	}
	if err != nil {
		return l, away("the store", err)
	}
	_, permitted, err := s.further(ctx, rec, record.Intent{DeviceID: q.id, SPKIDigest: key})
	switch {
	case err != nil:
		return l, err
	case !permitted:
		return l, why
	}
	return fresh, nil
}

func (s *Service) refuseAny(l heldLot, q asks, now time.Time) *Fault {
	if f := s.refuseStation(l, q); f != nil {
		return f
	}
	return s.refuseLot(l, q, now)
}

// lotAnswer is the fault for what the store said of a lot.
func (s *Service) lotAnswer(err error, id, lot string) error {
	if errors.Is(err, record.ErrLotID) {
		return fault(CodeLotID, "is the right label scanned, and the right lot named?", "device id %.80q is not on the list of lot %q", id, lot)
	}
	return fault(CodeLotClosed, "a closed lot is not opened again: an operator opens another, and the station names that", "lot %q is closed", lot)
}
