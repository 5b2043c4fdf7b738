package postgres

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

func opened(t testing.TB, database string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{Database: database})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPostgres is the suite, with a second server on the same database.
func TestPostgres(t *testing.T) {
	c := postgrestest.Start(t)
	bases := map[string]string{}
	recordtest.Suite(t, func(t *testing.T) (record.Store, func() record.Store) {
		if bases[t.Name()] == "" {
			bases[t.Name()] = c.Database()
		}
		return opened(t, bases[t.Name()]), func() record.Store { return opened(t, bases[t.Name()]) }
	})
}

// TestUpgrade2: a database of schema 2 keeps all that it holds, has the tables of a new one, and a server of the release before enrols nobody in it.
func TestUpgrade2(t *testing.T) {
	ctx, c := context.Background(), postgrestest.Start(t)
	base := c.Database()
	dump, err := os.ReadFile("testdata/schema-2.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, string(dump)+"; SET search_path = public"); err != nil {
		t.Fatal(err)
	}
	old := `SELECT * FROM hanaper_begin('f', 'f', '', '', '', '', '', '', NULL, NULL, 1, '', '', 0, 0, 0)`
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, old); err != nil {
		t.Fatal("what the release before calls:", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is left to do
		s := opened(t, base)
		recordtest.CheckSchema2(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(ctx, old); err == nil {
		t.Error("a server of the release before enrols still")
	}
	s := opened(t, base)
	defer s.Close()
	recordtest.UseSchema2(t, s)
	shape := func(s *Store) string {
		var text string
		if err := s.pool.QueryRow(ctx, `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
 SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '') AS line FROM information_schema.columns WHERE table_schema = 'public'
 UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public') x`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	fresh := opened(t, c.Database())
	defer fresh.Close()
	if a, b := shape(s), shape(fresh); a != b {
		t.Errorf("it became\n%s\nand a new one is\n%s", a, b)
	}
}
