package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// attestationForm is the name of a late signature: an envelope like transcript.dsse.json, over the same checkpoint.
var attestationForm = regexp.MustCompile(`^attestations/[1-9][0-9]{0,3}\.dsse\.json$`)

// attestations reads the late signatures. They are outside the manifest, so each is held to the roster and the checkpoint.
func (v *verified) attestations() error {
	for _, n := range sortedKeys(v.files) {
		if !strings.HasPrefix(n, attestationsDir+"/") {
			continue
		}
		if !attestationForm.MatchString(n) {
			return damaged(n, "is not of this ceremony")
		}
		payload, signers, err := quorum.VerifyDSSE(v.files[n], quorum.TranscriptPayload, v.roster, 0)
		if err != nil {
			return damaged(n, "%w", err)
		}
		if !bytes.Equal(payload, v.checkpoint) {
			return damaged(n, "signs another checkpoint than that of the transcript")
		}
		for _, o := range signers {
			if !v.signed(o) {
				v.late = append(v.late, o)
			}
		}
	}
	return nil
}

// signed says whether somebody signed the transcript, then or later.
func (v *verified) signed(o quorum.Officer) bool {
	same := func(other quorum.Officer) bool { return other.KeyID == o.KeyID }
	return slices.ContainsFunc(v.signers, same) || slices.ContainsFunc(v.late, same)
}

// ErrNotAttested means that fewer officers signed a transcript than must agree to a ceremony.
var ErrNotAttested = errors.New("performed, not attested")

// attested asks that as many officers signed the transcript as had to approve the script: a single one, or a thief with a
// single card, can make a transcript of what never was, out of approvals that anyone can copy.
func (v *verified) attested() error {
	have, missing := 0, []string{}
	for _, o := range v.roster.Officers() {
		switch {
		case o.Role != quorum.RoleOfficer:
		case v.signed(o):
			have++
		default:
			missing = append(missing, o.Name)
		}
	}
	m := v.roster.Threshold()
	if have >= m {
		return nil
	}
	return advice.New(advice.Unverified, "have officers verify the folder and sign it with `hanaper ceremony attest`",
		"%w: %d of the %d officers who are needed signed the transcript; not signed by %s, of whom %d must", ErrNotAttested, have, m, show.List(missing), m-have)
}

var errNoAnchor = advice.New(advice.Usage, "give the roster's digest from your paper with --roster, or the checkpoint's with --checkpoint", "nothing says whose folder this is: it is not signed unseen")

// Attest signs a finished folder that was verified under the anchor, and writes the signature beside the others. show is
// given the report and agrees, or returns an error. It returns the name of the new file.
func Attest(ctx context.Context, dir string, folder fs.FS, a Anchors, display func(*Report) (crypto.Signer, error)) (string, error) {
	if !a.given() {
		return "", errNoAnchor
	}
	v, err := replay(ctx, folder, a)
	if err != nil {
		return "", err
	}
	if v.rehearsal {
		return "", refuse(RuleRehearsal, "nobody signs a rehearsal")
	}
	r := v.report()
	r.Authenticated = true
	key, err := display(r)
	if err != nil {
		return "", err
	}
	signer, o, err := v.roster.Signer(key)
	if err != nil {
		return "", refuse(RuleQuorum, "%w", err)
	}
	if v.signed(o) {
		return "", refuse(RuleQuorum, "%s has signed this transcript already", show.Text(o.Name))
	}
	env, err := quorum.SignDSSE(quorum.TranscriptPayload, v.checkpoint, signer)
	if err != nil {
		return "", err
	}
	if err := durable.Mkdir(filepath.Join(dir, attestationsDir), 0o755); err != nil {
		return "", err
	}
	for i := 1; i < 10000; i++ {
		name := fmt.Sprintf("%s/%d.dsse.json", attestationsDir, i)
		if err := durable.Create(filepath.Join(dir, filepath.FromSlash(name)), env, 0o644); !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
	return "", fmt.Errorf("%s: too many signatures", dir)
}
