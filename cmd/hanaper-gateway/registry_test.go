package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// actSinceBackup is a site whose registry has been backed up, and has had a device blocked since. Its gateway has stopped.
func actSinceBackup(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	g := s.serve()
	defer g.stop()
	for _, args := range [][]string{{"registry", "backup", "--config", s.path("gateway.yaml"), s.path("backup.db")}, {"devices", "block", "--config", s.path("gateway.yaml"), "--why", "test", "vin-1"}} {
		if code, out, errs := run(args...); code != 0 {
			t.Fatalf("%s%s", out, errs)
		}
	}
	return s
}

// restore restores the registry from its backup.
func (s *site) restore(flags ...string) (code int, out, errs string) {
	return run(slices.Concat([]string{"registry", "restore", "--config", s.path("gateway.yaml")}, flags, []string{s.path("backup.db")})...)
}

// TestStopKeepsActs: a device is blocked in the last moment before the gateway stops, and the registry is lost. A backup from before is not put in its
// place without it being said that an act is lost.
func TestStopKeepsActs(t *testing.T) {
	s := actSinceBackup(t)
	for _, name := range []string{"devices.db", "devices.db-wal", "devices.db-shm"} {
		os.Remove(s.path(name))
	}
	code, out, errs := s.restore()
	if code != 3 {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if _, err := os.Stat(s.path("devices.db")); err == nil {
		t.Error("the refused restore put a registry in place")
	}
	code, out, errs = s.restore("--accept-loss")
	if code != 0 || !strings.Contains(out, "1 acts are lost") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

// TestOldCopyIsNoWitness: an older copy was put over the registry. It can be read, but does not know who was blocked since: a restore over it loses acts,
// and stops until that is accepted.
func TestOldCopyIsNoWitness(t *testing.T) {
	s := actSinceBackup(t)
	old, err := os.ReadFile(s.path("backup.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("devices.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"devices.db-wal", "devices.db-shm"} {
		os.Remove(s.path(name))
	}
	code, out, errs := s.restore()
	if code != 3 || out != "" || !strings.Contains(errs, "1 more") || !strings.Contains(errs, "--accept-loss") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if aside, err := filepath.Glob(s.path("devices.db.before-*")); err != nil || len(aside) != 0 {
		t.Errorf("the refused restore moved the registry aside: %v %v", aside, err)
	}
	if code, out, errs = s.restore("--accept-loss"); code != 0 || !strings.Contains(out, "1 acts are lost") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}
