package ceremony

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

// holds asks for texts in both forms of a document.
func holds(t *testing.T, d *paper.Document, want ...string) {
	t.Helper()
	pdf, html, _ := printed(t, d)
	for _, w := range want {
		if !strings.Contains(html, squeeze(w)) {
			t.Errorf("not in the HTML: %q", w)
		}
		if !strings.Contains(pdf, squeeze(w)) {
			t.Errorf("not in the PDF: %q", w)
		}
	}
}

// TestRecordCustody: what a custody ceremony prints before and records after, every step and every remark.
func TestRecordCustody(t *testing.T) {
	s, _, c := custodyStage(t)
	var want []string
	for _, st := range c.Plan.Steps {
		want = append(want, st.Describe)
	}
	holds(t, c.Plan.Paper(Tool{}), append(want, "serial of token", "The holders (", "put in their cards when asked", "agree aloud")...)
	c.Remarks = func(when string) ([]Remark, error) {
		if when == AtBegin {
			return []Remark{{"present", "Dora of the auditors <dora@example.com>"}, {"seal", "bag 4711, seal 0815"}}, nil
		}
		return []Remark{{"exception", "the lamp failed at step 3; Łukasz lit a candle"}, {"note", "no other"}}, nil
	}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	d, err := Record(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	holds(t, d, append(want, "Dora of the auditors <dora@example.com>", "bag 4711, seal 0815", "the lamp failed at step 3; ", "asz lit a candle", "no other", "destroy-intent", "restore-intent")...)
	for _, sec := range d.Sections {
		if sec.Title == "Exceptions" && !strings.Contains(fmt.Sprint(sec.Blocks), "candle") || sec.Title == "Remarks of the people present" && !strings.Contains(fmt.Sprint(sec.Blocks), "4711") {
			t.Errorf("%s: %v", sec.Title, sec.Blocks)
		}
	}
}

// TestRecordEntries: every entry of a transcript is a row of its record, once, but for the two that open and close a step.
func TestRecordEntries(t *testing.T) {
	files, anchor := finishedFolder(t)
	log, err := journal.Parse(files[transcriptFile])
	if err != nil {
		t.Fatal(err)
	}
	d, err := Record(context.Background(), memory(files), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	count := func(table *paper.Table) {
		for _, r := range table.Rows {
			rows[r[0]]++
		}
	}
	for _, sec := range d.Sections {
		for _, b := range sec.Blocks {
			if st, ok := b.(paper.Step); ok && st.Log != nil {
				count(st.Log)
			} else if table, ok := b.(paper.Table); ok && len(table.Head) > 0 && table.Head[0] == "Entry" {
				count(&table)
			}
		}
	}
	for i, data := range log.Leaves() {
		h, err := headOf(data)
		if err != nil {
			t.Fatal(err)
		}
		want := 1
		if h.Kind == kindStep || h.Kind == kindStepDone {
			want = 0
		}
		if got := rows[fmt.Sprint(i)]; got != want {
			t.Errorf("entry %d (%s) stands %d times in the record", i, h.Kind, got)
		}
	}
}

// TestRecordCutShort: the record of an aborted ceremony says where it ended, that of a resumed one who went on.
func TestRecordCutShort(t *testing.T) {
	for _, abort := range []bool{false, true} {
		s := newStage(t)
		c := s.config(s.plan(s.full()))
		appending = func(entry int64) error {
			if entry == 40 {
				return errCut
			}
			return nil
		}
		_, err := Run(context.Background(), c)
		appending = nil
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		anchor := s.roster.Digest()
		if d, err := Record(context.Background(), os.DirFS(c.Out), Anchors{Roster: &anchor}); err == nil || d != nil {
			t.Fatal("an unfinished folder has a record")
		}
		c.Asserted, c.Officers = asserted.Add(time.Hour), s.officers[1:]
		if err = unfinished(&c); err != nil {
			t.Fatal(err)
		}
		if abort {
			_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "the power was cut", Agree: func(Aborting) error { return nil }})
		} else {
			_, err = Resume(context.Background(), c)
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := Record(context.Background(), os.DirFS(c.Out), Anchors{Roster: &anchor})
		if err != nil {
			t.Fatal(err)
		}
		if abort {
			holds(t, d, "ABORTED", "aborted: it left no artefact", "the power was cut", "Not reached: the ceremony was aborted", "Begun and not finished")
		} else {
			holds(t, d, "performed to the end", "resumed", "2026-11-21T10:00:00Z", "Those present when the run was taken up last")
		}
	}
}

func TestRecordRehearsal(t *testing.T) {
	s, stand := newStage(t), newStage(t)
	c := RunConfig{Plan: s.plan(s.full()), Out: filepath.Join(s.dir, "rehearsal"), Asserted: asserted, Tool: s.tool, Rehearsal: true,
		Open: func(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
			b := stand.boards[name]
			tok, err := stand.open(ctx, name, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
			return relabelled{tok, uri.Token}, err
		}}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	d, err := Record(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor})
	if err == nil || advice.KindOf(err) != advice.Unverified || d == nil || d.Notice != "REHEARSAL" {
		t.Fatalf("%v", err)
	}
	holds(t, d, "REHEARSAL", "a rehearsal on throw-away tokens", "Nobody: nothing was approved or signed")
}

// TestPaperOfSecond: the script that carries on from another, and its record.
func TestPaperOfSecond(t *testing.T) {
	s := second(t)
	p := s.plan(s.secondScript())
	holds(t, p.Paper(Tool{}), "(the earlier ceremony)", "take up the key", "DESTROY the key", "Ceremony second", "revoked.1.certificate", "superseded")
	c := s.config(p)
	c.Out += "-2"
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	old, err := OpenScript(filepath.Join(s.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	now, err := OpenScript(result.Out)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(Compare(old, now))
	for _, want := range []string{"head changed earlier", "input removed factory-csr", "input added factory-2-csr", "token removed online", "step added destroy-key image-root-key"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	anchor := s.roster.Digest()
	d, err := Record(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	holds(t, d, "found", "destroyed", "image-root-key")
}
