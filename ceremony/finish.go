package ceremony

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/quorum"
)

// finish signs the checkpoint and writes what the journal has recorded.
func (r *run) finish(s *Session, files map[string][]byte, listing []byte) (*Result, error) {
	r.Progress.Step("signing the transcript")
	body := r.log.Checkpoint()
	var keys []crypto.Signer
	result := &Result{Out: r.Out, Checkpoint: hexSHA256(body), Artefacts: s.state.order, Entries: s.index, Ended: formatTime(s.last), Exceptions: s.excepted}
	for _, o := range r.officers {
		keys = append(keys, o.signer)
		result.Officers = append(result.Officers, o.officer.Name)
	}
	result.Missing = r.roster.Threshold()
	for _, o := range r.officers {
		if o.officer.Role == quorum.RoleOfficer && result.Missing > 0 {
			result.Missing--
		}
	}
	if r.Rehearsal {
		result.Missing = 0
	}
	if err := r.presentAsRecorded(s); err != nil {
		return nil, err
	}
	env, ok := r.signed(body)
	if !ok {
		var err error
		if env, err = r.seal(body, keys); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(files) {
		if err := writeFile(r.Out, name, files[name]); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{manifestFile, listing}, {checkpointFile, body}, {signatureFile, env}} {
		if err := writeFile(r.Out, f.name, f.data); err != nil {
			return nil, err
		}
	}
	// What an earlier process of this run left when it was killed in the middle of a file.
	if err := durable.Sweep(r.Out); err != nil {
		return nil, err
	}
	if err := r.log.Close(); err != nil {
		return nil, err
	}
	r.log = nil
	// Auditors read it under other accounts: there is no secret in it.
	if err := os.Chmod(filepath.Join(r.Out, transcriptFile), 0o644); err != nil {
		return nil, err
	}
	if err := durable.Remove(filepath.Join(r.Out, incompleteFile)); err != nil {
		return nil, err
	}
	r.Progress.Done("done: %d entries, %d artefacts in %s", s.index, len(s.state.order), r.Out)
	if r.memory == nil {
		return result, nil
	}
	how := machine.Finished
	if s.aborting {
		how = machine.Aborted
	}
	return result, r.memory.End(how, quorum.Sum(body))
}

// rehearsalPayload is the payload type of the envelope of a rehearsal.
const rehearsalPayload = "application/vnd.hanaper.rehearsal"

// seal signs the checkpoint: with the keys of those present, or for a rehearsal with a key that is thrown away.
func (r *run) seal(body []byte, keys []crypto.Signer) ([]byte, error) {
	if !r.Rehearsal {
		return quorum.SignDSSE(quorum.TranscriptPayload, body, keys...)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return quorum.SignDSSE(rehearsalPayload, body, key)
}

// presentAsRecorded asks that those who sign were present, by the transcript. Where a run was cut short after its last entry
// some of them may be gone: they sign later, with `hanaper ceremony attest`.
func (r *run) presentAsRecorded(s *Session) error {
	want := s.present()
	for _, o := range r.present() {
		if !slices.Contains(want, o) {
			return refuse(RuleQuorum, "the transcript names %v as present: only their keys can sign it, not that of %s", want, o.Name)
		}
	}
	return nil
}

// signed says whether the folder holds the signatures of exactly this checkpoint already, from a run that was cut
// short between signing and its last file.
func (r *run) signed(body []byte) ([]byte, bool) {
	env, err := input.ReadFile(filepath.Join(r.Out, signatureFile))
	if err != nil {
		return nil, false
	}
	payload, _, err := quorum.VerifyDSSE(env, quorum.TranscriptPayload, r.roster, 1)
	return env, err == nil && string(payload) == string(body)
}
