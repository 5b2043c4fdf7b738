package recordtest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// inLot is an intent under a lot that was read.
func inLot(device, key string, l record.Lot) record.Intent {
	in := Intent(device, key)
	in.Lot, in.LotRevision = l.Name, l.Revision
	return in
}

// orders: an order is applied once, and a lot changes only by the order that follows the one in force.
func orders(t *testing.T, s *bench) {
	ctx := t.Context()
	o := Order("l9", 2)
	o.Profile, o.Environment, o.IDPattern, o.Stations, o.HardwareIDs = "rsa", "plant7", "VIN-[0-9]+", []string{"line-1", "line-2"}, []string{"board-1"}
	o.From, o.Until = At, At.AddDate(0, 1, 0)
	l, changed, err := s.OpenLot(ctx, o)
	want := o.Lot
	want.State, want.Revision, want.OpenedAt = record.LotOpen, 1, At
	if err != nil || !changed || fmt.Sprint(l) != fmt.Sprint(want) {
		t.Fatalf("%+v is not %+v; %v", l, want, err)
	}
	s.reopen()
	if got, err := s.Lot(ctx, "l9"); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%+v is not %+v; %v", got, want, err)
	}
	if got, err := s.LotOrder(ctx, o.Order); err != nil || !bytes.Equal(got, o.Envelope) {
		t.Errorf("%q, %v", got, err)
	}
	Issue(t, s, inLot("a", "ka", l), "one")
	r, _, err := s.Begin(ctx, inLot("b", "kb", l))
	if err != nil || !r.Open() {
		t.Fatal(err)
	}
	before := s.rows()
	refuse := func(name string, want error, in record.Intent) {
		t.Helper()
		if _, _, err := s.Begin(ctx, in); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	open := func(name string, want error, o record.LotOrder) {
		t.Helper()
		if _, changed, err := s.OpenLot(ctx, o); !errors.Is(err, want) || changed {
			t.Errorf("%s: %v, %v, want %v", name, changed, err, want)
		}
	}
	refuse("a full lot", record.ErrQuota, inLot("c", "kc", l))
	stale := inLot("c", "kc", l)
	stale.LotRevision = 0
	refuse("a request that was held against no lot", record.ErrLotChanged, stale)
	stale.Lot, stale.LotRevision = "no such lot", 1
	refuse("a request that was held against a lot that is not there", record.ErrLotChanged, stale)
	// The same order again.
	if got, changed, err := s.OpenLot(ctx, o); err != nil || changed || got.Taken != 2 {
		t.Errorf("an order that was applied: %+v, %v, %v", got, changed, err)
	}
	open("another order for the name", record.ErrLotKnown, Order("l9", 3))
	less := Order("l9", 1)
	less.Replaces = o.Order
	open("fewer than were taken", record.ErrQuota, less)
	astray := Order("l9", 4)
	astray.Replaces = [32]byte{1}
	open("a change of another order", record.ErrLotKnown, astray)
	nothing := Order("nothing", 4)
	nothing.Replaces = o.Order
	open("a change of no lot", record.ErrNotFound, nothing)
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	more := Order("l9", 3)
	more.Replaces = o.Order
	bigger, changed, err := s.OpenLot(ctx, more)
	if err != nil || !changed || bigger.Quota != 3 || bigger.Revision != 2 || bigger.Taken != 2 || bigger.Profile != "" || len(bigger.Stations) != 0 {
		t.Fatalf("%+v, %v, %v", bigger, changed, err)
	}
	refuse("a request that was held against the lot as it was", record.ErrLotChanged, inLot("c", "kc", l))
	open("the first order again does not take it back", nil, o)
	if got, _ := s.Lot(ctx, "l9"); got.Quota != 3 {
		t.Errorf("%+v", got)
	}
	Issue(t, s, inLot("c", "kc", bigger), "three")
	closed, changed, err := s.CloseLot(ctx, "l9", "operator olga", "done", At.Add(time.Hour))
	if err != nil || !changed || closed.State != record.LotClosed || closed.Taken != 3 || !closed.ClosedAt.Equal(At.Add(time.Hour)) || closed.Revision != 3 {
		t.Fatalf("%+v, %v", closed, err)
	}
	before = s.rows()
	if _, changed, err := s.CloseLot(ctx, "l9", "operator olga", "", At); err != nil || changed {
		t.Errorf("closed twice: %v", err)
	}
	if _, _, err := s.CloseLot(ctx, "l10", "operator olga", "", At); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("no such lot: %v", err)
	}
	refuse("closed", record.ErrLotChanged, inLot("d", "kd", bigger))
	refuse("closed, and seen as closed", record.ErrLotClosed, inLot("d", "kd", closed))
	open("an applied order does not open it again", nil, more)
	again := Order("l9", 9)
	again.Replaces = more.Order
	open("a change of a closed lot", record.ErrLotClosed, again)
	if err := s.SetLot(ctx, "l9", 99, "operator olga"); !errors.Is(err, record.ErrLotKnown) {
		t.Errorf("a bound without an order in the place of an order: %v", err)
	}
	if r, isNew, err := s.Begin(ctx, inLot("a", "ka", closed)); err != nil || isNew || string(r.Certificate) != "one" {
		t.Errorf("a known device of a closed lot: %+v, %v, %v", r, isNew, err)
	}
	if got, err := s.Lot(ctx, "l9"); err != nil || got.State != record.LotClosed {
		t.Errorf("%+v, %v", got, err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	for _, name := range []string{"l3", "l1", "l2"} {
		if _, _, err := s.OpenLot(ctx, Order(name, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		state record.LotState
		after string
		limit int
		want  string
	}{{"", "", 9, "l1 l2 l3 l9"}, {record.LotOpen, "l1", 1, "l2"}, {record.LotOpen, "l2", 9, "l3"}, {record.LotClosed, "", 9, "l9"}} {
		var names []string
		list, err := s.Lots(ctx, c.state, c.after, c.limit)
		for _, l := range list {
			names = append(names, l.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}

// lists: only the ids that an order lists, without case.
func listedIDs(t *testing.T, s *bench) {
	ctx := t.Context()
	o := Order("l1", 3)
	o.IDs = []string{"VIN-1", "vin-2", "Vin-3"}
	l, _, err := s.OpenLot(ctx, o)
	if err != nil || l.Listed != 3 {
		t.Fatalf("%+v, %v", l, err)
	}
	Issue(t, s, inLot("vin-1", "k1", l), "one")
	before := s.rows()
	if _, _, err := s.Begin(ctx, inLot("vin-4", "k4", l)); !errors.Is(err, record.ErrLotID) {
		t.Errorf("not on the list: %v", err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	next := Order("l1", 4)
	next.Replaces, next.IDs = o.Order, []string{"vin-4"}
	if l, _, err = s.OpenLot(ctx, next); err != nil || l.Listed != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	Issue(t, s, inLot("VIN-4", "k4", l), "four")
	if _, _, err := s.Begin(ctx, inLot("vin-2", "k2", l)); !errors.Is(err, record.ErrLotID) {
		t.Errorf("not on the new list: %v", err)
	}
}

// exactlyN: of many at once, in two servers, exactly as many as the lot may have; two who bring the same order open one lot.
func exactlyN(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	var opened tally
	for w := range 8 {
		opened.Go(func() {
			if _, changed, err := two[w%2].OpenLot(ctx, Order("l1", 40)); err != nil {
				t.Error(err)
			} else {
				opened.add(fmt.Sprint("changed ", changed))
			}
		})
	}
	if got := opened.wait(); got != "changed false 7, changed true 1" {
		t.Error(got)
	}
	l, err := s.Lot(ctx, "l1")
	if err != nil {
		t.Fatal(err)
	}
	var tally tally
	for w := range 16 {
		tally.Go(func() {
			for i := range 5 {
				r, isNew, err := two[w%2].Begin(ctx, inLot(fmt.Sprintf("d-%d-%d", w, i), fmt.Sprintf("k-%d-%d", w, i), l))
				switch {
				case errors.Is(err, record.ErrQuota):
					tally.add("full")
				case err != nil || !isNew:
					t.Error(r, isNew, err)
				default:
					tally.add("taken")
				}
			}
		})
	}
	if got := tally.wait(); got != "full 40, taken 40" {
		t.Errorf("of a lot of 40: %s", got)
	}
	if l, err := two[1].Lot(ctx, "l1"); err != nil || l.Taken != 40 {
		t.Errorf("%+v, %v", l, err)
	}
	if n, err := s.Counts(ctx); err != nil || n["device"] != 40 || n["device_key"] != 40 || n["lot"] != 1 || n["lot_order"] != 1 {
		t.Errorf("%v, %v", n, err)
	}
}

// act is one of olga's.
func act(id string) record.Act {
	return record.Act{DeviceID: id, Who: "operator olga", Note: "it broke", At: At}
}

// permitted is the intent of a device's next generation.
func permitted(device, key string, generation int) record.Intent {
	in := Intent(device, key)
	in.Generation, in.Permitted = generation, true
	in.Serial = append([]byte{byte(16 + generation)}, in.Serial[1:]...)
	return in
}

// last gives kind, who and note of the last events.
func (b *bench) last(n int) string {
	b.t.Helper()
	sequence, err := b.Sequence(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	list, err := b.Events(b.t.Context(), sequence-int64(n), n)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s %s %s", e.Who, e.Kind, e.DeviceID))
	}
	return strings.Join(out, ", ")
}

func reissues(t *testing.T, s *bench) {
	ctx := t.Context()
	first := Issue(t, s, Intent("Dev", "k1"), "one")
	before := s.rows()
	refuse := func(name string, in record.Intent, want error) {
		t.Helper()
		if r, isNew, err := s.Begin(ctx, in); !errors.Is(err, want) || isNew || err == nil && r.ID != first.ID {
			t.Errorf("%s: %+v, %v, %v", name, r, isNew, err)
		}
	}
	refuse("a generation that nobody permitted", permitted("dev", "k2", 2), nil)
	if _, err := s.Reissue(ctx, act("nobody")); !errors.Is(err, record.ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Permit(ctx, "dev"); !errors.Is(err, record.ErrNotFound) {
		t.Error(err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	open, _, err := s.Begin(ctx, Intent("open", "ko"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reissue(ctx, act("open")); !errors.Is(err, record.ErrOpen) {
		t.Errorf("an open enrolment: %v", err)
	}
	if _, err := s.Finish(ctx, result(open, "open")); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(ctx, "it lags"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reissue(ctx, act("dev")); !errors.Is(err, record.ErrHeld) {
		t.Errorf("held: %v", err)
	}
	if err := s.Accept(ctx, "operator olga", ""); err != nil {
		t.Fatal(err)
	}
	if changed, err := s.Reissue(ctx, act("DEV")); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if got := s.last(2); got != "operator olga revoke Dev, operator olga permit Dev" {
		t.Error(got)
	}
	s.reopen()
	two := s.servers()
	if r, err := s.ByDevice(ctx, "dev"); err != nil || r.Reason != record.ReasonSuperseded || r.RevokedAt.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	if p, err := s.Permit(ctx, "dev"); err != nil || p.Key != nil || p.Who != "operator olga" || p.Note != "it broke" {
		t.Errorf("%+v, %v", p, err)
	}
	before = s.rows()
	if changed, err := s.Reissue(ctx, act("dev")); err != nil || changed {
		t.Errorf("permitted twice: %v, %v", changed, err)
	}
	refuse("the same key", permitted("dev", "k1", 2), nil)
	renewal := permitted("dev", "k2", 2)
	renewal.Permitted = false
	refuse("a renewal of what is to be reissued", renewal, nil)
	refuse("another device's key", permitted("dev", "ko", 2), record.ErrKeyKnown)
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	// One of many gets it.
	var tally tally
	for w := range 8 {
		tally.Go(func() {
			r, isNew, err := two[w%2].Begin(ctx, permitted("dev", fmt.Sprint("new ", w), 2))
			if err != nil {
				t.Error(err)
			}
			if isNew {
				if _, err := two[w%2].Finish(ctx, result(r, "two")); err != nil {
					t.Error(err)
				}
			}
			tally.add(fmt.Sprint("new ", isNew))
		})
	}
	if got := tally.wait(); got != "new false 7, new true 1" {
		t.Error(got)
	}
	if _, err := s.Permit(ctx, "dev"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("the permit stays: %v", err)
	}
	if got := s.last(1); got != "station line-1 reissue Dev" && got != "station line-1 reissue dev" {
		t.Error(got)
	}
	// A plain revocation ends renewals, too.
	now, err := s.ByDevice(ctx, "dev")
	if err != nil || now.Generation != 2 {
		t.Fatal(now.Generation, err)
	}
	if _, _, err := s.Revoke(ctx, record.Revocation{Issuer: Issuer, Serial: now.Serial, At: At, Reason: 1, Who: "operator olga"}); err != nil {
		t.Fatal(err)
	}
	renewal = permitted("dev", "k3", 3)
	renewal.Permitted = false
	if r, isNew, err := s.Begin(ctx, renewal); err != nil || isNew || r.ID != now.ID {
		t.Errorf("a renewal of what is revoked: %+v, %v, %v", r, isNew, err)
	}
}

func scraps(t *testing.T, s *bench) {
	ctx := t.Context()
	l, _, err := s.OpenLot(ctx, Order("l1", 2))
	if err != nil {
		t.Fatal(err)
	}
	Issue(t, s, inLot("a", "ka", l), "one")
	if _, _, err := s.Begin(ctx, inLot("b", "kb", l)); err != nil {
		t.Fatal(err)
	}
	other := Intent("other", "kx")
	other.Lot = ""
	Issue(t, s, other, "other")
	for i, c := range []struct {
		id    string
		free  bool
		taken int64
		want  bool
		last  string
	}{
		{"A", false, 2, true, "operator olga revoke a, operator olga scrap a"},
		{"a", false, 2, false, "operator olga revoke a, operator olga scrap a"},
		{"a", true, 1, true, "operator olga scrap a, operator olga scrap a"},
		{"a", true, 1, false, "operator olga scrap a, operator olga scrap a"},
		{"b", true, 0, true, "operator olga abandon b, operator olga scrap b"},
		{"b", true, 0, false, "operator olga abandon b, operator olga scrap b"},
		{"other", true, 0, true, "operator olga revoke other, operator olga scrap other"},
	} {
		before := s.rows()
		changed, err := s.Scrap(ctx, act(c.id), c.free)
		if err != nil || changed != c.want {
			t.Errorf("%d: %v, %v", i, changed, err)
		}
		if after := s.rows(); !c.want && after != before {
			t.Errorf("%d: wrote %s, was %s", i, after, before)
		}
		if now, err := s.Lot(ctx, "l1"); err != nil || now.Taken != c.taken {
			t.Errorf("%d: %d are taken, want %d; %v", i, now.Taken, c.taken, err)
		}
		if got := s.last(2); got != c.last {
			t.Errorf("%d: %s", i, got)
		}
	}
	s.reopen()
	before := s.rows()
	if was, err := s.Scrapped(ctx, "A"); err != nil || !was {
		t.Error(was, err)
	}
	if _, err := s.Reissue(ctx, act("a")); !errors.Is(err, record.ErrScrapped) {
		t.Errorf("reissued: %v", err)
	}
	if err := s.Swap(ctx, record.Exchange{A: "a", B: "other", Who: "operator olga", At: At}); !errors.Is(err, record.ErrScrapped) {
		t.Errorf("swapped: %v", err)
	}
	for _, in := range []record.Intent{inLot("b", "kb", l), permitted("a", "kn", 2)} {
		if _, isNew, err := s.Begin(ctx, in); !errors.Is(err, record.ErrScrapped) || isNew {
			t.Errorf("%s: %v, %v", in.DeviceID, isNew, err)
		}
	}
	if r, isNew, err := s.Begin(ctx, inLot("a", "ka", l)); err != nil || isNew || r.Reason != record.ReasonCessation {
		t.Errorf("%+v, %v, %v", r, isNew, err)
	}
	if _, err := s.Scrap(ctx, act("nobody"), true); !errors.Is(err, record.ErrNotFound) {
		t.Error(err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	// The places are free again, for others.
	for i := range 2 {
		Issue(t, s, inLot(fmt.Sprint("n", i), fmt.Sprint("kn", i), l), "new")
	}
	if _, _, err := s.Begin(ctx, inLot("n2", "kn2", l)); !errors.Is(err, record.ErrQuota) {
		t.Errorf("more than were freed: %v", err)
	}
}

// swaps: two boards were scanned wrongly, and then one.
func swaps(t *testing.T, s *bench) {
	ctx := t.Context()
	digest := func(key string) []byte { d := sha256.Sum256([]byte(key)); return d[:] }
	x := record.Exchange{A: "a", B: "b", Who: "operator olga", Note: "scanned wrongly", At: At}
	// Board A's key has the id b, and the reverse.
	Issue(t, s, Intent("a", "key of b"), "wrong a")
	Issue(t, s, Intent("b", "key of a"), "wrong b")
	before := s.rows()
	wrong := x
	wrong.KeyA, wrong.KeyB = digest("key of a"), digest("key of b")
	if err := s.Swap(ctx, wrong); !errors.Is(err, record.ErrChanged) {
		t.Errorf("other keys than were said: %v", err)
	}
	for _, pair := range [][2]string{{"a", "A"}, {"no", "body"}} {
		if err := s.Swap(ctx, record.Exchange{A: pair[0], B: pair[1], Who: "operator olga", At: At}); err == nil {
			t.Errorf("%v were swapped", pair)
		}
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	x.KeyA, x.KeyB = digest("key of b"), digest("key of a")
	if err := s.Swap(ctx, x); err != nil {
		t.Fatal(err)
	}
	if got := s.last(4); got != "operator olga revoke a, operator olga swap a, operator olga revoke b, operator olga swap b" {
		t.Error(got)
	}
	s.reopen()
	before = s.rows()
	if err := s.Swap(ctx, x); !errors.Is(err, record.ErrChanged) {
		t.Errorf("the same swap again: %v", err)
	}
	if r, isNew, err := s.Begin(ctx, permitted("a", "key of c", 2)); err != nil || isNew || r.Generation != 1 {
		t.Errorf("a third key: %+v, %v, %v", r, isNew, err)
	}
	if _, _, err := s.Begin(ctx, Intent("c", "key of a")); !errors.Is(err, record.ErrKeyKnown) {
		t.Errorf("a third id: %v", err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	Issue(t, s, permitted("a", "key of a", 2), "right a")
	Issue(t, s, permitted("b", "key of b", 2), "right b")
	for id, key := range map[string]string{"a": "key of a", "b": "key of b"} {
		r, err := s.ByKey(ctx, sha256.Sum256([]byte(key)))
		if err != nil || r.DeviceID != id || string(r.Certificate) != "right "+id || !r.RevokedAt.IsZero() || r.Generation != 2 {
			t.Errorf("%s: %+v, %v", key, r, err)
		}
		// The key is found with both ids that it had.
		d := sha256.Sum256([]byte(key))
		list, err := s.Devices(ctx, record.DeviceFilter{Key: &d, Limit: 9})
		if err != nil || len(list) != 2 || list[0].DeviceID == list[1].DeviceID {
			t.Errorf("%s: %+v, %v", key, list, err)
		}
	}

	// Board d was scanned as e; e's own board has not come yet.
	Issue(t, s, Intent("e", "key of d"), "wrong e")
	if err := s.Swap(ctx, record.Exchange{A: "d", B: "e", Who: "operator olga", At: At, KeyB: digest("key of d")}); err != nil {
		t.Fatal(err)
	}
	before = s.rows()
	if _, isNew, err := s.Begin(ctx, Intent("d", "key of somebody")); !errors.Is(err, record.ErrReserved) || isNew {
		t.Errorf("another key for the id that waits: %v", err)
	}
	if _, err := s.ByDevice(ctx, "d"); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	Issue(t, s, Intent("d", "key of d"), "right d")
	if r, isNew, err := s.Begin(ctx, permitted("e", "key of d", 2)); !errors.Is(err, record.ErrKeyKnown) && (err != nil || isNew || r.Generation != 1) {
		t.Errorf("the key that was taken from it: %+v, %v, %v", r, isNew, err)
	}
	Issue(t, s, permitted("e", "key of e", 2), "right e")

	// The labels are one off: boards 1, 2, 3 were scanned as n2, n3, n4. Each is swapped with the one before, the first first.
	for i := 1; i <= 3; i++ {
		Issue(t, s, Intent(fmt.Sprint("n", i+1), fmt.Sprint("board ", i)), "wrong")
	}
	for i := 1; i <= 3; i++ {
		if err := s.Swap(ctx, record.Exchange{A: fmt.Sprint("n", i), B: fmt.Sprint("n", i+1), Who: "operator olga", At: At}); err != nil {
			t.Fatal(i, err)
		}
	}
	for i := 1; i <= 4; i++ {
		in := permitted(fmt.Sprint("n", i), fmt.Sprint("board ", i), 2)
		if i == 1 {
			in.Generation = 1
		}
		Issue(t, s, in, "right")
	}
}

func deviceLists(t *testing.T, s *bench) {
	ctx := t.Context()
	for i := range 12 {
		in := Intent(fmt.Sprintf("d%02d", i), fmt.Sprint("k", i))
		in.Station, in.Lot = fmt.Sprint("line-", i%2), fmt.Sprint("lot-", i%3)
		in.At = At.Add(time.Duration(i/2) * time.Minute) // two at each moment
		in.Evidence = []byte("evidence")
		Issue(t, s, in, "der")
	}
	if _, _, err := s.Begin(ctx, Intent("closed", "kc")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Scrap(ctx, act("closed"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Scrap(ctx, act("d03"), false); err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256([]byte("k7"))
	for _, c := range []struct {
		name string
		f    record.DeviceFilter
		want string
	}{
		{"all", record.DeviceFilter{}, "d00 d01 d02 d03 d04 d05 d06 d07 d08 d09 d10 d11"},
		{"station", record.DeviceFilter{Station: "line-1"}, "d01 d03 d05 d07 d09 d11"},
		{"lot", record.DeviceFilter{Lot: "lot-2"}, "d02 d05 d08 d11"},
		{"both", record.DeviceFilter{Lot: "lot-2", Station: "line-1"}, "d05 d11"},
		{"since", record.DeviceFilter{Station: "line-1", From: At.Add(2 * time.Minute)}, "d05 d07 d09 d11"},
		{"between", record.DeviceFilter{From: At.Add(time.Minute), Until: At.Add(3 * time.Minute)}, "d02 d03 d04 d05"},
		{"key", record.DeviceFilter{Key: &key}, "d07"},
		{"key and another lot", record.DeviceFilter{Key: &key, Lot: "lot-0"}, ""},
		{"nobody", record.DeviceFilter{Station: "line-9"}, ""},
		{"a word of SQL", record.DeviceFilter{Station: "' OR 1=1 --"}, ""},
	} {
		for _, limit := range []int{1, 3, 100} {
			c.f.Limit, c.f.After = limit, record.Cursor{}
			var got []string
			for {
				list, err := s.Devices(ctx, c.f)
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range list {
					got, c.f.After = append(got, l.DeviceID), l.Place
					if l.Evidence != nil || string(l.Certificate) != "der" || l.Scrapped != (l.DeviceID == "d03") {
						t.Errorf("%+v", l)
					}
				}
				if len(list) < limit {
					break
				}
			}
			if !slices.Equal(got, strings.Fields(c.want)) {
				t.Errorf("%s, %d at a time: %v, want %s", c.name, limit, got, c.want)
			}
		}
	}
}

// distrusted: after a store was put back, nothing is enrolled under the lots that it holds, and no order that may have been applied before.
func distrusted(t *testing.T, s *bench) {
	ctx := t.Context()
	l, _, err := s.OpenLot(ctx, Order("l1", 5))
	if err != nil {
		t.Fatal(err)
	}
	Issue(t, s, inLot("was", "kwas", l), "der")
	if err := s.SetLot(ctx, "plain", 5, "operator olga"); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(ctx, "it was restored"); err != nil {
		t.Fatal(err)
	}
	before := s.rows()
	if _, _, err := s.OpenLot(ctx, Order("l2", 5)); !errors.Is(err, record.ErrHeld) {
		t.Errorf("opened while it is held: %v", err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	if err := s.Accept(ctx, "operator olga", "checked"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lot(ctx, "l1"); err != nil || got.State != record.LotClosed {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Lot(ctx, "plain"); err != nil || got.State != record.LotOpen {
		t.Errorf("%+v, %v", got, err)
	}
	before = s.rows()
	if _, _, err := s.OpenLot(ctx, Order("l2", 5)); !errors.Is(err, record.ErrOrderOld) {
		t.Errorf("an order of before: %v", err)
	}
	if _, _, err := s.Begin(ctx, inLot("a", "ka", l)); !errors.Is(err, record.ErrLotChanged) {
		t.Error(err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	fresh := Order("l2", 5)
	fresh.Issued = time.Now().Add(time.Second)
	if _, changed, err := s.OpenLot(ctx, fresh); err != nil || !changed {
		t.Error(changed, err)
	}
}
