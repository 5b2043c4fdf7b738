// Package registrytest is the suite that every gateway.Registry must pass.
package registrytest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// Opener opens the same registry anew each time it is called; the caller closes what it got.
type Opener func(t *testing.T) gateway.Registry

// Run runs the suite; fresh makes an Opener of an empty registry.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for name, test := range map[string]func(*testing.T, Opener){
		"first contact":        firstContact,
		"racing first contact": racingFirstContact,
		"renewal":              renewal,
		"test benches":         benches,
		"one key":              oneKey,
		"without case":         withoutCase,
		"tombstones":           tombstones,
		"other processes":      otherProcesses,
		"last seen":            lastSeen,
		"pages":                pages,
		"closed":               closed,
		"environments":         environments,
		"generations":          generations,
		"states":               allStates,
		"registered only":      registeredOnly,
		"import":               imports,
		"log":                  logged,
		"filters":              filters,
		"key change elsewhere": rekeyedElsewhere,
		"thousand at once":     thousandAtOnce,
		"counts":               counted,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

const env = "test"

var start = time.Now().UTC().Truncate(time.Second)

func meeting(device, certificate, key string, at time.Duration) gateway.Meeting {
	return gateway.Meeting{Environment: env, Device: device, Certificate: sha256.Sum256([]byte(certificate)), Key: sha256.Sum256([]byte(key)),
		Serial: "1f", Issuer: "CN=Factory", NotBefore: start.Add(at), NotAfter: start.Add(24 * time.Hour), At: start.Add(at)}
}

func do(r gateway.Registry, verb gateway.Verb, device, why string) error {
	return r.Do(context.Background(), gateway.Act{Verb: verb, Environment: env, Device: device, By: gateway.By{Who: "olga", Why: why, At: start}})
}

func barred(r gateway.Registry, device string) bool {
	return r.Standing(env, device, [32]byte{}) != nil
}

func open(t *testing.T, o Opener) gateway.Registry {
	t.Helper()
	r := o(t)
	t.Cleanup(func() { r.Close() })
	return r
}

