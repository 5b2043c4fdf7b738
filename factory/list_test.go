package factory_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// altered is a store whose lists are made from what change makes of the truth.
type altered struct {
	record.Store
	change func(*record.ListTurn)
	// asked is what was asked for last: behind which number.
	asked []int64
}

func (a *altered) NextCRL(ctx context.Context, issuer [32]byte, make func(context.Context, record.ListTurn) (*record.CRL, error)) (*record.CRL, error) {
	return a.Store.NextCRL(ctx, issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		if a.change != nil {
			a.change(&turn)
		}
		a.asked = nil
		read := turn.Revoked
		turn.Revoked = func(ctx context.Context, after int64) ([]record.Revocation, int64, error) {
			a.asked = append(a.asked, after)
			return read(ctx, after)
		}
		return make(ctx, turn)
	})
}

// TestListsFollow: a list is made from the one before it and from what was revoked since. Where the one before lacks something, or is not
// this store's, all revocations are read; where the store gives fewer than it counts, there is no list.
func TestListsFollow(t *testing.T) {
	ctx, p, d := context.Background(), newPlant(t), &desk{}
	var store *altered
	r := serve(t, p, d.join, func(c *factory.ServiceConfig) {
		store = &altered{Store: c.Store}
		c.Store = store
	})
	var serials []string
	revoke := func() (number int64, lists map[string]bool) {
		t.Helper()
		serial := fmt.Sprintf("%x", serialOf(len(serials)))
		serials = append(serials, serial)
		a, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: serial, Reason: "keyCompromise", Unknown: true})
		if err != nil {
			t.Fatal(err)
		}
		lists = map[string]bool{}
		for _, e := range d.list(t).RevokedCertificateEntries {
			if lists[e.SerialNumber.Text(16)] {
				t.Errorf("%x stands twice", e.SerialNumber)
			}
			lists[e.SerialNumber.Text(16)] = true
		}
		return a.CRLNumber, lists
	}
	whole := func(asked ...int64) {
		t.Helper()
		number, lists := revoke()
		for _, serial := range serials {
			if !lists[serial] {
				t.Errorf("list %d lacks %s", number, serial)
			}
		}
		if number == 0 || fmt.Sprint(store.asked) != fmt.Sprint(asked) {
			t.Errorf("list %d: asked for those behind %v, not %v", number, store.asked, asked)
		}
	}
	if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: "5f", Reason: "keyCompromise", Unknown: true}); err != nil {
		t.Fatal(err)
	}
	serials = append(serials, "5f")
	first := d.der
	whole(1) // 5f was read as a whole
	whole(2)
	// The last list is in truth an older one.
	store.change = func(turn *record.ListTurn) { turn.Last.DER = first }
	d.der = nil
	whole(3, 0)
	// A list that others have from us, and this store does not know.
	store.change = func(turn *record.ListTurn) {
		last := *turn.Last
		last.Number, last.DER = last.Number-2, first
		turn.Last = &last
	}
	whole(0)
	store.change = nil
	whole(5)
	// An index that has lost a row.
	before, rows := d.der, r.rows()
	store.change = func(turn *record.ListTurn) {
		turn.Revoked = func(context.Context, int64) ([]record.Revocation, int64, error) { return nil, 0, nil }
	}
	if number, _ := revoke(); number != 0 || string(d.der) != string(before) {
		t.Errorf("list %d was signed", number)
	}
	if err := r.service.FreshCRL(ctx); !errors.Is(err, record.ErrDamaged) {
		t.Error(err)
	}
	store.change = nil
	if after := r.rows(); after == rows {
		t.Error("the revocation was not kept")
	}
	whole(6)
	list, err := x509.ParseRevocationList(d.der)
	if err != nil || list.CheckSignatureFrom(p.issuing) != nil || len(list.RevokedCertificateEntries) != len(serials) {
		t.Error(len(list.RevokedCertificateEntries), err)
	}
}
