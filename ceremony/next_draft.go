package ceremony

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// draft is a script as it is written.
type draft struct {
	s *Status
	n Next
	// from and until are the window, ends is until when what is renewed is good.
	from, until, ends time.Time
	id, environment   string
	// used are names that mean something already, in this script or an earlier one; inputs are those of this script's inputs, and here those that
	// its steps make or take up.
	used, inputs, here map[string]bool
	// tokens are names by serial, or by label for one that is initialised; pinned are inputs by digest.
	tokens     map[string]string
	tokenLines []string
	pinned     map[string]string
	inputLines []string
	imported   map[string]bool
	steps      bytes.Buffer
}

var trailing = regexp.MustCompile(`^(.*?)(?:([- ])(\d+))?$`)

// after counts a name up: "x" is followed by "x-2", "x-2" by "x-3".
func after(name, separator string) string {
	m := trailing.FindStringSubmatch(name)
	number, err := strconv.Atoi(m[3])
	if m[1] == "" || err != nil {
		return name + separator + "2"
	}
	return m[1] + m[2] + strconv.Itoa(number+1)
}

func (d *draft) begin() error {
	d.from = d.n.From.UTC()
	d.until = d.from.AddDate(0, 0, d.n.Days)
	// A month more than a year, so that a ceremony that is late leaves nothing expired.
	d.ends = d.from.AddDate(1, 1, 0)
	d.id = d.n.Ceremony
	if d.s == nil {
		return d.beginFirst()
	}
	d.environment, d.s.without = d.s.Environment, nil
	for _, n := range d.n.Without {
		t := d.s.tokenNamed(n)
		if t == nil {
			return advice.New(advice.Usage, "see 'hanaper ceremony status'", "no ceremony used a token %s", show.Text(n))
		}
		d.s.without = append(d.s.without, t.Serial)
	}
	for _, c := range d.s.last.chain() {
		st := c.state()
		for _, names := range []iter.Seq[string]{maps.Keys(st.keys), maps.Keys(st.certificates), maps.Keys(st.crlNames), maps.Keys(st.backups), maps.Keys(st.shares), maps.Keys(c.script.inputs)} {
			for n := range names {
				d.used[n] = true
			}
		}
	}
	if d.id == "" {
		for d.id = after(d.s.Ceremony, "-"); slices.Contains(d.s.Ceremonies, d.id); {
			d.id = after(d.id, "-")
		}
	}
	return nil
}

// name gives a name that means nothing yet: base, or base with a number after it.
func (d *draft) name(base string) string {
	n := base
	for i := 2; d.used[n]; i++ {
		n = fmt.Sprintf("%s-%d", base, i)
	}
	return d.claim(n)
}

// next gives a name that means nothing yet, counted up from one of ours.
func (d *draft) next(name string) string {
	for name = after(name, "-"); d.used[name]; {
		name = after(name, "-")
	}
	return d.claim(name)
}

func (d *draft) claim(name string) string {
	d.used[name], d.here[name] = true, true
	return name
}

// step adds a step, with comments before it.
func (d *draft) step(kind string, v any, comments ...string) {
	d.comment(comments...)
	text := flow(v)
	if len(text) > 160 {
		fmt.Fprintf(&d.steps, "  - %s:\n%s", kind, block(v, "      "))
		return
	}
	fmt.Fprintf(&d.steps, "  - %s: %s\n", kind, text)
}

func (d *draft) comment(lines ...string) {
	for _, l := range lines {
		fmt.Fprintf(&d.steps, "  # %s\n", show.Line(l))
	}
}

