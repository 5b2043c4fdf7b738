package console

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/factory"
)

// allActs are the acts in the order of the page that lists them.
func (k *Console) allActs() []*act {
	return []*act{k.open(), k.close(), k.reissue(), k.swap(), k.scrap(), k.revoke(), k.revokeStation()}
}

// actOf finds an act by name.
func (k *Console) actOf(name string) *act {
	for _, a := range k.acts {
		if a.Name == name {
			return a
		}
	}
	return nil
}

const stampForm = "2006-01-02 15:04:05 UTC"

var theDevice = field{Name: "device_id", Label: "Device id", Hint: "as it stands in the certificate", Must: true}

// onList says where revocations are to be found.
func onList(number int64) row {
	if number != 0 {
		return row{"On revocation list", fmt.Sprint(number)}
	}
	return row{"On revocation list", "not yet: the next one is signed by itself within seconds, while the token is well"}
}

// acted is the outcome of an act on a device.
func acted(a *factory.ActAnswer, done, already string) *outcome {
	o := &outcome{Said: done, Device: a.Devices[0]}
	if !a.Changed {
		o.Said = already
		return o
	}
	o.Rows = []row{onList(a.CRLNumber)}
	return o
}

func (k *Console) reissue() *act {
	return &act{
		Name: "reissue", Title: "Let a device be enrolled anew", Verb: "Permit", Final: true,
		Lead:   "For a repaired board, or one whose token was erased: the same id, another key.",
		Fields: []field{theDevice},
		plan: func(ctx context.Context, _ factory.Caller, v values) (*plan, error) {
			d, err := k.service.Device(ctx, v["device_id"])
			if err != nil {
				return nil, err
			}
			return &plan{Rows: deviceRows(d), Warnings: []string{"Its certificates are revoked as superseded, for good; gateways turn the device away once they have the next list",
				"The next request for this id with another key gets a certificate, whichever board it comes from"}}, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			a, err := k.service.Reissue(ctx, who.String(), factory.ReissueRequest{DeviceID: v["device_id"], Note: note})
			if err != nil {
				return nil, err
			}
			id := quoted(a.Devices[0])
			return acted(a, "Device "+id+" may be enrolled anew, with another key", "Device "+id+" may be enrolled anew already; nothing was changed"), nil
		},
	}
}

func (k *Console) scrap() *act {
	return &act{
		Name: "scrap", Title: "Scrap a device", Verb: "Scrap", Final: true,
		Lead:   "For a board that is thrown away: its certificates are revoked, and its id gets no further one.",
		Fields: []field{theDevice, {Name: "free_slot", Label: "Give its place in the lot back", Hint: "another device may take it then", Check: true}},
		plan: func(ctx context.Context, _ factory.Caller, v values) (*plan, error) {
			d, err := k.service.Device(ctx, v["device_id"])
			if err != nil {
				return nil, err
			}
			p := &plan{Rows: deviceRows(d), Warnings: []string{"The device is scrapped for good: its id is never enrolled again"}}
			place := "stays taken"
			if v["free_slot"] != "" {
				place = "is given back, unless it was before"
			}
			p.Rows = append(p.Rows, row{"Its place in the lot", place})
			return p, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			a, err := k.service.Scrap(ctx, who.String(), factory.ScrapRequest{DeviceID: v["device_id"], FreeSlot: v["free_slot"] != "", Note: note})
			if err != nil {
				return nil, err
			}
			id := quoted(a.Devices[0])
			return acted(a, "Device "+id+" is scrapped", "Device "+id+" was scrapped before; nothing was changed"), nil
		},
	}
}

// key is the key that a device has, or waits for, and how that is said; empty for none.
func key(d *factory.DeviceAnswer) (digest, words string) {
	switch {
	case d == nil:
		return "", "none: no device has this id yet"
	case d.Permit != nil && d.Permit.Key == "":
		return "", "none: it may be enrolled with another one than " + d.KeyDigest
	case d.Permit != nil:
		return d.Permit.Key, d.Permit.Key + ", which it waits for"
	}
	return d.KeyDigest, d.KeyDigest
}

