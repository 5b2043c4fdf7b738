package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// marshalEntries encodes the entries of a list, one behind the other. A list has 100,000 of them and is made within a second, so that the usual
// ones are written straight; addEntry writes the others, and would write these in the same way.
func marshalEntries(entries []x509.RevocationListEntry) ([]byte, error) {
	out := make([]byte, 0, 56*len(entries))
	var reasons [11][]byte
	for n := range entries {
		e := &entries[n]
		at := seconds(e.RevocationTime)
		if e.SerialNumber.BitLen() >= 20*8 || e.ReasonCode < 0 || e.ReasonCode >= len(reasons) || at.Year() < 1950 || at.Year() >= 2050 {
			var b cryptobyte.Builder
			addEntry(&b, *e)
			one, err := b.Bytes()
			if err != nil {
				return nil, err
			}
			out = append(out, one...)
			continue
		}
		reason := reasons[e.ReasonCode]
		if reason == nil && e.ReasonCode != 0 {
			var b cryptobyte.Builder
			addReason(&b, e.ReasonCode)
			var err error
			if reason, err = b.Bytes(); err != nil {
				return nil, err
			}
			reasons[e.ReasonCode] = reason
		}
		// No length is above 127: 22 octets at most, 15 and 14.
		const utcTime = "060102150405Z"
		octets := e.SerialNumber.BitLen()/8 + 1
		out = append(out, byte(cbasn1.SEQUENCE), byte(2+octets+2+len(utcTime)+len(reason)), byte(cbasn1.INTEGER), byte(octets))
		out = append(out, make([]byte, octets)...)
		e.SerialNumber.FillBytes(out[len(out)-octets:])
		out = append(out, byte(cbasn1.UTCTime), byte(len(utcTime)))
		out = append(at.AppendFormat(out, utcTime), reason...)
	}
	return out, nil
}

func addEntry(b *cryptobyte.Builder, e x509.RevocationListEntry) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(e.SerialNumber)
		addTime(b, seconds(e.RevocationTime))
		if e.ReasonCode != 0 { // unspecified is absent (section 5.3.1)
			addReason(b, e.ReasonCode)
		}
	})
}

func addReason(b *cryptobyte.Builder, code int) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addExtension(b, oidReason, false, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(code)) })
	})
}

// serialKey stands for a serial number in a map.
type serialKey [33]byte

// keyOf is different for different numbers that are not negative.
func keyOf(n *big.Int) (k serialKey) {
	if n.BitLen() <= 32*8 {
		n.FillBytes(k[1:])
		return k
	}
	digest := sha256.Sum256(n.Bytes())
	k[0] = 1
	copy(k[1:], digest[:])
	return k
}

// finder finds entries by their serial number. Lists mostly have the entries of the list before them in the same order: then it only goes on
// to the next.
type finder struct {
	entries []x509.RevocationListEntry
	next    int
	places  map[serialKey]int
}

// find gives the entry of a serial number; nil for none.
func (l *finder) find(serial *big.Int) *x509.RevocationListEntry {
	if l.next < len(l.entries) && l.entries[l.next].SerialNumber.Cmp(serial) == 0 {
		l.next++
		return &l.entries[l.next-1]
	}
	if l.places == nil {
		l.places = make(map[serialKey]int, len(l.entries))
		for n := range l.entries {
			l.places[keyOf(l.entries[n].SerialNumber)] = n
		}
	}
	n, ok := l.places[keyOf(serial)]
	if !ok {
		return nil
	}
	l.next = n + 1
	return &l.entries[n]
}
