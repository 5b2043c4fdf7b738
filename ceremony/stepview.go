package ceremony

import (
	"fmt"

	"github.com/hanaper/hanaper/internal/show"
)

// View is what is known of a step before it is performed.
func (p *Plan) View(number int) StepView {
	st := p.script.steps[number-1]
	v := StepView{Number: number, Kind: st.kind, Who: st.step.people().act, Asks: p.asks(st)}
	for _, planned := range p.Steps {
		if planned.Number == number {
			v.Text = planned.Describe
		}
	}
	if seen := p.shown[number]; seen != nil {
		v.Facts, v.Remarks, v.Writes = seen.facts, seen.remarks, seen.writes
		for _, b := range seen.values {
			v.Values = append(v.Values, Value{Label: b.Label})
		}
	}
	if token := get(fields(st.step), "token"); token != "" {
		v.Facts = append(tokenFacts(p.script, token), v.Facts...)
	}
	return v
}

// tokenFacts says which token a step means, and in what it lies.
func tokenFacts(s *Script, name string) []Value {
	u, ok := s.tokens[name]
	if !ok {
		return nil
	}
	value := fmt.Sprintf("label %s", show.Text(u.Token))
	if u.Serial != "" {
		value += ", serial " + show.Text(u.Serial)
	}
	if in := s.config.Tokens[name].sealed(); in != "" {
		value += ", in " + in
	}
	return append([]Value{{"token " + name, value}}, s.birthFacts(name)...)
}

// sealed says in which bag, under which seal, a token is expected; empty where the script does not say.
func (c TokenConfig) sealed() string {
	switch {
	case c.Bag == "" && c.Seal == "":
		return ""
	case c.Seal == "":
		return "bag " + show.Text(c.Bag)
	case c.Bag == "":
		return "a bag with seal " + show.Text(c.Seal)
	}
	return "bag " + show.Text(c.Bag) + " with seal " + show.Text(c.Seal)
}

// Sealed says of each token in which bag, under which seal, it is expected.
func (s *Script) Sealed() []Value {
	var list []Value
	for _, n := range sortedKeys(s.tokens) {
		in := s.config.Tokens[n].sealed()
		if in == "" {
			in = "not in the script"
		}
		list = append(list, Value{"token " + n, in})
	}
	return list
}

// Remarks are those of all steps that nobody may overlook, each with the number of its step.
func (p *Plan) Remarks() []string {
	var all []string
	for _, st := range p.script.steps {
		if seen := p.shown[st.number]; seen != nil {
			for _, r := range seen.remarks {
				all = append(all, fmt.Sprintf("step %d: %s", st.number, r))
			}
		}
	}
	return all
}
