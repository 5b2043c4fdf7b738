package registrytest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// of is a meeting with a generation.
func of(generation int, m gateway.Meeting) gateway.Meeting {
	m.Generation = generation
	return m
}

// environments: the same id in two environments is two devices.
func environments(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	in := func(environment string, m gateway.Meeting) gateway.Meeting {
		m.Environment = environment
		return m
	}
	if met := meet(t, r, in("a", meeting("vin", "c1", "k1", 0))); !met.New {
		t.Errorf("%+v", met)
	}
	if met := meet(t, r, in("b", meeting("VIN", "c2", "k2", 0))); !met.New {
		t.Errorf("the same id elsewhere: %+v", met)
	}
	must(t, r.Do(ctx, gateway.Act{Verb: gateway.Block, Environment: "a", Device: "Vin", By: gateway.By{Who: "olga", At: start}}))
	if r.Standing("a", "vin", [32]byte{}) == nil || r.Standing("b", "vin", [32]byte{}) != nil {
		t.Error("the block went to the wrong one")
	}
	meet(t, r, in("b", meeting("vin", "c2", "k2", 0)))
	if d, err := r.Device(ctx, "b", "vin"); err != nil || d.Name != "VIN" || d.Environment != "b" || d.State != gateway.Active {
		t.Errorf("%+v, %v", d, err)
	}
	if list, err := r.Devices(ctx, gateway.Filter{Limit: 10}); err != nil || len(list) != 2 || list[0].Environment != "a" || list[1].Environment != "b" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := r.Devices(ctx, gateway.Filter{AfterEnvironment: "a", After: "vin", Limit: 10}); err != nil || len(list) != 1 || list[0].Environment != "b" {
		t.Errorf("%+v, %v", list, err)
	}
}

// generations: a higher one wins for good, whenever its certificate begins; an equal or lower one with another key stays out.
func generations(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	refused := func(m gateway.Meeting, want error) {
		t.Helper()
		if met, err := r.Meet(ctx, m); !errors.Is(err, want) {
			t.Errorf("%+v %v, want %v", met, err, want)
		}
	}
	// One of an earlier release; then the first that says which it is, although it begins earlier.
	meet(t, r, meeting("a", "c0", "k0", 10*time.Second))
	if met := meet(t, r, of(2, meeting("a", "c2", "k2", 0))); met != (gateway.Met{Renewed: true, Rekeyed: true}) {
		t.Errorf("%+v", met)
	}
	refused(meeting("a", "c0", "k0", 10*time.Second), gateway.ErrOldKey)
	// Without a generation none gets in any more, however late.
	refused(meeting("a", "c9", "k9", 100*time.Second), gateway.ErrOtherKey)
	refused(of(1, meeting("a", "c1", "k1", 100*time.Second)), gateway.ErrOtherKey)
	// Two of the same generation, as two factories with one id would make them.
	refused(of(2, meeting("a", "c3", "k3", 100*time.Second)), gateway.ErrOtherKey)
	// The same key in a certificate of an earlier or later generation is the same device.
	if met := meet(t, r, of(1, meeting("a", "c4", "k2", 0))); met != (gateway.Met{Renewed: true}) {
		t.Errorf("%+v", met)
	}
	if met := meet(t, r, of(5, meeting("a", "c5", "k2", 0))); met != (gateway.Met{Renewed: true}) {
		t.Errorf("%+v", met)
	}
	refused(of(4, meeting("a", "c6", "k6", 0)), gateway.ErrOtherKey)
	if d := device(t, r, "a"); d.Generation != 5 {
		t.Errorf("%+v", d)
	}
	// After a restart, too.
	r.Close()
	r = open(t, o)
	refused(of(5, meeting("a", "c6", "k6", time.Hour)), gateway.ErrOtherKey)
	if met := meet(t, r, of(6, meeting("a", "c7", "k7", 0))); !met.Rekeyed {
		t.Errorf("%+v", met)
	}
	refused(of(5, meeting("a", "c5", "k2", 0)), gateway.ErrOldKey)
	// An operator allows the old one; what lies between stays out, and a higher one wins again.
	must(t, do(r, gateway.AllowRekey, "a", ""))
	if met := meet(t, r, of(5, meeting("a", "c5", "k2", 0))); !met.Rekeyed {
		t.Errorf("%+v", met)
	}
	refused(of(6, meeting("a", "c8", "k8", 0)), gateway.ErrOtherKey)
	refused(of(6, meeting("a", "c7", "k7", 0)), gateway.ErrOldKey)
	if met := meet(t, r, of(7, meeting("a", "c10", "k10", 0))); !met.Rekeyed {
		t.Errorf("%+v", met)
	}
}

