package ceremony

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// verified is a folder that is consistent in itself and replays.
type verified struct {
	script  *Script
	roster  *quorum.Roster
	session *Session
	begin   beginLeaf
	steps   []PlannedStep
	signers []quorum.Officer
	// late are those who signed later.
	late       []quorum.Officer
	checkpoint []byte
	ended      time.Time
	entries    int
	aborted    bool
	rehearsal  bool
	files      map[string][]byte
	// format is that of the transcript.
	format format.Version
}

// replay reads a folder from the signatures down to the artefacts, and then performs its script along its transcript.
func replay(ctx context.Context, folder fs.FS, a Anchors) (*verified, error) {
	v := &verified{}
	var err error
	if v.files, err = readFolder(folder); err != nil {
		return nil, err
	}
	record, env, err := v.sealed()
	if err != nil {
		return nil, err
	}
	if err := v.listed(record); err != nil {
		return nil, err
	}
	if v.format, err = formatOf(record); err != nil {
		return nil, damaged(transcriptFile, "entry 0: %w", err)
	}
	if v.roster, err = quorum.ParseRosterAsOf(v.format, v.files[rosterFile]); err != nil {
		return nil, damaged(rosterFile, "%w", err)
	}
	v.checkpoint = record.Checkpoint()
	if !v.rehearsal {
		if _, v.signers, err = quorum.VerifyDSSE(env, quorum.TranscriptPayload, v.roster, 1); err != nil {
			return nil, damaged(signatureFile, "%w", err)
		}
		if err := v.attestations(); err != nil {
			return nil, err
		}
	}
	if v.script, err = loadCopy(v.files); err != nil {
		return nil, v.newerThanUs(damaged(scriptFile, "%w", err))
	}
	v.script.asOf = v.format
	if err := a.hold(v); err != nil {
		return nil, err
	}
	return v, v.newerThanUs(v.perform(ctx, record))
}

// formatOf reads the format of a transcript from its first entry, before anything else of it is read.
func formatOf(record *journal.Record) (format.Version, error) {
	var first struct {
		Format string `json:"format"`
	}
	if record.Size() == 0 {
		return format.Version{}, errors.New("there is none")
	}
	if err := json.Unmarshal(record.Leaf(0), &first); err != nil {
		return format.Version{}, errors.New("it does not say of what format the transcript is")
	}
	return readFormat(first.Format)
}

// newerThanUs says of what cannot be read in a transcript of a newer format why it cannot.
func (v *verified) newerThanUs(err error) error {
	if err == nil || !newest.Before(v.format) {
		return err
	}
	return advice.Wrap(advice.Unverified, fmt.Errorf("%w (%w)", tooNew(v.format), err), advice.Hint(tooNew(v.format)))
}

// sealed compares transcript, checkpoint and the payload of the signatures: two of the three say which one is wrong.
func (v *verified) sealed() (*journal.Record, []byte, error) {
	env := v.files[signatureFile]
	record, err := journal.Parse(v.files[transcriptFile])
	if err != nil {
		return nil, nil, damaged(transcriptFile, "%w", err)
	}
	kind := quorum.TranscriptPayload
	if v.rehearsal = strings.HasPrefix(record.Origin(), "hanaper/rehearsal/"); v.rehearsal {
		kind = rehearsalPayload
	}
	signed, err := quorum.PayloadDigest(env, kind)
	if err != nil {
		return nil, nil, damaged(signatureFile, "%w", err)
	}
	body := record.Checkpoint()
	same := quorum.Sum(body) == signed
	switch {
	case same && !bytes.Equal(body, v.files[checkpointFile]):
		return nil, nil, damaged(checkpointFile, "is not that of the transcript")
	case !same && bytes.Equal(body, v.files[checkpointFile]):
		return nil, nil, damaged(signatureFile, "signs another checkpoint than that of the transcript")
	case !same:
		return nil, nil, damaged(transcriptFile, "is not the transcript that was signed")
	}
	return record, env, nil
}

// listed compares the manifest with the last entry, and every file with the manifest.
func (v *verified) listed(record *journal.Record) error {
	if record.Size() == 0 {
		return damaged(transcriptFile, "is empty")
	}
	last := record.Leaf(record.Size() - 1)
	var end endLeaf
	if err := decodeLeaf(last, &end, kindEnd); err != nil {
		return damaged(transcriptFile, "entry %d %w: the ceremony has not ended", record.Size()-1, err)
	}
	if hexSHA256(v.files[manifestFile]) != end.Manifest {
		return damaged(manifestFile, "is not the manifest that the transcript names")
	}
	m, err := parseManifest(v.files[manifestFile])
	if err != nil {
		return damaged(manifestFile, "%w", err)
	}
	names := map[string]bool{}
	for _, f := range m.Files {
		names[f.Path] = true
		data, ok := v.files[f.Path]
		if !ok {
			return damaged(f.Path, "is missing")
		}
		if len(data) != f.Size || hexSHA256(data) != f.SHA256 {
			return damaged(f.Path, "is not the file that the ceremony wrote")
		}
	}
	for _, n := range sortedKeys(v.files) {
		if !names[n] && !outside[n] && !strings.HasPrefix(n, attestationsDir+"/") {
			return damaged(n, "is not of this ceremony")
		}
	}
	return nil
}

