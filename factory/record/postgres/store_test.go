package postgres

import (
	"context"
	"testing"

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
