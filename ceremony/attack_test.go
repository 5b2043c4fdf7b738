package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// world is where the attacks take place: a ceremony that has ended, one that carries on from it and was cut short, and one
// that was aborted, all performed on one machine.
type world struct {
	*stage
	first, cut, aborted map[string][]byte
	opened              int
}

func (w *world) open(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
	w.opened++
	return w.stage.open(ctx, name, uri, pin)
}

// inventory says what is in the tokens, to the last attribute.
func (w *world) inventory() string {
	w.t.Helper()
	var all []string
	for name, b := range w.boards {
		t, err := w.stage.open(context.Background(), name, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		keys, err := t.Keys(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, k := range keys {
			data, _ := json.Marshal(k.Attributes())
			der, _, _ := marshalSPKI(k.Public())
			all = append(all, fmt.Sprintf("%s %s %x", name, data, der))
		}
		_ = t.Close()
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{stage: second(t)}
	cutShort := func(c RunConfig, n int64) {
		t.Helper()
		appending = func(entry int64) error {
			if entry == n {
				return errCut
			}
			return nil
		}
		defer func() { appending = nil }()
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), errCut.Error()) {
			t.Fatal(err)
		}
	}
	now, id := w.now, w.Ceremony
	w.now = asserted
	c := w.config(w.plan(strings.Replace(keysOnly, "ceremony: keys", "ceremony: aborted", 1)))
	c.Out += "-aborted"
	cutShort(c, 9)
	if err := w.goOn("abort", c); err != nil {
		t.Fatal(err)
	}
	w.now, w.Ceremony = now, id
	c = w.config(w.plan(w.secondScript()))
	c.Out += "-2"
	cutShort(c, 17)
	w.first, w.cut, w.aborted = tree(t, filepath.Join(w.dir, "out")), tree(t, c.Out), tree(t, filepath.Join(w.dir, "out-aborted"))
	return w
}

// goOn resumes or aborts a folder, as the program does.
func (s *stage) goOn(verb string, c RunConfig) error {
	if verb == "abort" {
		st, err := Abandoned(c.Out, c.Anchor)
		if err != nil {
			return err
		}
		c.Plan, c.Approvals = st.Plan, st.Approvals
		_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }})
		return err
	}
	if err := unfinished(&c); err != nil {
		return err
	}
	_, err := Resume(context.Background(), c)
	return err
}

// entries gives the leaves of a folder's transcript.
func entries(t testing.TB, files map[string][]byte) [][]byte {
	t.Helper()
	r, err := journal.Parse(files[transcriptFile])
	if err != nil {
		t.Fatal(err)
	}
	return r.Leaves()
}

// with is a copy of a folder with the transcript made of these leaves.
func (w *world) with(files map[string][]byte, leaves [][]byte) map[string][]byte {
	w.t.Helper()
	r, err := journal.Parse(files[transcriptFile])
	if err != nil {
		w.t.Fatal(err)
	}
	files = maps.Clone(files)
	files[transcriptFile] = journalOf(w.t, r.Origin(), leaves)
	return files
}

// stripped is a copy of a finished folder as it would be if its ceremony had been cut short after n entries.
func (w *world) stripped(files map[string][]byte, n int) map[string][]byte {
	w.t.Helper()
	all := entries(w.t, files)
	if n < 0 {
		n += len(all)
	}
	files = w.with(files, all[:n])
	files[incompleteFile] = []byte("x\n")
	for name := range files {
		if slices.Contains([]string{manifestFile, checkpointFile, signatureFile}, name) || strings.HasPrefix(name, "artefacts/") || strings.HasPrefix(name, "trust/") || strings.HasPrefix(name, "uptane/") {
			delete(files, name)
		}
	}
	return files
}

func without(files map[string][]byte, names ...string) map[string][]byte {
	files = maps.Clone(files)
	for _, n := range names {
		delete(files, n)
	}
	return files
}

func exchanged(files map[string][]byte, name string, data []byte) map[string][]byte {
	files = maps.Clone(files)
	files[name] = data
	return files
}

