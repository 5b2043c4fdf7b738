// Package recordtest is what every record.Store must do. Tests run it; no program links it.
package recordtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// At is a fixed moment of a day.
var At = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Issuer is the issuing CA of the intents.
var Issuer = sha256.Sum256([]byte("issuer"))

// Intent is one for this device and key.
func Intent(device, key string) record.Intent {
	serial := sha256.Sum256([]byte("serial" + device + key))
	serial[0] |= 1
	return record.Intent{DeviceID: device, Generation: 1, HardwareID: "board", Lot: "l1", Station: "line-1", Serial: serial[:20], SPKI: []byte(key),
		SPKIDigest: sha256.Sum256([]byte(key)), CSRDigest: sha256.Sum256([]byte("csr" + key)), TBSDigest: sha256.Sum256([]byte("tbs" + device + key)),
		Issuer: Issuer, NotBefore: At, NotAfter: At.AddDate(10, 0, 0), At: At}
}

// result is one for an intent on record.
func result(r record.Record, der string) record.Result {
	return record.Result{ID: r.ID, TBSDigest: r.TBSDigest, Generation: r.Generation, Certificate: []byte(der), At: At, Who: "station line-1"}
}

// Issue begins and finishes one.
func Issue(t *testing.T, s record.Store, in record.Intent, der string) record.Record {
	t.Helper()
	r, isNew, err := s.Begin(t.Context(), in)
	if err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	if _, err := s.Finish(t.Context(), result(r, der)); err != nil {
		t.Fatal(err)
	}
	r, err = s.BySerial(t.Context(), in.Issuer, in.Serial)
	if err != nil || r.State != record.StateIssued {
		t.Fatal(r.State, err)
	}
	return r
}

// Suite is what every store must do. open gives the same store again after Close, empty at the first time of each test; again gives a
// further one on the same data while the first is open, as another server has it, or nil where only one may be.
func Suite(t *testing.T, open func(t *testing.T) (s record.Store, again func() record.Store)) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"one record a device", oneRecord}, {"ids without case", withoutCase}, {"the first certificate stays", firstStays},
		{"results are conditional", conditional}, {"open intents", openIntents}, {"generations", generations},
		{"revocation", revocation}, {"a serial that the store does not know", unknownSerial}, {"CRLs", lists}, {"CRLs that race", racingLists},
		{"events", journal}, {"marks", marks}, {"lots", lots}, {"orders", orders}, {"listed ids", listedIDs}, {"exactly N", exactlyN}, {"reissue", reissues}, {"scrap", scraps}, {"swap", swaps}, {"lists of devices", deviceLists},
		{"lots after a restore", distrusted}, {"held", heldStore}, {"taken in", takenIn}, {"one leads", leads},
		{"many at once", manyAtOnce}, {"probe and check", probe}, {"the caller's end", cancelled}, {"after Close", afterClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{t: t, open: open}
			b.Store, b.again = open(t)
			defer func() { b.Close() }()
			c.test(t, b)
		})
	}
}

// bench is a store under test.
type bench struct {
	record.Store
	t     *testing.T
	open  func(*testing.T) (record.Store, func() record.Store)
	again func() record.Store
}

// reopen closes the store and opens it again.
func (b *bench) reopen() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.Store, b.again = b.open(b.t)
}

// servers are two on the same data, or the same one twice where only one may be.
func (b *bench) servers() [2]record.Store {
	if b.again == nil {
		return [2]record.Store{b.Store, b.Store}
	}
	two := b.again()
	b.t.Cleanup(func() { two.Close() })
	return [2]record.Store{b.Store, two}
}

