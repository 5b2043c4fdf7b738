package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// Platform is what the machine of a ceremony says of itself when a run begins, is taken up again or is aborted: the image that it was
// started from, what people did to it since that its image does not do, and what its TPM measured. docs/spec/transcript.md.
//
// All of it is the machine's own word. Somebody who started another program in the place of the image writes here what he likes,
// except Measured, which a TPM signs: whoever knows the name of that TPM's key from elsewhere can hold the registers to the release's.
type Platform struct {
	// Image is the image of the release that the machine says it was started from; nil where it says of none.
	Image *Image `json:"image,omitempty"`
	// Acts are in the order in which they happened.
	Acts []PlatformAct `json:"acts,omitempty"`
	// Measured is what the TPM says; nil where there is none, and Unmeasured then says why.
	Measured   *Measured `json:"measured,omitempty"`
	Unmeasured string    `json:"unmeasured,omitempty" prose:"yes"`
}

// Image is an image of a release.
type Image struct {
	Version string `json:"version"`
	// Manifest is the SHA-256 of the list of all files in the image, and Medium that of the medium as it was read on the day; empty where
	// it was not read.
	Manifest string `json:"manifest_sha256"`
	Medium   string `json:"medium_sha256,omitempty"`
}

// What people can do to a machine.
const (
	// ActShell: a shell was opened. From then on the machine can have done anything.
	ActShell = "shell"
	// ActClock: the machine's clock was set by hand.
	ActClock = "clock"
)

// PlatformAct is something that people did to the machine.
type PlatformAct struct {
	What string `json:"what"`
	// At is the time by the machine's clock; Before is what the clock said before it was set.
	At     string `json:"at"`
	Before string `json:"before,omitempty"`
}

// Measured is a TPM's statement of how the machine was started.
type Measured struct {
	// PCRs are the values of the registers 0 to 15 of the bank SHA-256, in hexadecimal, in order.
	PCRs []string `json:"pcrs_sha256"`
	// AttestationKey is a TPMT_PUBLIC, Statement the TPMS_ATTEST of TPM2_Quote, Signature a TPMT_SIGNATURE.
	AttestationKey []byte `json:"attestation_key"`
	Statement      []byte `json:"statement"`
	Signature      []byte `json:"signature"`
	// Endorsement is the certificate of the TPM's endorsement key, DER; it says which TPM the machine claims to have.
	Endorsement []byte `json:"endorsement,omitempty"`
}

// ShellRegister is the register that tells of shells: an image extends it before it opens one, and with nothing else.
const ShellRegister = 15

// platformFormat is the format that added platforms.
var platformFormat = format.Must("1.3")

// The registers that are quoted, and bounds of what a platform says.
const (
	registers = 16
	maxActs   = 100
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// platformQualifying is what the TPM signs into its statement: this ceremony, this script, this beginning.
func platformQualifying(script *Script, nonce, asserted string) ([]byte, error) {
	raw, err := hex.DecodeString(nonce)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("ceremony: a platform without the nonce of the approvals")
	}
	digest := script.Digest()
	return attest.Qualifying("hanaper platform v1", raw, digest[:], []byte(asserted)), nil
}

// platform asks the machine; nil where nobody asks it, and in a rehearsal.
func (r *run) platform(ctx context.Context, asserted string) (*Platform, error) {
	if r.Platform == nil || r.Rehearsal {
		return nil, nil
	}
	q, err := platformQualifying(r.script, r.begin.Nonce, asserted)
	if err != nil {
		return nil, err
	}
	p, err := r.Platform(ctx, q)
	if err != nil || p == nil {
		return nil, err
	}
	_, err = p.check(r.script, r.begin.Nonce, asserted)
	return p, err
}

// check asks that a platform is well formed, and that the statement in it is of its registers, and was made for this beginning. It gives
// the name of the key that signed.
func (p *Platform) check(script *Script, nonce, asserted string) (key string, err error) {
	if p == nil {
		return "", nil
	}
	if err := p.checkForm(); err != nil {
		return "", fmt.Errorf("platform: %w", err)
	}
	m := p.Measured
	if m == nil {
		return "", nil
	}
	values := map[int][]byte{}
	for n, v := range m.PCRs {
		values[n], _ = hex.DecodeString(v)
	}
	state, err := attest.NewPCRState("recorded", "sha256", values)
	if err != nil {
		return "", fmt.Errorf("platform: %w", err)
	}
	q, err := platformQualifying(script, nonce, asserted)
	if err != nil {
		return "", err
	}
	if key, err = attest.CheckQuote(m.AttestationKey, m.Statement, m.Signature, q, state); err != nil {
		return "", fmt.Errorf("platform: %w", err)
	}
	return key, nil
}

