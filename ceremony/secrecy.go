package ceremony

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// showSecret states who holds a new secret, and remarks on what makes it weak or easily lost.
func showSecret(s *Session, v *shown, d *quorum.Shares, what string) {
	holders, m := d.Holders(), d.Threshold()
	v.fact("threshold", fmt.Sprintf("%d of %d holders together have %s", m, len(holders), what))
	v.fact("holders", show.List(holders))
	roster, err := s.script.openRoster()
	if err != nil {
		return
	}
	if len(holders) < roster.Threshold() {
		v.remark("%s has %d holders, fewer than the %d officers of the quorum", show.Line(what), len(holders), roster.Threshold())
	}
	switch {
	case m == 1:
		v.remark("a threshold of 1: each holder ALONE has %s", show.Line(what))
	case m < roster.Threshold():
		v.remark("a threshold of %d, below the quorum of %d: fewer people than must approve a ceremony have %s", m, roster.Threshold(), show.Line(what))
	}
	if m == len(holders) && m > 1 {
		v.remark("every holder is needed for %s: if one card is lost, it is lost", show.Line(what))
	}
}

// opens says who can log in to a token when the step at work begins.
func (s *Session) opens(token string) string {
	var d *quorum.Shares
	for _, st := range s.script.steps {
		if h, ok := st.step.(*HoldSecret); ok && st.number < s.step && h.Token == token && h.Purpose == string(quorum.PurposeUser) {
			d = s.state.shares[h.Name]
		}
	}
	if d == nil {
		d, _ = s.script.Shares(token, quorum.PurposeUser)
	}
	if d == nil {
		return "whoever knows its PIN"
	}
	return fmt.Sprintf("%d of %s", d.Threshold(), show.List(d.Holders()))
}

// showRole states the threshold of a signed role and who holds its keys.
func (s *Session) showRole(v *shown, role string, threshold int, keys []string) {
	var lines []string
	online := 0
	for _, n := range keys {
		switch k := s.state.keys[n]; {
		case k != nil:
			lines = append(lines, fmt.Sprintf("key %s in token %s, opened by %s", n, k.token, s.opens(k.token)))
		default:
			online++
			lines = append(lines, fmt.Sprintf("public key of input %s, held outside this ceremony", n))
		}
	}
	v.fact("role "+role, fmt.Sprintf("%d of %d: %s", threshold, len(keys), strings.Join(lines, "; ")))
	// Roles that machines sign with have one key each by design; those of the officers should not.
	if threshold == 1 && (online == 0 || slices.Contains([]string{"root", "targets"}, role)) {
		v.remark("the role %s has a threshold of 1: one key alone signs for it", role)
	}
}