// allStates: which act leads where, and that what is refused changes nothing.
func allStates(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	acts := []gateway.Verb{gateway.Block, gateway.Unblock, gateway.Retire, gateway.Reinstate, gateway.Forget, gateway.AllowRekey, gateway.Note, gateway.Unflag}
	for _, c := range []struct {
		from string
		// to is where each act leads, in their order; "" means that it is refused, "gone" that the device is not known then.
		to []string
	}{
		{"unknown", []string{"blocked", "", "retired", "", "", "", "", ""}},
		{"pending", []string{"blocked", "", "retired", "", "pending", "pending", "pending", "pending"}},
		{"active", []string{"blocked", "", "retired", "", "gone", "active", "active", "active"}},
		{"blocked", []string{"", "active", "retired", "", "gone", "", "blocked", "blocked"}},
		{"retired", []string{"", "", "", "active", "", "", "retired", "retired"}},
		{"blocked unmet", []string{"", "gone", "retired", "", "gone", "", "blocked", "blocked"}},
		{"blocked pending", []string{"", "pending", "retired", "", "pending", "", "blocked", "blocked"}},
	} {
		for i, verb := range acts {
			name := strings.ReplaceAll(c.from, " ", "-") + "-" + string(verb)
			switch first, rest, _ := strings.Cut(c.from, " "); {
			case c.from == "pending" || rest == "pending":
				must(t, r.Import(ctx, []gateway.Registration{{Environment: env, Device: name}}, gateway.By{Who: "olga", At: start}))
			case first != "unknown" && rest != "unmet":
				meet(t, r, meeting(name, name, name, 0))
			}
			if strings.HasPrefix(c.from, "blocked") {
				must(t, do(r, gateway.Block, name, ""))
			} else if c.from == "retired" {
				must(t, do(r, gateway.Retire, name, ""))
			}
			before, _ := r.Device(ctx, env, name)
			log, err := r.Log(ctx, gateway.LogFilter{Newest: true, Limit: 1})
			must(t, err)
			err = r.Do(ctx, gateway.Act{Verb: verb, Environment: env, Device: strings.ToUpper(name), Text: "a note", By: gateway.By{Who: "olga", Why: "a test", At: start.Add(time.Minute)}})
			after, none := r.Device(ctx, env, name)
			now, e := r.Log(ctx, gateway.LogFilter{Newest: true, Limit: 1})
			must(t, e)
			switch want := c.to[i]; {
			case want == "":
				if !errors.Is(err, gateway.ErrState) && !errors.Is(err, gateway.ErrNoDevice) {
					t.Errorf("%s: %v", name, err)
				}
				if fmt.Sprint(before) != fmt.Sprint(after) || fmt.Sprint(log) != fmt.Sprint(now) {
					t.Errorf("%s: refused, and changed: %+v, %+v", name, after, now)
				}
				continue
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case want == "gone" && !errors.Is(none, gateway.ErrNoDevice):
				t.Errorf("%s: %+v %v", name, after, none)
			case want != "gone" && string(after.State) != want:
				t.Errorf("%s: %s, want %s", name, after.State, want)
			}
			if (r.Standing(env, name, [32]byte{}) != nil) != (c.to[i] == "blocked" || c.to[i] == "retired") {
				t.Errorf("%s: memory says %v", name, r.Standing(env, name, [32]byte{}))
			}
			if len(now) != 1 || now[0].Verb != verb || now[0].Who != "olga" || now[0].Why != "a test" || !strings.EqualFold(now[0].Device, name) {
				t.Errorf("%s: %+v", name, now)
			}
		}
	}
	// A device that is let in again has the key that it had.
	meet(t, r, meeting("back", "c1", "k1", 0))
	must(t, do(r, gateway.Block, "back", ""))
	must(t, do(r, gateway.Unblock, "back", ""))
	if _, err := r.Meet(ctx, meeting("back", "c2", "k2", 0)); !errors.Is(err, gateway.ErrOtherKey) {
		t.Error(err)
	}
	meet(t, r, meeting("back", "c1", "k1", 0))
	if d := device(t, r, "back"); !slices.Equal(d.Flags, []string{gateway.FlagOtherKey}) {
		t.Errorf("%+v", d)
	}
	must(t, do(r, gateway.Unflag, "back", ""))
	if d := device(t, r, "back"); len(d.Flags) != 0 {
		t.Errorf("%+v", d)
	}
}