func (p *Platform) checkForm() error {
	if i := p.Image; i != nil {
		if !versionForm.MatchString(i.Version) || !digestForm.MatchString(i.Manifest) || i.Medium != "" && !digestForm.MatchString(i.Medium) {
			return errors.New("does not say which image")
		}
	}
	if len(p.Acts) > maxActs {
		return fmt.Errorf("has more than %d acts", maxActs)
	}
	for _, a := range p.Acts {
		at := []string{a.At}
		switch a.What {
		case ActShell:
			if a.Before != "" {
				return errors.New("has an act that is not in its one form")
			}
		case ActClock:
			at = append(at, a.Before)
		default:
			return fmt.Errorf("has an unknown act %s", show.Text(a.What))
		}
		for _, text := range at {
			if _, err := time.Parse(time.RFC3339, text); err != nil {
				return fmt.Errorf("has an act at no time: %s", show.Text(text))
			}
		}
	}
	if (p.Measured == nil) != (p.Unmeasured != "") {
		return errors.New("says neither what was measured nor why nothing was")
	}
	if m := p.Measured; m != nil {
		if len(m.PCRs) != registers {
			return fmt.Errorf("has %d registers, not %d", len(m.PCRs), registers)
		}
		for n, v := range m.PCRs {
			if !digestForm.MatchString(v) {
				return fmt.Errorf("register %d has no value", n)
			}
		}
	}
	return nil
}

// shellTakenBack says that the TPM of a machine tells of a shell, and the machine does not: in a shell the note of it can be removed. It is empty for a machine that
// was not started from an image, where others may use the register.
func (p *Platform) shellTakenBack() string {
	if p.Image == nil || p.Measured == nil || p.Measured.PCRs[ShellRegister] == strings.Repeat("0", 64) || slices.ContainsFunc(p.Acts, func(a PlatformAct) bool { return a.What == ActShell }) {
		return ""
	}
	return fmt.Sprintf("register %d of its TPM tells of a SHELL of which the machine says nothing", ShellRegister)
}

// words say for people what a platform is, a sentence each.
func (p *Platform) words(key string) []string {
	if p == nil {
		return nil
	}
	var list []string
	switch i := p.Image; {
	case i == nil:
		list = append(list, "the machine was not started from an image of Hanaper")
	case i.Medium == "":
		list = append(list, fmt.Sprintf("image %s, manifest %s; the medium was not read", show.Text(i.Version), i.Manifest))
	default:
		list = append(list, fmt.Sprintf("image %s, manifest %s, medium %s", show.Text(i.Version), i.Manifest, i.Medium))
	}
	for _, a := range p.Acts {
		switch a.What {
		case ActShell:
			list = append(list, "a SHELL WAS OPENED at "+a.At+" by the machine's clock")
		case ActClock:
			list = append(list, "the machine's clock was set by hand, from "+a.Before+" to "+a.At)
		}
	}
	if what := p.shellTakenBack(); what != "" {
		list = append(list, what)
	}
	if p.Measured == nil {
		return append(list, "not measured, the machine's own word: "+show.Line(p.Unmeasured))
	}
	return append(list, "measured by the TPM whose attestation key has the SHA-256 "+key)
}

// record says in the printed record what the machine said; with a blank before it, or nothing.
func (p *Platform) record() string {
	if p == nil {
		return ""
	}
	key := "that is in the entry"
	if p.Measured != nil {
		if spki, err := attest.KeyName(p.Measured.AttestationKey); err == nil {
			key = spki
		}
	}
	return " Machine: " + strings.Join(p.words(key), "; ") + "."
}

// PlatformReport is what the machine said at one place of a transcript.
type PlatformReport struct {
	// When is begin, resumed or abort.
	When string `json:"when"`
	Platform
	// Key is the SHA-256 of the attestation key that signed the registers; empty where there are none.
	Key string `json:"attestation_key_sha256,omitempty"`
}

// Words say what the machine said, a sentence each.
func (r *PlatformReport) Words() []string { return r.Platform.words(r.Key) }

// hasPlatforms says whether transcripts of the session's format know of platforms.
func (s *Session) hasPlatforms() bool { return !s.format.Before(platformFormat) }

// took keeps what the machine said, after its check.
func (s *Session) took(when string, p *Platform, asserted string) error {
	if p == nil {
		return nil
	}
	if !s.hasPlatforms() {
		return fmt.Errorf("has a platform, which format %s does not know", s.format)
	}
	key, err := p.check(s.script, s.nonce, asserted)
	if err != nil {
		return err
	}
	s.platforms = append(s.platforms, PlatformReport{When: when, Platform: *p, Key: key})
	return nil
}
