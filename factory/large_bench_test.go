package factory_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hanaper/hanaper/factory/record/recordtest"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/bench"
)

// fillStore makes a store of so many devices.
func fillStore(b *testing.B, dir string, n int) {
	s, err := sqlite.Open(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, sqlite.File))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	prepared := map[string]*sql.Stmt{}
	recordtest.Fill(b, func(query string, args ...any) error {
		if prepared[query] == nil {
			if prepared[query], err = conn.PrepareContext(context.Background(), query); err != nil {
				return err
			}
		}
		_, err := prepared[query].Exec(args...)
		return err
	}, 0, n)
	if _, err := conn.ExecContext(b.Context(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCompareLarge: enrolments over HTTPS on 16 connections, all durable, by a hanaperd whose store has a million devices (HANAPER_DEVICES: as many as
// that says), beside one that began empty.
func BenchmarkCompareLarge(b *testing.B) {
	devices := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("HANAPER_DEVICES")); err == nil && n > 0 {
		devices = n
	}
	large := serversOn(b, 1, "", func(dir string) { fillStore(b, filepath.Join(dir, "state"), devices) }).side(b, "enroll-large")
	empty := serversFor(b, 1, "").side(b, "enroll-empty")
	bench.Compare(b, "large/empty", "certificates/s", large, empty)
}
