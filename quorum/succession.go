package quorum

import (
	"bytes"
	"fmt"
)

// ErrAnchor means a roster that is not the one whose digest was given.
var ErrAnchor = fmt.Errorf("quorum: roster is not the one expected")

// RosterFile is a roster and the envelopes by which officers of the roster before it approved it.
type RosterFile struct {
	Data      []byte
	Approvals [][]byte
}

// OpenRoster follows rosters from an anchor that people compared to the last one given: the first must have this digest,
// every later one must be approved by a quorum of the one before it.
func OpenRoster(anchor [32]byte, files ...RosterFile) (*Roster, error) {
	if len(files) == 0 {
		return nil, usage("quorum: no roster given")
	}
	r, err := ParseRoster(files[0].Data)
	if err != nil {
		return nil, err
	}
	if r.digest != anchor {
		return nil, unverified("compare the digest with the one that was read out when the roster was made",
			"%w: its digest is %s, expected %s", ErrAnchor, r.digest, Digest(anchor))
	}
	for _, f := range files[1:] {
		if r, err = r.Succeed(f.Data, f.Approvals); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Succeed reads the roster that replaces r, and checks that it names r, has the next epoch, and that M officers of r
// approved it, byte for byte (ApproveRoster). r must itself be trusted.
func (r *Roster) Succeed(data []byte, approvals [][]byte) (*Roster, error) {
	next, err := ParseRosterAsOf(r.asOf, data)
	if err != nil {
		return nil, err
	}
	switch {
	case next.environment != r.environment:
		return nil, unverified("", "roster: environment %q, but the one before is of %q", next.environment, r.environment)
	case next.epoch != r.epoch+1:
		return nil, unverified("", "roster: epoch %d cannot follow epoch %d", next.epoch, r.epoch)
	case next.previous != r.digest:
		return nil, unverified("", "roster: it replaces roster %s, not %s", next.previous, r.digest)
	case next.issued.Before(r.issued):
		return nil, unverified("", "roster: issued before the one that it replaces")
	}
	var by []Officer
	for i, env := range approvals {
		payload, signers, err := VerifyDSSE(env, RosterPayload, r, 0)
		if err != nil {
			return nil, fmt.Errorf("roster approval %d: %w", i+1, err)
		}
		if !bytes.Equal(payload, data) {
			return nil, unverified("", "roster approval %d: it approves another roster", i+1)
		}
		by = append(by, signers...)
	}
	if by = distinct(by); countOfficers(by) < r.threshold {
		return nil, refused("have more officers of the roster before it run roster approve",
			"roster: %d of %d officers of epoch %d approved it", countOfficers(by), r.threshold, r.epoch)
	}
	return next, nil
}

// ApproveRoster makes an officer's approval of a new roster. The officer must know whom it lists: nothing else is checked.
func ApproveRoster(next *Roster, key *Signer) ([]byte, error) {
	return SignDSSE(RosterPayload, next.data, key)
}