// attack is a folder that is not the one that this machine wrote last, or is not to be gone on with.
type attack struct {
	name   string
	folder func(*world) map[string][]byte
	// change changes what the people bring, if anything.
	change func(*world, *RunConfig)
	// says is a part of the refusal.
	says string
}

func attacks() []attack {
	restamped := func(leaf []byte) []byte {
		var l stepLeaf
		if decodeLeaf(leaf, &l, kindStep) != nil {
			return bytes.Replace(leaf, []byte("T09:00"), []byte("T09:01"), 1)
		}
		l.At = "2027-11-01T10:00:00Z"
		return encodeLeaf(&l)
	}
	list := []attack{
		{name: "a takeover, the transcript deleted", folder: func(w *world) map[string][]byte { return newForger(w.stage).takeover(w.first) }},
		{name: "a takeover, with an empty transcript", folder: func(w *world) map[string][]byte {
			files := newForger(w.stage).takeover(w.first)
			files[transcriptFile] = journalOf(w.t, "hanaper/ceremony/demo/second", nil)
			return files
		}},
		{name: "a takeover, begun", folder: func(w *world) map[string][]byte {
			f := newForger(w.stage)
			files := f.takeover(w.first)
			return w.begun(f, files)
		}},
		{name: "the genuine folder, the roster exchanged", folder: func(w *world) map[string][]byte {
			return exchanged(w.cut, rosterFile, newForger(w.stage).roster.Data())
		}},
		{name: "the genuine transcript under a forged script and roster", folder: func(w *world) map[string][]byte {
			files := newForger(w.stage).takeover(w.first)
			files[transcriptFile] = w.cut[transcriptFile]
			return files
		}},
		{name: "an input exchanged", folder: func(w *world) map[string][]byte {
			return exchanged(w.cut, "inputs/factory-2-csr", w.first["inputs/factory-csr"])
		}},
		{name: "an approval exchanged for another officer's", folder: func(w *world) map[string][]byte {
			return exchanged(w.cut, "approvals/2.json", w.approveAs(w.planOf(w.cut), w.nonceOf(w.cut), 3)[2])
		}},
		{name: "an approval added", folder: func(w *world) map[string][]byte {
			return exchanged(w.cut, "approvals/3.json", w.approveAs(w.planOf(w.cut), w.nonceOf(w.cut), 3)[2])
		}},
		{name: "genuine approvals of a second run", folder: func(w *world) map[string][]byte {
			files := without(w.cut, transcriptFile)
			for i, a := range w.approvals(w.planOf(w.cut), 2) {
				files[fmt.Sprintf("approvals/%d.json", i+1)] = a
			}
			return files
		}},
		{name: "an approval taken away", folder: func(w *world) map[string][]byte { return without(w.cut, "approvals/2.json") }},
		{name: "the transcript deleted", folder: func(w *world) map[string][]byte { return without(w.cut, transcriptFile) }},
		{name: "the transcript emptied", folder: func(w *world) map[string][]byte { return w.with(w.cut, nil) }},
		{name: "the transcript without a byte", folder: func(w *world) map[string][]byte { return exchanged(w.cut, transcriptFile, nil) }},
		{name: "the transcript torn in its last entry", folder: func(w *world) map[string][]byte {
			data := w.cut[transcriptFile]
			return exchanged(w.cut, transcriptFile, data[:len(data)-20])
		}},
		{name: "the transcript torn in its last head", folder: func(w *world) map[string][]byte {
			all := entries(w.t, w.cut)
			short := w.with(w.cut, all[:len(all)-1])
			return exchanged(short, transcriptFile, w.cut[transcriptFile][:len(short[transcriptFile])+7])
		}},
		{name: "the last entry exchanged", folder: func(w *world) map[string][]byte {
			all := slices.Clone(entries(w.t, w.cut))
			all[len(all)-1] = restamped(all[len(all)-1])
			return w.with(w.cut, all)
		}},
		{name: "a middle entry exchanged", folder: func(w *world) map[string][]byte {
			all := slices.Clone(entries(w.t, w.cut))
			all[len(all)/2] = bytes.Replace(all[len(all)/2], []byte(`"at":"2027-11-01T09`), []byte(`"at":"2027-11-01T10`), 1)
			return w.with(w.cut, all)
		}},
		{name: "an entry added", folder: func(w *world) map[string][]byte {
			all := entries(w.t, w.cut)
			h, _ := headOf(all[len(all)-1])
			return w.with(w.cut, append(slices.Clone(all), encodeLeaf(&serialLeaf{Head: Head{Kind: kindSerial, Step: h.Step, At: h.At}, For: "factory-ca-2", Serial: strings.Repeat("4a", 20)})))
		}},
		{name: "a resumption added", folder: func(w *world) map[string][]byte {
			all := entries(w.t, w.cut)
			h, _ := headOf(all[len(all)-1])
			return w.with(w.cut, append(slices.Clone(all), encodeLeaf(&resumedLeaf{Head: Head{Kind: kindResumed, Step: h.Step, At: h.At}, Asserted: h.At, Tool: w.tool})))
		}},
		{name: "a key intent added, for a key that is there", folder: func(w *world) map[string][]byte {
			// What an abort would destroy.
			all := entries(w.t, w.cut)
			h, _ := headOf(all[len(all)-1])
			var k keyIntentLeaf
			for _, l := range entries(w.t, w.first) {
				if decodeLeaf(l, &k, kindKeyIntent) == nil {
					break
				}
			}
			k.Head = Head{Kind: kindKeyIntent, Step: h.Step, At: h.At}
			return w.with(w.cut, append(slices.Clone(all), encodeLeaf(&k)))
		}},
		{name: "the transcript of another ceremony", folder: func(w *world) map[string][]byte {
			return exchanged(w.cut, transcriptFile, w.first[transcriptFile])
		}},
		{name: "the entries of another ceremony", folder: func(w *world) map[string][]byte {
			return w.with(w.cut, entries(w.t, w.first)[:17])
		}},
		{name: "the earlier folder exchanged for a forged one", folder: func(w *world) map[string][]byte {
			files := maps.Clone(w.cut)
			for n, data := range newForger(w.stage).folder(w.first) {
				files["earlier/"+n] = data
			}
			return files
		}},
		{name: "the earlier folder taken away", folder: func(w *world) map[string][]byte {
			files := maps.Clone(w.cut)
			maps.DeleteFunc(files, func(n string, _ []byte) bool { return strings.HasPrefix(n, "earlier/") })
			return files
		}},
		{name: "a finished folder, its last entry cut off", folder: func(w *world) map[string][]byte { return w.stripped(w.first, -1) }},
		{name: "a finished folder, cut back in the middle", folder: func(w *world) map[string][]byte { return w.stripped(w.first, -40) }},
		{name: "a finished folder, cut back to its beginning", folder: func(w *world) map[string][]byte { return w.stripped(w.first, 1) }},
		{name: "a finished folder, stripped", folder: func(w *world) map[string][]byte { return without(w.stripped(w.first, 1), transcriptFile) }},
		{name: "a finished folder, all its entries", folder: func(w *world) map[string][]byte { return w.stripped(w.first, len(entries(w.t, w.first))) }},
		{name: "a finished folder, made unfinished", folder: func(w *world) map[string][]byte { return exchanged(w.first, incompleteFile, []byte("x\n")) }},
		{name: "a finished folder, as it is", folder: func(w *world) map[string][]byte { return w.first }},
		{name: "an aborted folder, stripped", folder: func(w *world) map[string][]byte { return without(w.stripped(w.aborted, 1), transcriptFile) }},
		{name: "an aborted folder, cut back before the abort", folder: func(w *world) map[string][]byte { return w.stripped(w.aborted, 8) }},
		{name: "an aborted folder, cut back after the abort", folder: func(w *world) map[string][]byte { return w.stripped(w.aborted, 9) }},
		{name: "an aborted folder, made unfinished", folder: func(w *world) map[string][]byte { return exchanged(w.aborted, incompleteFile, []byte("x\n")) }},
		{name: "an empty folder", folder: func(w *world) map[string][]byte { return map[string][]byte{incompleteFile: nil} }},
		{name: "the note of an unfinished folder taken away", folder: func(w *world) map[string][]byte { return without(w.cut, incompleteFile) }},
	}
	for _, n := range []int{1, 2, 3, 5, 8, 12, 15} {
		list = append(list, attack{name: fmt.Sprintf("an older copy, of %d entries", n), folder: func(w *world) map[string][]byte {
			return w.with(w.cut, entries(w.t, w.cut)[:n])
		}})
	}
	return list
}

