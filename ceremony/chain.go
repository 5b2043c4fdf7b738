package ceremony

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// A chain is the ceremonies of an environment, each of which carries on from the one before it. The folder of a ceremony
// holds a copy of the one before, which holds a copy of the one before that: the last folder is the whole chain.
//
// An attacker who controls some of the folders that are given can take folders away, put old ones in their place, and add
// folders of their own making. None of them decides anything before it is held against an anchor. Which folder is the last
// is read without belief; that one is then verified whole, down to the first ceremony, against the anchors, and every other
// folder must be, byte for byte, the copy that the last one holds. So a folder that was added makes the verification fail
// and is named. One thing no folder can show: that no ceremony was held after the last one given. That says the
// checkpoint's digest on the officers' paper, ChainAnchors.Checkpoint.

// ChainFolder is a folder of a chain, with the name that messages call it by.
type ChainFolder struct {
	Name   string
	Folder fs.FS
}

// ChainAnchors are digests that people compared; nil where none is given. Each that is given must hold.
type ChainAnchors struct {
	// Roster is that of a roster of the chain.
	Roster *[32]byte
	// Checkpoint is that of the checkpoint of the last ceremony.
	Checkpoint *[32]byte
	// Since is that of the checkpoint of the ceremony up to which the caller verified the chain before.
	Since *[32]byte
}

// ChainReport is what a verified chain says.
type ChainReport struct {
	Environment string `json:"environment"`
	// Authenticated is false where no anchor was given.
	Authenticated bool `json:"authenticated"`
	// Since is the checkpoint up to which the chain was verified before, as given.
	Since string `json:"since_sha256,omitempty"`
	// Ceremonies are all of the chain, from the first to the last.
	Ceremonies []ChainLink `json:"ceremonies"`
	// Numbers are those that may only rise, each with the ceremony that used it.
	Numbers []Series `json:"numbers"`
	// Notes say what a reader should know; they are no failure.
	Notes []string `json:"notes"`
}

// ChainLink is a ceremony of a chain.
type ChainLink struct {
	Ceremony string `json:"ceremony"`
	// Folders are the given ones that are of this ceremony; none where only a later folder's copy is.
	Folders    []string `json:"folders"`
	Checkpoint string   `json:"checkpoint_sha256"`
	Script     string   `json:"script_sha256"`
	Roster     string   `json:"roster_sha256"`
	// RosterBy are the officers of the roster before who approved this one, where it is another.
	RosterBy []string `json:"roster_approved_by,omitempty"`
	Asserted string   `json:"asserted"`
	Ended    string   `json:"ended"`
	Aborted  bool     `json:"aborted"`
	Attested bool     `json:"attested"`
	// Signers signed the transcript, then or later.
	Signers []string `json:"signers"`
	// New is false for a ceremony up to Since.
	New bool `json:"new"`
}

// VerifyChain verifies the folders as one chain, in whatever order they are given: every folder as Verify does, no folder
// beside the chain (a fork, or another environment's), each roster approved by the one before it, and each number above the
// last. Folders of ceremonies before the last need not be given, for the last holds copies of them. As with Verify, the
// error stands beside the report where no anchor is given, or where fewer officers signed the last transcript than must
// agree. Those before it are vouched for by the officers who approved what carries on from them.
func VerifyChain(ctx context.Context, folders []ChainFolder, a ChainAnchors) (*ChainReport, error) {
	r, err := verifyChain(ctx, folders, a)
	if err != nil && advice.KindOf(err) != advice.Unverified && advice.KindOf(err) != advice.Usage {
		err = advice.Wrap(advice.Unverified, err, advice.Hint(err))
	}
	return r, err
}