// perform performs the script along the transcript.
func (v *verified) perform(ctx context.Context, record *journal.Record) error {
	follow, at, err := upToAbort(record.Leaves())
	if err != nil {
		return err
	}
	folder := v.files
	if at >= 0 {
		folder = nil
	}
	s := newSession(ctx, v.script, along(v.rehearsal, folder), follow)
	s.format = v.format
	v.session, v.entries = s, int(record.Size())
	if want := Origin(v.script, v.rehearsal); record.Origin() != want {
		return damaged(transcriptFile, "is that of %q, not of %q", record.Origin(), want)
	}
	if err := v.first(s); err != nil {
		return err
	}
	err = v.conclude(s)
	if errors.Is(err, errAborted) || at >= 0 && len(follow) < v.entries && err != nil {
		if err := v.endsEarly(s, record.Leaves(), at); err != nil {
			return err
		}
		s.withdraw()
		s.state.artefacts, s.state.order, v.aborted = map[string][]byte{}, nil, true
		err = v.end(s)
	}
	if err != nil {
		return err
	}
	if len(s.pending) > 0 {
		return s.entryError(errors.New("follows the end"))
	}
	v.ended = s.last
	entries := entriesOf(record.Leaves())
	for i, st := range v.script.steps {
		words := describedBy(ofStep(entries, st.number))
		if words == "" { // an aborted ceremony did not reach it
			words = st.step.describe(s)
		}
		v.steps = append(v.steps, PlannedStep{i + 1, st.kind, st.line, words})
	}
	return v.signedBy(s)
}

// endsEarly follows the entries of an abort, which begins at entry at.
func (v *verified) endsEarly(s *Session, leaves [][]byte, at int) error {
	s.failed, s.step, s.aborting, s.pending, s.index = nil, 0, true, leaves[at:], at
	if err := s.abort(aborts(v.script, leaves), nil); err != nil {
		return err
	}
	var l abortLeaf
	if err := decodeLeaf(leaves[at], &l, kindAbort); err != nil {
		return s.entryError(err)
	}
	s.uses(leaves[:at], &l)
	data, kept := v.files[unreadableFile]
	if (l.Unreadable != nil) != kept || kept && (hexSHA256(data) != l.Unreadable.SHA256 || l.Unreadable.Entry != at) {
		return damaged(unreadableFile, "is not what the transcript says of its unreadable end")
	}
	return nil
}

// conclude performs all steps and the end.
func (v *verified) conclude(s *Session) error {
	if err := s.whole(); err != nil {
		return err
	}
	return v.end(s)
}

// end asks that the manifest, which the last entry names, lists exactly what the script and the transcript lead to. The entry
// comes first: where only the end was missing, an abort can stand in its place.
func (v *verified) end(s *Session) error {
	if err := s.emit(&endLeaf{Manifest: hexSHA256(v.files[manifestFile])}, kindEnd); err != nil {
		return err
	}
	listed, err := parseManifest(v.files[manifestFile])
	if err != nil {
		return damaged(manifestFile, "%w", err)
	}
	files := contents(v.script, v.approvals(), s.state)
	if data, ok := v.files[unreadableFile]; ok && v.aborted {
		files[unreadableFile] = data
	}
	want := manifestOf(files)
	if !slices.Equal(listed.Files, want.Files) {
		return damaged(manifestFile, "is not what the script and the transcript lead to")
	}
	return nil
}

// first reads the first entry and checks what it says of quorum and people.
func (v *verified) first(s *Session) error {
	data := s.pending[0]
	if err := decodeLeaf(data, &v.begin, kindBegin); err != nil {
		return s.entryError(err)
	}
	asserted, err := parseTime(v.begin.Asserted)
	if err != nil {
		return s.entryError(err)
	}
	if err := v.script.checkAsserted(asserted); err != nil {
		return s.entryError(err)
	}
	want, err := firstLeaf(v.script, v.roster, v.approvals(), nil, v.begin.Tool, asserted, v.rehearsal)
	if err != nil {
		return s.entryError(err)
	}
	want.Format, want.Answers, want.Officers, want.Platform = v.begin.Format, v.begin.Answers, v.begin.Officers, v.begin.Platform
	if want.Answers != "terminal" && want.Answers != "file" {
		return s.entryError(errors.New("does not say where answers came from"))
	}
	s.began, s.nonce = want.Officers, want.Nonce
	if err := s.took(kindBegin, want.Platform, want.Asserted); err != nil {
		return s.entryError(err)
	}
	return s.emit(&want, kindBegin)
}

// approvals are the envelopes in the folder, in order.
func (v *verified) approvals() [][]byte {
	var list [][]byte
	for i := 1; ; i++ {
		data, ok := v.files[fmt.Sprintf("%s/%d.json", approvalsDir, i)]
		if !ok {
			return list
		}
		list = append(list, data)
	}
}

// signedBy asks that those who signed were present, at the beginning or where a run was resumed, an officer among them, and
// that every witness signed, then or later. Whether they are enough says attested.
func (v *verified) signedBy(s *Session) error {
	if v.rehearsal {
		return nil
	}
	present, officers := s.present(), 0
	for _, o := range v.signers {
		if !slices.Contains(present, officerRecord{o.Name, string(o.Role), o.KeyID}) {
			return damaged(signatureFile, "is signed by %s, who was not present", show.Text(o.Name))
		}
		if o.Role == quorum.RoleOfficer {
			officers++
		}
	}
	if officers == 0 {
		return damaged(signatureFile, "is signed by no officer")
	}
	for _, w := range s.witnesses {
		if !slices.ContainsFunc(append(slices.Clone(v.signers), v.late...), func(o quorum.Officer) bool { return o.Name == w.Name }) {
			return damaged(signatureFile, "is not signed by the witness %s", show.Text(w.Name))
		}
	}
	return nil
}
