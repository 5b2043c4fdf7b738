package quorum

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Statement is what an officer approves: one run of one script with exactly these inputs, by one tool, before a time.
type Statement struct {
	// Verb is what is approved, such as "ceremony run".
	Verb string
	// Environment and Roster (its digest) say for which environment and by which roster.
	Environment  string
	RosterDigest Digest
	ScriptDigest Digest
	// Inputs are the digests of every file that the script pins, by the name that the script gives it.
	Inputs map[string]Digest
	// ToolDigest is the published SHA-256 of the release's program.
	ToolDigest Digest
	// Nonce is 32 hexadecimal digits (NewNonce), used for one run only.
	Nonce string
	// Expires is cut to the second; from then on the approval is void.
	Expires time.Time
}

const statementType = "hanaper-approval/1"

type statementJSON struct {
	Type        string            `json:"type"`
	Verb        string            `json:"verb"`
	Environment string            `json:"environment"`
	Roster      Digest            `json:"roster"`
	Script      Digest            `json:"script"`
	Inputs      map[string]Digest `json:"inputs"`
	Tool        Digest            `json:"tool"`
	Nonce       string            `json:"nonce"`
	Expires     string            `json:"expires"`
}

const nonceSize = 16

// NewNonce draws a nonce from rand.
func NewNonce(rand io.Reader) (string, error) {
	var b [nonceSize]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("quorum: nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// Encode returns the statement's one encoding, the payload of an approval.
func (s Statement) Encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	inputs := s.Inputs
	if inputs == nil {
		inputs = map[string]Digest{}
	}
	return encode(statementJSON{Type: statementType, Verb: s.Verb, Environment: s.Environment, Roster: s.RosterDigest,
		Script: s.ScriptDigest, Inputs: inputs, Tool: s.ToolDigest, Nonce: s.Nonce,
		Expires: s.Expires.UTC().Format(time.RFC3339)})
}

func (s Statement) check() error {
	if err := checkName(s.Verb); err != nil {
		return usage("approval: verb: %w", err)
	}
	if err := checkEnvironment(s.Environment); err != nil {
		return usage("approval: %w", err)
	}
	if s.RosterDigest.IsZero() || s.ScriptDigest.IsZero() || s.ToolDigest.IsZero() {
		return usage("approval: the digests of roster, script and tool are all needed")
	}
	if len(s.Inputs) > MaxInputs {
		return usage("approval: %d inputs; at most %d are allowed", len(s.Inputs), MaxInputs)
	}
	for name, d := range s.Inputs {
		if name == "" || len(name) > 4*MaxName || d.IsZero() {
			return usage("approval: input %.80q: a name and a digest are needed", name)
		}
	}
	if b, err := hex.DecodeString(s.Nonce); err != nil || len(b) != nonceSize || hex.EncodeToString(b) != s.Nonce {
		return usage("approval: nonce %.80q: want %d lower-case hexadecimal digits", s.Nonce, 2*nonceSize)
	}
	if y := s.Expires.UTC().Year(); y < 2000 || y > 9999 {
		return usage("approval: expiry %s is no sensible time", s.Expires)
	}
	return nil
}

// ParseStatement reads the payload of an approval.
func ParseStatement(payload []byte) (Statement, error) {
	var j statementJSON
	if err := decodeStatement(payload, &j); err != nil {
		return Statement{}, err
	}
	expires, err := parseTime(j.Expires)
	if err != nil {
		return Statement{}, usage("approval: expires: %w", err)
	}
	s := Statement{Verb: j.Verb, Environment: j.Environment, RosterDigest: j.Roster, ScriptDigest: j.Script, Inputs: j.Inputs,
		ToolDigest: j.Tool, Nonce: j.Nonce, Expires: expires}
	again, err := s.Encode()
	if err != nil {
		return Statement{}, err
	}
	if !bytes.Equal(again, payload) {
		return Statement{}, usage("approval: statement is not in its canonical form")
	}
	return s, nil
}

func decodeStatement(payload []byte, j *statementJSON) error {
	if len(payload) > MaxDocument {
		return usage("approval: statement larger than %d bytes", MaxDocument)
	}
	if err := strict.JSON("approval", payload, j); err != nil {
		return err
	}
	if j.Type != statementType {
		return usage("approval: type is %.40q, want %q", j.Type, statementType)
	}
	return nil
}

// Approve signs the statement, after its reader has agreed to it, as a DSSE envelope.
func Approve(st Statement, key crypto.Signer) ([]byte, error) {
	payload, err := st.Encode()
	if err != nil {
		return nil, err
	}
	return SignDSSE(ApprovalPayload, payload, key)
}

// ReadApproval returns what an approval says, without checking its signature: to show it, or to learn the nonce and the
// expiry that the officers signed before Verify is asked whether they count.
func ReadApproval(envelope []byte) (Statement, error) {
	_, payload, err := parseEnvelope(envelope, ApprovalPayload)
	if err != nil {
		return Statement{}, err
	}
	return ParseStatement(payload)
}

var (
	// ErrExpired means an approval whose time is over.
	ErrExpired = errors.New("quorum: approval has expired")
	// ErrReplayed means a nonce that was used before.
	ErrReplayed = errors.New("quorum: approval was used before")
	// ErrStatement means an approval of something else.
	ErrStatement = errors.New("quorum: approval is of another statement")
)

// Quorum is the proof that enough officers approved a statement. Only Verify makes one.
type Quorum struct {
	officers []Officer
}

// Officers are those who approved, each once, of role officer.
func (q *Quorum) Officers() []Officer { return append([]Officer(nil), q.officers...) }

// Verify checks that M distinct officers of a trusted roster approved exactly st, that now, the asserted time, is before
// its expiry, and that its nonce is new: used reports whether a nonce was used before, from the verified transcripts of
// earlier runs; a nil used says that the caller has none. Every approval given must be good, M or not.
func Verify(st Statement, roster *Roster, approvals [][]byte, now time.Time, used func(nonce string) bool) (*Quorum, error) {
	want, err := st.Encode()
	if err != nil {
		return nil, err
	}
	if st.Environment != roster.environment {
		return nil, refused("", "%w: it is for environment %q, the roster for %q", ErrStatement, st.Environment, roster.environment)
	}
	if st.RosterDigest != roster.digest {
		return nil, refused("", "%w: it names roster %s, not %s", ErrStatement, st.RosterDigest, roster.digest)
	}
	var by []Officer
	for i, env := range approvals {
		payload, signers, err := VerifyDSSE(env, ApprovalPayload, roster, 0)
		if err != nil {
			return nil, fmt.Errorf("approval %d: %w", i+1, err)
		}
		if !bytes.Equal(payload, want) {
			what, hint := difference(payload, st), "have the officers approve it again, as it is now"
			if what == anotherNonce || what == anotherExpiry {
				hint = "the approvals of one run belong together: have this officer approve again, and name the first approval with --with"
			}
			return nil, refused(hint, "approval %d: %w: %s", i+1, ErrStatement, what)
		}
		for _, o := range signers {
			if o.Role != RoleOfficer {
				return nil, refused("", "approval %d: %s has the role %s and cannot approve", i+1, show.Text(o.Name), show.Text(o.Role))
			}
		}
		by = append(by, signers...)
	}
	by = distinct(by)
	if len(by) < roster.threshold {
		return nil, refused("have more officers approve", "%w: %d of %d approved", ErrQuorum, len(by), roster.threshold)
	}
	if !now.Before(st.Expires.Truncate(time.Second)) {
		return nil, refused("have the officers approve it again", "%w: at %s; the time is said to be %s", ErrExpired,
			st.Expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if used != nil && used(st.Nonce) {
		return nil, refused("to go on with a run that was cut short: hanaper ceremony resume, or abort. For another run, have the officers approve it again, beginning without --with", "%w: nonce %s", ErrReplayed, show.Text(st.Nonce))
	}
	return &Quorum{officers: by}, nil
}

// What tells the approvals of one run apart from those of another.
const (
	anotherNonce  = "another nonce"
	anotherExpiry = "another expiry"
)

// difference names the first thing in which an approved statement differs from the one at hand.
func difference(payload []byte, want Statement) string {
	got, err := ParseStatement(payload)
	if err != nil {
		return err.Error()
	}
	switch {
	case got.Verb != want.Verb:
		return fmt.Sprintf("verb %q, not %q", got.Verb, want.Verb)
	case got.Environment != want.Environment:
		return fmt.Sprintf("environment %q, not %q", got.Environment, want.Environment)
	case got.RosterDigest != want.RosterDigest:
		return fmt.Sprintf("roster %s, not %s", got.RosterDigest, want.RosterDigest)
	case got.ScriptDigest != want.ScriptDigest:
		return fmt.Sprintf("script %s, not %s", got.ScriptDigest, want.ScriptDigest)
	case got.ToolDigest != want.ToolDigest:
		return fmt.Sprintf("tool %s, not %s", got.ToolDigest, want.ToolDigest)
	case got.Nonce != want.Nonce:
		return anotherNonce
	case !got.Expires.Equal(want.Expires.Truncate(time.Second)):
		return anotherExpiry
	}
	for name, d := range want.Inputs {
		if g, ok := got.Inputs[name]; !ok {
			return fmt.Sprintf("input %q was not among those approved", name)
		} else if g != d {
			return fmt.Sprintf("input %q was another file: %s, not %s", name, g, d)
		}
	}
	return "it has inputs that are not there any more"
}
