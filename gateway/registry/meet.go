package registry

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/gateway"
)

// meeting waits for its place in a transaction.
type meeting struct {
	gateway.Meeting
	key Key
	// number is that of the last act that was known when it came.
	number int64
	// met and err are its answer once done is closed.
	met  gateway.Met
	err  error
	done chan struct{}
	// answered says that it has one, before all of its batch are told.
	answered bool
}

// Meet implements gateway.Registry. A device whose last certificate comes again needs no database; meetings that come together share a transaction.
func (r *Registry) Meet(ctx context.Context, m gateway.Meeting) (gateway.Met, error) {
	one := &meeting{Meeting: m, key: KeyOf(m.Environment, m.Device), number: r.memory.number.Load(), done: make(chan struct{})}
	// A CA's name may hold what databases do not take.
	one.Issuer = strings.ReplaceAll(strings.ToValidUTF8(m.Issuer, "\uFFFD"), "\x00", "\uFFFD")
	if err := r.memory.standing(m.Environment, one.key.Fold, [32]byte{}); err != nil {
		r.figures.count(gateway.Met{}, err)
		return gateway.Met{}, err
	}
	if last, ok := r.memory.recent.Get(r.memory.print(m.Environment, one.key.Fold)); ok && last == m.Certificate {
		r.figures.known.Add(1)
		return gateway.Met{}, nil
	}
	// All meetings of one device go the same way, so that those that come at once are in one transaction.
	way := r.memory.print(m.Environment, one.key.Fold)[0] % uint64(len(r.queues))
	err := r.queues[way].ask(ctx, one)
	if err == nil {
		err = one.err
	}
	r.figures.count(one.metIf(err), err)
	return one.metIf(err), err
}

// metIf is the answer of a meeting that has one: that of one that is still waited for is not read.
func (m *meeting) metIf(err error) gateway.Met {
	if err != nil {
		return gateway.Met{}
	}
	return m.met
}

// group are the meetings of one device in one batch, in the order in which they came.
type group struct {
	key      Key
	meetings []*meeting
}

// meetAll has all meetings decided and what changes stored. Refusals are their answers; a failure is everybody's who has none yet.
func (r *Registry) meetAll(list []*meeting) {
	err := r.rounds(list)
	for _, m := range list {
		if !m.answered {
			m.err = err
		}
		close(m.done)
	}
}

func (r *Registry) rounds(list []*meeting) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	todo := grouped(list)
	for range maxRounds {
		var err error
		if todo, err = r.round(ctx, todo); err != nil {
			r.noteWrite(err)
			return err
		}
		if len(todo) == 0 {
			return nil
		}
	}
	return errors.New("other gateways are at work on the same devices again and again")
}

// maxRounds bounds how often a batch is begun anew for devices that others stored meanwhile.
const maxRounds = 8

func grouped(list []*meeting) (groups []*group) {
	of := map[Key]*group{}
	for _, m := range list {
		g := of[m.key]
		if g == nil {
			g = &group{key: m.key}
			of[m.key] = g
			groups = append(groups, g)
		}
		g.meetings = append(g.meetings, m)
	}
	slices.SortFunc(groups, func(a, b *group) int { return compareKeys(a.key, b.key) })
	return groups
}

func compareKeys(a, b Key) int {
	if n := strings.Compare(a.Environment, b.Environment); n != 0 {
		return n
	}
	return strings.Compare(a.Fold, b.Fold)
}

