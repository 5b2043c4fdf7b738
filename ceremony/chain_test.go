package ceremony

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// goldenChain is the golden folder "second" and the one that it carries on from, and their roster's digest.
func goldenChain(t testing.TB) (first, second map[string][]byte, roster [32]byte) {
	t.Helper()
	for _, g := range goldenFolders(t) {
		if g.name == "second" {
			files, err := readFolder(os.DirFS(g.dir))
			if err != nil {
				t.Fatal(err)
			}
			return under(files, earlierDir), files, g.anchor
		}
	}
	t.Fatal("there is no golden folder second")
	return nil, nil, roster
}

func folders(list ...map[string][]byte) []ChainFolder {
	var given []ChainFolder
	for i, files := range list {
		given = append(given, ChainFolder{"folder-" + string(rune('a'+i)), memory(files)})
	}
	return given
}

func sumOf(files map[string][]byte) *[32]byte {
	d := [32]byte(quorum.Sum(files[checkpointFile]))
	return &d
}

// TestChain: the folders of a chain verify as one, in any order, and the last one alone is the chain.
func TestChain(t *testing.T) {
	t.Parallel()
	first, second, roster := goldenChain(t)
	for _, c := range []struct {
		name    string
		given   []ChainFolder
		anchors ChainAnchors
		of      []int
		fresh   []bool
	}{
		{"both", folders(first, second), ChainAnchors{Roster: &roster}, []int{1, 1}, []bool{true, true}},
		{"the other way round", folders(second, first), ChainAnchors{Roster: &roster, Checkpoint: sumOf(second)}, []int{1, 1}, []bool{true, true}},
		{"the last alone", folders(second), ChainAnchors{Checkpoint: sumOf(second)}, []int{0, 1}, []bool{true, true}},
		{"a copy besides", folders(first, second, maps.Clone(first)), ChainAnchors{Roster: &roster}, []int{2, 1}, []bool{true, true}},
		{"since the first", folders(second), ChainAnchors{Since: sumOf(first)}, []int{0, 1}, []bool{false, true}},
		{"since the last", folders(second), ChainAnchors{Since: sumOf(second)}, []int{0, 1}, []bool{false, false}},
	} {
		r, err := VerifyChain(context.Background(), c.given, c.anchors)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(r.Ceremonies) != len(c.of) || !r.Authenticated || r.Environment != "demo" || len(r.Notes) > 0 {
			t.Errorf("%s: %+v", c.name, r)
			continue
		}
		for i, l := range r.Ceremonies {
			if len(l.Folders) != c.of[i] || l.New != c.fresh[i] || !l.Attested || l.Aborted || len(l.Signers) != 2 {
				t.Errorf("%s: ceremony %d: %+v", c.name, i, l)
			}
		}
	}
	r, err := VerifyChain(context.Background(), folders(first, second), ChainAnchors{Roster: &roster})
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, s := range r.Numbers {
		line := s.What + ":"
		for _, n := range s.Numbers {
			line += " " + n.Number
		}
		numbers = append(numbers, line)
	}
	all := strings.Join(numbers, "\n")
	for _, want := range []string{"CRLs of CN=Fleet Root,O=Demo: 1 2", "roots of the Uptane image repository: 1 2", "targets of the trust repository: 1 2"} {
		if !strings.Contains(all, want) {
			t.Errorf("numbers %s\nlack %s", all, want)
		}
	}
	// Without an anchor it is a report and an error.
	if r, err := VerifyChain(context.Background(), folders(first, second), ChainAnchors{}); r == nil || r.Authenticated || advice.KindOf(err) != advice.Unverified {
		t.Errorf("without an anchor: %+v, %v", r, err)
	}
}

