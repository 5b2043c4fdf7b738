package issuancelog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/logbook"
)

func rebuild(t testing.TB, rec *testRecord, dir string, since ...[]byte) (uint64, string, error) {
	t.Helper()
	return Rebuild(context.Background(), RebuildConfig{Folder: dir, Policy: policy(t), Record: rec, Since: since, Log: slog.New(slog.DiscardHandler), Now: time.Now})
}

// TestRebuild: whatever was done to the folder, the record gives the same root again, and the log goes on from there.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for name, m := range manipulations(t) {
		if m.want != ErrFolder || name == "record changed, checkpoint gone" || name == "record changed" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec, dir := lay(t, 700)
			m.change(t, rec, dir)
			had, err := exists(dir)
			if err != nil {
				t.Fatal(err)
			}
			size, kept, err := rebuild(t, rec, dir, rec.note)
			if err != nil || size != 700 || (kept != "") != had {
				t.Fatalf("%d, %q, %v", size, kept, err)
			}
			if a, err := audit(t, rec, dir, rec.note); err != nil || a.Checkpoint.Size != 700 {
				t.Fatal(err)
			}
			first := rec.note
			rec.add(60)
			r := run(t, config(t, rec, dir))
			r.signed(760)
			if _, err := audit(t, rec, dir, first); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRebuildRefuses: a record that was changed or cut back does not give the log of the checkpoint; the old folder stays.
func TestRebuildRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*testRecord)
		since  bool
		want   error
	}{
		"an event changed":                 {func(r *testRecord) { r.other = map[uint64]Event{5: changed(5)} }, false, ErrRebuilt},
		"an event changed, no checkpoint":  {func(r *testRecord) { r.other, r.note = map[uint64]Event{5: changed(5)}, nil }, true, ErrRebuilt},
		"cut back":                         {func(r *testRecord) { r.size = 699 }, false, ErrRecordBehind},
		"cut back, without its checkpoint": {func(r *testRecord) { r.size, r.note = 300, nil }, true, ErrRecordBehind},
		"lost, and the folder is gone": {func(r *testRecord) {
			r.other = map[uint64]Event{699: {Index: 699, Kind: logbook.Lost, At: time.Unix(1, 0)}}
		}, false, ErrRebuilt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec, dir := lay(t, 700)
			if name == "lost, and the folder is gone" {
				_ = os.RemoveAll(dir)
			}
			var since [][]byte
			if c.since {
				since = append(since, rec.note)
			}
			c.change(rec)
			before := listing(t, filepath.Dir(dir))
			if _, _, err := rebuild(t, rec, dir, since...); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if listing(t, filepath.Dir(dir)) != before {
				t.Error("something was changed")
			}
		})
	}
}

// TestRebuildKeepsTheLost: entries that the record has lost are taken from the old folder.
func TestRebuildKeepsTheLost(t *testing.T) {
	t.Parallel()
	rec, dir := lay(t, 700)
	rec.other = map[uint64]Event{}
	for i := uint64(600); i < 700; i++ {
		rec.other[i] = Event{Index: i, Kind: logbook.Lost, At: time.Unix(1, 0)}
	}
	if size, _, err := rebuild(t, rec, dir, rec.note); err != nil || size != 700 {
		t.Fatal(err)
	}
	if _, err := logbook.Check(context.Background(), logbook.Folder(dir), logbook.AuditConfig{Policy: policy(t)}); err != nil {
		t.Error(err)
	}
}

func TestProve(t *testing.T) {
	ctx := context.Background()
	rec, dir := lay(t, 700)
	c := ProveConfig{Files: logbook.Folder(dir), Policy: policy(t), Record: rec, Same: func(id string) bool { return id == "vin-0000123" || id == "vin-0000699" }}
	list, err := Prove(ctx, c)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, o := range list {
		if d, cp, err := o.Check(policy(t)); err != nil || cp.Size != 700 || d.Index != 123 && d.Index != 699 {
			t.Errorf("%+v, %v", d, err)
		}
	}
	rec.other = map[uint64]Event{123: changed(123)}
	e := rec.other[123]
	e.DeviceID = "vin-0000123"
	rec.other[123] = e
	if _, err := Prove(ctx, c); !errors.Is(err, ErrFolder) {
		t.Errorf("a changed record is proven: %v", err)
	}
}

func TestArchive(t *testing.T) {
	rec, dir := lay(t, 700)
	to := filepath.Join(t.TempDir(), "archive")
	a, err := logbook.Copy(context.Background(), logbook.Folder(dir), policy(t), to)
	if err != nil || a.Checkpoint.Size != 700 {
		t.Fatal(err)
	}
	if _, err := audit(t, rec, to, rec.note); err != nil {
		t.Error(err)
	}
	if key, err := logbook.ReadVerifier(to); err != nil || key != policy(t).Key() {
		t.Errorf("%q, %v", key, err)
	}
	change(t, filepath.Join(dir, "tile/entries/001"), flip(77))
	for _, at := range []string{to, filepath.Join(t.TempDir(), "another")} {
		before := listing(t, at)
		if _, err := logbook.Copy(context.Background(), logbook.Folder(dir), policy(t), at); err == nil || listing(t, at) != before {
			t.Errorf("%s: %v", at, err)
		}
	}
}
