package recordtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// tally counts what happens in goroutines.
type tally struct {
	mu    sync.Mutex
	group sync.WaitGroup
	n     map[string]int
}

func (c *tally) Go(f func()) { c.group.Go(f) }

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

func (c *tally) wait() string {
	c.group.Wait()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		out = append(out, fmt.Sprint(what, " ", c.n[what]))
	}
	return strings.Join(out, ", ")
}

func revoke(serial []byte, reason int, at time.Time) record.Revocation {
	return record.Revocation{Issuer: Issuer, Serial: serial, Reason: reason, At: at, Who: "operator olga"}
}

func revocation(t *testing.T, s *bench) {
	ctx := t.Context()
	d := Issue(t, s, Intent("d", "kd"), "one")
	if n, err := s.RevokedUpTo(ctx, Issuer); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	for i, reason := range []int{1, 4} {
		on, changed, err := s.Revoke(ctx, revoke(d.Serial, reason, At.Add(time.Duration(i)*time.Hour)))
		if err != nil || changed != (i == 0) || on.Reason != 1 || !on.At.Equal(At) || on.Sequence != 2 || on.Who != "operator olga" {
			t.Fatal(on, changed, err)
		}
	}
	s.reopen()
	if r, err := s.ByDevice(ctx, "d"); err != nil || !r.RevokedAt.Equal(At) || r.Reason != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if on, err := s.Revoked(ctx, Issuer, d.Serial); err != nil || on.Reason != 1 {
		t.Errorf("%+v, %v", on, err)
	}
	if _, err := s.Revoked(ctx, [32]byte{1}, d.Serial); !errors.Is(err, record.ErrNotFound) {
		t.Error(err)
	}
	if n, err := s.RevokedUpTo(ctx, Issuer); err != nil || n != 2 {
		t.Error(n, err)
	}
	if n, err := s.RevokedUpTo(ctx, [32]byte{1}); err != nil || n != 0 {
		t.Error(n, err)
	}
}

// unknownSerial: after a restore somebody holds a certificate that the store knows nothing of.
func unknownSerial(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	in := Intent("a", "ka")
	var tally tally
	for i := range 8 {
		tally.Go(func() {
			_, changed, err := two[i%2].Revoke(ctx, revoke(in.Serial, i, At))
			if err != nil {
				t.Error(err)
			}
			tally.add(fmt.Sprint("changed ", changed))
		})
	}
	if got := tally.wait(); got != "changed false 7, changed true 1" {
		t.Error(got)
	}
	// The certificate is taken in afterwards, and is revoked.
	r, _, err := s.TakeIn(ctx, in, []byte("der"), "operator olga")
	if err != nil || r.RevokedAt.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	if events, err := s.Events(ctx, 0, 10); err != nil || len(events) != 2 || events[0].Kind != record.Revoke || !bytes.Equal(events[0].Serial, in.Serial) || events[0].Issuer != Issuer {
		t.Errorf("%+v, %v", events, err)
	}
}

// Revoked is how many revocations a list made now has.
func Revoked(t testing.TB, turn record.ListTurn) int {
	t.Helper()
	all, earlier, err := turn.Revoked(context.Background(), 0)
	if err != nil || earlier != 0 {
		t.Error(earlier, err)
	}
	return len(all)
}

// list makes a list of what is revoked.
func list(t testing.TB, turn record.ListTurn, number int64) *record.CRL {
	return &record.CRL{Number: number, DER: fmt.Appendf(nil, "list %d of %d", number, Revoked(t, turn)), ThisUpdate: At, NextUpdate: At.Add(time.Hour), UpTo: turn.UpTo}
}

