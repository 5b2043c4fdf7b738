package ceremony

import (
	"encoding/hex"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// verbRun is what approvals of a run approve.
const verbRun = "ceremony run"

// Statement is what officers approve: this script and its inputs, for this tool, once, until expires.
func (s *Script) Statement(toolSHA256, nonce string, expires time.Time) (quorum.Statement, error) {
	tool, err := ParseDigest(toolSHA256)
	if err != nil {
		return quorum.Statement{}, err
	}
	inputs := map[string]quorum.Digest{}
	for n, d := range s.InputDigests() {
		inputs[n] = d
	}
	return quorum.Statement{Verb: verbRun, Environment: s.config.Environment, RosterDigest: quorum.Sum(s.roster),
		ScriptDigest: s.Digest(), Inputs: inputs, ToolDigest: tool, Nonce: nonce, Expires: expires}, nil
}

// firstLeaf checks the quorum and makes the leaf that begins a transcript. The same check is made by Verify.
func firstLeaf(s *Script, roster *quorum.Roster, approvals [][]byte, used func(string) bool, tool Tool, asserted time.Time, rehearsal bool) (beginLeaf, error) {
	l := beginLeaf{Format: newest.String(), Ceremony: s.config.Ceremony, Environment: s.config.Environment, Script: hexSHA256(s.raw),
		Roster: hexSHA256(s.roster), Inputs: map[string]string{}, Tool: tool, Asserted: formatTime(asserted), Mode: "real"}
	if rehearsal {
		l.Mode = "rehearsal"
	}
	for n, d := range s.InputDigests() {
		l.Inputs[n] = hex.EncodeToString(d[:])
	}
	if rehearsal {
		if len(approvals) > 0 {
			return l, advice.New(advice.Usage, "keep the approvals for the ceremony", "a rehearsal needs no approvals")
		}
		return l, nil
	}
	if len(approvals) == 0 {
		return l, advice.Wrap(advice.Refused, refuse(RuleQuorum, "no approvals: the roster asks for %d of its officers", roster.Threshold()),
			"have officers run `hanaper ceremony approve`, and give their approvals with --approval")
	}
	first, err := quorum.ReadApproval(approvals[0])
	if err != nil {
		return l, refuse(RuleQuorum, "%w", err)
	}
	st, err := s.Statement(tool.SHA256, first.Nonce, first.Expires)
	if err != nil {
		return l, err
	}
	q, err := quorum.Verify(st, roster, approvals, asserted, func(nonce string) bool {
		return s.earlier != nil && s.earlier.nonces[nonce] || used != nil && used(nonce)
	})
	if err != nil {
		return l, refuse(RuleQuorum, "%w", err)
	}
	l.Nonce, l.Expires = first.Nonce, formatTime(first.Expires)
	for _, o := range q.Officers() {
		l.Approvals = append(l.Approvals, officerRecord{o.Name, string(o.Role), o.KeyID})
	}
	return l, nil
}
