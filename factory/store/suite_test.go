package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
)

// at is a fixed moment of a day.
var at = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func intent(device string, key string) factory.Intent {
	serial := sha256.Sum256([]byte("serial" + device + key))
	serial[0] |= 1
	return factory.Intent{DeviceID: device, HardwareID: "board", Lot: "l1", Station: "line-1", Serial: serial[:20], SPKI: []byte(key),
		SPKIDigest: sha256.Sum256([]byte(key)), CSRDigest: sha256.Sum256([]byte("csr" + key)), TBSDigest: sha256.Sum256([]byte("tbs" + key)),
		Issuer: sha256.Sum256([]byte("issuer")), NotBefore: at, NotAfter: at.AddDate(10, 0, 0), At: at}
}

// suite is what every factory.Store must do; open gives the same store again after Close.
func suite(t *testing.T, open func(t *testing.T) factory.Store) {
	ctx := context.Background()
	t.Run("one record a device", func(t *testing.T) {
		s := open(t)
		defer s.Close()
		r, isNew, err := s.Begin(ctx, intent("a", "ka"))
		if err != nil || !isNew || !r.Open() {
			t.Fatal(r, isNew, err)
		}
		again, isNew, err := s.Begin(ctx, intent("a", "other"))
		if err != nil || isNew || again.ID != r.ID || again.SPKIDigest != r.SPKIDigest || !bytes.Equal(again.Serial, r.Serial) {
			t.Fatalf("second intent for a device: %+v, %v, %v", again, isNew, err)
		}
		if _, _, err := s.Begin(ctx, intent("b", "ka")); !errors.Is(err, factory.ErrKeyKnown) {
			t.Fatalf("a key for two devices: %v", err)
		}
		if _, err := s.ByDevice(ctx, "b"); !errors.Is(err, factory.ErrNotFound) {
			t.Fatalf("a refused intent left a record: %v", err)
		}
		same := intent("c", "kc")
		same.Serial = r.Serial
		if _, _, err := s.Begin(ctx, same); err == nil {
			t.Fatal("a serial was taken twice")
		}
		if !sameIntent(r.Intent, intent("a", "ka")) || !sameIntent(again.Intent, intent("a", "ka")) {
			t.Fatalf("%+v is not what was recorded", again.Intent)
		}
	})
	t.Run("the first certificate stays", func(t *testing.T) {
		s := open(t)
		defer s.Close()
		r, _, err := s.Begin(ctx, intent("d", "kd"))
		if err != nil {
			t.Fatal(err)
		}
		for _, der := range []string{"one", "two"} {
			got, err := s.Finish(ctx, r.ID, []byte(der), at)
			if err != nil || string(got) != "one" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if _, err := s.Finish(ctx, 1<<40, []byte("x"), at); err == nil {
			t.Fatal("a certificate without intent")
		}
		got, err := s.BySerial(ctx, r.Serial)
		if err != nil || got.DeviceID != "d" || string(got.Certificate) != "one" || !got.IssuedAt.Equal(at) || got.Open() {
			t.Fatalf("%+v, %v", got, err)
		}
		if rec, err := s.Replace(ctx, r.ID, intent("d", "kd")); err != nil || rec.Open() {
			t.Fatalf("a finished intent was replaced: %+v, %v", rec, err)
		}
	})
	t.Run("open intents", func(t *testing.T) {
		s := open(t)
		defer s.Close()
		r, _, err := s.Begin(ctx, intent("e", "ke"))
		if err != nil {
			t.Fatal(err)
		}
		next := intent("e", "ke")
		next.Serial = append([]byte{9}, next.Serial[1:]...)
		if rec, err := s.Replace(ctx, r.ID, next); err != nil || !bytes.Equal(rec.Serial, next.Serial) {
			t.Fatalf("%+v, %v", rec, err)
		}
		if _, err := s.BySerial(ctx, r.Serial); !errors.Is(err, factory.ErrNotFound) {
			t.Fatalf("the old serial: %v", err)
		}
		if _, err := s.Replace(ctx, r.ID, intent("e", "another key")); err == nil {
			t.Fatal("replaced by another key's intent")
		}
		open, err := s.OpenIntents(ctx, 0, 10)
		if err != nil || len(open) != 2 || open[0].DeviceID != "a" || open[1].DeviceID != "e" {
			t.Fatalf("%+v, %v", open, err)
		}
	})
	t.Run("revocation", func(t *testing.T) {
		s := open(t)
		defer s.Close()
		a, err := s.ByDevice(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Revoke(ctx, a.ID, 1, at); !errors.Is(err, factory.ErrNotFound) {
			t.Fatalf("an open intent was revoked: %v", err)
		}
		d, err := s.ByDevice(ctx, "d")
		if err != nil {
			t.Fatal(err)
		}
		for i, reason := range []int{1, 4} {
			changed, err := s.Revoke(ctx, d.ID, reason, at.Add(time.Duration(i)*time.Hour))
			if err != nil || changed != (i == 0) {
				t.Fatal(changed, err)
			}
		}
		list, err := s.Revocations(ctx, d.Issuer)
		if err != nil || len(list) != 1 || !bytes.Equal(list[0].Serial, d.Serial) || list[0].Reason != 1 || !list[0].At.Equal(at) {
			t.Fatalf("%+v, %v", list, err)
		}
		if list, err := s.Revocations(ctx, [32]byte{1}); err != nil || len(list) != 0 {
			t.Fatal(list, err)
		}
	})
	t.Run("CRL numbers only rise", func(t *testing.T) {
		var last int64
		issuer := intent("x", "x").Issuer
		for range 3 {
			s := open(t)
			if _, err := s.LatestCRL(ctx, [32]byte{7}); !errors.Is(err, factory.ErrNotFound) {
				t.Fatal(err)
			}
			for range 2 { // the first of each pair is lost
				n, err := s.NextCRLNumber(ctx, 0)
				if err != nil || n <= last {
					t.Fatalf("number %d after %d: %v", n, last, err)
				}
				last = n
			}
			c := factory.CRL{Number: last, DER: []byte(fmt.Sprint("crl", last)), ThisUpdate: at, NextUpdate: at.Add(time.Hour)}
			if err := s.PutCRL(ctx, issuer, c); err != nil {
				t.Fatal(err)
			}
			if err := s.PutCRL(ctx, issuer, c); err == nil {
				t.Fatal("a number was used twice")
			}
			got, err := s.LatestCRL(ctx, issuer)
			if err != nil || got.Number != last || !bytes.Equal(got.DER, c.DER) || !got.NextUpdate.Equal(c.NextUpdate) {
				t.Fatal(got, err)
			}
			s.Close()
		}
	})
	t.Run("many at once", func(t *testing.T) {
		s := open(t)
		defer s.Close()
		var group sync.WaitGroup
		var created atomic.Int32
		for i := range 32 {
			group.Go(func() {
				for j := range 20 {
					id := fmt.Sprintf("m%d", j) // all want the same twenty
					r, isNew, err := s.Begin(ctx, intent(id, fmt.Sprint("k", j, "-", i)))
					if err != nil {
						t.Error(err)
						return
					}
					if isNew {
						created.Add(1)
						if _, err := s.Finish(ctx, r.ID, []byte(id), at); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		group.Wait()
		if n := created.Load(); n != 20 {
			t.Errorf("%d records for 20 devices", n)
		}
	})
	t.Run("after Close", func(t *testing.T) {
		s := open(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Begin(ctx, intent("z", "kz")); err == nil {
			t.Fatal("a closed store took an intent")
		}
	})
}

func sameIntent(a, b factory.Intent) bool {
	return a.DeviceID == b.DeviceID && a.HardwareID == b.HardwareID && a.Lot == b.Lot && a.Station == b.Station && bytes.Equal(a.Serial, b.Serial) &&
		bytes.Equal(a.SPKI, b.SPKI) && a.SPKIDigest == b.SPKIDigest && a.CSRDigest == b.CSRDigest && a.TBSDigest == b.TBSDigest && a.Issuer == b.Issuer &&
		a.NotBefore.Equal(b.NotBefore) && a.NotAfter.Equal(b.NotAfter) && a.At.Equal(b.At)
}
