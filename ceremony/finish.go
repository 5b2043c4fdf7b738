package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// finish signs the checkpoint and writes what the journal has recorded.
func (r *run) finish(s *Session, files map[string][]byte, listing []byte) (*Result, error) {
	r.Progress.Step("signing the transcript")
	body := r.log.Checkpoint()
	var keys []crypto.Signer
	for _, o := range r.officers {
		keys = append(keys, o.signer)
	}
	if err := r.presentAsRecorded(s); err != nil {
		return nil, err
	}
	if err := r.unobstructed(files, listing, body); err != nil {
		return nil, err
	}
	left, err := copies(r.Out)
	if err != nil {
		return nil, err
	}
	env, signers, err := r.signed(s, body)
	if err != nil {
		return nil, err
	}
	if env == nil {
		if env, err = r.seal(body, keys); err != nil {
			return nil, err
		}
		for _, o := range r.officers {
			signers = append(signers, o.officer)
		}
	}
	result := &Result{Out: r.Out, Checkpoint: hexSHA256(body), Artefacts: s.state.order, Entries: s.index, Ended: formatTime(s.last), Exceptions: s.excepted, Stays: s.left()}
	if !r.Rehearsal {
		result.Missing = r.roster.Threshold()
	}
	for _, o := range signers {
		result.Officers = append(result.Officers, o.Name)
		if o.Role == quorum.RoleOfficer && result.Missing > 0 {
			result.Missing--
		}
	}
	if err := r.stands(s.ctx, left, files, map[string][]byte{manifestFile: listing, checkpointFile: body, signatureFile: env}); err != nil {
		return nil, err
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
	r.Progress.Done("done: %d entries, artefacts: %d, in %s", s.index, len(s.state.order), r.Out)
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
			return refuse(RuleQuorum, "the transcript names %v as present: only their keys can sign it, not that of %s", want, show.Text(o.Name))
		}
	}
	return nil
}

// signed gives the signatures that the folder holds already, from a run that was cut short between signing and its last
// file; nil if there are none. Only a present person's count, and those who are here now must be among them: anybody with
// one card can write such a file.
func (r *run) signed(s *Session, body []byte) (env []byte, signers []quorum.Officer, err error) {
	path := filepath.Join(r.Out, signatureFile)
	env, err = input.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	var payload []byte
	if err == nil {
		payload, signers, err = quorum.VerifyDSSE(env, quorum.TranscriptPayload, r.roster, 1)
	}
	if err == nil && !bytes.Equal(payload, body) {
		err = errors.New("it signs another checkpoint")
	}
	was, present := records(signers), s.present()
	for _, o := range was {
		if err == nil && !slices.Contains(present, o) {
			err = fmt.Errorf("it is signed by %s, who was not present", show.Text(o.Name))
		}
	}
	for _, o := range r.present() {
		if err == nil && !slices.Contains(was, o) {
			err = fmt.Errorf("it is not signed by %s, who is", show.Text(o.Name))
		}
	}
	if err != nil {
		return nil, nil, inTheWay(path, err)
	}
	return env, signers, nil
}

// unobstructed asks, before anybody signs, that no other file lies where one of the result is to be written.
func (r *run) unobstructed(files map[string][]byte, listing, body []byte) error {
	all := maps.Clone(files)
	all[manifestFile], all[checkpointFile] = listing, body
	for _, name := range sortedKeys(all) {
		path := filepath.Join(r.Out, filepath.FromSlash(name))
		data, err := input.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !bytes.Equal(data, all[name]) {
			err = errors.New("it is not what this ceremony made")
		}
		if err != nil {
			return inTheWay(path, err)
		}
	}
	return nil
}

// stands verifies the folder as it is about to be, so that no ceremony ends in one that does not verify.
func (r *run) stands(ctx context.Context, left map[string][]byte, results ...map[string][]byte) error {
	whole := memory(maps.Clone(left))
	maps.DeleteFunc(whole, func(name string, _ []byte) bool { return name == incompleteFile || durable.Temporary(path.Base(name)) })
	for _, files := range results {
		maps.Copy(whole, files)
	}
	if _, err := replay(ctx, whole, Anchors{}); err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("the folder would not verify: %w", err), "nothing was written: mend what is named, and finish with `hanaper ceremony resume`")
	}
	return nil
}

func inTheWay(path string, err error) error {
	return advice.Wrap(advice.Refused, fmt.Errorf("%s is in the way: %w", show.Text(path), err), "move it out of the folder, find out who put it there, and finish with `hanaper ceremony resume`")
}

func records(officers []quorum.Officer) []officerRecord {
	var list []officerRecord
	for _, o := range officers {
		list = append(list, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	return list
}