func lists(t *testing.T, s *bench) {
	ctx := t.Context()
	if _, err := s.LatestCRL(ctx, Issuer); !errors.Is(err, record.ErrNotFound) {
		t.Fatal(err)
	}
	var last int64
	for round := range record.KeepCRLs + 3 {
		serial := []byte{1, byte(round)}
		if _, _, err := s.Revoke(ctx, revoke(serial, 1, At)); err != nil {
			t.Fatal(err)
		}
		lost := errors.New("lost")
		if _, err := s.NextCRL(ctx, Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
			n, err := turn.Number(ctx, 0)
			if err != nil || n <= last {
				t.Fatalf("number %d after %d: %v", n, last, err)
			}
			last = n
			return nil, lost // its number is not used again
		}); !errors.Is(err, lost) {
			t.Fatal(err)
		}
		if none, err := s.NextCRL(ctx, Issuer, func(context.Context, record.ListTurn) (*record.CRL, error) { return nil, nil }); none != nil || err != nil {
			t.Fatal(none, err)
		}
		got, err := s.NextCRL(ctx, Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
			if Revoked(t, turn) != round+1 || (round > 0) != (turn.Last != nil) || turn.UpTo != int64(round)+1 {
				t.Fatalf("round %d: %+v", round, turn)
			}
			// Those since the last list, and how many there were before.
			after := int64(0)
			if turn.Last != nil {
				after = turn.Last.UpTo
			}
			above, earlier, err := turn.Revoked(ctx, after)
			if err != nil || earlier != int64(round) || len(above) != 1 || !bytes.Equal(above[0].Serial, serial) || above[0].Sequence != turn.UpTo || above[0].Reason != 1 || !above[0].At.Equal(At) {
				t.Errorf("round %d: %d earlier, %+v, %v", round, earlier, above, err)
			}
			n, err := turn.Number(ctx, last+7)
			return list(t, turn, n), err
		})
		if err != nil || got.Number != last+8 {
			t.Fatal(got, err)
		}
		last = got.Number
		if n, err := s.LatestCRLNumber(ctx, Issuer); err != nil || n != last {
			t.Fatal(n, err)
		}
		latest, err := s.LatestCRL(ctx, Issuer)
		if err != nil || latest.Number != last || !bytes.Equal(latest.DER, got.DER) || !latest.NextUpdate.Equal(got.NextUpdate) || latest.UpTo != got.UpTo {
			t.Fatal(latest, err)
		}
		if round%3 == 0 {
			s.reopen()
		}
	}
	if n, err := s.Counts(ctx); err != nil || n["crl"] != record.KeepCRLs {
		t.Errorf("%d lists are kept, %v", n["crl"], err)
	}
	// Another issuer has lists of its own.
	other := [32]byte{3}
	if _, err := s.NextCRL(ctx, other, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		n, err := turn.Number(ctx, 0)
		if Revoked(t, turn) != 0 || n != 1 {
			t.Errorf("%+v, number %d", turn, n)
		}
		return list(t, turn, n), err
	}); err != nil {
		t.Error(err)
	}
	if n, err := s.LatestCRLNumber(ctx, Issuer); err != nil || n != last {
		t.Error(n, err)
	}
}

// racingLists: no list lacks a revocation that an earlier one has, however many servers sign.
func racingLists(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	var tally tally
	var mu sync.Mutex
	sizes := map[int64]int{}
	for w := range 8 {
		tally.Go(func() {
			for i := range 6 {
				if _, _, err := two[w%2].Revoke(ctx, revoke([]byte{byte(w + 1), byte(i)}, 1, At)); err != nil {
					t.Error(err)
				}
				got, err := two[w%2].NextCRL(ctx, Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
					n, err := turn.Number(ctx, 0)
					l := list(t, turn, n)
					mu.Lock()
					defer mu.Unlock()
					sizes[n] = Revoked(t, turn)
					return l, err
				})
				if err != nil {
					t.Error(err)
					continue
				}
				tally.add("signed")
				_ = got
			}
		})
	}
	if got := tally.wait(); got != "signed 48" {
		t.Error(got)
	}
	before := 0
	for _, n := range slices.Sorted(maps.Keys(sizes)) {
		if sizes[n] < before {
			t.Errorf("list %d has %d entries, an earlier one %d", n, sizes[n], before)
		}
		before = sizes[n]
	}
	if before != 48 {
		t.Errorf("the last list has %d of 48", before)
	}
	// A lock that was lost on the way: somebody else numbers a list between our number and our list. Done through the inner
	// turn, for the lock itself keeps others out.
	_, err := s.NextCRL(ctx, Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		n, err := turn.Number(ctx, 0)
		if err != nil {
			return nil, err
		}
		if _, err := turn.Number(ctx, 0); err != nil {
			return nil, err
		}
		return list(t, turn, n), nil
	})
	if !errors.Is(err, record.ErrOvertaken) {
		t.Errorf("a list with a number that is not the last one taken: %v", err)
	}
}