// TestChainRefuses: a folder among those given that is not of the chain, or was changed, is named, whoever put it there.
func TestChainRefuses(t *testing.T) {
	t.Parallel()
	first, second, roster := goldenChain(t)
	with := func(files map[string][]byte, name string, data string) map[string][]byte {
		files = maps.Clone(files)
		if files[name] = []byte(data); data == "" {
			delete(files, name)
		}
		return files
	}
	golden := func(name string) map[string][]byte {
		files, err := readFolder(os.DirFS(goldenDir + "/1.0/" + name))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	other := [32]byte(quorum.Sum([]byte("another")))
	byRoster := ChainAnchors{Roster: &roster}
	// A ceremony that says that it carries on from the second, held by nobody.
	added := with(golden("custody"), "earlier/checkpoint", string(second[checkpointFile]))
	added["earlier/earlier/checkpoint"] = first[checkpointFile]
	for _, c := range []struct {
		name    string
		given   []ChainFolder
		anchors ChainAnchors
		want    string
	}{
		{"nothing", nil, byRoster, "there is no folder"},
		{"a changed byte in the first", folders(with(first, "artefacts/fleet-root.pem", "another"), second), byRoster, "folder-a: artefacts/fleet-root.pem"},
		{"a changed byte in the last", folders(first, with(second, "artefacts/fleet-root-crl-2.crl", "another")), byRoster, "folder-b: artefacts/fleet-root-crl-2.crl"},
		{"a changed byte in the last's copy of the first", folders(first, with(second, "earlier/artefacts/fleet-root.pem", "another")), byRoster, "folder-b: earlier/artefacts/fleet-root.pem"},
		{"a file too many", folders(with(first, "artefacts/more.pem", "more"), second), byRoster, "folder-a: artefacts/more.pem: is not of this ceremony"},
		{"a file too few", folders(with(first, "artefacts/fleet-root.pem", ""), second), byRoster, "folder-a: artefacts/fleet-root.pem"},
		{"a signature of nobody", folders(with(first, "attestations/1.dsse.json", string(first[signatureFile][:20])), second), byRoster, "folder-a: attestations/1.dsse.json"},
		{"a fork", folders(second, with(second, checkpointFile, "another checkpoint")), byRoster, "folder-a and folder-b are a fork"},
		{"another chain", folders(second, golden("custody")), byRoster, "no ceremony in common"},
		{"a later ceremony that was never held", folders(second, added), byRoster, "folder-b: "},
		{"a rehearsal", folders(golden("rehearsal")), ChainAnchors{Checkpoint: sumOf(golden("rehearsal"))}, "REHEARSAL"},
		{"another roster", folders(first, second), ChainAnchors{Roster: &other}, "folder-b: roster.json"},
		{"another end", folders(first, second), ChainAnchors{Roster: &roster, Checkpoint: &other}, "is the last of the chain"},
		{"an end that is not the last", folders(first, second), ChainAnchors{Roster: &roster, Checkpoint: sumOf(first)}, "is the last of the chain"},
		{"the last one is missing", folders(first), ChainAnchors{Roster: &roster, Checkpoint: sumOf(second)}, "is the last of the chain"},
		{"verified up to another", folders(first, second), ChainAnchors{Since: &other}, "checkpoint of --since"},
		{"unfinished", folders(with(first, incompleteFile, "x"), second), byRoster, "folder-a: INCOMPLETE"},
	} {
		r, err := VerifyChain(context.Background(), c.given, c.anchors)
		want := advice.Unverified
		if c.given == nil {
			want = advice.Usage
		}
		if err == nil || r != nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != want {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
	// What fewer officers signed than must agree is said, and not where it was verified before.
	r, err := VerifyChain(context.Background(), folders(golden("unattested")), ChainAnchors{Checkpoint: sumOf(golden("unattested"))})
	if r == nil || !errors.Is(err, ErrNotAttested) || r.Ceremonies[0].Attested {
		t.Errorf("unattested: %+v, %v", r, err)
	}
	if r, err := VerifyChain(context.Background(), folders(golden("unattested")), ChainAnchors{Since: sumOf(golden("unattested"))}); r == nil || err != nil {
		t.Errorf("unattested, verified before: %+v, %v", r, err)
	}
	// A folder with the signature that another copy lacks makes up for it.
	if r, err := VerifyChain(context.Background(), folders(golden("unattested"), golden("attested")), ChainAnchors{Checkpoint: sumOf(golden("attested"))}); err != nil || !r.Ceremonies[0].Attested {
		t.Errorf("attested in a copy: %+v, %v", r, err)
	}
}

// TestChainNumbers: numbers that do not rise are found by what they are of, not by what a script calls it.
func TestChainNumbers(t *testing.T) {
	t.Parallel()
	_, second, roster := goldenChain(t)
	v, err := replay(context.Background(), memory(second), Anchors{Roster: &roster})
	if err != nil {
		t.Fatal(err)
	}
	// chain is a copy of which the last ceremony may be changed.
	chain := func() []*verified {
		last, script, session, state := *v, *v.script, *v.session, *v.session.state
		last.script, last.session, session.state = &script, &session, &state
		script.steps, state.certificates = slices.Clone(script.steps), maps.Clone(state.certificates)
		return append(v.chain()[:1:1], &last)
	}
	if _, _, err := numbersOf(chain()); err != nil {
		t.Fatal(err)
	}
	step := func(v *verified, f func(Step) Step) {
		for i, st := range v.script.steps {
			v.script.steps[i].step = f(st.step)
		}
	}
	crl := func(number int64, issuer string) func(Step) Step {
		return func(s Step) Step {
			if c, ok := s.(*CRL); ok {
				changed := *c
				if changed.Number = number; issuer != "" {
					changed.Issuer = issuer
				}
				return &changed
			}
			return s
		}
	}
	for _, c := range []struct {
		name   string
		change func(now *verified)
		want   string
		note   bool
	}{
		{"a CRL number again", func(v *verified) { step(v, crl(1, "")) }, "number 1 of the CRLs of", false},
		{"a CRL number again, under another name of the issuer", func(v *verified) {
			step(v, crl(1, "fleet-root-again"))
			v.state().certificates["fleet-root-again"] = v.state().certificates["fleet-root"]
		}, "number 1 of the CRLs of", false},
		{"a version of Uptane again", func(v *verified) {
			step(v, func(s Step) Step {
				if u, ok := s.(*UptaneRoot); ok {
					changed := *u
					changed.Version = 1
					return &changed
				}
				return s
			})
		}, "number 1 of the roots of the Uptane image", false},
		{"a version of trust again", func(v *verified) { v.state().trust = v.chain()[0].state().trust }, "number 1 of the targets of the trust", false},
		{"a serial again", func(v *verified) {
			c := *v.chain()[0].state().certificates["factory-ca"]
			cert := *c.cert
			cert.Raw = []byte("another certificate")
			c.cert, c.name = &cert, "again"
			v.state().certificates["again"] = &c
			v.script.steps = append(v.script.steps, scriptStep{step: &Certificate{Name: "again"}})
		}, "was given before by the same key", false},
		{"a number left out", func(v *verified) { step(v, crl(7, "")) }, "number 7 of the CRLs of", true},
	} {
		list := chain()
		c.change(list[len(list)-1])
		_, notes, err := numbersOf(list)
		if c.note && (err != nil || len(notes) != 1 || !strings.Contains(notes[0], c.want)) {
			t.Errorf("%s: %v, %v", c.name, notes, err)
		}
		if !c.note && (err == nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != advice.Unverified) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestChainFork: two ceremonies that carry on from one, each held by the officers on a machine of its own, verify alone and
// not together.
func TestChainFork(t *testing.T) {
	s := second(t)
	roster := s.roster.Digest()
	between := strings.Replace(keysOnly, "tokens:", "earlier: {folder: out, checkpoint: {{checkpoint \"out\"}}}\ntokens:", 1)
	between = strings.NewReplacer("from: 2026-11-21", "from: 2027-10-01", "until: 2026-11-22", "until: 2027-10-02", "ceremony: keys", "ceremony: between").Replace(between)
	s.now = asserted.AddDate(0, 0, 314)
	var given []ChainFolder
	first, err := readFolder(os.DirFS(s.dir + "/out"))
	if err != nil {
		t.Fatal(err)
	}
	given = append(given, ChainFolder{"first", memory(first)})
	for _, n := range []string{"a", "b"} {
		text := strings.NewReplacer("roots, algorithm", "roots, label: Key "+n+", algorithm", "label: The other", "label: "+n).Replace(between)
		c := s.config(s.plan(strings.ReplaceAll(text, "ceremony: between", "ceremony: between-"+n)))
		c.Out += "-" + n
		c.Anchor = Anchor{State: machine.At(s.dir + "/state-" + n), Earlier: sumOf(first)}
		if _, err := Run(context.Background(), c); err != nil {
			t.Fatal(err)
		}
		files, err := readFolder(os.DirFS(c.Out))
		if err != nil {
			t.Fatal(err)
		}
		given = append(given, ChainFolder{n, memory(files)})
	}
	for _, list := range [][]ChainFolder{given[:2], {given[0], given[2]}} {
		if _, err := VerifyChain(context.Background(), list, ChainAnchors{Roster: &roster}); err != nil {
			t.Errorf("%s alone: %v", list[1].Name, err)
		}
	}
	r, err := VerifyChain(context.Background(), given, ChainAnchors{Roster: &roster})
	if r != nil || err == nil || !strings.Contains(err.Error(), "a and b are a fork") || advice.KindOf(err) != advice.Unverified {
		t.Errorf("together: %+v, %v", r, err)
	}
}
