package ceremony

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// TestQuorum: without M distinct approvals of exactly this script, these inputs, this tool, in time, nothing begins.
func TestQuorum(t *testing.T) {
	s := newStage(t)
	p := s.plan(s.full())
	good := s.approvals(p.script, 3)
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	refusal := func(change func(*RunConfig)) error {
		c := s.config(p)
		c.Approvals = good[:2]
		change(&c)
		_, err := Run(context.Background(), c)
		return err
	}
	other := func(text string) [][]byte {
		script, err := s.script(text)
		if err != nil {
			t.Fatal(err)
		}
		return s.approvals(script, 2)
	}
	used := machine.At(t.TempDir())
	first, err := quorum.ReadApproval(good[0])
	if err != nil {
		t.Fatal(err)
	}
	remember(t, used, begunBy(p.script, first.Nonce))
	byAnother := other(s.full() + "# one more byte\n")
	s.request("factory.csr", factory2)
	withInput := other(s.full())
	for _, c := range []struct {
		name   string
		change func(*RunConfig)
	}{
		{"none", func(c *RunConfig) { c.Approvals = nil }},
		{"one of two", func(c *RunConfig) { c.Approvals = good[:1] }},
		{"one officer twice", func(c *RunConfig) { c.Approvals = [][]byte{good[0], good[0]} }},
		{"one officer, two signatures", func(c *RunConfig) { c.Approvals = [][]byte{good[0], s.approvals(p.script, 1)[0]} }},
		{"of another script", func(c *RunConfig) { c.Approvals = byAnother }},
		{"of another input", func(c *RunConfig) { c.Approvals = withInput }},
		{"of another tool", func(c *RunConfig) { c.Tool.SHA256 = strings.Repeat("0", 64) }},
		{"expired", func(c *RunConfig) { c.Asserted = asserted.Add(time.Hour) }},
		{"of two nonces", func(c *RunConfig) { c.Approvals = [][]byte{good[0], s.approvals(p.script, 2)[1]} }},
		{"used before", func(c *RunConfig) { c.Anchor.State = used }},
		{"damaged", func(c *RunConfig) { c.Approvals = [][]byte{good[0], good[1][:len(good[1])-2]} }},
		{"nobody of the roster present", func(c *RunConfig) { c.Officers = []crypto.Signer{stranger} }},
		{"one officer present twice", func(c *RunConfig) { c.Officers = []crypto.Signer{s.officers[0], s.officers[0]} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			err := refusal(c.change)
			if err == nil || !strings.Contains(err.Error(), RuleQuorum.ID) || advice.KindOf(err) != advice.Refused {
				t.Errorf("got %v, want a refusal by %s", err, RuleQuorum.ID)
			}
			if _, err := os.Stat(filepath.Join(s.dir, "out")); err == nil {
				t.Error("an output folder was made")
			}
		})
	}
	s.t = t
	for _, c := range []struct {
		name   string
		change func(*RunConfig)
		want   string
	}{
		{"too early", func(c *RunConfig) { c.Asserted = asserted.AddDate(0, 0, -1) }, RuleAsserted.ID},
		{"too late", func(c *RunConfig) { c.Asserted = asserted.AddDate(0, 0, 1) }, RuleAsserted.ID},
		{"nobody present", func(c *RunConfig) { c.Officers = nil }, "no officer is present"},
		{"folder in use", func(c *RunConfig) { c.Out = s.dir }, RuleOutput.ID},
		{"folder that cannot be made", func(c *RunConfig) { c.Out = filepath.Join(s.dir, "roster.json", "out") }, RuleOutput.ID},
	} {
		if err := refusal(c.change); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	if n := s.objects(); n != 0 {
		t.Errorf("%d keys are in the tokens", n)
	}
	// Any two of the three succeed.
	for i := range 3 {
		s := newStage(t)
		p := s.plan(keysOnly)
		c := s.config(p)
		all := s.approvals(p.script, 3)
		c.Approvals = append(append([][]byte{}, all[:i]...), all[i+1:]...)
		if _, err := Run(context.Background(), c); err != nil {
			t.Errorf("without officer %d: %v", i+1, err)
		}
	}
}

// TestForgedFolder rebuilds a whole ceremony under other officers' keys: sound in itself, refused by the digest of the
// roster that people compared.
func TestForgedFolder(t *testing.T) {
	honest, forger := newStage(t), newStage(t)
	result, err := Run(context.Background(), forger.config(forger.plan(keysOnly)))
	if err != nil {
		t.Fatal(err)
	}
	anchor := honest.roster.Digest()
	if _, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), rosterFile) || advice.KindOf(err) != advice.Unverified {
		t.Errorf("a forged folder: %v", err)
	}
}

// TestRemarks: what people say is in the transcript, and free of what could mislead a reader.
func TestRemarks(t *testing.T) {
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Remarks = func(when string) ([]Remark, error) {
		if when == AtBegin {
			return []Remark{{"present", "Eve, auditor"}, {"seal", "A 0012345"}}, nil
		}
		return []Remark{{"exception", "the lamp went out at step 2"}}, nil
	}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(result.Out, transcriptFile))
	if err != nil || !strings.Contains(string(data), "the lamp went out") {
		t.Errorf("the exception is not in the transcript: %v", err)
	}
	for _, bad := range []Remark{{"gossip", "x"}, {"note", ""}, {"note", "a\nb"}, {"note", "\u202egnp.exe"}, {"note", strings.Repeat("x", maxRemark+1)}, {"note", "\xff"}} {
		if err := checkRemarks([]Remark{bad}); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

var _, strangerKey, _ = ed25519.GenerateKey(rand.Reader)
