package ceremony

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/quorum"
)

// Paper is the script as a form to be printed: what happens in each step, who does it, what is expected, and room for
// times, initials, values read back and exceptions.
//
// The form asks for nothing that the screen does not show: both ask the steps (shown). program is the one that is to run,
// with the digest that approvals name.
func (p *Plan) Paper(program Tool) *paper.Document {
	s := p.script
	steps := paper.Section{Title: "Steps", NewPage: true, Blocks: []paper.Block{paper.Text(
		"Perform the steps in this order. After each, the program shows what it read back and waits. Compare the screen with this page, write down the values, the time and your " +
			"initials, and type next. What differs is an exception: type exception, answer the questions, fill in an exception form, and go on only if the officers present agree. " +
			"To go home, type stop: resume takes the ceremony up where it stands.")}}
	entries := entriesOf(p.leaves)
	for _, st := range s.steps {
		steps.Blocks = append(steps.Blocks, p.step(st, entries))
	}
	return &paper.Document{
		Title: s.title(), Subtitle: "Script of a key ceremony, to be followed step by step and kept", Footer: s.footer(), Date: s.from,
		Sections: slices.Concat([]paper.Section{s.summary(p.roster, program, fmt.Sprintf("%d steps; %d files will be written", len(s.steps), len(p.Outputs))),
			peopleSection(p.roster), p.remarkSection(), s.tokenSection(), s.inputSection(), p.preparation(program), p.beginning(), steps}, p.closing(), []paper.Section{exceptions()}),
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

func (s *Script) summary(roster *quorum.Roster, program Tool, size string) paper.Section {
	d := quorum.Digest(s.Digest())
	facts := paper.Facts{
		{Label: "Ceremony", Value: s.config.Ceremony},
		{Label: "Environment", Value: s.config.Environment},
		{Label: "To be held", Value: formatTime(s.from) + " to " + formatTime(s.until)},
		{Label: "File", Value: filepath.Base(s.name)},
		{Label: "Size", Value: size},
		{Label: "Script SHA-256", Value: d.String(), Code: true},
		{Label: "Roster SHA-256", Value: hexSHA256(s.roster), Code: true},
		{Label: "Approvals needed", Value: fmt.Sprintf("%d of %d officers, roster epoch %d", roster.Threshold(), officers(roster), roster.Epoch())},
	}
	if program.SHA256 != "" {
		facts = append(facts, paper.Fact{Label: "Program SHA-256", Value: program.SHA256, Code: true})
	}
	return paper.Section{Title: "What this is", Blocks: []paper.Block{
		facts,
		paper.Text("The script's SHA-256 in words, read aloud and compared with the screen before anyone answers Yes:"),
		spoken(d),
	}}
}

// remarkSection gathers what nobody may overlook on the first pages.
func (p *Plan) remarkSection() paper.Section {
	sec := paper.Section{Title: "Remarks", Blocks: []paper.Block{paper.Text("What is unusual in this script. Each officer has understood every line before approving.")}}
	for _, r := range p.Remarks() {
		sec.Blocks = append(sec.Blocks, paper.Warning(r))
	}
	for _, w := range p.Warnings {
		sec.Blocks = append(sec.Blocks, paper.Warning(w))
	}
	if len(sec.Blocks) == 1 {
		return paper.Section{Title: "Remarks", Blocks: []paper.Block{paper.Text("None: no usage is unusual, and no threshold is below the quorum.")}}
	}
	return sec
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
		paper.Text("Everyone of the roster, and room for others in the room. Those present sign here, with the times at which they come and go."), t}}
}

func (s *Script) tokenSection() paper.Section {
	t := paper.Table{Head: []string{"Name", "Label", "Serial", "PINs", "Bag no.: expected / found", "Seal no.: expected / found intact", "Seal no., after"}, Weights: []float64{16, 26, 30, 22, 22, 24, 18},
		Code: []bool{false, false, true}, Height: 9}
	for _, n := range sortedKeys(s.tokens) {
		u := s.tokens[n]
		serial := u.Serial
		if serial == "" {
			serial = "given when it is initialised"
		}
		t.Rows = append(t.Rows, []string{n, u.Token, serial, s.pins(n), numbered(s.config.Tokens[n].Bag), numbered(s.config.Tokens[n].Seal), ""})
	}
	if len(t.Rows) == 0 {
		return paper.Section{Title: "Tokens", Blocks: []paper.Block{paper.Text("None.")}}
	}
	return paper.Section{Title: "Tokens", Blocks: []paper.Block{t}}
}

