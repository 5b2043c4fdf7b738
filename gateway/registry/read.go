package registry

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// Devices implements gateway.Records.
func (r *Registry) Devices(ctx context.Context, f gateway.Filter) ([]gateway.Device, error) {
	rows, err := r.store.Devices(ctx, f)
	if err != nil {
		return nil, err
	}
	list := make([]gateway.Device, len(rows))
	for i, row := range rows {
		list[i] = row.device(time.Now())
	}
	return list, nil
}

// Device implements gateway.Records.
func (r *Registry) Device(ctx context.Context, environment, name string) (gateway.Device, error) {
	key := KeyOf(environment, name)
	rows, err := r.store.Look(ctx, []Key{key})
	if err != nil {
		return gateway.Device{}, err
	}
	row := rows[key]
	if row == nil {
		return gateway.Device{}, fmt.Errorf("%q: %w", name, gateway.ErrNoDevice)
	}
	return row.device(time.Now()), nil
}

// Log implements gateway.Records.
func (r *Registry) Log(ctx context.Context, f gateway.LogFilter) ([]gateway.LogEntry, error) {
	return r.store.Log(ctx, f)
}

// Counts implements gateway.Records.
func (r *Registry) Counts(ctx context.Context) ([]gateway.Count, error) {
	tallies, err := r.store.Tallies(ctx)
	if err != nil {
		return nil, err
	}
	flagged, err := r.store.Flagged(ctx)
	if err != nil {
		return nil, err
	}
	var list []gateway.Count
	environments := map[string]bool{}
	for t := range tallies {
		environments[t.Environment] = true
	}
	for env := range environments {
		for s, name := range states {
			list = append(list, gateway.Count{Environment: env, State: name, N: tallies[Tally{env, State(s)}]})
		}
		for name, bit := range Flags {
			list = append(list, gateway.Count{Environment: env, Flag: name, N: flagged[env][bit]})
		}
	}
	slices.SortFunc(list, func(a, b gateway.Count) int {
		return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Flag, b.Flag), cmp.Compare(StateOf(a.State), StateOf(b.State)))
	})
	return list, nil
}

// device is a row as operators see it.
func (row *Row) device(now time.Time) gateway.Device {
	d := gateway.Device{Environment: row.Environment, Name: row.Name, State: states[row.State], Generation: row.Generation, FirstSeen: instant(row.FirstSeen),
		LastSeen: instant(row.LastSeen), Since: instant(row.Since), Why: row.Why, Notes: row.Notes, Key: hex.EncodeToString(row.KeySum), RekeyAllowed: row.Rekey}
	for _, name := range gateway.Flags() {
		if row.Flags&Flags[name] != 0 {
			d.Flags = append(d.Flags, name)
		}
	}
	live := map[string]bool{}
	for _, c := range row.Certificates {
		one := gateway.DeviceCertificate{Certificate: hex.EncodeToString(c.Sum), Key: hex.EncodeToString(c.KeySum), Generation: c.Generation, Serial: c.Serial, Issuer: c.Issuer,
			NotAfter: instant(c.NotAfter), FirstSeen: instant(c.FirstSeen), LastSeen: instant(c.LastSeen)}
		if now.Before(one.NotAfter) {
			live[one.Key] = true
		}
		d.Certificates = append(d.Certificates, one)
	}
	d.LiveKeys = len(live)
	return d
}

func instant(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}
