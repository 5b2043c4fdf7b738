package ceremony

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/quorum"
)

// Paper is the script as a form to be printed: what happens in each step, who does it, what is expected, and room for
// times, initials, values read back and exceptions.
func (p *Plan) Paper() *paper.Document {
	s := p.script
	steps := paper.Section{Title: "Steps", NewPage: true, Blocks: []paper.Block{paper.Text(
		"Perform the steps in this order. After each, compare what the screen shows with what is expected here, and write time and initials. " +
			"What differs is an exception: stop, fill in an exception form, and go on only if the officers present agree.")}}
	for _, st := range s.steps {
		steps.Blocks = append(steps.Blocks, p.step(st))
	}
	return &paper.Document{
		Title: s.title(), Subtitle: "Script of a key ceremony, to be followed step by step and kept", Footer: s.footer(), Date: s.from,
		Sections: slices.Concat([]paper.Section{s.summary(p.roster, fmt.Sprintf("%d steps; %d files will be written", len(s.steps), len(p.Outputs))),
			peopleSection(p.roster), s.tokenSection(), s.inputSection(), s.preparation(p.roster), steps}, closing(), []paper.Section{exceptions()}),
	}
}

func (s *Script) title() string {
	if s.config.Title != "" {
		return s.config.Title
	}
	return "Ceremony " + s.config.Ceremony
}

func (s *Script) footer() string { return "script SHA-256 " + hexSHA256(s.raw) }

// spoken is a digest to be read aloud.
func spoken(d quorum.Digest) paper.Grid {
	var g paper.Grid
	for i, word := range strings.Fields(d.Words()) {
		g = append(g, paper.Pair{Code: hex.EncodeToString(d[i : i+1]), Word: word})
	}
	return g
}

func (s *Script) summary(roster *quorum.Roster, size string) paper.Section {
	d := quorum.Digest(s.Digest())
	return paper.Section{Title: "What this is", Blocks: []paper.Block{
		paper.Facts{
			{Label: "Ceremony", Value: s.config.Ceremony},
			{Label: "Environment", Value: s.config.Environment},
			{Label: "To be held", Value: formatTime(s.from) + " to " + formatTime(s.until)},
			{Label: "File", Value: filepath.Base(s.name)},
			{Label: "Size", Value: size},
			{Label: "Script SHA-256", Value: d.String(), Code: true},
			{Label: "Roster SHA-256", Value: hexSHA256(s.roster), Code: true},
			{Label: "Approvals needed", Value: fmt.Sprintf("%d of %d officers, roster epoch %d", roster.Threshold(), officers(roster), roster.Epoch())},
		},
		paper.Text("The script's SHA-256 in words, read aloud and compared with the screen before anyone answers Yes:"),
		spoken(d),
	}}
}

func officers(r *quorum.Roster) int {
	n := 0
	for _, o := range r.Officers() {
		if o.Role == quorum.RoleOfficer {
			n++
		}
	}
	return n
}

func peopleSection(r *quorum.Roster) paper.Section {
	t := paper.Table{Head: []string{"Name", "Role", "Signing key", "In (UTC)", "Out (UTC)", "Signature"}, Weights: []float64{28, 14, 30, 16, 16, 40},
		Code: []bool{false, false, true}, Height: 9}
	for _, o := range r.Officers() {
		t.Rows = append(t.Rows, []string{o.Name, string(o.Role), o.KeyID[:16], "", "", ""})
	}
	for range 3 {
		t.Rows = append(t.Rows, make([]string, len(t.Head)))
	}
	return paper.Section{Title: "People", Blocks: []paper.Block{
		paper.Text("Everyone of the roster, and room for others in the room. Whoever is present signs here with the times of coming and going."), t}}
}

func (s *Script) tokenSection() paper.Section {
	t := paper.Table{Head: []string{"Name", "Label", "Serial", "PINs", "Bag no.", "Seal no., found intact", "Seal no., after"}, Weights: []float64{18, 28, 30, 24, 15, 22, 22},
		Code: []bool{false, false, true}, Height: 9}
	for _, n := range sortedKeys(s.tokens) {
		u := s.tokens[n]
		serial := u.Serial
		if serial == "" {
			serial = "given when it is initialised"
		}
		t.Rows = append(t.Rows, []string{n, u.Token, serial, s.pins(n), "", "", ""})
	}
	if len(t.Rows) == 0 {
		return paper.Section{Title: "Tokens", Blocks: []paper.Block{paper.Text("None.")}}
	}
	return paper.Section{Title: "Tokens", Blocks: []paper.Block{t}}
}