// round answers those whose meeting changes nothing from what the database says without a lock, and has the others stored. It gives back those that
// somebody else stored first.
func (r *Registry) round(ctx context.Context, todo []*group) (again []*group, err error) {
	rows, err := r.store.Look(ctx, keysOf(todo))
	if err != nil {
		return nil, err
	}
	var write []*group
	for _, g := range todo {
		if o := settle(rows[g.key], g); o.changed() {
			write = append(write, g)
		} else {
			r.answer(g, o)
		}
	}
	if len(write) == 0 {
		return nil, nil
	}
	var outcomes []*outcome
	var acted bool
	err = r.store.Do(ctx, func(tx Tx) (err error) {
		outcomes, acted, err = r.write(tx, write, rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.noteWrite(nil)
	for i, g := range write {
		if outcomes[i] == nil {
			again = append(again, g)
		} else {
			r.answer(g, outcomes[i])
		}
	}
	if acted {
		// What was changed here is known here before it is answered; elsewhere a moment later.
		if _, err := r.learn(ctx); err == nil {
			r.tell()
		}
	}
	return again, nil
}

func keysOf(groups []*group) []Key {
	keys := make([]Key, len(groups))
	for i, g := range groups {
		keys[i] = g.key
	}
	return keys
}

// outcome is what becomes of the meetings of one device.
type outcome struct {
	before, row  *Row
	verdicts     []verdict
	certificates []Certificate
	entries      []gateway.LogEntry
}

func (o *outcome) changed() bool {
	return slices.ContainsFunc(o.verdicts, func(v verdict) bool { return v.changed })
}

// settle decides the meetings of a device one after another.
func settle(row *Row, g *group) *outcome {
	o := &outcome{before: row, row: row}
	for _, m := range g.meetings {
		v := decide(o.row, m.Meeting)
		o.verdicts = append(o.verdicts, v)
		if v.changed {
			o.row = v.row
		}
		if v.certificate != nil {
			o.certificates = append(o.certificates, *v.certificate)
		}
		if v.entry.Verb != "" {
			o.entries = append(o.entries, v.entry)
		}
	}
	return o
}

// write stores what the meetings change; an outcome is nil where somebody else stored the device meanwhile.
func (r *Registry) write(tx Tx, groups []*group, looked map[Key]*Row) (outcomes []*outcome, acted bool, err error) {
	var known []Key
	for _, g := range groups {
		if looked[g.key] != nil {
			known = append(known, g.key)
		}
	}
	rows := map[Key]*Row{}
	if len(known) > 0 {
		if rows, err = tx.Find(known); err != nil {
			return nil, false, err
		}
	}
	var fresh, changed []*Row
	for _, g := range groups {
		if looked[g.key] != nil && rows[g.key] == nil {
			outcomes = append(outcomes, nil) // somebody had it forgotten meanwhile: it is looked at anew
			continue
		}
		o := settle(rows[g.key], g)
		outcomes = append(outcomes, o)
		switch {
		case !o.changed():
		case o.before == nil:
			fresh = append(fresh, o.row)
		default:
			changed = append(changed, o.row)
		}
	}
	if len(fresh) > 0 {
		if err := tx.Add(fresh); err != nil {
			return nil, false, err
		}
	}
	if len(changed) > 0 {
		if err := tx.Change(changed); err != nil {
			return nil, false, err
		}
	}
	deltas, certificates, entries := map[Tally]int64{}, []NewCertificate{}, []gateway.LogEntry{}
	for i, o := range outcomes {
		if o == nil || !o.changed() {
			continue
		}
		if o.row.ID == 0 {
			outcomes[i] = nil
			continue
		}
		tally(deltas, o.before, o.row)
		for _, c := range o.certificates {
			certificates = append(certificates, NewCertificate{o.row, c})
		}
		for _, e := range o.entries {
			e.Who = r.who
			entries = append(entries, e)
		}
	}
	return outcomes, len(entries) > 0, r.finish(tx, certificates, deltas, entries)
}

func (r *Registry) finish(tx Tx, certificates []NewCertificate, deltas map[Tally]int64, entries []gateway.LogEntry) error {
	if len(certificates) > 0 {
		if err := tx.AddCertificates(certificates); err != nil {
			return err
		}
	}
	if len(deltas) > 0 {
		if err := tx.Tally(deltas); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		return tx.Enter(entries)
	}
	return nil
}

// tally counts a device from one state to another; nil is none.
func tally(deltas map[Tally]int64, before, after *Row) {
	if before != nil && after != nil && before.State == after.State {
		return
	}
	if before != nil {
		deltas[Tally{before.Environment, before.State}]--
	}
	if after != nil {
		deltas[Tally{after.Environment, after.State}]++
	}
}

// answer gives a device's meetings their answers, and keeps the certificate of the last that was admitted.
func (r *Registry) answer(g *group, o *outcome) {
	for i, v := range o.verdicts {
		m := g.meetings[i]
		if m.met, m.err, m.answered = v.met, v.err, true; v.err == nil {
			r.memory.meets(m.key, m.Key)
		}
		// What a later meeting of the same batch has ended is not kept.
		if v.err == nil && o.row != nil && bytes.Equal(o.row.KeySum, m.Key[:]) {
			r.memory.remember(m.key, m.Certificate, m.number)
		}
	}
}
