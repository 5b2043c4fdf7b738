package factory_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/sqlite"
)

// life is a plant whose record is copied after each step, so that a store of every age can be put back.
type life struct {
	*running
	desk  *desk
	mark  factory.Witness
	ages  []string
	names []string
	// got is every certificate that a station was handed, in order.
	got []*factory.EnrollAnswer
}

func (l *life) copy(name string) {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "copy.db")
	if err := l.store.Backup(context.Background(), path); err != nil {
		l.t.Fatal(err)
	}
	l.ages, l.names = append(l.ages, path), append(l.names, name)
}

// live goes through enrolments, revocations and lists, and copies the store in between.
func live(t *testing.T) *life {
	ctx := context.Background()
	l := &life{desk: &desk{}}
	l.mark = factory.MarkFile(filepath.Join(t.TempDir(), "mark"))
	l.running = serve(t, newPlant(t), l.desk.join, l.witnessed)
	enroll := func(id string) {
		a, _, err := l.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), id))
		if err != nil {
			t.Fatal(err)
		}
		l.got = append(l.got, a)
	}
	revoke := func(q factory.RevokeRequest) {
		q.Reason = "key_compromise"
		if _, err := l.service.Revoke(ctx, "olga", q); err != nil {
			t.Fatal(err)
		}
	}
	l.copy("empty")
	if err := l.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	l.copy("before the first enrolment")
	enroll("dev-1")
	enroll("dev-2")
	l.copy("before a revocation")
	revoke(factory.RevokeRequest{DeviceID: "dev-1"})
	l.copy("before further enrolments")
	enroll("dev-3")
	enroll("dev-4")
	l.copy("before the revocation of what a copy does not know")
	revoke(factory.RevokeRequest{DeviceID: "dev-3"})
	l.now.add(25 * time.Hour)
	if err := l.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	l.copy("before the last enrolment")
	enroll("dev-5")
	// The mark is told how far the record is, as Run has it.
	if err := l.service.Compare(ctx); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *life) witnessed(c *factory.ServiceConfig) { c.Witnesses = []factory.Witness{l.mark} }

// again is a service on a copy, as somebody has put it back by hand: with cp, not with hanaperd restore.
func (l *life) again(t *testing.T, copy string, change ...func(*factory.ServiceConfig)) *running {
	t.Helper()
	r := serveIn(t, l.plant, copy, append([]func(*factory.ServiceConfig){l.desk.join}, change...)...)
	r.now.add(26 * time.Hour)
	return r
}

// safe walks from a store that was put back to one that is served again, and checks that nothing is served before, that no device has two
// certificates, and that each certificate ever handed out can be revoked afterwards.
func (l *life) safe(t *testing.T, r *running) {
	ctx := context.Background()
	before := r.rows()
	fresh := deviceRequest(t, newKey(t), "dev-9")
	for _, q := range []factory.EnrollRequest{deviceRequest(t, newKey(t), "dev-5"), fresh} {
		if _, _, err := r.service.Enroll(ctx, "line-1", q); err == nil || code(t, err) != factory.CodeHeld && code(t, err) != factory.CodeOtherKey {
			t.Fatalf("served: %v", err)
		}
	}
	if after := r.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	if h := r.service.Health(ctx); h.Status == "ok" || !strings.Contains(h.Store, "held") {
		t.Errorf("%+v", h)
	}
	// What stations have got: all but dev-1's, whose station has lost its list.
	var all []string
	for _, a := range l.got[1:] {
		all = append(all, a.Certificate)
	}
	if _, err := r.service.TakeIn(ctx, "station line-1", strings.Join(all, "")); err != nil {
		t.Fatal(err)
	}
	number := l.desk.list(t).Number
	if _, err := r.service.Accept(ctx, "olga", "all stations have reported"); err != nil {
		t.Fatal(err)
	}
	list := l.desk.list(t)
	if list.Number.Cmp(number) < 0 {
		t.Errorf("list %v after %v", list.Number, number)
	}
	for _, id := range []string{"dev-2", "dev-3", "dev-4", "dev-5"} {
		if _, _, err := r.service.Enroll(ctx, "line-1", deviceRequest(t, newKey(t), id)); code(t, err) != factory.CodeOtherKey {
			t.Errorf("%s: a second key: %v", id, err)
		}
	}
	if a, isNew, err := r.service.Enroll(ctx, "line-1", fresh); err != nil || !isNew {
		t.Errorf("%+v, %v", a, err)
	} else {
		l.got = append(l.got, a)
		defer func() { l.got = l.got[:len(l.got)-1] }()
	}
	// Events go on above what was given before.
	events, err := r.store.Events(ctx, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if e.Sequence != int64(i)+1 {
			t.Fatalf("event %d has the number %d", i+1, e.Sequence)
		}
	}
	for _, a := range l.got {
		if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{Serial: a.Serial, Reason: "superseded", Unknown: true}); err != nil {
			t.Errorf("%s, which was handed out, cannot be revoked: %v", a.DeviceID, err)
		}
	}
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatal(err)
	}
	list = l.desk.list(t)
	for _, a := range l.got {
		serial, _ := new(big.Int).SetString(a.Serial, 16)
		if !slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(serial) == 0 }) {
			t.Errorf("%s is not on list %v", a.DeviceID, list.Number)
		}
	}
	if list.CheckSignatureFrom(l.issuing) != nil {
		t.Error("the list is not ours")
	}
}

