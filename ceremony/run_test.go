package ceremony

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// keysOnly is the smallest ceremony.
const keysOnly = `version: 1
ceremony: keys
environment: demo
window: {from: 2026-11-21T00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {{file "roster.json"}}
tokens:
  roots: {uri: "{{token "roots"}}"}
steps:
  - generate-key: {name: a, token: roots, algorithm: P-256}
  - generate-key: {name: b, token: roots, label: The other key, algorithm: Ed25519}
`

func TestKeysOnly(t *testing.T) {
	s := newStage(t)
	p := s.plan(keysOnly)
	if got := s.objects(); got != 0 {
		t.Fatalf("validating left %d keys in the tokens", got)
	}
	result, err := Run(context.Background(), s.config(p))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.objects(); got != 2 {
		t.Fatalf("%d keys in the tokens, want 2", got)
	}
	anchor := s.roster.Digest()
	err = filepath.WalkDir(result.Out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o644 {
			t.Errorf("%s has mode %o: an auditor cannot read it", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Keys) != 2 || len(report.Signers) != 2 || !report.Authenticated {
		t.Errorf("report %+v", report)
	}
	report, err = Verify(context.Background(), os.DirFS(result.Out), Anchors{})
	if err == nil || !strings.Contains(err.Error(), "consistent, NOT authenticated") || advice.KindOf(err) != advice.Unverified || report == nil {
		t.Errorf("without an anchor: %v", err)
	}
	other := quorum.Sum([]byte("another"))
	if _, err = Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: (*[32]byte)(&other)}); err == nil || !strings.Contains(err.Error(), "roster.json") {
		t.Errorf("under another roster: %v", err)
	}
	// The same script again: the labels exist, and nothing is written.
	c := s.config(p)
	c.Out += "-again"
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), RuleLabel.ID) {
		t.Errorf("second run: %v", err)
	}
	if _, err := os.Stat(c.Out); err == nil {
		t.Error("the refused run left a folder")
	}
}

func TestFull(t *testing.T) {
	s := newStage(t)
	p := s.plan(s.full())
	if got := s.objects(); got != 0 {
		t.Fatalf("validating left %d keys in the tokens", got)
	}
	result, err := Run(context.Background(), s.config(p))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
}
