package ceremony

import (
	"context"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// Plan is a script that can be performed, as far as that can be known without a token.
type Plan struct {
	script *Script
	roster *quorum.Roster
	// Steps in plain words.
	Steps []PlannedStep
	// Outputs are the paths that will be written.
	Outputs []string
	// Warnings that a reader should know.
	Warnings []string
	// Signatures is the number of signatures that each key will make, by key name.
	Signatures map[string]int

	state *state
	// shown is what the form and the screen say of each step; 0 is before the first.
	shown map[int]*shown
	// leaves are those that a session on specimens wrote.
	leaves [][]byte
}

// PlannedStep is a step in plain words.
type PlannedStep struct {
	Number   int    `json:"number"`
	Kind     string `json:"kind"`
	Line     int    `json:"line"`
	Describe string `json:"describe"`
}

// Script is what the plan is of.
func (p *Plan) Script() *Script { return p.script }

// Roster is the roster that the script pins, read but not compared with any anchor.
func (p *Plan) Roster() *quorum.Roster { return p.roster }

// Validate performs the script on specimens: every certificate, CRL and metadata file is made and held to every rule,
// with throw-away keys. Nothing is written and no token is touched.
func (s *Script) Validate(ctx context.Context) (*Plan, error) {
	roster, err := s.openRoster()
	if err != nil {
		return nil, err
	}
	p := &Plan{script: s, roster: roster, Signatures: map[string]int{}, shown: map[int]*shown{}}
	how := specimens(s, func(l []byte) error { p.leaves = append(p.leaves, l); return nil })
	how.seen = func(step int, v *shown) { p.shown[step] = v }
	session := newSession(ctx, s, how, nil)
	if err := session.perform(); err != nil {
		return nil, err
	}
	p.Outputs, p.Warnings, p.state = session.state.order, session.warnings, session.state
	entries := entriesOf(p.leaves)
	for _, e := range entries {
		if l, ok := e.leaf.(*stepLeaf); ok {
			p.Steps = append(p.Steps, PlannedStep{e.head.Step, l.What, s.steps[e.head.Step-1].line, l.Describe})
		}
	}
	for k, n := range shownOf(entries).signs {
		p.Signatures[k] = n
	}
	for _, more := range session.will {
		for k, n := range more {
			p.Signatures[k] += n
		}
	}
	return p, nil
}

// needs lists what the steps ask of tokens.
func (p *Plan) needs() []need {
	var list []need
	for _, st := range p.script.steps {
		for _, n := range st.step.needs(p) {
			if n.label != "" && p.frees(n.token, n.label) {
				n.label = ""
			}
			list = append(list, n)
		}
	}
	return list
}

// frees says whether the script destroys the key of an earlier ceremony that has the label now.
func (p *Plan) frees(token, label string) bool {
	for _, k := range p.state.keys {
		if k.imported && k.destroyed && k.token == token && k.label == label {
			return true
		}
	}
	return false
}

// openRoster reads the roster that the script pins.
func (s *Script) openRoster() (*quorum.Roster, error) {
	r, err := quorum.ParseRosterAsOf(s.asOf, s.roster)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "see hanaper roster")
	}
	if r.Environment() != s.config.Environment {
		return nil, refuse(RuleQuorum, "%s: the roster is of environment %q, the script of %q", s.name, r.Environment(), s.config.Environment)
	}
	return r, nil
}

// startState is the state in which the first step begins.
func (s *Script) startState() *state {
	st := newState()
	if s.earlier != nil {
		st = s.earlier.carry()
	}
	st.ceremonies = append(st.ceremonies, s.config.Ceremony)
	return st
}
