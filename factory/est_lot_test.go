package factory_test

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory"
)

// TestLotByEveryWay: the lot's rules bind a device that comes by EST or in a batch as they bind others: with one place, one of three gets it,
// and the others are told why.
func TestLotByEveryWay(t *testing.T) {
	p := newPlant(t)
	r := serve(t, p, orders(p, factory.LotPolicy{}))
	olga, station := r.operator(t, "olga"), r.station(t, "line-1")
	r.open(olga, "2026-47", 1)
	in := func(id string) factory.EnrollRequest {
		q := deviceRequest(t, newKey(t), id)
		q.Lot, q.HardwareID = "2026-47", ""
		return q
	}
	status, _, got, err := r.raw(station, "POST", "/.well-known/est/2026-47/simpleenroll", "application/pkcs10", estBody(t, in("dev-1")))
	if err != nil || status != 200 {
		t.Fatal(status, got, err)
	}
	before := r.rows()
	status, _, got, err = r.raw(station, "POST", "/.well-known/est/2026-47/simpleenroll", "application/pkcs10", estBody(t, in("dev-2")))
	if err != nil || status != 409 || !strings.Contains(got, "\nhint: ") {
		t.Error(status, got, err)
	}
	_, _, got, err = r.raw(station, "POST", "/v1/enroll/batch", ndjson, []byte(ndjsonOf(t, in("dev-3"))))
	if answers, end := batchLines(t, strings.NewReader(got)); err != nil || end == nil || answers[0].Code != factory.CodeLotFull {
		t.Errorf("%v: %s", err, got)
	}
	if after := r.rows(); after != before {
		t.Errorf("something was written: %s, was %s", after, before)
	}
	// CSR attributes are the lot's profile's, also where the lot is full.
	if status, _, got, err := r.raw(station, "GET", "/.well-known/est/2026-47/csrattrs", "", nil); err != nil || status != 200 {
		t.Error(status, got, err)
	}
}