// both finds the two devices of a swap; one of them may not be there yet.
func (k *Console) both(ctx context.Context, v values) (two [2]*factory.DeviceAnswer, err error) {
	for i, name := range []string{"a", "b"} {
		d, err := k.service.Device(ctx, v[name])
		var f *factory.Fault
		if errors.As(err, &f) && f.Code == factory.CodeNotFound {
			continue
		}
		if err != nil {
			return two, err
		}
		two[i] = d
	}
	if two[0] == nil && two[1] == nil {
		return two, &factory.Fault{Code: factory.CodeNotFound, Text: "no device has either id", Hint: "are the ids right?"}
	}
	return two, nil
}

func (k *Console) swap() *act {
	return &act{
		Name: "swap", Title: "Swap two devices", Verb: "Swap", Final: true,
		Lead:   "For two boards that were scanned wrongly: each id gets the key of the other.",
		Fields: []field{{Name: "a", Label: "One device id", Must: true}, {Name: "b", Label: "The other device id", Must: true}},
		plan: func(ctx context.Context, _ factory.Caller, v values) (*plan, error) {
			two, err := k.both(ctx, v)
			if err != nil {
				return nil, err
			}
			p := &plan{Warnings: []string{"The certificates of both are revoked as superseded, for good; each is enrolled anew with its right key when its station asks again"}}
			for i, name := range []string{"a", "b"} {
				_, has := key(two[i])
				gets, _ := key(two[1-i])
				if gets == "" {
					gets = "any: it may be enrolled with another"
				}
				p.Rows = append(p.Rows, row{"Device id", quoted(v[name])}, row{"has the key", has}, row{"gets the key", gets})
			}
			return p, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			two, err := k.both(ctx, v)
			if err != nil {
				return nil, err
			}
			q := factory.SwapRequest{A: v["a"], B: v["b"], Note: note}
			q.KeyA, _ = key(two[0])
			q.KeyB, _ = key(two[1])
			a, err := k.service.Swap(ctx, who.String(), q)
			if err != nil {
				return nil, err
			}
			return acted(a, "Devices "+quoted(v["a"])+" and "+quoted(v["b"])+" have swapped their keys; enrol both boards again", "Nothing was changed"), nil
		},
	}
}

func (k *Console) revoke() *act {
	return &act{
		Name: "revoke", Title: "Revoke a device", Verb: "Revoke", Final: true,
		Lead:   "Gateways turn the device away once they have the next list, on open connections too.",
		Fields: []field{theDevice, {Name: "reason", Label: "Reason", Options: factory.Reasons(), Must: true}},
		plan: func(ctx context.Context, _ factory.Caller, v values) (*plan, error) {
			d, err := k.service.Device(ctx, v["device_id"])
			if err != nil {
				return nil, err
			}
			if d.Status != "issued" {
				return nil, &factory.Fault{Code: factory.CodeRevoked, Text: "device id " + quoted(d.DeviceID) + " is " + statusWords(d), Hint: "there is nothing to revoke"}
			}
			return &plan{Rows: append(deviceRows(d), row{"Reason", v["reason"]}), Warnings: []string{"The certificate is revoked for good: no act takes it back"}}, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			a, err := k.service.Revoke(ctx, who.Name, factory.RevokeRequest{DeviceID: v["device_id"], Reason: v["reason"], Note: note})
			if err != nil {
				return nil, err
			}
			return &outcome{Said: "The certificate of device " + quoted(a.DeviceID) + " is revoked", Device: a.DeviceID,
				Rows: []row{{"Serial", a.Serial}, {"Reason", a.Reason}, {"Revoked at", a.RevokedAt.Format(stampForm)}, onList(a.CRLNumber)}}, nil
		},
	}
}

// countPages is how many pages of 1000 devices are looked at before an act on all of them; beyond it says "or more".
const countPages = 20

