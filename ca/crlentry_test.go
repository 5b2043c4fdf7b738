package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	mathrand "math/rand/v2"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// TestCRLEntries: what is written straight is what the encoder of the rest writes, for every reason, length and time.
func TestCRLEntries(t *testing.T) {
	var entries []x509.RevocationListEntry
	for n := range 2000 {
		serial := new(big.Int).SetBytes(bytes.Repeat([]byte{byte(n + 1)}, n%25+1))
		if serial.Sign() == 0 {
			serial.SetInt64(1)
		}
		at := time.Unix(mathrand.Int64N(4_000_000_000)-1_000_000_000, 999).In(time.FixedZone("", 3600))
		entries = append(entries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: at, ReasonCode: n % 11})
	}
	for shift := range 70 {
		serial := new(big.Int).Lsh(big.NewInt(1), uint(shift*3))
		entries = append(entries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: t0, ReasonCode: 1},
			x509.RevocationListEntry{SerialNumber: serial.Sub(serial, big.NewInt(1)), RevocationTime: t0.AddDate(30, 0, 0)})
	}
	var b cryptobyte.Builder
	for _, e := range entries {
		addEntry(&b, e)
	}
	want := b.BytesOrPanic()
	if got, err := marshalEntries(entries); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d octets, not the %d of the encoder, %v", len(got), len(want), err)
	}
	if _, err := marshalEntries([]x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}}); err == nil {
		t.Error("a year of five digits was written")
	}
}

// TestFinder finds every entry in whatever order it is asked, and none that is not there.
func TestFinder(t *testing.T) {
	var entries []x509.RevocationListEntry
	for n := range 100 {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: new(big.Int).Lsh(big.NewInt(int64(n)+1), uint(n)*4)})
	}
	order := mathrand.Perm(len(entries))
	copy(order, []int{0, 1, 2, 50, 51, 7, 8})
	l := finder{entries: entries}
	for _, n := range order {
		if e := l.find(new(big.Int).Set(entries[n].SerialNumber)); e != &entries[n] {
			t.Errorf("entry %d: %v", n, e)
		}
		if e := l.find(new(big.Int).Add(entries[n].SerialNumber, big.NewInt(1<<40))); e != nil {
			t.Errorf("found %v", e)
		}
	}
}

// TestSignedList: a list comes out only if nothing but its signature differs from what was checked; all of it is read from its own bytes.
func TestSignedList(t *testing.T) {
	f := newFamily(t, "P-384", "P-256")
	prep, err := f.facIssuer.PrepareCRL(CRLTemplate{Number: big.NewInt(7), ThisUpdate: t0, NextUpdate: years(1),
		Entries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(99), RevocationTime: t0, ReasonCode: 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := prep.Sign(context.Background(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.ParseRevocationList(list.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.RawTBSRevocationList, list.RawTBSRevocationList) || !bytes.Equal(again.Signature, list.Signature) || again.Number.Cmp(list.Number) != 0 ||
		len(list.RevokedCertificateEntries) != 1 || list.CheckSignatureFrom(f.factory) != nil {
		t.Errorf("%+v", list)
	}
	rest := len(list.Raw) - len(list.Signature)
	for i := range rest {
		der := bytes.Clone(list.Raw)
		der[i] ^= 1
		if _, err := signedAs(prep.specimen, der); err == nil {
			t.Errorf("octet %d of %d differs, and a list came out", i, rest)
		}
	}
	for _, der := range [][]byte{nil, list.Raw[:len(list.Raw)-1], append(bytes.Clone(list.Raw), 0)} {
		if _, err := signedAs(prep.specimen, der); err == nil {
			t.Errorf("%d octets were taken", len(der))
		}
	}
}