// registeredOnly: who was not registered, or met before, stays out and leaves nothing.
func registeredOnly(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	only := func(m gateway.Meeting) gateway.Meeting {
		m.RegisteredOnly = true
		return m
	}
	meet(t, r, meeting("old", "c0", "k0", 0))
	must(t, r.Import(ctx, []gateway.Registration{
		{Environment: env, Device: "Any"}, {Environment: env, Device: "keyed", Key: sha256.Sum256([]byte("k2"))}, {Environment: env, Device: "third", Generation: 3}},
		gateway.By{Who: "olga", At: start}))
	for i := range 2 {
		if _, err := r.Meet(ctx, only(meeting("stranger", "c9", "k9", 0))); !errors.Is(err, gateway.ErrNotRegistered) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := r.Device(ctx, env, "stranger"); !errors.Is(err, gateway.ErrNoDevice) {
		t.Error(err)
	}
	meet(t, r, only(meeting("old", "c0", "k0", 0)))
	if met := meet(t, r, only(meeting("any", "c1", "k1", 0))); met != (gateway.Met{New: true}) {
		t.Errorf("%+v", met)
	}
	if d := device(t, r, "ANY"); d.State != gateway.Active || d.Name != "any" || d.FirstSeen.IsZero() {
		t.Errorf("%+v", d)
	}
	// The key that was registered is the only one, whatever the generation.
	if _, err := r.Meet(ctx, only(of(9, meeting("keyed", "c3", "k3", 0)))); !errors.Is(err, gateway.ErrOtherKey) {
		t.Error(err)
	}
	if d := device(t, r, "keyed"); d.State != gateway.Pending || !slices.Equal(d.Flags, []string{gateway.FlagOtherKey}) || len(d.Certificates) != 0 {
		t.Errorf("%+v", d)
	}
	if met := meet(t, r, only(meeting("keyed", "c2", "k2", 0))); !met.New {
		t.Errorf("%+v", met)
	}
	if _, err := r.Meet(ctx, only(of(2, meeting("third", "c4", "k4", 0)))); !errors.Is(err, gateway.ErrOldKey) {
		t.Error(err)
	}
	if met := meet(t, r, only(of(3, meeting("third", "c5", "k5", 0)))); !met.New {
		t.Errorf("%+v", met)
	}
	// Blocked before it was ever met or registered, and unblocked: that registers nobody.
	must(t, do(r, gateway.Block, "stranger", ""))
	must(t, do(r, gateway.Unblock, "stranger", ""))
	if _, err := r.Meet(ctx, only(meeting("stranger", "c9", "k9", 0))); !errors.Is(err, gateway.ErrNotRegistered) {
		t.Error(err)
	}
}

// imports: all or none.
func imports(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	meet(t, r, meeting("Known", "c", "k", 0))
	list := []gateway.Registration{{Environment: env, Device: "z-1"}, {Environment: env, Device: "KNOWN"}, {Environment: env, Device: "a-1"}}
	var known gateway.Duplicates
	if err := r.Import(ctx, list, gateway.By{Who: "olga", At: start}); !errors.As(err, &known) || !slices.Equal(known, gateway.Duplicates{"KNOWN"}) {
		t.Errorf("%v", err)
	}
	if all, err := r.Devices(ctx, gateway.Filter{Limit: 10}); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if log, err := r.Log(ctx, gateway.LogFilter{Limit: 10}); err != nil || len(log) != 0 {
		t.Errorf("%+v, %v", log, err)
	}
	many := []gateway.Registration{}
	for i := range 1200 {
		many = append(many, gateway.Registration{Environment: env, Device: fmt.Sprintf("n-%04d", i), Notes: "lot 7"})
	}
	must(t, r.Import(ctx, many, gateway.By{Who: "olga", Why: "delivery 12", At: start}))
	// The same list again, whose first part would be new if any were.
	if err := r.Import(ctx, append(list[:1:1], many...), gateway.By{Who: "olga", At: start}); !errors.As(err, &known) || len(known) != 20 {
		t.Errorf("%v", known)
	}
	if _, err := r.Device(ctx, env, "z-1"); !errors.Is(err, gateway.ErrNoDevice) {
		t.Errorf("half of a list came in: %v", err)
	}
	if d := device(t, r, "n-1199"); d.State != gateway.Pending || d.Notes != "lot 7" {
		t.Errorf("%+v", d)
	}
	if log, err := r.Log(ctx, gateway.LogFilter{Limit: 10}); err != nil || len(log) != 1 || log[0].Detail != "1200 devices" || log[0].Environment != env || log[0].Why != "delivery 12" {
		t.Errorf("%+v, %v", log, err)
	}
	if err := r.Import(ctx, nil, gateway.By{}); err == nil {
		t.Error("an empty list")
	}
}

// logged: who did what, when and why, in order and without a gap; and what the registry itself found.
func logged(t *testing.T, o Opener) {
	ctx, a, b := context.Background(), open(t, o), open(t, o)
	meet(t, a, of(1, meeting("Vin-1", "c1", "k1", 0)))
	_, _ = b.Meet(ctx, of(1, meeting("vin-1", "c2", "k2", 0)))
	_, _ = b.Meet(ctx, of(1, meeting("vin-1", "c2", "k2", 0))) // once
	meet(t, b, of(2, meeting("vin-1", "c3", "k3", time.Second)))
	must(t, do(a, gateway.Block, "vin-1", "stolen"))
	must(t, do(b, gateway.Block, "vin-2", "too"))
	log, err := a.Log(ctx, gateway.LogFilter{Limit: 10})
	must(t, err)
	var said []string
	for i, e := range log {
		if e.Number != int64(i+1) {
			t.Errorf("entry %d is number %d", i+1, e.Number)
		}
		said = append(said, fmt.Sprintf("%s %s %s", e.Verb, e.Device, e.Why))
	}
	if want := []string{"flagged vin-1 ", "rekeyed vin-1 ", "block Vin-1 stolen", "block vin-2 too"}; !slices.Equal(said, want) && !slices.Equal(said, []string{"flagged vin-1 ", "rekeyed vin-1 ", "block vin-1 stolen", "block vin-2 too"}) {
		t.Errorf("%q", said)
	}
	if log[0].Who == "" || log[2].Who != "olga" || !log[2].At.Equal(start) {
		t.Errorf("%+v", log)
	}
	if one, err := a.Log(ctx, gateway.LogFilter{Environment: env, Device: "VIN-1", Newest: true, Limit: 2}); err != nil || len(one) != 2 || one[0].Number != 3 || one[1].Number != 2 {
		t.Errorf("%+v, %v", one, err)
	}
	if more, err := a.Log(ctx, gateway.LogFilter{Newest: true, After: 3, Limit: 10}); err != nil || len(more) != 2 || more[0].Number != 2 {
		t.Errorf("%+v, %v", more, err)
	}
}

func filters(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	for i := range 30 {
		name := fmt.Sprintf("Vin-%02d", i)
		meet(t, r, meeting(name, name, name, 0))
		if i%3 == 0 {
			must(t, do(r, gateway.Block, name, ""))
		} else if i%3 == 1 {
			_, _ = r.Meet(ctx, meeting(name, "clone", "clone", 0))
		}
	}
	ask := func(f gateway.Filter) (names []string) {
		f.Limit = 4
		for {
			list, err := r.Devices(ctx, f)
			must(t, err)
			for _, d := range list {
				names = append(names, d.Name)
				f.AfterEnvironment, f.After = d.Environment, d.Name
			}
			if len(list) < f.Limit {
				return names
			}
		}
	}
	for _, c := range []struct {
		f    gateway.Filter
		n    int
		says string
	}{
		{gateway.Filter{}, 30, "Vin-00"}, {gateway.Filter{Environment: env}, 30, "Vin-00"}, {gateway.Filter{Environment: "none"}, 0, ""},
		{gateway.Filter{State: gateway.Blocked}, 10, "Vin-00"}, {gateway.Filter{State: gateway.Active}, 20, "Vin-01"}, {gateway.Filter{State: gateway.Retired}, 0, ""},
		{gateway.Filter{Flag: "any"}, 10, "Vin-01"}, {gateway.Filter{Flag: gateway.FlagOtherKey, Prefix: "vIN-2"}, 3, "Vin-22"}, {gateway.Filter{Flag: gateway.FlagOldKey}, 0, ""},
		{gateway.Filter{Prefix: "vin-1"}, 10, "Vin-10"}, {gateway.Filter{Prefix: "vin-1", State: gateway.Blocked}, 3, "Vin-12"}, {gateway.Filter{Prefix: "%"}, 0, ""},
	} {
		names := ask(c.f)
		if len(names) != c.n || c.n > 0 && names[0] != c.says || !slices.IsSorted(names) {
			t.Errorf("%+v: %v", c.f, names)
		}
	}
}

// rekeyedElsewhere: the old key's open connections end at the other gateways too, and it does not come in again there although they remember it.
func rekeyedElsewhere(t *testing.T, o Opener) {
	ctx, here, there := context.Background(), open(t, o), open(t, o)
	old, fresh := of(1, meeting("a", "c1", "k1", 0)), of(2, meeting("a", "c2", "k2", 0))
	meet(t, there, old)
	if met := meet(t, there, old); met != (gateway.Met{}) || there.Standing(env, "a", old.Key) != nil {
		t.Errorf("%+v", met)
	}
	meet(t, here, fresh)
	for end := time.Now().Add(5 * time.Second); !errors.Is(there.Standing(env, "A", old.Key), gateway.ErrOldKey); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the other gateway did not learn of it")
		}
	}
	if there.Standing(env, "a", fresh.Key) != nil || there.Standing(env, "a", [32]byte{}) != nil || there.Standing("other", "a", old.Key) != nil {
		t.Error("more than the old key is meant")
	}
	if _, err := there.Meet(ctx, old); !errors.Is(err, gateway.ErrOldKey) {
		t.Error(err)
	}
	meet(t, there, fresh)
}

