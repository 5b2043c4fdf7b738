package ceremony

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
)

// Record renders what a finished folder says was done, with the same steps as the script on paper, after it is verified
// as Verify does: a folder that fails gives no record. Without a roster, and for a rehearsal, record and error come
// together, and the record says on every page what it is not.
func Record(ctx context.Context, folder fs.FS, a Anchors) (*paper.Document, error) {
	v, err := replay(ctx, folder, a)
	if err != nil {
		if advice.KindOf(err) != advice.Unverified {
			err = advice.Wrap(advice.Unverified, err, advice.Hint(err))
		}
		return nil, err
	}
	d, err := v.record()
	if err != nil {
		return nil, err
	}
	switch {
	case v.rehearsal:
		d.Notice = "REHEARSAL"
		return d, advice.New(advice.Unverified, "", "a REHEARSAL, consistent in itself: no ceremony was held")
	case !a.given():
		d.Notice = "consistent, NOT authenticated"
		return d, advice.New(advice.Unverified, "give the roster's digest, as people compared it, with --roster",
			"consistent, NOT authenticated: nothing says that these officers are the right ones")
	case v.attested() != nil:
		d.Notice = "performed, NOT attested"
		return d, v.attested()
	case v.aborted:
		d.Notice = "ABORTED"
	}
	return d, nil
}

func (v *verified) record() (*paper.Document, error) {
	log, err := journal.Parse(v.files[transcriptFile])
	if err != nil {
		return nil, damaged(transcriptFile, "%w", err)
	}
	entries := entriesOf(log.Leaves())
	d := &paper.Document{Title: v.script.title(), Subtitle: "Record of a key ceremony, made from its verified transcript",
		Footer: v.script.footer(), Date: v.ended}
	summary := v.script.summary(v.roster, Tool{}, fmt.Sprintf("%d steps; %d entries; %d files written", len(v.script.steps), v.entries, len(v.session.state.order)))
	summary.Blocks = append([]paper.Block{v.outcome()}, summary.Blocks...)
	steps := paper.Section{Title: "Steps"}
	for _, st := range v.script.steps {
		steps.Blocks = append(steps.Blocks, v.recordedStep(st, entries))
	}
	d.Sections = []paper.Section{summary, v.responsibility(), v.exceptions(entries), remarked(entries), v.foundTokens(), v.script.inputSection(), steps}
	outside := paper.Section{Title: "Entries outside the steps"}
	if t := logOf(entries, func(e entry) bool { return e.head.Step == 0 }); t != nil {
		outside.Blocks = []paper.Block{*t}
	}
	d.Sections = append(d.Sections, outside, v.results())
	return d, nil
}

// outcome is how it ended.
func (v *verified) outcome() paper.Block {
	facts := paper.Facts{
		{Label: "Result", Value: "performed to the end"},
		{Label: "Time asserted at its beginning", Value: v.begin.Asserted},
		{Label: "Ended", Value: formatTime(v.ended)},
		{Label: "Answers came from", Value: v.begin.Answers},
		{Label: "Program", Value: v.begin.Tool.Version},
		{Label: "Program SHA-256", Value: v.begin.Tool.SHA256, Code: true},
		{Label: "Checkpoint SHA-256", Value: hexSHA256(v.checkpoint), Code: true},
	}
	for _, p := range v.session.platforms {
		for _, text := range p.Words() {
			facts = append(facts, paper.Fact{Label: "Machine, at " + p.When, Value: text})
		}
	}
	if v.aborted {
		facts[0].Value = "aborted: it left no artefact"
	}
	if v.rehearsal {
		facts[0].Value = "a rehearsal on throw-away tokens: " + facts[0].Value
	}
	return facts
}

// responsibility says who can be held to what.
func (v *verified) responsibility() paper.Section {
	t := paper.Table{Head: []string{"Who", "Key", "Can be held to"}, Weights: []float64{32, 36, 90}, Code: []bool{false, true}}
	for _, o := range v.begin.Approvals {
		t.Rows = append(t.Rows, []string{o.Name + " (" + o.Role + ")", o.KeyID,
			"approved before: this script with exactly these inputs, for one run until " + v.begin.Expires + " by the program named above; signed with the key"})
	}
	for _, o := range v.signers {
		t.Rows = append(t.Rows, []string{o.Name + " (" + string(o.Role) + ")", o.KeyID,
			fmt.Sprintf("was present and signed the checkpoint: all %d entries, in this order, and the digest of every file written", v.entries)})
	}
	for _, o := range v.late {
		t.Rows = append(t.Rows, []string{o.Name + " (" + string(o.Role) + ")", o.KeyID,
			fmt.Sprintf("signed the checkpoint later: all %d entries, in this order, and the digest of every file written", v.entries)})
	}
	sec := paper.Section{Title: "Who can be held to what"}
	if len(t.Rows) == 0 {
		sec.Blocks = []paper.Block{paper.Text("Nobody: nothing was approved or signed.")}
		return sec
	}
	sec.Blocks = append(sec.Blocks, t)
	if signed := v.session.resumes; len(signed) > 0 {
		sec.Blocks = append(sec.Blocks, paper.Text("Those present when the run was taken up last signed for the whole transcript, also for what others were present at before."))
	}
	return with(sec, v.presence())
}

func with(sec paper.Section, b paper.Block) paper.Section {
	sec.Blocks = append(sec.Blocks, b)
	return sec
}

