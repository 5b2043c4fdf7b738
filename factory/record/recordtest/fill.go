package recordtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hanaper/hanaper/factory/record"
)

// Fill puts so many devices into an SQLite store, as rows like those of Begin and Finish, without waiting for the disk. exec runs a statement on one
// connection.
func Fill(t testing.TB, exec func(query string, args ...any) error, from, to int) {
	t.Helper()
	run := func(query string, args ...any) {
		if err := exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("PRAGMA synchronous=OFF")
	run("INSERT OR IGNORE INTO issuer (id, digest, crl_number) VALUES (1, ?, 0)", Issuer[:])
	der := make([]byte, 650)
	digest := func(kind byte, n int) []byte {
		var b [9]byte
		b[0] = kind
		binary.BigEndian.PutUint64(b[1:], uint64(n))
		d := sha256.Sum256(b[:])
		return d[:]
	}
	const block = 200_000
	for begin := from; begin < to; begin += block {
		run("BEGIN IMMEDIATE")
		for n := begin + 1; n <= min(begin+block, to); n++ {
			id := fmt.Sprintf("VIN-%012d", n)
			at := At.Unix() + int64(n/100)
			run("INSERT INTO device (id, fold) VALUES (?,?)", n, record.Fold(id))
			run("INSERT INTO device_key (digest, device) VALUES (?,?)", digest('k', n), n)
			run("INSERT INTO enrolment (id, device, generation, form, spki, spki_digest, csr_digest, hardware_id, lot, station, at) VALUES (?,?,1,?,?,?,?,'imx8-board','2026-47','line-1',?)",
				n, n, id, der[:91], digest('k', n), digest('c', n), at)
			run("INSERT INTO certificate (id, enrolment, issuer, serial, tbs_digest, not_before, not_after, at) VALUES (?,?,1,?,?,?,?,?)",
				n, n, digest('s', n)[:20], digest('t', n), at, at+315360000, at)
			run("INSERT INTO event (sequence, kind, at, who, certificate, note) VALUES (?,'issue',?,'station line-1',?,'')", n, at, n)
			run("INSERT INTO result (certificate, der, at, sequence) VALUES (?,?,?,?)", n, der, at, n)
		}
		run("COMMIT")
	}
}
