package ceremony

import (
	"fmt"

	"github.com/hanaper/hanaper/hsm"
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
	Authenticated bool `json:"authenticated"`
	// Attested is true if as many officers signed the transcript as must agree to a ceremony.
	Attested  bool            `json:"attested"`
	Approvals []officerRecord `json:"approvals"`
	Signers   []officerRecord `json:"signers"`
	// Late are those who signed later.
	Late      []officerRecord `json:"signed_later,omitempty"`
	Steps     []PlannedStep   `json:"steps"`
	Tokens    []tokenRecord   `json:"tokens"`
	Keys      []keyRecord     `json:"keys"`
	Artefacts []string        `json:"artefacts"`
	// Witnesses saw what people did by hand.
	Witnesses []witnessRecord `json:"witnesses,omitempty"`
	// Exceptions are those that the people present had recorded at stops.
	Exceptions []ExceptionRecord `json:"exceptions,omitempty"`
	// Remarks are what the people present had recorded, exceptions and deviations among them.
	Remarks []Remark `json:"remarks,omitempty"`
	// Format of the transcript. Notes say what rules that are newer than it would refuse today, and what of an aborted
	// ceremony this release would make otherwise; they are no failure.
	Format string   `json:"format"`
	Notes  []string `json:"notes,omitempty"`
	// Platforms are what the machine said of itself, at the beginning and wherever the run was taken up again or aborted; none of a
	// machine that was not asked.
	Platforms []PlatformReport `json:"platforms,omitempty"`
	// Stays are keys that an aborted ceremony could not remove: they are in their tokens still.
	Stays []string `json:"not_removed,omitempty"`
	// Releases are those that the ceremony signed.
	Releases []ReleaseRecord `json:"releases,omitempty"`

	// saidAt is at how many places the machine could have said something.
	saidAt      int
	files       map[string][]byte
	firstRoster string
}

// FirstRoster is the SHA-256 of the roster of the first ceremony that this one carries on from, in hex; this one's where it carries on from none.
// Each roster since was approved by the officers of the one before it, so it names the line of officers.
func (r *Report) FirstRoster() string { return r.firstRoster }

// Artefact is the content of a file that the folder has, as it was verified; nil if there is none.
func (r *Report) Artefact(name string) []byte { return r.files[name] }

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
	// StandsFor is the key of which this one is a copy, restored or made by hand.
	StandsFor string `json:"stands_for,omitempty"`
	// Birth is what a TPM certified of the key.
	Birth *birthRecord `json:"birth,omitempty"`
}

// left are the keys that could not be removed, in words.
func (s *Session) left() (list []string) {
	for _, k := range s.stays {
		list = append(list, fmt.Sprintf("key %q (id %s) in token %q", k.Label, k.ID, k.Token))
	}
	return list
}

func (v *verified) report() *Report {
	s := v.session
	r := &Report{Ceremony: v.begin.Ceremony, Environment: v.begin.Environment, Mode: v.begin.Mode, Answers: v.begin.Answers, Tool: v.begin.Tool,
		Script: v.begin.Script, Roster: v.begin.Roster, Checkpoint: hexSHA256(v.checkpoint), Asserted: v.begin.Asserted,
		Ended: formatTime(v.ended), Entries: v.entries, Resumed: len(s.resumes), Approvals: v.begin.Approvals, Steps: v.steps, Aborted: v.aborted, Artefacts: s.state.order, Remarks: s.said, Witnesses: s.witnesses, Exceptions: s.exceptions, Format: v.format.String(), Notes: s.notes}
	for _, o := range v.signers {
		r.Signers = append(r.Signers, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	for _, o := range v.late {
		r.Late = append(r.Late, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	r.Attested = v.attested() == nil
	r.Stays, r.Platforms, r.Releases = s.left(), s.platforms, s.state.signed
	r.saidAt, r.files = 1+len(s.resumes), v.files
	r.firstRoster = hexSHA256(v.chain()[0].script.roster)
	for _, n := range sortedKeys(s.infos) {
		r.Tokens = append(r.Tokens, tokenRecord{n, s.infos[n]})
	}
	for _, n := range sortedKeys(s.state.keys) {
		k := s.state.keys[n]
		r.Keys = append(r.Keys, keyRecord{n, k.token, k.label, k.algorithm, k.class, hexSHA256(k.spki), k.of, k.birth})
	}
	return r
}
