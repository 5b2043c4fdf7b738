package ceremony

import (
	"context"
	"time"

	"github.com/hanaper/hanaper/hsm"
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
	// Generates are the labels of the keys that will be generated, or copied by hand, by token name.
	Generates map[string][]string
	// Signatures is the number of signatures that each key will make, by key name.
	Signatures map[string]int

	state *state
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
	p := &Plan{script: s, roster: roster, Generates: map[string][]string{}, Signatures: map[string]int{}}
	tokens := map[string]hsm.Token{}
	for n, uri := range s.tokens {
		tokens[n] = newSpecimenToken(n, uri)
	}
	session := &Session{ctx: ctx, script: s, state: s.startState(), tokens: tokens, infos: map[string]hsm.TokenInfo{},
		clock: func() time.Time { return s.from }, write: p.note, specimen: true}
	if err := session.perform(); err != nil {
		return nil, err
	}
	p.Outputs, p.Warnings, p.state = session.state.order, session.warnings, session.state
	return p, nil
}

// note learns from the leaves that a session would write.
func (p *Plan) note(data []byte) error {
	h, err := headOf(data)
	if err != nil {
		return err
	}
	p.leaves = append(p.leaves, data)
	switch h.Kind {
	case kindStep:
		var l stepLeaf
		if err := decodeLeaf(data, &l, kindStep); err != nil {
			return err
		}
		p.Steps = append(p.Steps, PlannedStep{h.Step, l.What, p.script.steps[h.Step-1].line, l.Describe})
	case kindKeyIntent:
		var l keyIntentLeaf
		if err := decodeLeaf(data, &l, kindKeyIntent); err != nil {
			return err
		}
		p.Generates[l.Token] = append(p.Generates[l.Token], l.Label)
	case kindCloneIntent:
		var l cloneIntentLeaf
		if err := decodeLeaf(data, &l, kindCloneIntent); err != nil {
			return err
		}
		p.Generates[l.Token] = append(p.Generates[l.Token], l.Label)
	case kindSignIntent:
		var l signIntentLeaf
		if err := decodeLeaf(data, &l, kindSignIntent); err != nil {
			return err
		}
		p.Signatures[l.Key]++
	}
	return nil
}

// openRoster reads the roster that the script pins.
func (s *Script) openRoster() (*quorum.Roster, error) {
	r, err := quorum.ParseRoster(s.roster)
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