func journal(t *testing.T, s *bench) {
	ctx := t.Context()
	r := Issue(t, s, Intent("Dev-A", "ka"), "der")
	if _, _, err := s.Revoke(ctx, revoke(r.Serial, 1, At)); err != nil {
		t.Fatal(err)
	}
	n, err := s.Append(ctx, record.Event{Kind: record.OtherKey, At: At, Who: "station line-2", DeviceID: "dev-a", CertificateID: r.ID, Note: "key 00ff"})
	if err != nil || n != 3 {
		t.Fatal(n, err)
	}
	if n, err = s.Append(ctx, record.Event{Kind: record.Lost, At: At, Who: "hanaperd", Issuer: [32]byte{9}, Serial: []byte{1, 2}}); err != nil || n != 4 {
		t.Fatal(n, err)
	}
	s.reopen()
	got, err := s.Events(ctx, 0, 3)
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if e := got[0]; e.Kind != record.Issue || e.Who != "station line-1" || e.DeviceID != "Dev-A" || e.CertificateID != r.ID || e.Issuer != Issuer || !bytes.Equal(e.Serial, r.Serial) ||
		e.SPKIDigest != r.SPKIDigest || string(e.Certificate) != "der" || !e.At.Equal(At) || e.Sequence != 1 {
		t.Errorf("issue: %+v", e)
	}
	if e := got[1]; e.Kind != record.Revoke || e.Reason != 1 || e.Who != "operator olga" || !bytes.Equal(e.Serial, r.Serial) || e.DeviceID != "Dev-A" {
		t.Errorf("revocation: %+v", e)
	}
	if e := got[2]; e.Kind != record.OtherKey || e.DeviceID != "dev-a" || e.Note != "key 00ff" {
		t.Errorf("other key: %+v", e)
	}
	rest, err := s.Events(ctx, 3, 10)
	if err != nil || len(rest) != 1 || rest[0].Issuer != [32]byte{9} || !bytes.Equal(rest[0].Serial, []byte{1, 2}) || rest[0].CertificateID != 0 {
		t.Errorf("%+v, %v", rest, err)
	}
	if none, err := s.Events(ctx, 4, 10); err != nil || len(none) != 0 {
		t.Error(none, err)
	}
}

func marks(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	if v, err := s.Mark(ctx, "log"); err != nil || v != nil {
		t.Fatal(v, err)
	}
	for _, c := range []struct {
		old, value string
		want       bool
	}{{"", "1", true}, {"", "2", false}, {"2", "3", false}, {"1", "3", true}, {"3", "", true}, {"", "4", true}} {
		var old, value []byte
		if c.old != "" {
			old = []byte(c.old)
		}
		if c.value != "" {
			value = []byte(c.value)
		}
		if ok, err := s.SwapMark(ctx, "log", old, value); err != nil || ok != c.want {
			t.Errorf("%+v: %v, %v", c, ok, err)
		}
	}
	var tally tally
	for i := range 8 {
		tally.Go(func() {
			ok, err := two[i%2].SwapMark(ctx, "salt", nil, []byte{byte(i)})
			if err != nil {
				t.Error(err)
			}
			tally.add(fmt.Sprint(ok))
		})
	}
	if got := tally.wait(); got != "false 7, true 1" {
		t.Error(got)
	}
	s.reopen()
	if v, err := s.Mark(ctx, "log"); err != nil || string(v) != "4" {
		t.Error(v, err)
	}
}

func leads(t *testing.T, s *bench) {
	ctx, two := t.Context(), s.servers()
	leading, release, err := two[0].Lead(ctx, "feeder")
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, _, err := two[1].Lead(short, "feeder"); err == nil {
		t.Fatal("two lead")
	}
	if _, other, err := two[1].Lead(ctx, "another name"); err != nil {
		t.Fatal(err)
	} else {
		other()
	}
	got := make(chan error, 1)
	go func() {
		_, free, err := two[1].Lead(ctx, "feeder")
		if err == nil {
			free()
		}
		got <- err
	}()
	if leading.Err() != nil {
		t.Error("led no more")
	}
	release()
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody leads after the leader gave up")
	}
	if leading.Err() == nil {
		t.Error("still led after it was given up")
	}
}