// planOf reads the script of a folder.
func (w *world) planOf(files map[string][]byte) *Script {
	w.t.Helper()
	s, err := loadCopy(files)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) nonceOf(files map[string][]byte) string {
	w.t.Helper()
	a, err := quorum.ReadApproval(files["approvals/1.json"])
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Nonce
}

// begun adds a transcript that begins to a forged folder.
func (w *world) begun(f *forger, files map[string][]byte) map[string][]byte {
	w.t.Helper()
	v := &verified{files: files}
	begin, err := firstLeaf(w.planOf(files), f.roster, v.approvals(), nil, w.tool, w.now, false)
	if err != nil {
		w.t.Fatal(err)
	}
	begin.Kind, begin.At, begin.Answers = kindBegin, formatTime(w.now), "terminal"
	for _, k := range w.officers[:2] {
		_, o, _ := f.roster.Signer(k)
		begin.Officers = append(begin.Officers, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	files[transcriptFile] = journalOf(w.t, "hanaper/ceremony/demo/second", [][]byte{encodeLeaf(&begin)})
	return files
}

// TestAttacks resumes and aborts folders that were forged, stripped, shortened, lengthened, exchanged and replayed, with
// honest officers and the genuine tokens at hand. No token is opened, none has changed in the end, and nothing is written.
func TestAttacks(t *testing.T) {
	w := newWorld(t)
	before := w.inventory()
	tried := 0
	for i, a := range attacks() {
		for _, verb := range []string{"resume", "abort"} {
			tried++
			t.Run(a.name+", "+verb, func(t *testing.T) {
				w.t = t
				dir := filepath.Join(w.dir, fmt.Sprintf("attack-%d-%s", i, verb))
				put(t, dir, a.folder(w))
				now := w.now
				if strings.HasPrefix(a.name, "a finished") || strings.HasPrefix(a.name, "an aborted") {
					now = asserted
				}
				c := RunConfig{Out: dir, Asserted: now.Add(30 * time.Minute), Officers: []crypto.Signer{w.officers[0], w.officers[1]}, Open: w.open, Tool: w.tool, Anchor: w.anchor()}
				if a.change != nil {
					a.change(w, &c)
				}
				folder, state := tree(t, dir), tree(t, filepath.Join(w.dir, "state"))
				w.opened = 0
				err := w.goOn(verb, c)
				if err == nil || !strings.Contains(err.Error(), a.says) {
					t.Errorf("not refused by %q: %v", a.says, err)
				}
				if w.opened > 0 {
					t.Errorf("%d tokens were opened (%v)", w.opened, err)
				}
				if got := tree(t, dir); !maps.EqualFunc(got, folder, bytes.Equal) {
					t.Errorf("the folder was changed (%v)", err)
				}
				if got := tree(t, filepath.Join(w.dir, "state")); !maps.EqualFunc(got, state, bytes.Equal) {
					t.Errorf("the state was changed (%v)", err)
				}
			})
		}
	}
	w.t = t
	if w.inventory() != before {
		t.Error("an object of a token changed")
	}
	if tried < 40 {
		t.Errorf("only %d attacks", tried)
	}
}
