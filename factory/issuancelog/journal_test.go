package issuancelog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/journal"
)

// TestKindsOfTheRecord: the log has a number for every kind of event that the record knows.
func TestKindsOfTheRecord(t *testing.T) {
	source, err := os.ReadFile("../record/record.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`(?m)^\s+\w+\s+Kind = "(\w+)"`).FindAllSubmatch(source, -1)
	if len(kinds) < 11 {
		t.Fatalf("only %d kinds found", len(kinds))
	}
	for _, k := range kinds {
		if _, ok := logbook.KindNamed(string(k[1])); !ok {
			t.Errorf("the log has no kind for %s", k[1])
		}
	}
	if _, err := eventOf(record.Event{Sequence: 1, Kind: "hold"}); err == nil {
		t.Error("an unknown kind is taken")
	}
}

// TestOfStore: the record's store gives what the log needs.
func TestOfStore(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s, err := sqlite.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	r := Of(s)
	if n, err := r.LogSize(ctx); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	var cert []byte
	for i := range 5 {
		in := record.Intent{DeviceID: fmt.Sprintf("vin-%d", i), Station: "line-1", SPKI: []byte{byte(i)}, SPKIDigest: [32]byte{1, byte(i)}, Issuer: [32]byte{9}, Serial: []byte{7, byte(i)},
			TBSDigest: [32]byte{2, byte(i)}, At: time.Unix(1_764_000_000, 0), NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0)}
		rec, _, err := s.Begin(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		if i == 4 {
			// Revoked while its intent is open: what the event says stays as it was when the certificate comes.
			if _, _, err := s.Revoke(ctx, record.Revocation{Issuer: in.Issuer, Serial: in.Serial, At: in.At, Who: "operator olga", Reason: 1}); err != nil {
				t.Fatal(err)
			}
			before, err := r.LogEvents(ctx, 4, 1)
			if err != nil || len(before) != 1 || before[0].Kind != logbook.Revoke {
				t.Fatalf("%+v, %v", before, err)
			}
			defer func() {
				after, err := r.LogEvents(ctx, 4, 1)
				if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
					t.Errorf("an event changed: %+v, %+v, %v", before, after, err)
				}
				s.Close()
			}()
		}
		cert = fmt.Appendf(nil, "certificate %d", i)
		if _, err := s.Finish(ctx, record.Result{ID: rec.ID, TBSDigest: in.TBSDigest, Generation: 1, Certificate: cert, At: in.At, Who: "station line-1"}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := r.LogEvents(ctx, 2, 100)
	if err != nil || len(events) != 4 || events[0].Index != 2 || events[0].DeviceID != "vin-2" || events[0].Kind != logbook.Issue || events[0].Who != "station line-1" || events[0].Certificate == [32]byte{} {
		t.Fatalf("%+v, %v", events, err)
	}
	one, err := r.LogSecret(ctx)
	if err != nil || one == [32]byte{} {
		t.Fatal(err)
	}
	if two, err := r.LogSecret(ctx); err != nil || two != one {
		t.Error("another secret", err)
	}
	if note, err := r.LastCheckpoint(ctx); err != nil || note != nil {
		t.Errorf("%q, %v", note, err)
	}
	l := run(t, func() Config { c := config(t, nil, dir+"/log"); c.Record = r; return c }())
	l.signed(6)
	l.stop()
	note, err := r.LastCheckpoint(ctx)
	if err != nil || note == nil {
		t.Fatal(err)
	}
	for size, root := range map[uint64][32]byte{5: {1}, 6: {1}} {
		if err := r.PutCheckpoint(ctx, size, root, note); !errors.Is(err, ErrCheckpointBack) {
			t.Errorf("%d: %v", size, err)
		}
	}
}

// TestLost: the record was put back from a copy, and makes up events for those that it lost. The log keeps what it had, and
// goes on; a folder whose lost entries are others is refused.
func TestLost(t *testing.T) {
	rec, dir := lay(t, 700)
	lost := map[uint64]Event{}
	for i := uint64(500); i < 700; i++ {
		lost[i] = Event{Index: i, Kind: logbook.Lost, At: time.Unix(1_765_000_000, 0), Who: "hanaperd"}
	}
	back := &testRecord{size: 500}
	r := run(t, config(t, back, dir))
	r.until("the fault", func(s State) bool { return s.Fault != "" })
	if n, err := r.Known(context.Background()); n != 700 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	back.set(func() { back.size, back.other = 720, lost })
	r.signed(720)
	r.stop()
	if _, err := logbook.Check(context.Background(), logbook.Folder(dir), logbook.AuditConfig{Policy: policy(t), Since: [][]byte{rec.note}}); err != nil {
		t.Error(err)
	}
	// The same with another log in the folder, which the key did not sign.
	_, other := lay(t, 500)
	grown := &testRecord{size: 700, other: lost, note: rec.note, noted: 700, root: rec.root}
	l, err := New(config(t, grown, other))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Check(context.Background()); !errors.Is(err, ErrFolder) {
		t.Error(err)
	}
}

// TestReport: what callers carry is believed as far as the log's key signed it.
func TestReport(t *testing.T) {
	long, _ := lay(t, 900)
	fork := &testRecord{size: 700, other: map[uint64]Event{3: changed(3)}}
	r := run(t, config(t, fork, t.TempDir()+"/log"))
	r.signed(700)
	r.stop()
	// One that a thief of the log's key has made, of more entries than any record has lost.
	made, err := journal.SignCheckpoint(journal.FormatCheckpoint(r.c.Policy.Origin(), 1<<30, journal.Hash{1}), r.signer)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		note    []byte
		carried int64
		trouble bool
		err     bool
	}{
		"older":            {nil, 0, false, false},
		"made up":          {made, 0, true, false},
		"later":            {long.note, 900, true, false},
		"forked":           {fork.note, 0, true, false},
		"nonsense":         {[]byte("nonsense"), 0, false, true},
		"not of the key's": {flip(len(long.note) - 10)([]byte(string(long.note))), 0, false, true},
	} {
		rec := &testRecord{size: 300}
		r := run(t, config(t, rec, t.TempDir()+"/log"))
		r.signed(300)
		note := c.note
		if note == nil {
			note = rec.note
		}
		rec.add(500)
		r.signed(800)
		size, forked, err := r.Report(context.Background(), "station line-1", note)
		if (forked != "") != (name == "forked" || name == "made up") || name == "forked" && size != 700 {
			t.Errorf("%s: %d, %q", name, size, forked)
		}
		carried, _ := r.Carried(context.Background())
		if carried != c.carried || (r.Trouble() != "") != c.trouble || (err != nil) != c.err {
			t.Errorf("%s: %d, %q, %v", name, carried, r.Trouble(), err)
		}
		r.stop()
	}
}