// TestRestoredStore: a store of every age is put back by hand beside the published list and the mark. (Before: a device id got a second
// certificate for another key, one that was handed out could not be revoked, and a second revocation broke CA-047 for ever.)
func TestRestoredStore(t *testing.T) {
	for n := range live(t).ages {
		l := live(t)
		t.Run(l.names[n], func(t *testing.T) {
			r := l.again(t, l.ages[n], l.witnessed)
			if err := r.service.Compare(context.Background()); err != nil {
				t.Fatal(err)
			}
			last, err := r.mustMark(l.mark)
			if have, _ := r.store.Sequence(context.Background()); err != nil || have < last {
				t.Errorf("the record goes on from %d, and %d was given before (%v)", have, last, err)
			}
			l.safe(t, r)
		})
	}
}

func (r *running) mustMark(w factory.Witness) (int64, error) { return w.Sequence(context.Background()) }

// TestStationShowsLag: without list and mark, a station that has the last certificate finds out, before its device is served.
func TestStationShowsLag(t *testing.T) {
	ctx := context.Background()
	l := live(t)
	r := l.again(t, l.ages[2]) // knows dev-1 and dev-2
	l.desk.der = nil
	station := r.client(r.station(t, "line-1"))
	q := deviceRequest(t, newKey(t), "dev-9")
	q.Last = l.got[1].Certificate
	if _, _, err := station.Enroll(ctx, q); err != nil {
		t.Fatalf("with a certificate that the store knows: %v", err)
	}
	q = deviceRequest(t, newKey(t), "dev-10")
	q.Last = l.got[4].Certificate
	if _, _, err := station.Enroll(ctx, q); code(t, err) != factory.CodeHeld {
		t.Fatal(err)
	}
	if d, err := station.Device(ctx, "dev-5"); err != nil || d.Certificate != l.got[4].Certificate {
		t.Errorf("not taken in: %+v, %v", d, err)
	}
	if a, err := station.Store(ctx); err != nil || !strings.Contains(a.Held, "line-1") {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := station.Accept(ctx, "it is well"); code(t, err) != factory.CodeForbidden {
		t.Errorf("a station accepted: %v", err)
	}
	// A certificate that is not ours, or that somebody made up in our name, holds nobody up.
	other := newPlant(t)
	forged := other.fleet.unchecked(t, &x509.Certificate{Subject: r.issuing.Subject, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	leaf := forged.unchecked(t, &x509.Certificate{SerialNumber: big.NewInt(77)})
	fine := serve(t, r.plant)
	line := fine.client(r.station(t, "line-2"))
	for name, c := range map[string]*x509.Certificate{"another CA's": other.server.cert, "a forgery": leaf.cert} {
		before := fine.rows()
		if _, err := line.TakeIn(ctx, pemOf("CERTIFICATE", c.Raw)); code(t, err) != factory.CodePolicy {
			t.Errorf("%s: %v", name, err)
		}
		if after := fine.rows(); after != before {
			t.Errorf("%s: wrote %s, was %s", name, after, before)
		}
		q := deviceRequest(t, newKey(t), "dev-of-"+name[2:3])
		q.Last = pemOf("CERTIFICATE", c.Raw)
		if _, _, err := line.Enroll(ctx, q); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err := line.Store(ctx); err != nil || a.Held != "" {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestRevokedTwice: a revocation that a store lost, and that is made again later, keeps its first date: a list whose entry became later
// could not be signed.
func TestRevokedTwice(t *testing.T) {
	ctx := context.Background()
	l := live(t)
	r := l.again(t, l.ages[2]) // does not know that dev-1 is revoked
	r.now.add(time.Hour)
	// The published list is away at the moment of the second revocation, and comes back afterwards.
	published := l.desk.der
	l.desk.der = nil
	if _, err := r.service.Revoke(ctx, "olga", factory.RevokeRequest{DeviceID: "dev-1", Reason: "superseded"}); err != nil {
		t.Fatal(err)
	}
	l.desk.der = published
	if err := r.service.Compare(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.service.FreshCRL(ctx); err != nil {
		t.Fatalf("no list can be signed any more: %v", err)
	}
	for _, e := range l.desk.list(t).RevokedCertificateEntries {
		if fmt.Sprintf("%x", e.SerialNumber) == trimZero(l.got[0].Serial) && time.Until(e.RevocationTime) > time.Minute {
			t.Errorf("revoked at %v, later than before", e.RevocationTime)
		}
	}
}

// TestAccept: only an operator who says why has a held store served, and what he said stays.
func TestAccept(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	operator := r.client(r.operator(t, "olga"))
	if _, err := operator.Accept(ctx, "nothing is wrong"); code(t, err) != factory.CodeNotFound {
		t.Error(err)
	}
	if err := r.store.Hold(ctx, "it was restored"); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Accept(ctx, ""); code(t, err) != factory.CodeRequest {
		t.Error(err)
	}
	if a, err := operator.Store(ctx); err != nil || a.Held != "it was restored" {
		t.Fatal(a, err)
	}
	if a, err := operator.Accept(ctx, "Monday's copy"); err != nil || a.Held != "" {
		t.Fatal(a, err)
	}
	events, err := r.store.Events(ctx, 0, 10)
	if err != nil || len(events) != 2 || events[1].Kind != record.Accepted || events[1].Who != "operator olga" || events[1].Note != "Monday's copy" {
		t.Errorf("%+v, %v", events, err)
	}
}

// serveIn is serve on a copy of a store.
func serveIn(t *testing.T, p *plant, copy string, change ...func(*factory.ServiceConfig)) *running {
	t.Helper()
	dir := t.TempDir()
	if out, err := copyStore(copy, filepath.Join(dir, sqlite.File)); err != nil {
		t.Fatal(out, err)
	}
	return serveAt(t, p, dir, change...)
}
