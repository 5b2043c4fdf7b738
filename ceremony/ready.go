package ceremony

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// Present are the people of whom nothing is known yet but how many keys they brought.
type Present struct {
	// Signers and Holders are the numbers of signing and decryption keys.
	Signers, Holders int
}

// Ready checks all of a run that needs neither a secret nor an answer, so that nobody types one in vain: the approvals, that
// they are unused, what the script carries on from, the output folder, and whether enough people brought their keys. Run
// checks it again.
func Ready(c RunConfig, p Present) error {
	r := &run{RunConfig: c, script: c.Plan.script, roster: c.Plan.roster}
	// Until the people say what time it is, the script's window must do.
	r.Asserted = r.script.from
	if err := r.authorise(); err != nil {
		return err
	}
	if err := checkOut(c.Out); err != nil {
		return err
	}
	if p.Signers == 0 {
		return nobodyPresent()
	}
	for _, st := range r.script.steps {
		if w := st.step.people().witness; w != "" && p.Signers < 2 {
			return stepError(r.script, st, advice.Wrap(advice.Refused, refuse(RuleWitness, "the witness %q must be present, with a key to sign the transcript, and somebody else to act", w), "name the keys of both with --officer"))
		}
		if h, ok := st.step.(holder); ok {
			if names := h.holders(c.Plan); p.Holders < len(names) {
				return stepError(r.script, st, advice.New(advice.Refused, "name the decryption keys of all of them with --custodian",
					"every holder of a new share opens it once before it is relied on: %s, and %d decryption keys are named", strings.Join(names, ", "), p.Holders))
			}
		}
	}
	return r.script.opened(p.Holders)
}

// holder is a step in which everybody who is to hold a new share opens it.
type holder interface{ holders(p *Plan) []string }

// attendance are custodians who know whose decryption keys are there.
type attendance interface{ Holds(o quorum.Officer) bool }

// checkHolders refuses a run at which somebody who is to hold a new share is not there: it would be found when the token is initialised.
func (r *run) checkHolders() error {
	there, ok := r.Custodians.(attendance)
	if !ok || r.Rehearsal {
		return nil
	}
	for _, st := range r.script.steps {
		h, ok := st.step.(holder)
		if !ok {
			continue
		}
		for _, name := range h.holders(r.Plan) {
			if o, ok := r.roster.Named(name); ok && !there.Holds(o) {
				return stepError(r.script, st, advice.New(advice.Refused, "name the decryption keys of all of them with --custodian",
					"every holder of a new share opens it once before it is relied on, and the decryption key of %s is not there", show.Text(name)))
			}
		}
	}
	return nil
}

// opened asks for enough decryption keys to open the tokens whose PIN a quorum holds.
func (s *Script) opened(keys int) error {
	for _, name := range s.tokensAtStart() {
		shares, err := s.Shares(name, quorum.PurposeUser)
		if err != nil {
			return err
		}
		if shares != nil && keys < shares.Threshold() {
			return advice.New(advice.Refused, fmt.Sprintf("name the decryption keys of %d of %s with --custodian", shares.Threshold(), strings.Join(shares.Holders(), ", ")),
				"the PIN of token %q is held by a quorum: %d decryption keys are needed, and %d are named", name, shares.Threshold(), keys)
		}
	}
	return nil
}

// Tokens asks, without a PIN, that the tokens are there which are opened at the beginning; list gives those of a token's
// module.
func Tokens(s *Script, list func(name string) ([]hsm.TokenInfo, error)) error {
	for _, name := range s.tokensAtStart() {
		infos, err := list(name)
		if err != nil {
			return fmt.Errorf("token %q: %w", name, err)
		}
		uri := s.tokens[name]
		if slices.ContainsFunc(infos, uri.MatchesToken) {
			continue
		}
		var there []string
		for _, i := range infos {
			if i.Initialized {
				there = append(there, i.Name())
			}
		}
		if len(there) == 0 {
			there = []string{"none"}
		}
		return advice.Wrap(advice.Failed, fmt.Errorf("token %q: %w: %s; there are: %s", name, hsm.ErrNoToken, uri, show.List(there)), "connect it, and compare label and serial with your paper")
	}
	return nil
}

func nobodyPresent() error {
	return advice.New(advice.Usage, "name the key of an officer present with --officer", "no officer is present to sign the transcript")
}
