package ceremony

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
)

// TestRehearsal performs the byte-identical script on tokens that stand in for the script's: what comes out is marked
// everywhere, verifies as a rehearsal only, and cannot be carried on from.
func TestRehearsal(t *testing.T) {
	s := newStage(t)
	real := s.plan(s.full())
	stand := newStage(t)
	c := RunConfig{Plan: real, Out: filepath.Join(s.dir, "rehearsal"), Asserted: asserted, Tool: s.tool, Rehearsal: true,
		Open: func(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
			b := stand.boards[name]
			tok, err := stand.open(ctx, name, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
			return relabelled{tok, uri.Token}, err
		}}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if s.objects() != 0 || stand.objects() != 9 {
		t.Errorf("%d and %d keys", s.objects(), stand.objects())
	}
	report, err := s.verify(result.Out)
	if err == nil || !strings.Contains(err.Error(), "REHEARSAL") || report == nil || report.Mode != "rehearsal" || report.Authenticated {
		t.Errorf("verify: %v", err)
	}
	for _, dir := range []string{"artefacts", "trust", "uptane"} {
		_ = filepath.WalkDir(filepath.Join(result.Out, dir), func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() && !strings.HasSuffix(name, rehearsalSuffix) {
				t.Errorf("%s is not marked: %v", name, err)
			}
			return nil
		})
	}
	s.request("factory-2.csr", factory2)
	s.Ceremony = "second"
	text := strings.ReplaceAll(strings.ReplaceAll(s.secondScript(), "folder: out", "folder: rehearsal"), `{{checkpoint "out"}}`, `{{checkpoint "rehearsal"}}`)
	if _, err := s.script(text); err == nil || !strings.Contains(err.Error(), RuleRehearsal.ID) {
		t.Errorf("carried on from a rehearsal: %v", err)
	}
}

// relabelled is a token under another label.
type relabelled struct {
	hsm.Token
	label string
}

func (r relabelled) Info() hsm.TokenInfo {
	i := r.Token.Info()
	i.Label = r.label
	return i
}
