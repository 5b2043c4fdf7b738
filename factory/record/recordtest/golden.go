package recordtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/hanaper/hanaper/factory/record"
)

// FillSchema2 is what the stores of schema 2 in the testdata of both databases were filled with, by the release that made schema 2: a lot with a bound, devices in
// it and beside it, a further generation, an open intent, one that was closed for a new one, revocations, a list, marks, and a record that was held.
func FillSchema2(t *testing.T, s record.Store) {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.SetLot(ctx, "l1", 10, "operator olga"))
	for i := range 6 {
		in := Intent(fmt.Sprintf("Dev-%d", i), fmt.Sprintf("key %d", i))
		if i >= 4 {
			in.Lot = "unbound"
		}
		r := Issue(t, s, in, fmt.Sprintf("der %d", i))
		if i == 2 {
			_, _, err := s.Revoke(ctx, record.Revocation{Issuer: r.Issuer, Serial: r.Serial, Reason: 1, At: At, Who: "operator olga"})
			must(err)
		}
	}
	next := Intent("dev-0", "key 0b")
	next.Generation = 2
	Issue(t, s, next, "der 0b")
	_, _, err := s.Begin(ctx, Intent("open", "key open"))
	must(err)
	r, _, err := s.Begin(ctx, Intent("replaced", "key replaced"))
	must(err)
	again := Intent("replaced", "key replaced")
	again.Serial = append([]byte{9}, again.Serial[1:]...)
	_, err = s.Replace(ctx, r.ID, r.TBSDigest, again)
	must(err)
	_, err = s.Append(ctx, record.Event{Kind: record.OtherKey, At: At, Who: "station line-1", DeviceID: "Dev-1", Note: "key 00"})
	must(err)
	_, err = s.NextCRL(ctx, Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		n, err := turn.Number(ctx, 41)
		return &record.CRL{Number: n, DER: []byte("list"), ThisUpdate: At, NextUpdate: At, UpTo: turn.UpTo}, err
	})
	must(err)
	_, err = s.SwapMark(ctx, "salt", nil, []byte("salt of a log"))
	must(err)
	must(s.Hold(ctx, "it lags"))
	must(s.Accept(ctx, "operator olga", "checked"))
}

// CheckSchema2 is what a store of schema 2 must hold after it was brought up to date.
func CheckSchema2(t *testing.T, s record.Store) {
	t.Helper()
	ctx := context.Background()
	n, err := s.Counts(ctx)
	if want := "map[certificate:10 crl:1 device:8 device_key:9 enrolment:9 event:13 former_key:0 issuer:1 lot:1 lot_id:0 lot_order:0 mark:1 pending:2 permit:0 result:8 revocation:1 scrap:0 version:2]"; err != nil || fmt.Sprint(n) != want {
		t.Errorf("%v, %v", n, err)
	}
	if l, err := s.Lot(ctx, "l1"); err != nil || l.Quota != 10 || l.Taken != 6 || l.State != record.LotOpen || l.Revision != 0 || l.Order != ([32]byte{}) {
		t.Errorf("the lot: %+v, %v", l, err)
	}
	for id, want := range map[string]string{"DEV-0": "der 0b", "dev-1": "der 1", "dev-2": "der 2", "dev-5": "der 5"} {
		r, err := s.ByDevice(ctx, id)
		if err != nil || string(r.Certificate) != want || r.RevokedAt.IsZero() != (want != "der 2") {
			t.Errorf("%s: %+v, %v", id, r, err)
		}
	}
	if open, err := s.OpenIntents(ctx, 0, 10); err != nil || len(open) != 2 || open[0].DeviceID != "open" || open[1].DeviceID != "replaced" {
		t.Errorf("open: %+v, %v", open, err)
	}
	if c, err := s.LatestCRL(ctx, Issuer); err != nil || c.Number != 42 || string(c.DER) != "list" {
		t.Errorf("%+v, %v", c, err)
	}
	if m, err := s.Mark(ctx, "salt"); err != nil || string(m) != "salt of a log" {
		t.Errorf("%q, %v", m, err)
	}
	if list, err := s.Devices(ctx, record.DeviceFilter{Lot: "l1", Limit: 100}); err != nil || len(list) != 7 {
		t.Errorf("%d devices, %v", len(list), err)
	}
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
}

// UseSchema2 goes on with a store that was brought up to date.
func UseSchema2(t *testing.T, s record.Store) {
	t.Helper()
	for i := range 4 {
		Issue(t, s, Intent(fmt.Sprint("more-", i), fmt.Sprint("more ", i)), "der")
	}
	if _, _, err := s.Begin(t.Context(), Intent("more", "more")); !errors.Is(err, record.ErrQuota) {
		t.Errorf("the bound that the lot had: %v", err)
	}
	if _, changed, err := s.OpenLot(t.Context(), Order("next", 1)); err != nil || !changed {
		t.Error(changed, err)
	}
}

// Order is one that opens a lot.
func Order(name string, quota int64) record.LotOrder {
	o := record.LotOrder{Lot: record.Lot{Name: name, Quota: quota}, Issued: At, Who: "operator olga", At: At, Envelope: []byte("envelope of " + name)}
	o.Order = sha256.Sum256(fmt.Appendf(nil, "order %s %d", name, quota))
	return o
}