func (k *Console) revokeStation() *act {
	query := func(v values) (q factory.RevokeDevicesRequest, err error) {
		q.Station, q.Lot, q.Reason, q.Limit = v["station"], v["lot"], v["reason"], 1000
		for _, t := range []struct {
			name string
			into *time.Time
		}{{"from", &q.From}, {"until", &q.Until}} {
			if *t.into, err = parseTime(v[t.name]); err != nil {
				return q, err
			}
		}
		return q, nil
	}
	return &act{
		Name: "revoke-station", Title: "Revoke a station's devices", Verb: "Revoke all", Final: true,
		Lead: "For a stolen station, before its devices are shipped: all that it enrolled, or what it enrolled in a time.",
		Fields: []field{{Name: "station", Label: "Station", Hint: "the name in its certificate", Must: true}, {Name: "lot", Label: "Only of this lot"},
			{Name: "from", Label: "Enrolled from", Hint: timeHint}, {Name: "until", Label: "Enrolled before", Hint: timeHint},
			{Name: "reason", Label: "Reason", Options: factory.Reasons(), Must: true}},
		plan: func(ctx context.Context, _ factory.Caller, v values) (*plan, error) {
			q, err := query(v)
			if err != nil {
				return nil, err
			}
			counts, more := map[string]int{}, ""
			for page := 0; ; page++ {
				a, err := k.service.Devices(ctx, q.DeviceQuery)
				if err != nil {
					return nil, err
				}
				for _, d := range a.Devices {
					counts[d.Status]++
				}
				if q.After = a.Next; q.After == "" {
					break
				}
				if page+1 == countPages {
					more = " or more"
					break
				}
			}
			if counts["issued"] == 0 {
				return nil, &factory.Fault{Code: factory.CodeNotFound, Text: "there is no such device whose certificate is not revoked yet", Hint: "is the station's name right, and the time?"}
			}
			p := &plan{Rows: []row{{"Station", quoted(v["station"])}}, Warnings: []string{"The certificates are revoked for good: no act takes that back"}}
			if v["lot"] != "" {
				p.Rows = append(p.Rows, row{"Lot", quoted(v["lot"])})
			}
			if !q.From.IsZero() {
				p.Rows = append(p.Rows, row{"Enrolled from", q.From.Format(stampForm)})
			}
			if !q.Until.IsZero() {
				p.Rows = append(p.Rows, row{"Enrolled before", q.Until.Format(stampForm)})
			}
			p.Rows = append(p.Rows, row{"Certificates to revoke", fmt.Sprint(counts["issued"]) + more}, row{"Revoked already", fmt.Sprint(counts["revoked"]) + more},
				row{"Without a certificate yet", fmt.Sprint(counts["open"]) + more}, row{"Reason", v["reason"]})
			return p, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			q, err := query(v)
			if err != nil {
				return nil, err
			}
			q.Note = note
			revoked, already, open := 0, 0, 0
			for {
				a, err := k.service.RevokeDevices(ctx, who.String(), q)
				if err != nil {
					f := faultOf(err)
					return nil, &factory.Fault{Code: f.Code, Text: fmt.Sprintf("%d certificates are revoked, and then: %s", revoked, f.Text), Hint: "do the same again: it goes on where it stopped"}
				}
				revoked, already, open = revoked+a.Revoked, already+a.Already, open+a.Open
				if q.After = a.Next; q.After == "" {
					return &outcome{Said: fmt.Sprintf("%d certificates of station %s are revoked", revoked, quoted(v["station"])),
						Rows: []row{{"Revoked before", fmt.Sprint(already)}, {"Without a certificate yet", fmt.Sprint(open)}, onList(a.CRLNumber)}}, nil
				}
			}
		},
	}
}

const timeHint = "UTC, as 2026-11-26 06:00"

// parseTime reads a time that was typed.
func parseTime(s string) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	for _, form := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02", time.RFC3339} {
		if t, err = time.Parse(form, s); err == nil {
			return t.UTC(), nil
		}
	}
	return t, &factory.Fault{Code: factory.CodeRequest, Text: quoted(s) + " is no time", Hint: "write it as 2026-11-26 06:00; all times are UTC"}
}