func verifyChain(ctx context.Context, folders []ChainFolder, a ChainAnchors) (*ChainReport, error) {
	given, err := readGiven(folders)
	if err != nil {
		return nil, err
	}
	last := given[0]
	for _, g := range given[1:] {
		if len(g.line) > len(last.line) {
			last = g
		}
	}
	for _, g := range given {
		if err := g.within(last); err != nil {
			return nil, err
		}
	}
	v, err := replay(ctx, memory(last.files), Anchors{Roster: a.Roster})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show.Text(last.name), err)
	}
	if v.rehearsal {
		return nil, advice.New(advice.Unverified, "leave it out", "%s: is a REHEARSAL: no ceremony was held", show.Text(last.name))
	}
	chain := v.chain()
	r := &ChainReport{Environment: v.script.config.Environment, Authenticated: a != ChainAnchors{}, Ceremonies: []ChainLink{}, Numbers: []Series{}, Notes: []string{}}
	if a.Checkpoint != nil && quorum.Sum(v.checkpoint) != *a.Checkpoint {
		return nil, advice.New(advice.Unverified, "look for the folder of the ceremony that ended with that checkpoint, and give it too",
			"%s: is the last of the chain, with the checkpoint %s, not the one whose digest was given", show.Text(last.name), hexSHA256(v.checkpoint))
	}
	before := 0
	if a.Since != nil {
		at := slices.IndexFunc(chain, func(c *verified) bool { return quorum.Sum(c.checkpoint) == *a.Since })
		if at < 0 {
			return nil, advice.New(advice.Unverified, "if you typed the digest rightly, this is another chain than the one that you verified: do not use it",
				"no ceremony of the chain ended with the checkpoint of --since")
		}
		before, r.Since = at+1, hexSHA256(chain[at].checkpoint)
	}
	for i, c := range chain {
		link, err := c.link(given)
		if err != nil {
			return nil, err
		}
		link.New = i >= before
		r.Ceremonies = append(r.Ceremonies, link)
	}
	if r.Numbers, r.Notes, err = numbersOf(chain); err != nil {
		return nil, err
	}
	for _, l := range r.Ceremonies[:len(chain)-1] {
		if l.New && !l.Attested {
			r.Notes = append(r.Notes, fmt.Sprintf("ceremony %s: fewer officers signed its transcript than must agree; the next one's officers approved that it carries on from it", l.Ceremony))
		}
	}
	if !r.Authenticated {
		return r, advice.New(advice.Unverified, "give the roster's digest, as people compared it, with --roster, or the checkpoint up to which you verified the chain with --since",
			"consistent, NOT authenticated: nothing says that these officers are the right ones")
	}
	if before == len(chain) {
		return r, nil
	}
	return r, v.attested()
}

// given is a folder of the chain, read.
type given struct {
	name  string
	files map[string][]byte
	// line are the checkpoints of this ceremony and those that it says it carries on from, the first ceremony's first. They
	// are read, not believed.
	line [][32]byte
}

func readGiven(folders []ChainFolder) ([]*given, error) {
	var list []*given
	for _, f := range folders {
		files, err := readFolder(f.Folder)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", show.Text(f.Name), err)
		}
		g := &given{name: f.Name, files: files}
		for at := checkpointFile; files[at] != nil && len(g.line) <= maxChain; at = earlierDir + "/" + at {
			g.line = append(g.line, quorum.Sum(files[at]))
		}
		if len(g.line) > maxChain {
			return nil, damaged(earlierDir, "%s: more than %d ceremonies lie in each other", show.Text(f.Name), maxChain)
		}
		slices.Reverse(g.line)
		list = append(list, g)
	}
	if len(list) == 0 {
		return nil, advice.New(advice.Usage, "name the folders of ceremonies, or a folder that holds them", "there is no folder of a ceremony")
	}
	return list, nil
}

// maxChain bounds the ceremonies of a chain.
const maxChain = 1000

// within asks that the folder is of a ceremony that the last one says it carries on from.
func (g *given) within(last *given) error {
	common := 0
	for common < len(g.line) && g.line[common] == last.line[common] {
		common++
	}
	hint := "keep both, and ask the officers which of them was held: each used numbers that the other used too"
	switch {
	case common == len(g.line):
		return nil
	case common == 0:
		return advice.New(advice.Unverified, "leave out what is of another environment; if both are of yours, two fleets were begun under its name",
			"%s and %s have no ceremony in common: they are of two chains", show.Text(last.name), show.Text(g.name))
	}
	from := g.line[common-1]
	return advice.New(advice.Unverified, hint, "%s and %s are a fork: two ceremonies carry on from the one with the checkpoint %x", show.Text(last.name), show.Text(g.name), from)
}

