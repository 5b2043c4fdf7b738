package ceremony

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// earlier is a verified ceremony that this one carries on from.
type earlier struct {
	verified   *verified
	checkpoint [32]byte
	ended      time.Time
	nonces     map[string]bool
	files      map[string][]byte
}

// loadEarlier verifies the folder of the earlier ceremony. Its checkpoint is pinned by the script, which the officers
// approve: that is its anchor.
func (s *Script) loadEarlier(open func(string) (fs.FS, error)) error {
	c := s.config.Earlier
	if c.Folder == "" {
		return errors.New("folder is missing")
	}
	want, err := ParseDigest(c.Checkpoint)
	if err != nil {
		return err
	}
	folder, err := open(c.Folder)
	if err != nil {
		return err
	}
	v, err := replay(context.Background(), folder, Anchors{})
	if err != nil {
		return refuse(RuleEarlier, "%s: %w", show.Text(c.Folder), err)
	}
	e := &earlier{verified: v, checkpoint: quorum.Sum(v.checkpoint), ended: v.ended, nonces: map[string]bool{v.begin.Nonce: true}, files: v.files}
	switch {
	case e.checkpoint != want:
		return refuse(RuleEarlier, "%s has the checkpoint %x, not the one pinned", show.Text(c.Folder), e.checkpoint)
	case v.begin.Environment != s.config.Environment:
		return refuse(RuleEarlier, "%s is of environment %q", show.Text(c.Folder), v.begin.Environment)
	case v.begin.Mode != "real":
		return refuse(RuleRehearsal, "%s is a rehearsal", show.Text(c.Folder))
	}
	for _, id := range v.session.state.ceremonies {
		if id == s.config.Ceremony {
			return refuse(RuleEarlier, "ceremony %q was held already", id)
		}
	}
	if !bytes.Equal(s.roster, v.script.roster) {
		if _, err := v.roster.Succeed(s.roster, s.rosterApprovals); err != nil {
			return refuse(RuleEarlier, "the roster is not that of %s, and does not follow it: %w", show.Text(c.Folder), err)
		}
	}
	if up := v.script.earlier; up != nil {
		for n := range up.nonces {
			e.nonces[n] = true
		}
	}
	if e.ended.After(s.until) {
		return refuse(RuleEarlier, "%s ended %s, after this script's window", show.Text(c.Folder), formatTime(e.ended))
	}
	s.earlier = e
	return nil
}

// left is what this and the ceremonies before it left, by name, the newest first: an issuer that one of them had no use
// for is there for the next, with its newest CRL.
func (e *earlier) left() *state {
	st, own := newState(), e.verified.session.state
	if up := e.verified.script.earlier; up != nil {
		st = up.left()
	}
	for n, k := range own.keys {
		if e.verified.aborted && !k.imported {
			continue
		}
		kept := *k
		kept.home = e.verified.session.infos[k.token]
		st.keys[n] = &kept
	}
	maps.Copy(st.numbers, own.numbers)
	if e.verified.aborted {
		// It released no certificate and no CRL; only the numbers that it used are taken on.
		return st
	}
	for n, c := range own.certificates {
		if was := st.certificates[n]; was != nil && own.numbers[n] == nil && issuerOf(was.cert) != issuerOf(c.cert) {
			delete(st.numbers, n) // another CA has the name now
		}
		st.certificates[n] = c
		delete(st.crls, n)
		if crl := own.crls[n]; crl != nil {
			st.crls[n] = crl
		}
	}
	for by, crl := range own.crls {
		if _, named := own.certificates[by]; !named {
			st.crls[by] = crl
		}
	}
	maps.Copy(st.crlNames, own.crlNames)
	maps.Copy(st.backups, own.backups)
	return st
}

// withdraw takes back what an aborted ceremony signed and can never release: the next version of a root must be signed
// anew, for clients follow the versions one by one and its keys may be gone. Serials, CRL numbers and the versions of
// targets count as used.
func (s *Session) withdraw() {
	start := s.script.startState()
	for name, u := range s.state.uptane {
		was := start.uptane[name]
		if was == nil {
			delete(s.state.uptane, name)
			continue
		}
		was.targetsVersion, was.targetsUsed = max(was.targetsVersion, u.targetsVersion), max(was.targetsUsed, u.targetsUsed)
		s.state.uptane[name] = was
	}
	s.state.trust, s.state.signed = start.trust, nil
}

// carry gives the state in which a later ceremony begins: numbers and versions that may not go back. Keys and
// certificates enter by a step of their own.
func (e *earlier) carry() *state {
	st := newState()
	old := e.verified.session.state
	for n := range old.serials {
		st.serials[n] = true
	}
	maps.Copy(st.issued, old.issued)
	maps.Copy(st.pinShares, old.pinShares)
	maps.Copy(st.superseded, old.superseded)
	maps.Copy(st.releases, old.releases)
	left := e.left()
	for by, number := range left.numbers {
		if strings.Contains(by, " ") { // an issuer, not the name of a certificate
			st.numbers[by] = number
		}
	}
	for by, crl := range left.crls {
		if strings.Contains(by, " ") {
			st.crls[by] = crl
		}
	}
	st.ceremonies = append(st.ceremonies, old.ceremonies...)
	for n, u := range old.uptane {
		st.uptane[n] = u.carry()
	}
	st.trust, st.trustUsed = old.trust, old.trustUsed
	return st
}