// numbered is an expected number with room for the one that is found.
func numbered(expected string) string {
	if expected == "" {
		return "not in the script: ........ / ........"
	}
	return expected + " / ........"
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

// preparation is what is checked before the program runs.
func (p *Plan) preparation(program Tool) paper.Section {
	s, r := p.script, p.roster
	t := paper.Table{Head: []string{"What is checked", "Found or read", "Time (UTC)", "Initials"}, Weights: []float64{84, 40, 20, 22}, Height: 9}
	checks := []string{
		"Everyone present has shown who they are, and has signed under People",
		"The machine has no network: no cable, no radio",
		"Bags and seals are intact, and their numbers are those expected under Tokens",
		"sha256sum \"$(command -v hanaper)\" prints the program's SHA-256 of the first page: " + edges(program.SHA256),
		fmt.Sprintf("The approvals of %d officers are at hand", r.Threshold()),
	}
	for _, n := range sortedKeys(s.tokens) {
		if c := s.config.Tokens[n]; c.UserShares != "" || c.SOShares != "" {
			checks = append(checks, fmt.Sprintf("Enough holders for token %s have their cards (%s)", n, s.pins(n)))
		}
	}
	for _, what := range checks {
		t.Rows = append(t.Rows, []string{what, "", "", ""})
	}
	return paper.Section{Title: "Before the program runs", Blocks: []paper.Block{t}}
}

// edges are the first and last 8 digits of a digest.
func edges(digest string) string {
	if len(digest) < 16 {
		return "(from the release, on paper)"
	}
	return digest[:8] + " ... " + digest[len(digest)-8:]
}

// Command is the command that performs the plan, with names in capitals for what the script does not say.
func (p *Plan) Command() string {
	var b strings.Builder
	b.WriteString("hanaper ceremony run --out DIR --module LIBRARY")
	for range p.roster.Threshold() {
		b.WriteString(" --approval FILE")
	}
	b.WriteString(" --officer KEY (one for each who signs)")
	if p.keepsSecrets() {
		b.WriteString(" --custodian KEY (one for each holder)")
	}
	return b.String() + " " + filepath.Base(p.script.name)
}

// keepsSecrets says whether holders of shares bring their decryption keys.
func (p *Plan) keepsSecrets() bool {
	for _, c := range p.script.config.Tokens {
		if c.UserShares != "" || c.SOShares != "" {
			return true
		}
	}
	return len(p.state.shares) > 0
}

// beginning is the command, what the program asks before the first step, and what it then shows.
func (p *Plan) beginning() paper.Section {
	s := p.script
	facts := paper.Facts{{Label: "type", Value: p.Command(), Code: true}}
	ask := func(what string) { facts = append(facts, paper.Fact{Label: "asks", Value: strings.TrimSpace(what)}) }
	facts = append(facts, paper.Fact{Label: "the clock", Value: "one that all present trust, from which one of them reads the time aloud"})
	ask(AskTime)
	facts = append(facts, paper.Fact{Label: "time answered (UTC)"})
	facts = append(facts, paper.Fact{Label: "shows", Value: "the program's SHA-256, the script's words: read aloud and compared with the first page"})
	ask(AskBegin)
	ask("the passphrase or PIN of each --officer key")
	if p.keepsSecrets() {
		ask("the passphrase or PIN of each --custodian key")
	}
	for _, n := range s.tokensAtStart() {
		if s.config.Tokens[n].UserShares == "" {
			ask("PIN of " + hsm.TokenInfo{Label: s.tokens[n].Token, Serial: s.tokens[n].Serial}.Name() + ":")
		}
	}
	ask(AskPresent)
	ask(AskSeal)
	if seen := p.shown[0]; seen != nil {
		facts = append(facts, seen.blank()...)
	}
	ask(AskStop)
	return paper.Section{Title: "The program is started", NewPage: true, Blocks: []paper.Block{facts}}
}

func (p *Plan) closing() []paper.Section {
	return []paper.Section{{Title: "After the last step", Blocks: []paper.Block{
		paper.Facts{{Label: "asks", Value: strings.TrimSpace(AskException)}, {Label: "asks", Value: strings.TrimSpace(AskDeviation)},
			{Label: EndedLabel}, {Label: EntriesLabel}, {Label: CheckpointLabel}, {Label: ExceptionsLabel},
			{Label: "type", Value: fmt.Sprintf("hanaper ceremony verify --roster %x DIR", p.roster.Digest()), Code: true},
			{Label: "Copies of the folder, and who took them"}},
		paper.Text("Do the last on another machine as well. Bag and seal the tokens, and write the new numbers under Tokens."),
	}}, {Title: "We were present, saw this script performed, and wrote down all that differed", Blocks: []paper.Block{
		paper.Table{Head: []string{"Name", "Role", "Date and time (UTC)", "Signature"}, Weights: []float64{40, 25, 35, 60}, Height: 11, Rows: make([][]string, 6)},
	}}}
}

// What the screen shows at the end, and the form has boxes for.
const (
	EndedLabel      = "Ended (UTC)"
	TranscriptLabel = "Digest of the transcript so far"
	EntriesLabel    = "Entries of the transcript"
	CheckpointLabel = "SHA-256 of the checkpoint" + ends
	ExceptionsLabel = "Exceptions recorded"
)

// label is a question as the label of a box.
func label(question string) string { return strings.TrimSuffix(question, ": ") }

func exceptions() paper.Section {
	sec := paper.Section{Title: "Exceptions", NewPage: true, Blocks: []paper.Block{
		paper.Text("One form for each thing that differed from this script. Copy the page if there are more.")}}
	for range 2 {
		sec.Blocks = append(sec.Blocks, paper.Form{Title: "Exception form", Rows: []paper.FormRow{
			{Height: 11, Boxes: []paper.Box{{Label: "Exception no."}, {Label: "Step no."}, {Label: "Time (UTC)", Weight: 2}, {Label: label(AskReportedBy), Weight: 2}}},
			{Height: 26, Boxes: []paper.Box{{Label: label(AskExpected)}, {Label: label(AskHappened)}}},
			{Height: 26, Boxes: []paper.Box{{Label: label(AskDecided)}}},
			{Height: 11, Boxes: []paper.Box{{Label: "Token, bag or seal concerned"}, {Label: "Went on / aborted"}, {Label: "Time (UTC)"}}},
			{Height: 13, Boxes: []paper.Box{{Label: "Officer"}, {Label: "Officer"}, {Label: "Witness"}}},
		}})
	}
	return sec
}