func meet(t *testing.T, r gateway.Registry, m gateway.Meeting) gateway.Met {
	t.Helper()
	met, err := r.Meet(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return met
}

func device(t *testing.T, r gateway.Registry, name string) gateway.Device {
	t.Helper()
	d, err := r.Device(context.Background(), env, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func firstContact(t *testing.T, o Opener) {
	r := open(t, o)
	if _, err := r.Device(context.Background(), env, "a"); !errors.Is(err, gateway.ErrNoDevice) {
		t.Errorf("an unknown device: %v", err)
	}
	if met := meet(t, r, meeting("a", "c1", "k1", 0)); met != (gateway.Met{New: true}) {
		t.Errorf("first: %+v", met)
	}
	if met := meet(t, r, meeting("a", "c1", "k1", time.Second)); met != (gateway.Met{}) {
		t.Errorf("second: %+v", met)
	}
	r.Close()
	d := device(t, open(t, o), "a")
	if d.State != gateway.Active || !d.FirstSeen.Equal(start) || d.LiveKeys != 1 || len(d.Certificates) != 1 || len(d.Flags) != 0 {
		t.Errorf("after a restart: %+v", d)
	}
	c := d.Certificates[0]
	if c.Serial != "1f" || c.Issuer != "CN=Factory" || !c.NotAfter.Equal(start.Add(24*time.Hour)) || c.Certificate != fmt.Sprintf("%x", sha256.Sum256([]byte("c1"))) {
		t.Errorf("%+v", c)
	}
}

func racingFirstContact(t *testing.T, o Opener) {
	a, b := open(t, o), open(t, o)
	var news [4]int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			r := a
			if i%2 == 1 {
				r = b
			}
			name := i % 4
			met, err := r.Meet(context.Background(), meeting(fmt.Sprint("d", name), fmt.Sprint("c", name), "k", 0))
			if err != nil {
				t.Error(err)
			}
			if met.New {
				mu.Lock()
				news[name]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if news != [4]int{1, 1, 1, 1} {
		t.Errorf("devices were new %v times, want once each", news)
	}
	list, err := a.Devices(context.Background(), gateway.Filter{Limit: 100})
	if err != nil || len(list) != 4 {
		t.Errorf("%d records, want 4 (%v)", len(list), err)
	}
}

func renewal(t *testing.T, o Opener) {
	r := open(t, o)
	meet(t, r, meeting("a", "c1", "k1", 0))
	if met := meet(t, r, meeting("a", "c2", "k1", time.Second)); met != (gateway.Met{Renewed: true}) {
		t.Errorf("same key: %+v", met)
	}
	// The old certificate again, for it is valid and of the same key: neither new nor a clone's.
	if met := meet(t, r, meeting("a", "c1", "k1", 2*time.Second)); met != (gateway.Met{}) {
		t.Errorf("the old certificate: %+v", met)
	}
	if d := device(t, r, "a"); len(d.Certificates) != 2 || d.LiveKeys != 1 || len(d.Flags) != 0 {
		t.Errorf("%+v", d)
	}
}

// oneKey: a device has one key; a later certificate's takes its place, and no key comes back.
func oneKey(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	refused := func(m gateway.Meeting, want error) {
		t.Helper()
		if _, err := r.Meet(ctx, m); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	meet(t, r, meeting("a", "c1", "k1", 10*time.Second))
	// At the same moment, and before: a second key for an id.
	refused(meeting("a", "c2", "k2", 10*time.Second), gateway.ErrOtherKey)
	refused(meeting("A", "c3", "k3", time.Second), gateway.ErrOtherKey)
	if d := device(t, r, "a"); !slices.Equal(d.Flags, []string{"other-key-refused"}) || len(d.Certificates) != 1 {
		t.Errorf("%+v", d)
	}
	if met := meet(t, r, meeting("a", "c1", "k1", 10*time.Second)); met != (gateway.Met{}) {
		t.Errorf("its own key: %+v", met)
	}
	// A reissue; then the old key, and the old key in a newer certificate.
	if met := meet(t, r, meeting("a", "c4", "k4", 20*time.Second)); met != (gateway.Met{Renewed: true, Rekeyed: true}) {
		t.Errorf("a reissue: %+v", met)
	}
	refused(meeting("a", "c1", "k1", 10*time.Second), gateway.ErrOldKey)
	refused(meeting("a", "c5", "k1", 30*time.Second), gateway.ErrOldKey)
	meet(t, r, meeting("a", "c4", "k4", 20*time.Second))
	r.Close()
	r = open(t, o)
	refused(meeting("a", "c1", "k1", 10*time.Second), gateway.ErrOldKey)
	if d := device(t, r, "A"); d.Name != "a" || !slices.Equal(d.Flags, []string{"old-key-returned", "other-key-refused"}) {
		t.Errorf("%+v", d)
	}
	// An operator allows it: once, and the other way round no more.
	if err := do(r, gateway.AllowRekey, "none", ""); !errors.Is(err, gateway.ErrNoDevice) {
		t.Error(err)
	}
	if err := do(r, gateway.AllowRekey, "A", ""); err != nil || !device(t, r, "a").RekeyAllowed {
		t.Error(err)
	}
	if met := meet(t, r, meeting("a", "c1", "k1", 10*time.Second)); !met.Rekeyed {
		t.Errorf("allowed: %+v", met)
	}
	refused(meeting("a", "c4", "k4", 20*time.Second), gateway.ErrOldKey)
	refused(meeting("a", "c6", "k6", 20*time.Second), gateway.ErrOtherKey)
	// The same key renewed carries the bound on.
	meet(t, r, meeting("a", "c7", "k1", 40*time.Second))
	refused(meeting("a", "c8", "k8", 30*time.Second), gateway.ErrOtherKey)
}

// withoutCase: two spellings of an id are one device, barred together.
func withoutCase(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	meet(t, r, meeting("Vin-1", "c1", "k1", 0))
	if met := meet(t, r, meeting("vin-1", "c2", "k1", time.Second)); met != (gateway.Met{Renewed: true}) {
		t.Errorf("%+v", met)
	}
	if err := do(r, gateway.Block, "VIN-1", ""); err != nil || !barred(r, "vin-1") || !barred(r, "Vin-1") {
		t.Error(err)
	}
	if _, err := r.Meet(ctx, meeting("vin-1", "c2", "k1", time.Second)); !errors.Is(err, gateway.ErrBlocked) {
		t.Error(err)
	}
	if list, err := r.Devices(ctx, gateway.Filter{Limit: 10}); err != nil || len(list) != 1 || list[0].Name != "Vin-1" {
		t.Errorf("%+v %v", list, err)
	}
}

func tombstones(t *testing.T, o Opener) {
	ctx, r := context.Background(), open(t, o)
	meet(t, r, meeting("a", "c1", "k1", 0))
	if err := do(r, gateway.Block, "a", "stolen"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Changed():
	case <-time.After(5 * time.Second):
		t.Error("the deletion was not told")
	}
	if _, err := r.Meet(ctx, meeting("a", "c2", "k2", 0)); !errors.Is(err, gateway.ErrBlocked) || !barred(r, "a") {
		t.Errorf("a deleted device: %v", err)
	}
	if d := device(t, r, "a"); d.State != gateway.Blocked || d.Why != "stolen" || len(d.Certificates) != 1 {
		t.Errorf("the refused meeting was recorded: %+v", d)
	}
	if err := do(r, gateway.Block, "a", ""); !errors.Is(err, gateway.ErrState) {
		t.Errorf("deleted twice: %v", err)
	}
	// Before it was ever met.
	if err := do(r, gateway.Block, "never-met", ""); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = open(t, o)
	for _, name := range []string{"a", "never-met"} {
		if _, err := r.Meet(ctx, meeting(name, "c1", "k1", 0)); !errors.Is(err, gateway.ErrBlocked) {
			t.Errorf("%s after a restart: %v", name, err)
		}
	}
	if err := do(r, gateway.Forget, "a", ""); err != nil {
		t.Fatal(err)
	}
	if err := do(r, gateway.Forget, "a", ""); !errors.Is(err, gateway.ErrNoDevice) {
		t.Errorf("released twice: %v", err)
	}
	if met := meet(t, r, meeting("a", "c1", "k1", 0)); !met.New || barred(r, "a") {
		t.Errorf("after its release: %+v", met)
	}
}

// otherProcesses: an operator's deletion reaches a gateway that has the device in memory.
func otherProcesses(t *testing.T, o Opener) {
	ctx, serving, operator := context.Background(), open(t, o), open(t, o)
	meet(t, serving, meeting("a", "c1", "k1", 0))
	if err := do(operator, gateway.Block, "a", ""); err != nil {
		t.Fatal(err)
	}
	select {
	case <-serving.Changed():
	case <-time.After(5 * time.Second):
		t.Fatal("the deletion was not noticed")
	}
	if _, err := serving.Meet(ctx, meeting("a", "c1", "k1", 0)); !barred(serving, "a") || !errors.Is(err, gateway.ErrBlocked) {
		t.Errorf("a deleted device: %v", err)
	}
	if err := do(operator, gateway.Forget, "a", ""); err != nil {
		t.Fatal(err)
	}
	<-serving.Changed()
	if met := meet(t, serving, meeting("a", "c1", "k1", 0)); !met.New {
		t.Errorf("after its release: %+v", met)
	}
	// One that is forgotten while its connection is open is met anew, on another: by the key that it had, or by another one.
	old, other := meeting("b", "c1", "k1", 0), meeting("b", "c2", "k2", 0)
	for _, next := range []gateway.Meeting{old, other} {
		meet(t, serving, old)
		if err := do(operator, gateway.Forget, "b", ""); err != nil {
			t.Fatal(err)
		}
		<-serving.Changed()
		if err := serving.Standing(env, "b", old.Key); !errors.Is(err, gateway.ErrOldKey) || serving.Standing(env, "b", [32]byte{}) != nil {
			t.Errorf("a connection from before it was forgotten: %v", err)
		}
		if met := meet(t, serving, next); !met.New || serving.Standing(env, "b", next.Key) != nil {
			t.Errorf("a forgotten device: %+v, %v", met, serving.Standing(env, "b", next.Key))
		}
	}
	if err := serving.Standing(env, "b", old.Key); !errors.Is(err, gateway.ErrOldKey) {
		t.Errorf("a forgotten key's connection goes on beside another key's: %v", err)
	}
}

func lastSeen(t *testing.T, o Opener) {
	r := open(t, o)
	meet(t, r, meeting("a", "c1", "k1", 0))
	r.Seen(env, "a", start.Add(time.Hour))
	r.Seen(env, "unknown", start)
	r.Close()
	r = open(t, o)
	d := device(t, r, "a")
	if !d.LastSeen.Equal(start.Add(time.Hour)) || !d.Certificates[0].LastSeen.Equal(start.Add(time.Hour)) || !d.FirstSeen.Equal(start) {
		t.Errorf("%+v", d)
	}
	if _, err := r.Device(context.Background(), env, "unknown"); !errors.Is(err, gateway.ErrNoDevice) {
		t.Errorf("Seen made a device: %v", err)
	}
}

func pages(t *testing.T, o Opener) {
	r := open(t, o)
	for _, name := range []string{"c", "a", "b"} {
		meet(t, r, meeting(name, name, name, 0))
	}
	after, got := "", ""
	for {
		list, err := r.Devices(context.Background(), gateway.Filter{AfterEnvironment: env, After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, d := range list {
			got += d.Name
			after = d.Name
		}
	}
	if got != "abc" {
		t.Errorf("listed %q", got)
	}
}

func closed(t *testing.T, o Opener) {
	r := open(t, o)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Meet(context.Background(), meeting("a", "c", "k", 0)); err == nil {
		t.Error("met after Close")
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}