// chain lists the ceremonies that this one carries on from, and this one, the first first.
func (v *verified) chain() []*verified {
	var list []*verified
	for c := v; c != nil; {
		list = append(list, c)
		if c.script.earlier == nil {
			break
		}
		c = c.script.earlier.verified
	}
	slices.Reverse(list)
	return list
}

// link compares the given folders of this ceremony with the copy that was verified, takes their late signatures into
// account, and reports.
func (v *verified) link(all []*given) (ChainLink, error) {
	l := ChainLink{Ceremony: v.script.config.Ceremony, Folders: []string{}, Checkpoint: hexSHA256(v.checkpoint), Script: hexSHA256(v.script.raw), Roster: hexSHA256(v.script.roster),
		Asserted: v.begin.Asserted, Ended: formatTime(v.ended), Aborted: v.aborted, Signers: []string{}}
	for _, g := range all {
		if g.line[len(g.line)-1] != quorum.Sum(v.checkpoint) {
			continue
		}
		l.Folders = append(l.Folders, g.name)
		if err := v.sameAs(g); err != nil {
			return l, fmt.Errorf("%s: %w", show.Text(g.name), err)
		}
	}
	for _, o := range slices.Concat(v.signers, v.late) {
		l.Signers = append(l.Signers, o.Name)
	}
	l.Attested = v.attested() == nil
	if e := v.script.earlier; e != nil && !bytes.Equal(e.verified.script.roster, v.script.roster) {
		for _, env := range v.script.rosterApprovals {
			_, by, err := quorum.VerifyDSSE(env, quorum.RosterPayload, e.verified.roster, 0)
			if err != nil {
				return l, damaged(rosterFile, "%w", err) // loadEarlier verified it
			}
			for _, o := range by {
				if !slices.Contains(l.RosterBy, o.Name) {
					l.RosterBy = append(l.RosterBy, o.Name)
				}
			}
		}
	}
	return l, nil
}

// sameAs asks that the folder is the one that was verified, and takes in the signatures that officers added to it later.
func (v *verified) sameAs(g *given) error {
	late := func(n string) bool { return strings.HasPrefix(n, attestationsDir+"/") }
	for _, n := range sortedKeys(v.files) {
		if data, ok := g.files[n]; !late(n) && (!ok || !bytes.Equal(data, v.files[n])) {
			return damaged(n, "is missing, or is not the file that the ceremony wrote")
		}
	}
	more := &verified{files: map[string][]byte{}, roster: v.roster, checkpoint: v.checkpoint, signers: v.signers, late: v.late}
	for _, n := range sortedKeys(g.files) {
		switch _, ok := v.files[n]; {
		case late(n):
			more.files[n] = g.files[n]
		case !ok:
			return damaged(n, "is not of this ceremony")
		}
	}
	if err := more.attestations(); err != nil {
		return err
	}
	v.late = more.late
	return nil
}

// IsChainFolder says whether a folder is, or was, the folder of a ceremony: one that holds any of the files of which the
// finished or unfinished ceremony consists. A rehearsal's is told apart.
func IsChainFolder(folder fs.FS) (is, rehearsal bool) {
	for _, n := range []string{transcriptFile, checkpointFile, signatureFile, manifestFile, incompleteFile} {
		if _, err := fs.Stat(folder, n); err == nil || !errors.Is(err, fs.ErrNotExist) {
			is = true
		}
	}
	data, err := readBounded(folder, checkpointFile)
	return is, err == nil && bytes.HasPrefix(data, []byte("hanaper/rehearsal/"))
}

// IsFinished says whether a folder is that of a ceremony that has ended, and no rehearsal.
func IsFinished(folder fs.FS) bool {
	is, rehearsal := IsChainFolder(folder)
	_, err := fs.Stat(folder, incompleteFile)
	return is && !rehearsal && errors.Is(err, fs.ErrNotExist)
}
