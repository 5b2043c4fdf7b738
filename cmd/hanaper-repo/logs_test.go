package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/journal"
)

const logName = "factory.example/issuance"

// logIn makes or continues an issuance log in a folder, with a record beside it, until it has this many entries; the events from
// "from" on are other ones where other is set.
func logIn(t *testing.T, dir string, entries int, other string) (vkey string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	vkey, err := journal.VerifierKey(logName, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(ctx, filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := s.Sequence(ctx)
	for ; err == nil && n < int64(entries); n++ {
		_, err = s.Append(ctx, record.Event{Kind: record.LotWas, At: time.Unix(1_764_000_000, 0), Who: "operator olga", Note: fmt.Sprintf("lot %d%s", n, other)})
	}
	if err != nil {
		t.Fatal(err)
	}
	policy, err := logbook.NewPolicy(logbook.PolicyConfig{Key: vkey})
	if err != nil {
		t.Fatal(err)
	}
	l, err := issuancelog.New(issuancelog.Config{Folder: filepath.Join(dir, "log"), Policy: policy, Key: key, Record: issuancelog.Of(s), Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	for end := time.Now().Add(time.Minute); l.State().Signed != uint64(entries); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", l.State())
		}
	}
	cancel()
	<-done
	return vkey
}

func (d *desk) publishedLog(t *testing.T) (size int64) {
	t.Helper()
	out, errs, exit := d.run("status", "--json")
	var s statusDocument
	if err := json.Unmarshal([]byte(out), &s); err != nil || exit != 0 {
		t.Fatalf("status: %d: %s%s", exit, out, errs)
	}
	if len(s.Logs) == 0 {
		return 0
	}
	return s.Logs[0].Size
}

// TestLogCheckpoints: hanaper-repo publishes the checkpoint of a log that grows, and refuses one that was cut back, forked or
// replaced: what is published stays, the evidence is kept, and CRLs go on being published.
func TestLogCheckpoints(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"cut back": func(t *testing.T, dir string) { logIn(t, dir, 200, "") },
		"forked":   func(t *testing.T, dir string) { logIn(t, dir, 200, ""); logIn(t, dir, 400, "x") },
		"the same size, another root": func(t *testing.T, dir string) {
			logIn(t, dir, 299, "")
			logIn(t, dir, 300, "x")
		},
		"another from the start": func(t *testing.T, dir string) { logIn(t, dir, 320, "y") },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.ok("init", d.path("officers"))
			logs := t.TempDir()
			vkey := logIn(t, logs, 200, "")
			d.config(fmt.Sprintf("serve: {listen: 127.0.0.1:0, interval: 100ms}\ncrls: [{folder: drop}]\nlogs: [{key: %q, folder: %q}]\n", vkey, filepath.Join(logs, "log")))
			if err := os.Mkdir(d.path("drop"), 0o755); err != nil {
				t.Fatal(err)
			}
			serve := func() (stop func() string) {
				cmd, _, errs := d.server("serve", "--config", d.path("repo.yaml"))
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				return func() string {
					_ = cmd.Process.Signal(os.Interrupt)
					_ = cmd.Wait()
					return errs.String()
				}
			}
			until := func(what string, ok func() bool) {
				t.Helper()
				for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s does not happen", what)
					}
				}
			}
			stop := serve()
			until("the first checkpoint", func() bool { return d.publishedLog(t) == 200 })
			stop()
			logIn(t, logs, 300, "")
			// A new start publishes it at once, for none was published by this process.
			stop = serve()
			until("the second checkpoint", func() bool { return d.publishedLog(t) == 300 })
			stop()
			if err := os.RemoveAll(logs); err != nil {
				t.Fatal(err)
			}
			change(t, logs)
			stop = serve()
			d.write("drop/a.crl", d.world.MakeCRL(d.world.Issuing, 7, 55))
			until("the CRL", func() bool {
				out, errs, code := d.run("status")
				return strings.Contains(out, " 7 ") && code == 1 && strings.Contains(errs, "issuance log "+logName)
			})
			said := stop()
			if n := d.publishedLog(t); n != 300 {
				t.Errorf("%d entries are published", n)
			}
			found, _ := filepath.Glob(d.path("*.refused-*.json"))
			if len(found) == 0 || !strings.Contains(said, "log "+logName) {
				t.Errorf("evidence %v; said %s", found, said)
			}
		})
	}
}
