package registry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/durable"
)

// Do implements gateway.Records.
func (r *Registry) Do(ctx context.Context, a gateway.Act) error {
	if err := a.Check(); err != nil {
		return err
	}
	key := KeyOf(a.Environment, a.Device)
	err := r.store.Do(ctx, func(tx Tx) error {
		rows, err := tx.Find([]Key{key})
		if err != nil {
			return err
		}
		return r.act(tx, rows[key], a)
	})
	return r.acted(ctx, err)
}

// acted has what was done known here before it is answered.
func (r *Registry) acted(ctx context.Context, err error) error {
	if err != nil {
		if !isAnswer(err) {
			r.noteWrite(err)
		}
		if durable.Full(err) {
			return fmt.Errorf("%w: %w", gateway.ErrFull, err)
		}
		return err
	}
	r.noteWrite(nil)
	if _, err := r.learn(ctx); err != nil {
		return fmt.Errorf("it is done, and this gateway has not seen it yet: %w", err)
	}
	r.tell()
	return nil
}

func isAnswer(err error) bool {
	var known gateway.Duplicates
	return errors.Is(err, gateway.ErrNoDevice) || errors.Is(err, gateway.ErrState) || errors.As(err, &known)
}

// act does an act on row, nil where the device is not known.
func (r *Registry) act(tx Tx, row *Row, a gateway.Act) error {
	entry := gateway.LogEntry{At: a.At, Who: a.Who, Verb: a.Verb, Environment: a.Environment, Device: a.Device, Why: a.Why}
	bars := a.Verb == gateway.Block || a.Verb == gateway.Retire
	if row == nil && !bars {
		return fmt.Errorf("%q: %w", a.Device, gateway.ErrNoDevice)
	}
	var next Row
	if row != nil {
		next = *row
		// The log has the id in the form in which it is kept.
		entry.Device = row.Name
	} else {
		next = Row{Key: KeyOf(a.Environment, a.Device), Name: a.Device}
	}
	remove, err := change(row, &next, a, &entry)
	if err != nil {
		return err
	}
	deltas := map[Tally]int64{}
	switch {
	case remove:
		if err := tx.Remove(row, true); err != nil {
			return err
		}
		tally(deltas, row, nil)
	case row == nil:
		if err := tx.Add([]*Row{&next}); err != nil {
			return err
		}
		if next.ID == 0 {
			return errors.New("the device was met at this moment: try again")
		}
		tally(deltas, nil, &next)
	default:
		if a.Verb == gateway.Forget {
			if err := tx.Remove(row, false); err != nil {
				return err
			}
		}
		if err := tx.Change([]*Row{&next}); err != nil {
			return err
		}
		tally(deltas, row, &next)
	}
	return r.finish(tx, nil, deltas, []gateway.LogEntry{entry})
}

// change makes next what the act has it be; remove says that the device goes altogether.
func change(row, next *Row, a gateway.Act, entry *gateway.LogEntry) (remove bool, err error) {
	wrong := func() error { return fmt.Errorf("%q is %s: %w", row.Name, states[row.State], gateway.ErrState) }
	since := func(s State) { next.State, next.Since, next.Why = s, a.At.Unix(), a.Why }
	// back is the state of a device that is let in again; one that was neither met nor registered goes: it would else count as registered.
	back := func() (bool, error) {
		if row.FirstSeen == 0 && !row.Registered {
			return true, nil
		}
		if row.FirstSeen == 0 {
			since(Pending)
		} else {
			since(Active)
		}
		return false, nil
	}
	switch a.Verb {
	case gateway.Block:
		if row != nil && row.State.barred() {
			return false, wrong()
		}
		since(Blocked)
	case gateway.Retire:
		if row != nil && row.State == Retired {
			return false, wrong()
		}
		since(Retired)
	case gateway.Unblock:
		if row.State != Blocked {
			return false, wrong()
		}
		return back()
	case gateway.Reinstate:
		if row.State != Retired {
			return false, wrong()
		}
		return back()
	case gateway.Forget:
		if row.State == Retired {
			return false, wrong()
		}
		if !row.Registered {
			return true, nil
		}
		since(Pending)
		next.FirstSeen, next.LastSeen, next.KeySum, next.KeyFrom, next.Generation, next.Rekey, next.Flags = 0, 0, nil, 0, 0, false, 0
	case gateway.AllowRekey:
		if row.State.barred() {
			return false, wrong()
		}
		next.Rekey = true
		if row.KeySum != nil {
			entry.Detail = "now " + hex.EncodeToString(row.KeySum)
		}
	case gateway.Note:
		next.Notes = a.Text
		entry.Detail = a.Text
	case gateway.Unflag:
		// What a test bench is does not change by looking at it.
		next.Flags &= flagTestBench
	default:
		return false, fmt.Errorf("%q is no act", a.Verb)
	}
	return false, nil
}

// importPart is how many devices one statement adds.
const importPart = 500

// Import implements gateway.Records.
func (r *Registry) Import(ctx context.Context, list []gateway.Registration, by gateway.By) error {
	if err := gateway.CheckImport(list, by); err != nil {
		return err
	}
	err := r.store.Do(ctx, func(tx Tx) error {
		rows := make([]*Row, 0, len(list))
		for _, one := range list {
			row := &Row{Key: KeyOf(one.Environment, one.Device), Name: one.Device, State: Pending, Registered: true, Since: by.At.Unix(), Notes: one.Notes, Generation: one.Generation}
			if one.Key != ([32]byte{}) {
				row.KeySum = one.Key[:]
			}
			rows = append(rows, row)
		}
		slices.SortFunc(rows, func(a, b *Row) int { return compareKeys(a.Key, b.Key) })
		deltas, known := map[Tally]int64{}, gateway.Duplicates{}
		for part := range slices.Chunk(rows, importPart) {
			if err := tx.Add(part); err != nil {
				return err
			}
			for _, row := range part {
				if row.ID == 0 && len(known) < 20 {
					known = append(known, row.Name)
				}
				tally(deltas, nil, row)
			}
		}
		if len(known) > 0 {
			return known
		}
		entry := gateway.LogEntry{At: by.At, Who: by.Who, Verb: gateway.Imported, Why: by.Why, Detail: strconv.Itoa(len(list)) + " devices"}
		if env := list[0].Environment; !slices.ContainsFunc(list, func(o gateway.Registration) bool { return o.Environment != env }) {
			entry.Environment = env
		}
		return r.finish(tx, nil, deltas, []gateway.LogEntry{entry})
	})
	return r.acted(ctx, err)
}
