package registry

import (
	"bytes"
	"encoding/hex"
	"errors"

	"github.com/hanaper/hanaper/gateway"
)

// verdict is what becomes of a meeting.
type verdict struct {
	met gateway.Met
	err error
	// row is the device after it, changed says that it differs from before; certificate is one that it was not met with before.
	row         *Row
	changed     bool
	certificate *Certificate
	// entry is what goes into the log, with the verb empty for nothing.
	entry gateway.LogEntry
}

// decide says what becomes of a meeting with a device that is on record as row (nil: it is not). It changes nothing: the row of the verdict is a copy.
func decide(row *Row, m gateway.Meeting) verdict {
	if row == nil {
		if m.RegisteredOnly {
			return verdict{err: gateway.ErrNotRegistered}
		}
		row = &Row{Key: KeyOf(m.Environment, m.Device), Name: m.Device, State: Pending}
	}
	switch row.State {
	case Blocked:
		return verdict{err: gateway.ErrBlocked, row: row}
	case Retired:
		return verdict{err: gateway.ErrRetired, row: row}
	}
	next := *row
	v := verdict{row: &next}
	sameKey, had, known, turn := bytes.Equal(row.KeySum, m.Key[:]), false, false, int64(1)
	for _, c := range row.Certificates {
		had = had || bytes.Equal(c.KeySum, m.Key[:])
		known = known || bytes.Equal(c.Sum, m.Certificate[:])
		turn = max(turn, c.Turn+1)
	}
	if bad := keyFault(row, m, sameKey, had); bad != nil && !row.Rekey {
		return v.refuse(m, bad)
	}
	if row.KeySum != nil && !sameKey {
		v.entry = entryFor(m, gateway.Rekeyed, "from "+hex.EncodeToString(row.KeySum)+" to "+hex.EncodeToString(m.Key[:]))
		v.met.Rekeyed = row.State == Active
		next.Rekey = false
	}
	if row.KeySum == nil || !sameKey {
		next.KeySum = bytes.Clone(m.Key[:])
	}
	// Both only rise, also where an operator allowed an older key: what lies between stays out.
	next.KeyFrom = max(next.KeyFrom, m.NotBefore.Unix())
	next.Generation = max(next.Generation, m.Generation)
	if row.State == Pending {
		next.State, next.FirstSeen = Active, m.At.Unix()
		next.Name = m.Device
		v.met.New = true
	}
	if !known {
		v.met.Renewed = !v.met.New
		v.certificate = &Certificate{Sum: bytes.Clone(m.Certificate[:]), KeySum: bytes.Clone(m.Key[:]), Generation: m.Generation, Serial: m.Serial, Issuer: m.Issuer,
			NotAfter: m.NotAfter.Unix(), FirstSeen: m.At.Unix(), LastSeen: m.At.Unix(), Turn: turn}
		next.Certificates = append(row.Certificates[:len(row.Certificates):len(row.Certificates)], *v.certificate)
	}
	next.Flags &^= flagTestBench
	if m.TestBench {
		next.Flags |= flagTestBench
	}
	v.changed = next.Flags != row.Flags || !known || v.met.New || v.met.Rekeyed || next.KeyFrom != row.KeyFrom || next.Generation != row.Generation
	if v.changed {
		next.LastSeen = max(row.LastSeen, m.At.Unix())
	}
	return v
}

// keyFault says why a key may not be the device's; nil if it may. A higher generation wins, for good: the older key has no way back but by an operator.
func keyFault(row *Row, m gateway.Meeting, same, had bool) error {
	switch {
	case row.State == Pending && m.Generation < row.Generation:
		// An operator registered the device with this generation, or a later one.
		return gateway.ErrOldKey
	case row.KeySum == nil || same:
		return nil
	case row.State == Pending:
		// An operator registered the device with another key, which no generation takes the place of.
		return gateway.ErrOtherKey
	case m.Generation > row.Generation:
		return nil
	case had:
		return gateway.ErrOldKey
	case m.Generation == 0 && row.Generation == 0 && m.NotBefore.Unix() > row.KeyFrom:
		return nil
	}
	return gateway.ErrOtherKey
}

// refuse refuses, and flags the device for operators, once: whoever comes again and again costs no further write.
func (v verdict) refuse(m gateway.Meeting, why error) verdict {
	bit, flag := int64(flagOtherKey), gateway.FlagOtherKey
	if errors.Is(why, gateway.ErrOldKey) {
		bit, flag = flagOldKey, gateway.FlagOldKey
	}
	v.err = why
	if v.row.Flags&bit == 0 {
		v.row.Flags |= bit
		v.changed = true
		v.entry = entryFor(m, gateway.Flagged, flag+": serial "+m.Serial+" of "+m.Issuer+", key "+hex.EncodeToString(m.Key[:8]))
	}
	return v
}

func entryFor(m gateway.Meeting, verb gateway.Verb, detail string) gateway.LogEntry {
	return gateway.LogEntry{At: m.At, Verb: verb, Environment: m.Environment, Device: m.Device, Detail: detail}
}