// relative is how the script names a file.
func (d *draft) relative(file string) string {
	dir := filepath.Dir(d.n.Script)
	if rel, err := filepath.Rel(dir, file); err == nil {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(file)
}

// pin makes a file an input, once, and gives its name.
func (d *draft) pin(f NamedFile) string {
	sum := hexSHA256(f.Data)
	if n, ok := d.pinned[sum]; ok {
		return n
	}
	// A name of an earlier ceremony may be that of an input; what the steps of this one make may not.
	n := f.Name
	for d.inputs[n] || d.here[n] {
		n = after(n, "-")
	}
	d.inputs[n], d.used[n], d.pinned[sum] = true, true, n
	d.inputLines = append(d.inputLines, fmt.Sprintf("  %s: {file: %s, sha256: %s}", n, scalar(d.relative(f.File)), sum))
	return n
}

// pinEarlier pins a file that lies in the folder already, found by its digest.
func (d *draft) pinEarlier(name, sum string) (string, error) {
	sum = strings.TrimPrefix(sum, "sha256:")
	best := ""
	for n, data := range d.s.last.files {
		if hexSHA256(data) == sum && (best == "" || len(n) < len(best) || len(n) == len(best) && n < best) {
			best = n
		}
	}
	for _, f := range d.n.Shares {
		if best == "" && hexSHA256(f.Data) == sum {
			return d.pin(NamedFile{Name: name, File: f.File, Data: f.Data}), nil
		}
	}
	if best == "" {
		return "", advice.New(advice.Refused, d.s.fromTranscript(sum), "the file of %s with the SHA-256 %s is not in the folder", show.Text(name), show.Text(sum))
	}
	return d.pin(NamedFile{Name: name, File: filepath.Join(d.n.Folder, filepath.FromSlash(best)), Data: d.s.last.files[best]}), nil
}

// token gives a token's name in this script, with the shares that hold its PINs.
func (d *draft) token(serial string) (string, error) {
	if n, ok := d.tokens[serial]; ok {
		return n, nil
	}
	t := d.s.tokenOf(serial)
	if t == nil {
		return "", fmt.Errorf("no ceremony used a token with the serial %s", show.Text(serial))
	}
	name := d.tokenName(t.Label)
	line := fmt.Sprintf("  %s: {uri: %q", name, hsm.URI{Token: t.Label, Serial: t.Serial}.String())
	for _, p := range t.pins() {
		if !p.shares.Opens {
			return "", advice.New(advice.Refused, "restore its keys from their backups into another token (restore), or begin new ones",
				"token %s: nobody can put its PIN together any more: of the holders of %s only %s are officers", show.Text(t.Label), show.Text(p.shares.Name), listed(p.shares.Holders))
		}
		input, err := d.pinEarlier(p.shares.Name, p.shares.SHA256)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(", %s_shares: %s", p.purpose, input)
	}
	for _, p := range []quorum.Purpose{quorum.PurposeUser, quorum.PurposeSO} {
		if w := d.s.perhaps(serial, p); w != nil {
			input, err := d.pinEarlier(w.Name, w.SHA256)
			if err != nil {
				return "", err
			}
			d.tokenLines = append(d.tokenLines, fmt.Sprintf("  # The ceremony %s was aborted while it changed the %s PIN of %s: nobody knows which one the token has. If it refuses the one\n  # that stands here, name the shares %s instead.",
				show.Line(w.Ceremony), show.Line(string(p)), show.Line(t.Label), input))
		}
	}
	d.tokens[serial] = name
	d.tokenLines = append(d.tokenLines, line+"}")
	return name, nil
}

var noName = regexp.MustCompile(`[^a-z0-9.]+`)

// tokenName makes a token's name out of its label.
func (d *draft) tokenName(label string) string {
	name := strings.Trim(noName.ReplaceAllString(strings.ToLower(label), "-"), "-.")
	if name == "" || len(name) > maxName-4 {
		name = "token"
	}
	for slices.ContainsFunc(d.tokenLines, func(l string) bool { return strings.HasPrefix(l, "  "+name+": ") }) {
		name = after(name, "-")
	}
	return name
}

// blank declares a token that the script initialises.
func (d *draft) blank(label string) string {
	name := d.tokenName(label)
	d.tokenLines = append(d.tokenLines, fmt.Sprintf("  %s: {uri: %q}", name, hsm.URI{Token: label}.String()))
	return name
}

// text is the whole script.
func (d *draft) text(what string) []byte {
	var b strings.Builder
	line := func(parts ...string) { b.WriteString(strings.Join(parts, "") + "\n") }
	line("# A draft of `hanaper ceremony new ", d.n.Kind, "`: ", what, ".")
	if d.s != nil {
		line("# It carries on from the ceremony ", d.s.Ceremony, ", which ended ", d.s.Ended, ". What that one made, and those before it, keeps its name.")
	}
	line("# Read each line. Take out and change what is not meant; docs/spec/script.md explains each step. Then:")
	line("#   hanaper ceremony check ", show.Line(filepath.Base(d.n.Script)))
	line("# The officers approve the bytes of this file, with all that it pins.")
	line("version: 1\nceremony: ", scalar(d.id), "\nenvironment: ", scalar(d.environment), "\ntitle: ", scalar(strings.ToUpper(what[:1])+what[1:]))
	line("# The time that the officers read aloud must lie here; 31 days at most.")
	line("window: {from: ", formatTime(d.from), ", until: ", formatTime(d.until), "}")
	d.head(line)
	line("\ntokens:", orEmpty(d.tokenLines, " {}"))
	line("\ninputs:", orEmpty(d.inputLines, " {}"))
	line("\nsteps:")
	b.Write(d.steps.Bytes())
	return []byte(b.String())
}

// head writes roster and earlier.
func (d *draft) head(line func(...string)) {
	pinned := func(file, sum string) string { return "{file: " + scalar(file) + ", sha256: " + sum + "}" }
	var roster string
	if o := d.n.Officers; o != nil {
		roster = pinned(d.relative(o.File), hexSHA256(o.Data))
	} else {
		roster = pinned(path.Join(d.relative(d.n.Folder), rosterFile), d.s.Roster.SHA256)
	}
	if len(d.n.Approvals) > 0 {
		line("# The roster that replaces the last one, with the approvals of that one's officers.")
		var approvals []string
		for _, a := range d.n.Approvals {
			approvals = append(approvals, pinned(d.relative(a.File), hexSHA256(a.Data)))
		}
		roster = strings.TrimSuffix(roster, "}") + ", approvals: [" + strings.Join(approvals, ",\n  ") + "]}"
	}
	line("roster: ", roster)
	if d.s != nil {
		line("earlier: {folder: ", scalar(d.relative(d.n.Folder)), ", checkpoint: ", d.s.Checkpoint, "}")
	}
}

func orEmpty(lines []string, empty string) string {
	if len(lines) == 0 {
		return empty
	}
	return "\n" + strings.Join(lines, "\n")
}

// needed asks for what a kind is about.
func (d *draft) needed(what, flag string) (string, error) {
	if len(d.n.Names) != 1 {
		return "", advice.New(advice.Usage, "give one with "+flag, "which %s?", show.Text(what))
	}
	return d.n.Names[0], nil
}

// about is the one name that was given, or the only one that there is.
func (d *draft) about(what, flag string, only []string) (string, error) {
	if len(d.n.Names) == 0 && len(only) == 1 {
		return only[0], nil
	}
	if len(d.n.Names) == 0 && len(only) > 1 {
		return "", advice.New(advice.Usage, "give one of "+listed(only)+" with "+flag, "which %s?", show.Text(what))
	}
	return d.needed(what, flag)
}
