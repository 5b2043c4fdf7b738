package factory_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/order"
	"github.com/hanaper/hanaper/factory/record"
)

// orders lets operators order lots.
func orders(p *plant, policy factory.LotPolicy) func(*factory.ServiceConfig) {
	return func(c *factory.ServiceConfig) {
		callers, err := factory.NewCallers([]*x509.Certificate{p.operations.cert}, []*x509.Certificate{p.fleet.cert, p.issuing}, c.Now)
		if err != nil {
			panic(err)
		}
		policy.Verify = factory.OperatorOrders(callers)
		c.Lots = policy
	}
}

// newOrder is an order for a lot, signed by nobody yet.
func newOrder(who *identity, lot string, quantity int64, change ...func(*order.Order)) *order.Order {
	o := &order.Order{Format: order.Format, Lot: lot, Quantity: quantity, Issued: time.Now().UTC().Truncate(time.Second)}
	if who != nil {
		o.Certificate = pemOf("CERTIFICATE", who.cert.Raw)
	}
	for _, f := range change {
		f(o)
	}
	return o
}

func signed(t testing.TB, o *order.Order, keys ...crypto.Signer) []byte {
	t.Helper()
	data, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if data, err = order.Sign(data, k); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// open has olga order a lot and open it.
func (r *running) open(olga identity, lot string, quantity int64, change ...func(*order.Order)) *factory.LotAnswer {
	r.t.Helper()
	a, err := r.client(olga).OpenLot(context.Background(), signed(r.t, newOrder(&olga, lot, quantity, change...), olga.key))
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func inLot(t testing.TB, key crypto.Signer, id, lot string) factory.EnrollRequest {
	q := deviceRequest(t, key, id)
	q.Lot = lot
	return q
}

// TestLot: a lot of three from its order to its end.
func TestLot(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{Required: true}))
	olga, line := p.operator(t, "olga"), p.station(t, "line-1")
	office, station := r.client(olga), r.client(line)
	env := signed(t, newOrder(&olga, "brakes/48", 3, func(o *order.Order) {
		o.IDs.Pattern, o.Stations, o.HardwareIDs = "vin-[0-9]+", []string{"line-1"}, []string{"board-1"}
	}), olga.key)
	empty := r.rows()
	if _, _, err := station.Enroll(ctx, inLot(t, newKey(t), "vin-0", "brakes/48")); code(t, err) != factory.CodeLotUnknown {
		t.Errorf("before the order: %v", err)
	}
	if _, _, err := station.Enroll(ctx, inLot(t, newKey(t), "vin-0", "")); code(t, err) != factory.CodeLotUnknown {
		t.Errorf("without a lot: %v", err)
	}
	if after := r.rows(); after != empty {
		t.Errorf("refusals wrote %s, was %s", after, empty)
	}
	a, err := office.OpenLot(ctx, env)
	if err != nil || !a.Changed || a.State != "open" || a.Quantity != 3 || fmt.Sprint(a.SignedBy) != "[operator olga]" {
		t.Fatalf("%+v, %v", a, err)
	}
	if kept, err := office.LotOrder(ctx, "brakes/48"); err != nil || string(kept) != string(env) {
		t.Errorf("the order on record is another: %v", err)
	}
	keys := map[string]crypto.Signer{}
	for i := range 2 {
		id := fmt.Sprint("vin-", i)
		keys[id] = newKey(t)
		if _, isNew, err := station.Enroll(ctx, inLot(t, keys[id], id, "brakes/48")); err != nil || !isNew {
			t.Fatal(isNew, err)
		}
	}
	before := r.rows()
	for name, c := range map[string]struct {
		id, lot, hardware string
		who               identity
		want              factory.Code
	}{
		"another form of id":   {"van-9", "brakes/48", "board-1", line, factory.CodeLotID},
		"another hardware":     {"vin-9", "brakes/48", "board-2", line, factory.CodeLotID},
		"another station":      {"vin-9", "brakes/48", "board-1", p.station(t, "line-2"), factory.CodeLotStation},
		"a lot without orders": {"vin-9", "brakes/49", "board-1", line, factory.CodeLotUnknown},
	} {
		q := inLot(t, newKey(t), c.id, c.lot)
		q.HardwareID = c.hardware
		if _, _, err := r.client(c.who).Enroll(ctx, q); code(t, err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	// The order again changes nothing.
	if again, err := office.OpenLot(ctx, env); err != nil || again.Changed || again.Taken != 2 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, isNew, err := station.Enroll(ctx, inLot(t, newKey(t), "vin-2", "brakes/48")); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	if _, _, err := station.Enroll(ctx, inLot(t, newKey(t), "vin-3", "brakes/48")); code(t, err) != factory.CodeLotFull {
		t.Errorf("a fourth: %v", err)
	}
	if c, err := office.CloseLot(ctx, factory.CloseLotRequest{Name: "brakes/48", Note: "done"}); err != nil || !c.Changed || c.State != "closed" || c.Taken != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	if again, err := office.OpenLot(ctx, env); err != nil || again.Changed || again.State != "closed" {
		t.Errorf("the order opened a closed lot: %+v, %v", again, err)
	}
	if _, _, err := station.Enroll(ctx, inLot(t, newKey(t), "vin-4", "brakes/48")); code(t, err) != factory.CodeLotClosed {
		t.Errorf("closed: %v", err)
	}
	for id, key := range keys {
		if a, isNew, err := station.Enroll(ctx, inLot(t, key, id, "brakes/48")); err != nil || isNew || a.DeviceID != id {
			t.Errorf("a known device of a closed lot: %v, %v", isNew, err)
		}
	}
	list, err := office.Lots(ctx, factory.LotQuery{State: "closed"})
	if err != nil || len(list.Lots) != 1 || list.Lots[0].Name != "brakes/48" || list.Lots[0].ClosedAt.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestLotTimes: the service's clock says when a lot begins and ends.
func TestLotTimes(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{}))
	olga, station := p.operator(t, "olga"), r.client(p.station(t, "line-1"))
	now := time.Now().UTC().Truncate(time.Second)
	r.open(olga, "l", 9, func(o *order.Order) { o.From, o.Until = now.Add(time.Hour), now.Add(2*time.Hour) })
	for i, c := range []struct {
		after time.Duration
		want  factory.Code
	}{{0, factory.CodeLotTime}, {61 * time.Minute, ""}, {60 * time.Minute, factory.CodeLotTime}} {
		r.now.add(c.after)
		before := r.rows()
		_, isNew, err := station.Enroll(ctx, inLot(t, newKey(t), fmt.Sprint("d", i), "l"))
		if c.want == "" && (err != nil || !isNew) || c.want != "" && code(t, err) != c.want {
			t.Errorf("%d: %v", i, err)
		}
		if after := r.rows(); c.want != "" && after != before {
			t.Errorf("%d: wrote %s, was %s", i, after, before)
		}
	}
	past := newOrder(&olga, "past", 9, func(o *order.Order) {
		o.From, o.Until, o.Issued = now.Add(-2*time.Hour), now.Add(time.Minute), now.Add(-3*time.Hour)
	})
	if _, err := r.client(olga).OpenLot(ctx, signed(t, past, olga.key)); code(t, err) != factory.CodeOrder {
		t.Errorf("an order whose time is over: %v", err)
	}
}

// TestOrderRefusals: what is not an order by an operator of ours opens nothing.
func TestOrderRefusals(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{Environment: "plant7"}))
	olga, line, stranger := p.operator(t, "olga"), p.station(t, "line-1"), newRoot(t, "operations-root", "Another Root")
	mallory := (&plant{operations: stranger}).operator(t, "olga")
	office := r.client(olga)
	good := func(o *order.Order) { o.Environment = "plant7" }
	ours := signed(t, newOrder(&olga, "l", 9, good), olga.key)
	before := r.rows()
	for name, env := range map[string][]byte{
		"not signed":                  signed(t, newOrder(&olga, "l", 9, good)),
		"a station's":                 signed(t, newOrder(&line, "l", 9, good), line.key),
		"another root's operator":     signed(t, newOrder(&mallory, "l", 9, good), mallory.key),
		"without a certificate":       signed(t, newOrder(nil, "l", 9, good), olga.key),
		"another environment":         signed(t, newOrder(&olga, "l", 9, func(o *order.Order) { o.Environment = "plant8" }), olga.key),
		"no environment":              signed(t, newOrder(&olga, "l", 9), olga.key),
		"an unknown profile":          signed(t, newOrder(&olga, "l", 9, good, func(o *order.Order) { o.Profile = "gold" }), olga.key),
		"of tomorrow":                 signed(t, newOrder(&olga, "l", 9, good, func(o *order.Order) { o.Issued = o.Issued.Add(24 * time.Hour) }), olga.key),
		"an id that no device has":    signed(t, newOrder(&olga, "l", 1, good, func(o *order.Order) { o.IDs.List = []string{"a b"} }), olga.key),
		"an id beside the pattern":    signed(t, newOrder(&olga, "l", 1, good, func(o *order.Order) { o.IDs.Pattern, o.IDs.List = "a", []string{"b"} }), olga.key),
		"another payload":             []byte(strings.Replace(string(ours), `"payload":"`, `"payload":"AAAA`, 1)),
		"another signature":           []byte(strings.Replace(string(ours), `"sig":"M`, `"sig":"N`, 1)),
		"nothing":                     []byte(`{}`),
		"a change of what is not":     signed(t, newOrder(&olga, "l", 9, good, func(o *order.Order) { o.Replaces = strings.Repeat("ab", 32) }), olga.key),
		"the key of another operator": []byte(strings.Replace(string(ours), `"keyid":"`, `"keyid":"00`, 1)),
	} {
		if _, err := office.OpenLot(ctx, env); err == nil {
			t.Errorf("%s: opened a lot", name)
		} else if c := code(t, err); c != factory.CodeOrder && c != factory.CodePolicy && c != factory.CodeNotFound {
			t.Errorf("%s: %s: %v", name, c, err)
		}
	}
	for name, who := range map[string]identity{"a station": line} {
		if _, err := r.client(who).OpenLot(ctx, ours); code(t, err) != factory.CodeForbidden {
			t.Errorf("%s brings an order: %v", name, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	// An operator's order may be brought by another; one who was revoked since orders nothing.
	if a, err := r.client(p.operator(t, "pat")).OpenLot(ctx, ours); err != nil || fmt.Sprint(a.SignedBy) != "[operator olga]" {
		t.Fatalf("%+v, %v", a, err)
	}
	events, err := r.store.Events(ctx, 0, 10)
	if err != nil || len(events) != 1 || events[0].Who != "operator pat" || events[0].Kind != record.LotWas || !strings.Contains(events[0].Note, `lot "l" opened by order `) {
		t.Errorf("%+v, %v", events, err)
	}
}

// TestExactlyN: of a lot of 20 exactly 20 certificates leave, while all stations ask at once and the lot is opened meanwhile by an order that several bring.
func TestExactlyN(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{}))
	olga := p.operator(t, "olga")
	first := r.open(olga, "l", 5)
	more := signed(t, newOrder(&olga, "l", 20, func(o *order.Order) { o.Replaces = first.Order }), olga.key)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for w := range 8 {
		station := r.client(p.station(t, fmt.Sprint("line-", w)))
		office := r.client(olga)
		wg.Go(func() {
			for i := range 5 {
				if i == 2 {
					if _, err := office.OpenLot(ctx, more); err != nil {
						t.Error(err)
					}
				}
				_, isNew, err := station.Enroll(ctx, inLot(t, newKey(t), fmt.Sprintf("d-%d-%d", w, i), "l"))
				what := fmt.Sprint("new ", isNew)
				if err != nil {
					what = string(code(t, err))
				}
				mu.Lock()
				got[what]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		if _, isNew, err := r.client(p.station(t, "line-9")).Enroll(ctx, inLot(t, newKey(t), fmt.Sprint("e", i), "l")); err == nil && isNew {
			got["new true"]++
		}
	}
	if got["new true"] != 20 || len(got) > 2 {
		t.Errorf("of a lot of 20: %v", got)
	}
	if l, err := r.client(olga).Lot(ctx, "l"); err != nil || l.Taken != 20 {
		t.Errorf("%+v, %v", l, err)
	}
}

// keyOf is the digest by which a device's key is known.
func (r *running) keyOf(id string) string {
	r.t.Helper()
	rec, err := r.store.ByDevice(context.Background(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return hex.EncodeToString(rec.SPKIDigest[:])
}

// TestActs: a board dies and is replaced, two are mixed up, one is scrapped; the lists say so, and the lot counts on.
func TestActs(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{Required: true}))
	olga, station := p.operator(t, "olga"), r.client(p.station(t, "line-1"))
	office := r.client(olga)
	r.open(olga, "l", 4)
	enroll := func(id string, key crypto.Signer) (*factory.EnrollAnswer, error) {
		a, _, err := station.Enroll(ctx, inLot(t, key, id, "l"))
		return a, err
	}
	must := func(a *factory.EnrollAnswer, err error) *factory.EnrollAnswer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	// Reissue.
	old, next := newKey(t), newKey(t)
	was := must(enroll("vin-1", old))
	before := r.rows()
	if _, err := enroll("vin-1", next); code(t, err) != factory.CodeOtherKey {
		t.Errorf("another key: %v", err)
	}
	if _, err := office.Reissue(ctx, factory.ReissueRequest{DeviceID: "vin-9"}); code(t, err) != factory.CodeNotFound {
		t.Errorf("nobody: %v", err)
	}
	for name, call := range map[string]func() error{
		"reissue": func() error { _, err := station.Reissue(ctx, factory.ReissueRequest{DeviceID: "vin-1"}); return err },
		"scrap":   func() error { _, err := station.Scrap(ctx, factory.ScrapRequest{DeviceID: "vin-1"}); return err },
		"swap":    func() error { _, err := station.Swap(ctx, factory.SwapRequest{A: "vin-1", B: "vin-2"}); return err },
		"close":   func() error { _, err := station.CloseLot(ctx, factory.CloseLotRequest{Name: "l"}); return err },
		"revoke together": func() error {
			_, err := station.RevokeDevices(ctx, factory.RevokeDevicesRequest{DeviceQuery: factory.DeviceQuery{Station: "line-1"}, Reason: "superseded"})
			return err
		},
	} {
		if err := call(); code(t, err) != factory.CodeForbidden {
			t.Errorf("%s by a station: %v", name, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	a, err := office.Reissue(ctx, factory.ReissueRequest{DeviceID: "VIN-1", Note: "it fell"})
	if err != nil || !a.Changed || a.CRLNumber == 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := enroll("vin-1", old); code(t, err) != factory.CodeRevoked {
		t.Errorf("the old board: %v", err)
	}
	if d, err := office.Device(ctx, "vin-1"); err != nil || d.Status != "revoked" || d.Reason != "superseded" || d.Permit == nil || d.Permit.By != "operator olga" || d.Permit.Note != "it fell" {
		t.Errorf("%+v, %v", d, err)
	}
	now := must(enroll("vin-1", next))
	if now.Serial == was.Serial || now.DeviceID != "vin-1" {
		t.Errorf("%+v", now)
	}
	if again := must(enroll("vin-1", next)); again.Serial != now.Serial {
		t.Error("a retry got another certificate")
	}
	if _, err := enroll("vin-1", newKey(t)); code(t, err) != factory.CodeOtherKey {
		t.Errorf("a third board: %v", err)
	}
	// Swap, of two and of one.
	keyA, keyB := newKey(t), newKey(t)
	must(enroll("vin-a", keyB))
	must(enroll("vin-b", keyA))
	q := factory.SwapRequest{A: "vin-a", B: "vin-b", KeyA: r.keyOf("vin-a"), KeyB: r.keyOf("vin-b"), Note: "labels"}
	if a, err := office.Swap(ctx, q); err != nil || !a.Changed || a.CRLNumber == 0 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := office.Swap(ctx, q); code(t, err) != factory.CodeChanged {
		t.Errorf("the same swap again: %v", err)
	}
	if _, err := enroll("vin-a", keyB); code(t, err) != factory.CodeRevoked && code(t, err) != factory.CodeKeyKnown {
		t.Errorf("the wrong pair again: %v", err)
	}
	must(enroll("vin-a", keyA))
	must(enroll("vin-b", keyB))
	if l, err := office.Lot(ctx, "l"); err != nil || l.Taken != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	keyC := newKey(t)
	must(enroll("vin-d", keyC))
	if a, err := office.Scrap(ctx, factory.ScrapRequest{DeviceID: "vin-1", FreeSlot: true}); err != nil || !a.Changed {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err := office.Scrap(ctx, factory.ScrapRequest{DeviceID: "vin-1", FreeSlot: true}); err != nil || a.Changed {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err := office.Swap(ctx, factory.SwapRequest{A: "vin-c", B: "vin-d"}); err != nil || !a.Changed {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := enroll("vin-c", newKey(t)); code(t, err) != factory.CodeOtherKey {
		t.Errorf("an id that waits for another key: %v", err)
	}
	must(enroll("vin-c", keyC))
	must(enroll("vin-d", newKey(t)))
	if _, err := enroll("vin-e", newKey(t)); code(t, err) != factory.CodeLotFull {
		t.Errorf("the lot: %v", err)
	}
	if d, err := office.Device(ctx, "vin-1"); err != nil || !d.Scrapped || d.Reason != "cessation_of_operation" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := office.Reissue(ctx, factory.ReissueRequest{DeviceID: "vin-1"}); code(t, err) != factory.CodeScrapped {
		t.Errorf("%v", err)
	}
	// After the lot is closed, a board that dies is replaced all the same.
	if _, err := office.CloseLot(ctx, factory.CloseLotRequest{Name: "l"}); err != nil {
		t.Fatal(err)
	}
	if _, err := office.Reissue(ctx, factory.ReissueRequest{DeviceID: "vin-a"}); err != nil {
		t.Fatal(err)
	}
	must(enroll("vin-a", newKey(t)))
	list, err := office.CRL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(parsedCRL(t, list).RevokedCertificateEntries); n != 6 {
		t.Errorf("the list holds %d, want 6: vin-1 twice, vin-a twice, vin-b, vin-d", n)
	}
}

// TestStolenStation: the devices of a station are listed and revoked together, some at a time, with one list at the end.
func TestStolenStation(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p)
	office, thief, other := r.client(p.operator(t, "olga")), r.client(p.station(t, "line-3")), r.client(p.station(t, "line-1"))
	for i := range 7 {
		if _, _, err := thief.Enroll(ctx, deviceRequest(t, newKey(t), fmt.Sprint("bad-", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := other.Enroll(ctx, deviceRequest(t, newKey(t), "good")); err != nil {
		t.Fatal(err)
	}
	list, err := office.Devices(ctx, factory.DeviceQuery{Station: "line-3", Limit: 5})
	if err != nil || len(list.Devices) != 5 || list.Next == "" || list.Devices[0].DeviceID != "bad-0" || list.Devices[0].Certificate != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	numbers := func() int64 {
		n, err := r.store.LatestCRLNumber(ctx, issuingID(p))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := office.RevokeDevices(ctx, factory.RevokeDevicesRequest{Reason: "key_compromise"}); code(t, err) != factory.CodeRequest {
		t.Errorf("all devices: %v", err)
	}
	begin := numbers()
	q := factory.RevokeDevicesRequest{DeviceQuery: factory.DeviceQuery{Station: "line-3", Limit: 3}, Reason: "key_compromise"}
	revoked, calls := 0, 0
	for {
		a, err := office.RevokeDevices(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		calls++
		if calls == 1 { // the first page once more, as after an answer that was lost
			if again, err := office.RevokeDevices(ctx, q); err != nil || again.Already != 3 || again.Revoked != 0 || again.Next != a.Next {
				t.Errorf("%+v, %v", again, err)
			}
		}
		revoked += a.Revoked
		if a.Next == "" {
			if a.CRLNumber != begin+1 {
				t.Errorf("list %d carries them, and %d was the last", a.CRLNumber, begin)
			}
			break
		}
		if a.CRLNumber != 0 {
			t.Errorf("a list before the end: %+v", a)
		}
		q.After = a.Next
	}
	if revoked != 7 || calls != 3 || numbers() != begin+1 {
		t.Errorf("%d revoked in %d calls, list %d after %d", revoked, calls, numbers(), begin)
	}
	der, err := office.CRL(ctx)
	if err != nil || len(parsedCRL(t, der).RevokedCertificateEntries) != 7 {
		t.Error(err)
	}
	if d, err := office.Device(ctx, "good"); err != nil || d.Status != "issued" {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestStationRules: a station is bound to lots, and enrols no more new devices a minute than it may; known devices are always answered.
func TestStationRules(t *testing.T) {
	ctx, p := context.Background(), newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{Stations: map[string]factory.StationRule{
		"line-1": {Lots: []string{"a", "b"}}, "line-2": {Rate: factory.Rate{PerMinute: 6, Burst: 2}}}}))
	bound, slow := p.station(t, "line-1"), p.station(t, "line-2")
	if _, _, err := r.client(bound).Enroll(ctx, inLot(t, newKey(t), "x", "c")); code(t, err) != factory.CodeLotStation {
		t.Errorf("%v", err)
	}
	if _, _, err := r.client(bound).Enroll(ctx, inLot(t, newKey(t), "x", "b")); err != nil {
		t.Error(err)
	}
	keys := []crypto.Signer{newKey(t), newKey(t), newKey(t)}
	for i := range 2 {
		if _, _, err := r.client(slow).Enroll(ctx, inLot(t, keys[i], fmt.Sprint("s", i), "c")); err != nil {
			t.Fatal(err)
		}
	}
	before := r.rows()
	status, header, text, err := r.raw(slow, http.MethodPost, "/v1/enroll", "application/json", body(t, inLot(t, keys[2], "s2", "c")))
	if err != nil || status != http.StatusTooManyRequests || header.Get("Retry-After") != "10" || !strings.Contains(text, `"code":"rate"`) {
		t.Errorf("%d, %q, %s, %v", status, header.Get("Retry-After"), text, err)
	}
	for range 5 {
		if _, isNew, err := r.client(slow).Enroll(ctx, inLot(t, keys[0], "s0", "c")); err != nil || isNew {
			t.Errorf("a known device: %v, %v", isNew, err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	r.now.add(11 * time.Second)
	for range 5 { // a known device takes nothing of it
		if _, _, err := r.client(slow).Enroll(ctx, inLot(t, keys[1], "s1", "c")); err != nil {
			t.Error(err)
		}
	}
	if _, isNew, err := r.client(slow).Enroll(ctx, inLot(t, keys[2], "s2", "c")); err != nil || !isNew {
		t.Errorf("after the wait: %v, %v", isNew, err)
	}
}

func parsedCRL(t testing.TB, der []byte) *x509.RevocationList {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func issuingID(p *plant) [32]byte {
	return sha256.Sum256(slices.Concat(p.issuing.RawSubject, p.issuing.RawSubjectPublicKeyInfo))
}