// pins says where the PINs of a token come from.
func (s *Script) pins(token string) string {
	var from []string
	if n := s.config.Tokens[token].UserShares; n != "" {
		from = append(from, "user PIN: shares "+n)
	}
	if n := s.config.Tokens[token].SOShares; n != "" {
		from = append(from, "SO PIN: shares "+n)
	}
	if from == nil {
		return "not in the script"
	}
	return strings.Join(from, "; ")
}

func (s *Script) inputSection() paper.Section {
	t := paper.Table{Head: []string{"Name", "File", "SHA-256"}, Weights: []float64{30, 30, 92}, Code: []bool{false, false, true}}
	t.Rows = append(t.Rows, []string{"(the roster)", s.config.Roster.File, hexSHA256(s.roster)})
	for i, a := range s.config.Roster.Approvals {
		t.Rows = append(t.Rows, []string{fmt.Sprintf("(approval %d of the roster)", i+1), a.File, strings.TrimPrefix(a.SHA256, "sha256:")})
	}
	if c := s.config.Earlier; c != nil {
		t.Rows = append(t.Rows, []string{"(the earlier ceremony)", c.Folder, strings.TrimPrefix(c.Checkpoint, "sha256:")})
	}
	for _, n := range sortedKeys(s.inputs) {
		t.Rows = append(t.Rows, []string{n, s.config.Inputs[n].File, hexSHA256(s.inputs[n])})
	}
	return paper.Section{Title: "Inputs", Blocks: []paper.Block{t}}
}

func (s *Script) preparation(r *quorum.Roster) paper.Section {
	t := paper.Table{Head: []string{"What is checked", "Found or read", "Time (UTC)", "Initials"}, Weights: []float64{80, 42, 20, 24}, Height: 9}
	checks := []string{
		"Everyone present has shown who they are, and has signed under People",
		"The machine has no network: no cable, no radio",
		"Bags and seals are intact, and their numbers written under Tokens",
		"The program's SHA-256 is that of the published release (its first and last 8 digits)",
		fmt.Sprintf("The approvals of %d officers are at hand", r.Threshold()),
		"The time, read aloud from a clock that all present trust (UTC)",
		"The words of the script, read aloud from the screen, are those on the first page",
	}
	for _, n := range sortedKeys(s.tokens) {
		if c := s.config.Tokens[n]; c.UserShares != "" || c.SOShares != "" {
			checks = append(checks, fmt.Sprintf("Enough holders for token %s have their cards (%s)", n, s.pins(n)))
		}
	}
	for _, what := range checks {
		t.Rows = append(t.Rows, []string{what, "", "", ""})
	}
	return paper.Section{Title: "Before the first step", Blocks: []paper.Block{t}}
}

func closing() []paper.Section {
	return []paper.Section{{Title: "After the last step", Blocks: []paper.Block{
		paper.Text("Check the result on another machine: hanaper ceremony verify --roster DIGEST DIR. Bag and seal the tokens, and write the new numbers under Tokens."),
		paper.Facts{{Label: "Ended (UTC)"}, {Label: "Entries of the transcript"}, {Label: "SHA-256 of the checkpoint, first and last 16 digits"},
			{Label: "Copies of the folder, and who took them"}, {Label: "Exceptions (number of forms)"}},
	}}, {Title: "We were present, saw this script performed, and wrote down all that differed", Blocks: []paper.Block{
		paper.Table{Head: []string{"Name", "Role", "Date and time (UTC)", "Signature"}, Weights: []float64{40, 25, 35, 60}, Height: 11, Rows: make([][]string, 6)},
	}}}
}

func exceptions() paper.Section {
	sec := paper.Section{Title: "Exceptions", NewPage: true, Blocks: []paper.Block{
		paper.Text("One form for each thing that differed from this script. Copy the page if there are more.")}}
	for range 2 {
		sec.Blocks = append(sec.Blocks, paper.Form{Title: "Exception form", Rows: []paper.FormRow{
			{Height: 11, Boxes: []paper.Box{{Label: "Exception no."}, {Label: "Step no."}, {Label: "Time (UTC)", Weight: 2}, {Label: "Reported by", Weight: 2}}},
			{Height: 26, Boxes: []paper.Box{{Label: "What was expected"}, {Label: "What happened"}}},
			{Height: 26, Boxes: []paper.Box{{Label: "What was decided and done, and why it is safe to go on"}}},
			{Height: 11, Boxes: []paper.Box{{Label: "Token, bag or seal concerned"}, {Label: "Went on / aborted"}, {Label: "Time (UTC)"}}},
			{Height: 13, Boxes: []paper.Box{{Label: "Officer"}, {Label: "Officer"}, {Label: "Witness"}}},
		}})
	}
	return sec
}
