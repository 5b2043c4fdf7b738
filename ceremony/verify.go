package ceremony

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// Report is what a verified folder says.
type Report struct {
	Ceremony    string `json:"ceremony"`
	Environment string `json:"environment"`
	Mode        string `json:"mode"`
	Answers     string `json:"answers"`
	Tool        Tool   `json:"tool"`
	Script      string `json:"script_sha256"`
	Roster      string `json:"roster_sha256"`
	Checkpoint  string `json:"checkpoint_sha256"`
	// Aborted is true for a ceremony that ended without a result.
	Aborted  bool   `json:"aborted"`
	Asserted string `json:"asserted"`
	Ended    string `json:"ended"`
	Entries  int    `json:"entries"`
	Resumed  int    `json:"resumed"`
	// Authenticated is false where no anchor was given.
	Authenticated bool            `json:"authenticated"`
	Approvals     []officerRecord `json:"approvals"`
	Signers       []officerRecord `json:"signers"`
	Steps         []PlannedStep   `json:"steps"`
	Tokens        []tokenRecord   `json:"tokens"`
	Keys          []keyRecord     `json:"keys"`
	Artefacts     []string        `json:"artefacts"`
	// Witnesses saw what people did by hand.
	Witnesses []witnessRecord `json:"witnesses,omitempty"`
	// Remarks are what the people present had recorded, exceptions and deviations among them.
	Remarks []Remark `json:"remarks,omitempty"`
}

type tokenRecord struct {
	Name  string        `json:"name"`
	Token hsm.TokenInfo `json:"token"`
}

type witnessRecord struct {
	Name string `json:"name"`
	Step int    `json:"step"`
	Saw  string `json:"saw"`
}

type keyRecord struct {
	Name        string        `json:"name"`
	Token       string        `json:"token"`
	Label       string        `json:"label"`
	Algorithm   hsm.Algorithm `json:"algorithm"`
	Class       hsm.Class     `json:"class"`
	Fingerprint string        `json:"spki_sha256"`
}

// Verify checks a finished folder offline: every file against the manifest, the manifest against the transcript, the
// transcript against the checkpoint and its signatures, and all that the script says against all that was done. anchor
// is a digest that people compared: of the roster, or of a roster or the checkpoint of an earlier ceremony that this one
// carries on from; with nil nothing says whose folder this is, and the error says so beside the
// report.
func Verify(ctx context.Context, folder fs.FS, anchor *[32]byte) (*Report, error) {
	v, err := replay(ctx, folder, anchor)
	if err != nil {
		if advice.KindOf(err) != advice.Unverified {
			err = advice.Wrap(advice.Unverified, err, advice.Hint(err))
		}
		return nil, err
	}
	r := v.report()
	if v.rehearsal {
		return r, advice.New(advice.Unverified, "perform the script with `hanaper ceremony run`", "a REHEARSAL, consistent in itself: no ceremony was held")
	}
	r.Authenticated = anchor != nil
	if anchor == nil {
		return r, advice.New(advice.Unverified, "give the roster's digest, as people compared it, with --roster",
			"consistent, NOT authenticated: nothing says that these officers are the right ones")
	}
	return r, nil
}

// damaged names the file at which a folder fails.
func damaged(file, format string, args ...any) error {
	return advice.New(advice.Unverified, "do not use this folder; fetch it again, or ask those who performed the ceremony",
		"%s: %w", file, fmt.Errorf(format, args...))
}

// readFolder reads every file; what is not a regular file or is too large is refused.
func readFolder(folder fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	if m, ok := folder.(memory); ok {
		return m, complete(m)
	}
	err := fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return damaged(name, "%w", err)
		}
		if d.IsDir() {
			return nil
		}
		if len(files) > 20000 {
			return damaged(name, "the folder holds more files than a ceremony makes")
		}
		if !d.Type().IsRegular() {
			return damaged(name, "is not a regular file")
		}
		data, err := readBounded(folder, name)
		if err != nil {
			return damaged(name, "%w", err)
		}
		files[name] = data
		return nil
	})
	if err != nil {
		return nil, err
	}
	return files, complete(files)
}

// complete asks for the files that every finished folder has.
func complete(files map[string][]byte) error {
	if _, ok := files[incompleteFile]; ok {
		return advice.New(advice.Unverified, "finish it with `hanaper ceremony resume`, or end it with `hanaper ceremony abort`",
			"%s: the ceremony of this folder has not ended", incompleteFile)
	}
	for _, n := range []string{transcriptFile, checkpointFile, signatureFile, manifestFile, scriptFile, rosterFile} {
		if _, ok := files[n]; !ok {
			return damaged(n, "is missing")
		}
	}
	return nil
}

func (v *verified) report() *Report {
	s := v.session
	r := &Report{Ceremony: v.begin.Ceremony, Environment: v.begin.Environment, Mode: v.begin.Mode, Answers: v.begin.Answers, Tool: v.begin.Tool,
		Script: v.begin.Script, Roster: v.begin.Roster, Checkpoint: hexSHA256(v.checkpoint), Asserted: v.begin.Asserted,
		Ended: formatTime(v.ended), Entries: v.entries, Resumed: len(s.resumes), Approvals: v.begin.Approvals, Steps: v.steps, Aborted: v.aborted, Artefacts: s.state.order, Remarks: s.said}
	for _, o := range v.signers {
		r.Signers = append(r.Signers, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	for _, n := range sortedKeys(s.infos) {
		r.Tokens = append(r.Tokens, tokenRecord{n, s.infos[n]})
	}
	for _, n := range sortedKeys(s.state.keys) {
		k := s.state.keys[n]
		r.Keys = append(r.Keys, keyRecord{n, k.token, k.label, k.algorithm, k.class, hexSHA256(k.spki)})
	}
	for _, st := range v.script.steps {
		if m, ok := st.step.(*ManualClone); ok && !v.rehearsal && s.state.keys[m.Name] != nil {
			r.Witnesses = append(r.Witnesses, witnessRecord{m.Witness, st.number, fmt.Sprintf("key %q copied by hand into token %q as %q", m.Key, m.Token, m.Name)})
		}
	}
	return r
}

// memory is a folder that was read already.
type memory map[string][]byte

// Open is for fs.FS; readFolder takes the files as they are.
func (m memory) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// under gives the files below a folder.
func under(files map[string][]byte, dir string) map[string][]byte {
	sub := map[string][]byte{}
	for n, data := range files {
		if rest, ok := strings.CutPrefix(n, dir+"/"); ok {
			sub[rest] = data
		}
	}
	return sub
}