// rows is what the store holds: what a refusal must leave as it was.
func (b *bench) rows() string {
	b.t.Helper()
	n, err := b.Counts(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	sequence, err := b.Sequence(b.t.Context())
	if err != nil || sequence != n["event"] {
		b.t.Fatalf("the last event is number %d of %d (%v): there is a gap", sequence, n["event"], err)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		out = append(out, fmt.Sprint(name, n[name]))
	}
	return fmt.Sprint(out)
}

func oneRecord(t *testing.T, s *bench) {
	ctx := t.Context()
	in := Intent("a", "ka")
	in.Evidence, in.EvidenceDigest = []byte("evidence"), bytes.Repeat([]byte{7}, 32)
	in.Profile, in.Asked = "rsa", []byte("{}")
	r, isNew, err := s.Begin(ctx, in)
	if err != nil || !isNew || !r.Open() {
		t.Fatal(r, isNew, err)
	}
	before := s.rows()
	again, isNew, err := s.Begin(ctx, Intent("a", "other"))
	if err != nil || isNew || again.ID != r.ID || again.SPKIDigest != r.SPKIDigest || !bytes.Equal(again.Serial, r.Serial) {
		t.Fatalf("second intent for a device: %+v, %v, %v", again, isNew, err)
	}
	if _, _, err := s.Begin(ctx, Intent("b", "ka")); !errors.Is(err, record.ErrKeyKnown) {
		t.Fatalf("a key for two devices: %v", err)
	}
	if _, err := s.ByDevice(ctx, "b"); !errors.Is(err, record.ErrNotFound) {
		t.Fatalf("a refused intent left a record: %v", err)
	}
	same := Intent("c", "kc")
	same.Serial = r.Serial
	if _, _, err := s.Begin(ctx, same); err == nil {
		t.Fatal("a serial was taken twice")
	}
	if after := s.rows(); after != before {
		t.Errorf("refusals wrote %s, was %s", after, before)
	}
	// What was refused is free again.
	if _, isNew, err := s.Begin(ctx, Intent("c", "kc")); err != nil || !isNew {
		t.Errorf("after the refusal: %v, %v", isNew, err)
	}
	s.reopen()
	for name, find := range map[string]func() (record.Record, error){
		"device": func() (record.Record, error) { return s.ByDevice(ctx, "a") },
		"key":    func() (record.Record, error) { return s.ByKey(ctx, in.SPKIDigest) },
		"serial": func() (record.Record, error) { return s.BySerial(ctx, Issuer, in.Serial) },
	} {
		got, err := find()
		if err != nil || !sameIntent(got.Intent, in) || got.ID != r.ID || got.State != record.StateIntent {
			t.Errorf("by %s: %+v is not what was recorded (%v)", name, got, err)
		}
	}
	if _, err := s.BySerial(ctx, [32]byte{1}, in.Serial); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("by serial of another issuer: %v", err)
	}
}

func withoutCase(t *testing.T, s *bench) {
	ctx := t.Context()
	r := Issue(t, s, Intent("Vin-Ä-K1", "k1"), "one")
	for _, form := range []string{"VIN-Ä-K1", "vin-ä-\u212a1", "Vin-Ä-K1"} {
		got, isNew, err := s.Begin(ctx, Intent(form, "k2"))
		if err != nil || isNew || got.ID != r.ID || got.DeviceID != "Vin-Ä-K1" {
			t.Errorf("%q: %+v, %v, %v", form, got, isNew, err)
		}
		if got, err := s.ByDevice(ctx, form); err != nil || got.DeviceID != "Vin-Ä-K1" {
			t.Errorf("%q: %+v, %v", form, got, err)
		}
	}
}