func (v *verified) presence() paper.Block {
	t := paper.Table{Head: []string{"Present", "From", "Key"}, Weights: []float64{50, 50, 60}, Code: []bool{false, false, true}}
	add := func(from string, list []officerRecord) {
		for _, o := range list {
			t.Rows = append(t.Rows, []string{o.Name + " (" + o.Role + ")", from, o.KeyID[:min(16, len(o.KeyID))]})
		}
	}
	add(v.begin.Asserted, v.begin.Officers)
	for _, r := range v.session.resumes {
		add(r.Asserted, r.Officers)
	}
	return t
}

// remarksIn are the remarks of the people present whose subject is wanted, as rows.
func remarksIn(entries []entry, want func(about string) bool) [][]string {
	var rows [][]string
	for _, e := range entries {
		var l remarksLeaf
		if e.head.Kind != kindRemarks || decodeLeaf(e.data, &l, kindRemarks) != nil {
			continue
		}
		for _, r := range l.Remarks {
			if want(r.About) {
				rows = append(rows, []string{fmt.Sprint(e.index), e.head.At, r.About, r.Text})
			}
		}
	}
	return rows
}

func isException(about string) bool { return about == "exception" || about == "deviation" }

// exceptions are those that the people present had recorded, and every place where the run was cut short.
func (v *verified) exceptions(entries []entry) paper.Section {
	sec := paper.Section{Title: "Exceptions"}
	t := logOf(entries, func(e entry) bool {
		return e.head.Kind == kindResumed || e.head.Kind == kindAbort || e.head.Kind == kindException
	})
	if rows := remarksIn(entries, isException); rows != nil {
		if t == nil {
			t = logTable()
		}
		t.Rows = append(t.Rows, rows...)
	}
	if t == nil {
		return with(sec, paper.Text("None is recorded in the transcript. The printed script of the day may hold forms written by hand."))
	}
	return with(sec, *t)
}

// remarked are the other remarks: who else was present, bags and seals, notes.
func remarked(entries []entry) paper.Section {
	sec := paper.Section{Title: "Remarks of the people present"}
	t := logTable()
	if t.Rows = remarksIn(entries, func(about string) bool { return !isException(about) }); t.Rows == nil {
		return with(sec, paper.Text("None."))
	}
	return with(sec, *t)
}

func (v *verified) foundTokens() paper.Section {
	t := paper.Table{Head: []string{"Name", "Label", "Serial", "Maker and model", "Firmware"}, Weights: []float64{20, 34, 34, 44, 16}, Code: []bool{false, false, true}}
	for _, n := range sortedKeys(v.session.infos) {
		i := v.session.infos[n]
		t.Rows = append(t.Rows, []string{n, i.Label, i.Serial, strings.TrimSpace(i.Manufacturer + " " + i.Model), i.Firmware})
	}
	sec := paper.Section{Title: "Tokens"}
	if len(t.Rows) == 0 {
		return with(sec, paper.Text("None was opened."))
	}
	return with(sec, t)
}

func (v *verified) results() paper.Section {
	t := paper.Table{Head: []string{"File", "SHA-256"}, Weights: []float64{62, 90}, Code: []bool{false, true}}
	for _, n := range v.session.state.order {
		t.Rows = append(t.Rows, []string{n, hexSHA256(v.files[n])})
	}
	sec := paper.Section{Title: "Files written"}
	if len(t.Rows) == 0 {
		return with(sec, paper.Text("None."))
	}
	return with(sec, t)
}

func (v *verified) recordedStep(st scriptStep, entries []entry) paper.Step {
	page := v.script.printed(st)
	page.Who = ""
	var own []entry
	for _, e := range entries {
		if e.head.Step == st.number {
			own = append(own, e)
		}
	}
	page.Text = describedBy(own)
	page.Log = logOf(own, func(e entry) bool { return e.head.Kind != kindStep && e.head.Kind != kindStepDone })
	switch {
	case len(own) == 0:
		page.Text = st.step.describe(v.session)
		page.Warning = "Not reached: the ceremony was aborted before this step."
	case own[len(own)-1].head.Kind != kindStepDone:
		page.Warning = "Begun and not finished: the ceremony was aborted in this step."
	}
	if len(own) > 0 {
		first, last := own[0], own[len(own)-1]
		page.Boxes = []paper.Box{{Label: "Begun (UTC)", Value: first.head.At}, {Label: "Last entry (UTC)", Value: last.head.At},
			{Label: "Entries", Value: fmt.Sprintf("%d to %d", first.index, last.index)}, {Label: "Done", Value: map[bool]string{true: "as the script says", false: "not finished"}[last.head.Kind == kindStepDone]}}
	}
	return page
}

func logTable() *paper.Table {
	return &paper.Table{Head: []string{"Entry", "Time (UTC)", "What", "Recorded"}, Weights: []float64{11, 36, 22, 94}}
}

// logOf is the table of those entries that are wanted; nil if there are none.
func logOf(entries []entry, want func(entry) bool) *paper.Table {
	t := logTable()
	for _, e := range entries {
		if want(e) {
			t.Rows = append(t.Rows, []string{fmt.Sprint(e.index), e.head.At, e.head.Kind, recorded(e)})
		}
	}
	if len(t.Rows) == 0 {
		return nil
	}
	return t
}