// thousandAtOnce: new devices on eight connections each, at two gateways, all at once: a row each.
func thousandAtOnce(t *testing.T, o Opener) {
	a, b := open(t, o), open(t, o)
	const devices, connections = 1000, 8
	var fresh [devices]int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range devices * connections {
		all.Go(func() {
			r, name := a, fmt.Sprint("d", i%devices)
			if i/devices%2 == 1 {
				r = b
			}
			met, err := r.Meet(context.Background(), meeting(name, name, name, 0))
			if err != nil {
				t.Error(err)
			}
			if met.New {
				mu.Lock()
				fresh[i%devices]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for i, n := range fresh {
		if n != 1 {
			t.Errorf("d%d was new %d times", i, n)
		}
	}
	list, err := a.Devices(context.Background(), gateway.Filter{Limit: 2 * devices})
	if err != nil || len(list) != devices {
		t.Errorf("%d rows, want %d (%v)", len(list), devices, err)
	}
	for _, d := range list[:10] {
		if len(device(t, a, d.Name).Certificates) != 1 {
			t.Errorf("%+v", d)
		}
	}
}

func counted(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	must(t, r.Import(ctx, []gateway.Registration{{Environment: env, Device: "p1"}, {Environment: env, Device: "p2"}}, gateway.By{At: start}))
	for _, n := range []string{"a1", "a2", "a3", "b1", "x1", "p2", "g1"} {
		meet(t, r, meeting(n, n, n, 0))
	}
	must(t, do(r, gateway.Block, "b1", ""))
	must(t, do(r, gateway.Retire, "x1", ""))
	must(t, do(r, gateway.Forget, "g1", ""))
	_, _ = r.Meet(ctx, meeting("a1", "other", "other", 0))
	counts, err := r.Counts(ctx)
	must(t, err)
	want := map[string]int64{"pending": 1, "active": 4, "blocked": 1, "retired": 1, gateway.FlagOtherKey: 1, gateway.FlagOldKey: 0, gateway.FlagTestBench: 0}
	for _, c := range counts {
		if n, ok := want[string(c.State)+c.Flag]; !ok || n != c.N || c.Environment != env {
			t.Errorf("%+v, want %d", c, n)
		}
	}
	if len(counts) != len(want) {
		t.Errorf("%+v", counts)
	}
	if f := r.Figures(); f.Meets["new"] != 7 || f.Meets["refused"] != 1 || f.LastAct != 5 || f.Blind > time.Minute {
		t.Errorf("%+v", f)
	}
}