func firstStays(t *testing.T, s *bench) {
	ctx := t.Context()
	r, _, err := s.Begin(ctx, Intent("d", "kd"))
	if err != nil {
		t.Fatal(err)
	}
	var first record.Done
	for i, der := range []string{"one", "two"} {
		got, err := s.Finish(ctx, result(r, der))
		if err != nil || string(got.Certificate) != "one" || got.Sequence == 0 || !got.At.Equal(At) {
			t.Fatalf("%+v, %v", got, err)
		}
		if i == 0 {
			first = got
		} else if got.Sequence != first.Sequence {
			t.Errorf("numbers %d and %d for one certificate", first.Sequence, got.Sequence)
		}
	}
	stranger := result(r, "x")
	stranger.ID = 1 << 40
	if _, err := s.Finish(ctx, stranger); !errors.Is(err, record.ErrNotFound) {
		t.Fatal("a certificate without intent:", err)
	}
	got, err := s.BySerial(ctx, Issuer, r.Serial)
	if err != nil || got.DeviceID != "d" || string(got.Certificate) != "one" || !got.IssuedAt.Equal(At) || got.Open() || got.Sequence != first.Sequence {
		t.Fatalf("%+v, %v", got, err)
	}
	before := s.rows()
	next := Intent("d", "kd")
	next.Serial = append([]byte{9}, next.Serial[1:]...)
	if rec, err := s.Replace(ctx, r.ID, r.TBSDigest, next); err != nil || rec.Open() || string(rec.Certificate) != "one" {
		t.Fatalf("a finished intent was replaced: %+v, %v", rec, err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
}

// conditional: two who hold the same open intent, as two servers do after one of them was thought dead.
func conditional(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	in := Intent("a", "ka")
	slow, _, err := two[0].Begin(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	next := in
	next.Serial, next.TBSDigest, next.Issuer = append([]byte{9}, in.Serial[1:]...), sha256.Sum256([]byte("next")), sha256.Sum256([]byte("issuer 2"))
	fresh, err := two[1].Replace(ctx, slow.ID, slow.TBSDigest, next)
	if err != nil || !bytes.Equal(fresh.Serial, next.Serial) || !fresh.Open() {
		t.Fatalf("%+v, %v", fresh, err)
	}
	if _, err := two[0].Finish(ctx, result(slow, "late")); !errors.Is(err, record.ErrAbandoned) {
		t.Fatalf("the result of a closed intent: %v", err)
	}
	wrong := result(fresh, "wrong")
	wrong.TBSDigest = slow.TBSDigest
	if _, err := two[0].Finish(ctx, wrong); err == nil {
		t.Fatal("a result of another intent was taken")
	}
	if _, err := two[1].Finish(ctx, result(fresh, "right")); err != nil {
		t.Fatal(err)
	}
	got, err := two[0].ByDevice(ctx, "a")
	if err != nil || string(got.Certificate) != "right" || got.Issuer != next.Issuer {
		t.Errorf("%+v, %v", got, err)
	}
	if old, err := two[0].BySerial(ctx, Issuer, in.Serial); err != nil || old.State != record.StateAbandoned || old.Certificate != nil {
		t.Errorf("the closed one: %+v, %v", old, err)
	}
	reused := Intent("b", "kb")
	reused.Serial = in.Serial
	if _, _, err := two[0].Begin(ctx, reused); err == nil {
		t.Error("an abandoned serial was taken again")
	}
}

func openIntents(t *testing.T, s *bench) {
	ctx := t.Context()
	var want []int64
	for i := range 5 {
		r, _, err := s.Begin(ctx, Intent(fmt.Sprint("e", i), fmt.Sprint("k", i)))
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			want = append(want, r.ID)
		} else if _, err := s.Finish(ctx, result(r, "der")); err != nil {
			t.Fatal(err)
		}
	}
	s.reopen()
	var got []int64
	for after := int64(0); ; {
		some, err := s.OpenIntents(ctx, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			break
		}
		for _, r := range some {
			got, after = append(got, r.ID), r.ID
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("open are %v, want %v", got, want)
	}
	first, err := s.BySerial(ctx, Issuer, Intent("e0", "k0").Serial)
	if err != nil {
		t.Fatal(err)
	}
	other := Intent("e0", "another key")
	if _, err := s.Replace(ctx, first.ID, first.TBSDigest, other); err == nil {
		t.Error("replaced by another key's intent")
	}
	taken := Intent("e0", "k0")
	if _, err := s.Replace(ctx, first.ID, first.TBSDigest, taken); err == nil {
		t.Error("replaced by one with the same serial")
	}
	stale := Intent("e0", "k0")
	stale.Serial = append([]byte{9}, stale.Serial[1:]...)
	if rec, err := s.Replace(ctx, first.ID, [32]byte{1}, stale); err != nil || !bytes.Equal(rec.Serial, first.Serial) {
		t.Errorf("replaced by somebody who knew another intent: %+v, %v", rec, err)
	}
}

func generations(t *testing.T, s *bench) {
	ctx := t.Context()
	first := Issue(t, s, Intent("a", "ka"), "one")
	second := Intent("A", "kb")
	second.Generation = 2
	Issue(t, s, second, "two")
	if got, err := s.ByDevice(ctx, "a"); err != nil || string(got.Certificate) != "two" || got.Generation != 2 || got.DeviceID != "A" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, key := range []string{"ka", "kb"} {
		if got, err := s.ByKey(ctx, sha256.Sum256([]byte(key))); err != nil || got.Generation != 2 {
			t.Errorf("by key %s: %+v, %v", key, got, err)
		}
	}
	if got, err := s.BySerial(ctx, Issuer, first.Serial); err != nil || string(got.Certificate) != "one" || got.Generation != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	before := s.rows()
	for name, in := range map[string]record.Intent{"the second again": second, "the first again": Intent("a", "kc")} {
		if got, isNew, err := s.Begin(ctx, in); err != nil || isNew || got.Generation != 2 {
			t.Errorf("%s: %+v, %v, %v", name, got, isNew, err)
		}
	}
	ahead := Intent("a", "kd")
	ahead.Generation = 4
	if got, isNew, err := s.Begin(ctx, ahead); err != nil || isNew || got.Generation != 2 {
		t.Errorf("%+v, %v, %v", got, isNew, err)
	}
	nobody := Intent("b", "ke")
	nobody.Generation = 2
	if _, _, err := s.Begin(ctx, nobody); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("a second generation of nobody: %v", err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	// A renewal with the same key is no other device's key.
	third := Intent("a", "kb")
	third.Generation, third.Serial = 3, append([]byte{9}, third.Serial[1:]...)
	Issue(t, s, third, "three")
	all, err := s.Generations(ctx, "A", 10)
	if err != nil || len(all) != 3 || string(all[0].Certificate) != "three" || string(all[1].Certificate) != "two" || string(all[2].Certificate) != "one" {
		t.Errorf("%+v, %v", all, err)
	}
	if some, err := s.Generations(ctx, "a", 2); err != nil || len(some) != 2 || some[1].Generation != 2 {
		t.Errorf("%+v, %v", some, err)
	}
	if none, err := s.Generations(ctx, "b", 10); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	events, err := s.Events(ctx, 0, 10)
	if err != nil || len(events) != 3 || events[0].Kind != record.Issue || events[1].Kind != record.Reissue || events[2].Kind != record.Reissue {
		t.Errorf("%+v, %v", events, err)
	}
}

func lots(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	if _, err := s.Lot(ctx, "l1"); !errors.Is(err, record.ErrNotFound) {
		t.Fatal(err)
	}
	if err := s.SetLot(ctx, "l1", 30, "operator olga"); err != nil {
		t.Fatal(err)
	}
	var tally tally
	for w := range 16 {
		tally.Go(func() {
			for i := range 5 {
				r, isNew, err := two[w%2].Begin(ctx, Intent(fmt.Sprintf("d-%d-%d", w, i), fmt.Sprintf("k-%d-%d", w, i)))
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
	if got := tally.wait(); got != "full 50, taken 30" {
		t.Errorf("of a lot of 30: %s", got)
	}
	if l, err := two[1].Lot(ctx, "l1"); err != nil || l.Taken != 30 || l.Quota != 30 {
		t.Errorf("%+v, %v", l, err)
	}
	if n, err := s.Counts(ctx); err != nil || n["device"] != 30 || n["device_key"] != 30 || n["enrolment"] != 30 || n["certificate"] != 30 {
		t.Errorf("%v, %v", n, err)
	}
	other := Intent("z", "kz")
	other.Lot = "l2"
	if _, isNew, err := s.Begin(ctx, other); err != nil || !isNew {
		t.Errorf("a lot without bound: %v", err)
	}
}

func heldStore(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	Issue(t, s, Intent("a", "ka"), "one")
	openOne, _, err := s.Begin(ctx, Intent("b", "kb"))
	if err != nil {
		t.Fatal(err)
	}
	if why, err := s.Holding(ctx); err != nil || why != "" {
		t.Fatal(why, err)
	}
	for _, why := range []string{"it lags", "again"} {
		if err := two[1].Hold(ctx, why); err != nil {
			t.Fatal(err)
		}
	}
	if why, err := s.Holding(ctx); err != nil || why != "it lags" {
		t.Fatal(why, err)
	}
	before := s.rows()
	if _, _, err := s.Begin(ctx, Intent("c", "kc")); !errors.Is(err, record.ErrHeld) {
		t.Errorf("a new device: %v", err)
	}
	next := Intent("a", "ka2")
	next.Generation = 2
	if _, _, err := s.Begin(ctx, next); !errors.Is(err, record.ErrHeld) {
		t.Errorf("a new generation: %v", err)
	}
	if r, isNew, err := s.Begin(ctx, Intent("a", "ka")); err != nil || isNew || string(r.Certificate) != "one" {
		t.Errorf("a known device: %+v, %v, %v", r, isNew, err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
	if _, err := s.Finish(ctx, result(openOne, "two")); err != nil {
		t.Errorf("an open intent: %v", err)
	}
	if err := s.Accept(ctx, "operator olga", "checked"); err != nil {
		t.Fatal(err)
	}
	if _, isNew, err := two[1].Begin(ctx, Intent("c", "kc")); err != nil || !isNew {
		t.Error(isNew, err)
	}
}

func takenIn(t *testing.T, s *bench) {
	ctx := t.Context()
	// One that the store does not know at all, one whose intent is open, one of a device that has another, and one on record.
	openOne, _, err := s.Begin(ctx, Intent("open", "ko"))
	if err != nil {
		t.Fatal(err)
	}
	Issue(t, s, Intent("again", "k1"), "first")
	if err := s.Hold(ctx, "it lags"); err != nil {
		t.Fatal(err)
	}
	for _, in := range []record.Intent{Intent("lost", "kl"), openOne.Intent, Intent("Again", "k2"), Intent("other", "k1")} {
		r, isNew, err := s.TakeIn(ctx, in, []byte("der "+in.DeviceID), "operator olga")
		if err != nil || !isNew || string(r.Certificate) != "der "+in.DeviceID || r.DeviceID != in.DeviceID || r.State != record.StateIssued {
			t.Fatalf("%s: %+v, %v, %v", in.DeviceID, r, isNew, err)
		}
		before := s.rows()
		if _, isNew, err := s.TakeIn(ctx, in, []byte("der "+in.DeviceID), "operator olga"); err != nil || isNew {
			t.Errorf("%s: taken in twice: %v", in.DeviceID, err)
		}
		if _, _, err := s.TakeIn(ctx, in, []byte("another"), "operator olga"); err == nil {
			t.Errorf("%s: another certificate with the same serial was taken in", in.DeviceID)
		}
		if after := s.rows(); after != before {
			t.Errorf("%s: wrote %s, was %s", in.DeviceID, after, before)
		}
	}
	if open, err := s.OpenIntents(ctx, 0, 10); err != nil || len(open) != 0 {
		t.Errorf("%d are open, %v", len(open), err)
	}
	if r, err := s.ByDevice(ctx, "again"); err != nil || r.Generation != 2 || string(r.Certificate) != "der Again" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := s.Accept(ctx, "operator olga", ""); err != nil {
		t.Fatal(err)
	}
	if r, isNew, err := s.Begin(ctx, Intent("lost", "another")); err != nil || isNew || string(r.Certificate) != "der lost" {
		t.Errorf("a second key for a device that was taken in: %+v, %v, %v", r, isNew, err)
	}
}

func manyAtOnce(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	var tally tally
	for i := range 32 {
		tally.Go(func() {
			for j := range 20 {
				id := fmt.Sprintf("m%d", (j+i)%20) // all want the same twenty, in another order
				r, isNew, err := two[i%2].Begin(ctx, Intent(id, fmt.Sprint("k", id, "-", i)))
				if err != nil {
					t.Error(err)
					return
				}
				if isNew {
					tally.add("created")
					if _, err := two[i%2].Finish(ctx, result(r, id)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	if got := tally.wait(); got != "created 20" {
		t.Errorf("for 20 devices: %s", got)
	}
	events, err := s.Events(ctx, 0, 100)
	if err != nil || len(events) != 20 {
		t.Fatal(len(events), err)
	}
	for i, e := range events {
		if e.Sequence != int64(i)+1 {
			t.Errorf("event %d has the number %d", i, e.Sequence)
		}
	}
}

func probe(t *testing.T, s *bench) {
	if err := errors.Join(s.Probe(t.Context()), s.Probe(t.Context()), s.Check(t.Context())); err != nil {
		t.Error(err)
	}
}

func cancelled(t *testing.T, s *bench) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := s.rows()
	if _, _, err := s.Begin(ctx, Intent("z", "kz")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if after := s.rows(); after != before {
		t.Errorf("wrote %s, was %s", after, before)
	}
}

func afterClose(t *testing.T, s *bench) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Begin(t.Context(), Intent("z", "kz")); err == nil {
		t.Fatal("a closed store took an intent")
	}
	s.Store, s.again = s.open(t)
}

func sameIntent(a, b record.Intent) bool {
	return a.DeviceID == b.DeviceID && a.Generation == b.Generation && a.HardwareID == b.HardwareID && a.Lot == b.Lot && a.Station == b.Station && bytes.Equal(a.Serial, b.Serial) &&
		bytes.Equal(a.SPKI, b.SPKI) && a.SPKIDigest == b.SPKIDigest && a.CSRDigest == b.CSRDigest && a.TBSDigest == b.TBSDigest && a.Issuer == b.Issuer &&
		bytes.Equal(a.Evidence, b.Evidence) && bytes.Equal(a.EvidenceDigest, b.EvidenceDigest) && a.Profile == b.Profile && bytes.Equal(a.Asked, b.Asked) &&
		a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter) && a.At.Equal(b.At)
}
