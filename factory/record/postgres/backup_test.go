package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/pgpool"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// TestBackup: a backup of a PostgreSQL database is a store in SQLite, and the way from one to the other and back keeps every row.
func TestBackup(t *testing.T) {
	ctx, c := context.Background(), postgrestest.Start(t)
	s := opened(t, c.Database())
	defer s.Close()
	for i := range 30 {
		in := recordtest.Intent(fmt.Sprint("Dev-", i), fmt.Sprint("k", i))
		in.Evidence, in.EvidenceDigest = bytes.Repeat([]byte{byte(i)}, i), bytes.Repeat([]byte{byte(i)}, 32)
		r := recordtest.Issue(t, s, in, fmt.Sprint("der", i))
		if i%3 == 0 {
			if _, _, err := s.Revoke(ctx, record.Revocation{Issuer: r.Issuer, Serial: r.Serial, Reason: 1, At: recordtest.At, Who: "operator olga"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, _, err := s.Begin(ctx, recordtest.Intent("open", "kopen")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.NextCRL(ctx, recordtest.Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		n, err := turn.Number(ctx, 7)
		return &record.CRL{Number: n, DER: []byte("list"), ThisUpdate: recordtest.At, NextUpdate: recordtest.At, UpTo: turn.UpTo}, err
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := s.Each(ctx, func(each func(string, func([]any) error) error) error { return sqlite.Export(ctx, path, each) }); err != nil {
		t.Fatal(err)
	}
	file, err := sqlite.ReadFile(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	again := opened(t, c.Database())
	defer again.Close()
	restore := func() error {
		return again.Restore(ctx, "it was restored", func(table string, put func([]any) error) error { return tables.Each(ctx, file.DB, table, put) })
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if err := restore(); err == nil {
		t.Fatal("restored over a record")
	}
	for name, to := range map[string]record.Store{"the file": file, "the database again": again} {
		want, _ := s.Events(ctx, 0, 1000)
		got, err := to.Events(ctx, 0, int(int64(len(want))))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: events differ: %v", name, err)
		}
		for i := range 30 {
			a, _ := s.ByDevice(ctx, fmt.Sprint("dev-", i))
			b, err := to.ByDevice(ctx, fmt.Sprint("dev-", i))
			if err != nil || fmt.Sprint(a) != fmt.Sprint(b) || a.DeviceID != fmt.Sprint("Dev-", i) {
				t.Errorf("%s: %+v is not %+v (%v)", name, b, a, err)
			}
		}
		if last, err := to.LatestCRL(ctx, recordtest.Issuer); err != nil || last.Number != 8 {
			t.Errorf("%s: %+v, %v", name, last, err)
		}
	}
	if _, _, err := again.Begin(ctx, recordtest.Intent("new", "knew")); !errors.Is(err, record.ErrHeld) {
		t.Errorf("not held: %v", err)
	}
	if err := again.Accept(ctx, "operator olga", "x"); err != nil {
		t.Fatal(err)
	}
	last, _ := again.Sequence(ctx)
	if r := recordtest.Issue(t, again, recordtest.Intent("new", "knew"), "der"); r.Sequence != last+1 {
		t.Errorf("number %d after %d", r.Sequence, last)
	}
}

// TestConfig: passwords stand in no configuration, and nobody on the way reads or changes what is said.
func TestConfig(t *testing.T) {
	for _, c := range []struct{ database, says string }{
		{"host=/run/x dbname=d password=secret", "holds a password"},
		{"postgres://u:password@127.0.0.1/d", "holds a password"},
		{"host=db.example dbname=d", "not encrypted"},
		{"host=db.example dbname=d sslmode=require", "not encrypted"},
		{"host=db.example dbname=d sslmode=prefer", "not encrypted"},
		{"host=/run/x,db.example dbname=d sslmode=disable", "not encrypted"},
		{"host=db.example port=hello", "no connection string"},
		{"host=db.example dbname=d sslmode=verify-full", ""},
		{"host=/run/postgresql dbname=d", ""}, {"host=127.0.0.1 dbname=d sslmode=disable", ""}, {"host=localhost dbname=d", ""},
	} {
		_, err := pgpool.Parse(pgpool.Config{Section: "store", Database: c.database})
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.database, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || advice.KindOf(err) != advice.Usage) {
			t.Errorf("%s: %v", c.database, err)
		}
	}
}

// TestForeignDatabase: a database that is not ours, or a newer release's, is refused and not changed.
func TestForeignDatabase(t *testing.T) {
	ctx, c := context.Background(), postgrestest.Start(t)
	base := c.Database()
	c.SQL("base1", "CREATE TABLE theirs (x int)")
	if _, err := Open(ctx, Config{Database: base}); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("%v", err)
	}
	if got := c.SQL("base1", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "1" {
		t.Errorf("%s tables", got)
	}
	base = c.Database()
	opened(t, base).Close()
	c.SQL("base2", fmt.Sprintf("INSERT INTO version VALUES (%d, 0)", Version+1))
	if _, err := Open(ctx, Config{Database: base}); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("%v", err)
	}
}

// TestLeaderLosesConnection: who leads is told when the database ends his session, and another can lead.
func TestLeaderLosesConnection(t *testing.T) {
	ctx, c := context.Background(), postgrestest.Start(t)
	base := c.Database()
	one, two := opened(t, base), opened(t, base)
	defer one.Close()
	defer two.Close()
	leading, release, err := one.Lead(ctx, "feeder")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	c.SQL("base1", "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory'")
	_, free, err := two.Lead(ctx, "feeder")
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	<-leading.Done()
}
