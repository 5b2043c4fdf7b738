package factory_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/postgres"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// TestIndexMadeAnew: of the database only an index is damaged. The log names it, no new device is enrolled; the runbook's way out, REINDEX while
// hanaperd runs, is walked: the next reading ends the refusal, and every device has what it had.
func TestIndexMadeAnew(t *testing.T) {
	was := factory.CheckAgain(500 * time.Millisecond)
	t.Cleanup(func() { factory.CheckAgain(was) })
	ctx, p := context.Background(), newPlant(t)
	cluster := postgrestest.Start(t)
	database := cluster.Database()
	said := &said{}
	open := func() (*running, func()) {
		s, err := postgres.Open(ctx, postgres.Config{Database: database})
		if err != nil {
			t.Fatal(err)
		}
		r := serveAt(t, p, t.TempDir(), func(c *factory.ServiceConfig) { c.Store, c.Log = s, slog.New(slog.NewTextHandler(said, nil)) })
		return r, func() { s.Close() }
	}
	r, done := open()
	got := r.enroll(t, 0, 100)
	done()
	for _, name := range []string{"device_fold_key", "revocation_sequence"} {
		if name == "revocation_sequence" {
			r, done := open()
			if _, err := r.service.Revoke(ctx, "olga", revokeUnknown("5f3a")); err != nil {
				t.Fatal(err)
			}
			done()
		}
		path := filepath.Join(cluster.Dir(), "data", cluster.SQL("base1", "CHECKPOINT; SELECT pg_relation_filepath('"+name+"'::regclass)"))
		cluster.Stop()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-100] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cluster.Run()
		r, done := open()
		run, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); r.service.Run(run) }()
		r.sick(t)
		eventually(t, "the log names the index "+name, func() bool { return strings.Contains(said.String(), "index "+name+" of table") })
		if hint := r.service.Health(ctx).Store; !regexp.MustCompile(`damaged: .*`).MatchString(hint) {
			t.Errorf("%s: health says %q", name, hint)
		}
		cluster.SQL("base1", "REINDEX INDEX "+name)
		eventually(t, name+" is made anew", func() bool { return r.service.Health(ctx).Status == "ok" })
		r.same(t, got)
		stop()
		<-ended
		done()
	}
	r, done = open()
	defer done()
	r.same(t, got)
	r.same(t, r.enroll(t, 100, 103))
}
