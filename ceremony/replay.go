package ceremony

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// verified is a folder that is consistent in itself and replays.
type verified struct {
	script     *Script
	roster     *quorum.Roster
	session    *Session
	begin      beginLeaf
	steps      []PlannedStep
	signers    []quorum.Officer
	checkpoint []byte
	ended      time.Time
	entries    int
	aborted    bool
	rehearsal  bool
	files      map[string][]byte
}

// replay reads a folder from the signatures down to the artefacts, and then performs its script along its transcript.
func replay(ctx context.Context, folder fs.FS, anchor *[32]byte) (*verified, error) {
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
	if v.roster, err = quorum.ParseRoster(v.files[rosterFile]); err != nil {
		return nil, damaged(rosterFile, "%w", err)
	}
	v.checkpoint = record.Checkpoint()
	if !v.rehearsal {
		if _, v.signers, err = quorum.VerifyDSSE(env, quorum.TranscriptPayload, v.roster, 1); err != nil {
			return nil, damaged(signatureFile, "%w", err)
		}
	}
	if v.script, err = loadCopy(v.files); err != nil {
		return nil, damaged(scriptFile, "%w", err)
	}
	if anchor != nil && !v.script.anchored(*anchor) {
		return nil, damaged(rosterFile, "is not the roster of the digest given, and follows from no roster or checkpoint of that digest: its SHA-256 is %s", hexSHA256(v.files[rosterFile]))
	}
	return v, v.perform(ctx, record)
}

// anchored says whether a digest that people compared is that of the script's roster, or of a roster or checkpoint of
// the ceremonies before it: each of those approved, by its officers, what came after.
func (s *Script) anchored(digest [32]byte) bool {
	if quorum.Sum(s.roster) == digest {
		return true
	}
	return s.earlier != nil && (s.earlier.checkpoint == digest || s.earlier.verified.script.anchored(digest))
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
		if !names[n] && !outside[n] {
			return damaged(n, "is not of this ceremony")
		}
	}
	return nil
}

// perform performs the script along the transcript.
func (v *verified) perform(ctx context.Context, record *journal.Record) error {
	s := newSession(ctx, v.script, along(v.rehearsal), record.Leaves())
	v.session, v.entries = s, int(record.Size())
	if want := Origin(v.script, v.rehearsal); record.Origin() != want {
		return damaged(transcriptFile, "is that of %q, not of %q", record.Origin(), want)
	}
	if err := v.first(s); err != nil {
		return err
	}
	listing, err := v.conclude(s)
	if errors.Is(err, errAborted) {
		s.failed, s.step = nil, 0
		if err := s.abort(aborts(v.script, record.Leaves())); err != nil {
			return err
		}
		s.withdraw()
		s.state.artefacts, s.state.order, v.aborted = map[string][]byte{}, nil, true
		listing, err = v.end(s)
	}
	if err != nil {
		return err
	}
	if len(s.pending) > 0 {
		return s.entryError(errors.New("follows the end"))
	}
	if !bytes.Equal(listing, v.files[manifestFile]) {
		return damaged(manifestFile, "is not what the script and the transcript lead to")
	}
	v.ended = s.last
	for i, st := range v.script.steps {
		v.steps = append(v.steps, PlannedStep{i + 1, st.kind, st.line, st.step.describe(s)})
	}
	return v.signedBy(s)
}

// conclude performs all steps and the end.
func (v *verified) conclude(s *Session) ([]byte, error) {
	if err := s.whole(); err != nil {
		return nil, err
	}
	return v.end(s)
}

// end builds the manifest anew and compares it with the last entry.
func (v *verified) end(s *Session) ([]byte, error) {
	listing := encodeManifest(contents(v.script, v.approvals(), s.state))
	return listing, s.emit(&endLeaf{Manifest: hexSHA256(listing)}, kindEnd)
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
	want.Answers, want.Officers = v.begin.Answers, v.begin.Officers
	if want.Answers != "terminal" && want.Answers != "file" {
		return s.entryError(errors.New("does not say where answers came from"))
	}
	s.began = want.Officers
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

// signedBy asks that exactly those present, at the beginning or where a run was resumed, signed.
func (v *verified) signedBy(s *Session) error {
	if v.rehearsal {
		return nil
	}
	present := s.present()
	if len(present) != len(v.signers) {
		return damaged(signatureFile, "is signed by %d of the %d people present", len(v.signers), len(present))
	}
	officers := 0
	for _, o := range v.signers {
		if !slices.Contains(present, officerRecord{o.Name, string(o.Role), o.KeyID}) {
			return damaged(signatureFile, "is signed by %s, who was not present", o.Name)
		}
		if o.Role == quorum.RoleOfficer {
			officers++
		}
	}
	if officers == 0 {
		return damaged(signatureFile, "is signed by no officer")
	}
	return nil
}
