package attest

import (
	"crypto"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Level is what a policy asks of evidence.
type Level string

// The levels.
const (
	// Required: without good evidence there is no certificate.
	Required Level = "required"
	// Accepted: evidence need not be there; what is there must be good.
	Accepted Level = "accepted"
	// Ignored: evidence may be there, and nobody looks at it.
	Ignored Level = "ignored"
)

// strictness orders the levels.
func (l Level) strictness() int { return slices.Index([]Level{Ignored, Accepted, Required}, l) }

// Rule is what is asked for one profile, or one lot of devices.
type Rule struct {
	Level Level
	// Kinds that are taken; empty means all that have a pinned manufacturer.
	Kinds []Kind
	// States that a TPM's machine may be in; empty asks for no quote.
	States []PCRState
}

// PolicyConfig is a Policy as data.
type PolicyConfig struct {
	Manufacturers *Manufacturers
	// Default is for every lot that has no rule of its own.
	Default Rule
	// Lots are stricter rules by lot. The station names the lot, so that a weaker rule there would be a way round the default.
	Lots map[string]Rule
	// Verifiers are those of further kinds of secure elements.
	Verifiers []Verifier
}

// Verifier judges one kind of evidence. To take in another kind of secure element, write one: it must check that a pinned
// manufacturer vouches for the chip, that the chip made the key and does not let it out, that the evidence is about
// want.Key, and, where the evidence can hold one, that it was made for want.Nonce or want.Qualifying.
type Verifier interface {
	Kind() Kind
	Verify(m *Manufacturers, e *Evidence, want Want) (*Verdict, error)
}

// Policy decides whether evidence is good enough.
type Policy struct {
	makers    *Manufacturers
	verifiers map[Kind]Verifier
	rule      Rule
	lots      map[string]Rule
}

// NewPolicy checks the configuration.
func NewPolicy(c PolicyConfig) (*Policy, error) {
	p := &Policy{makers: c.Manufacturers, verifiers: map[Kind]Verifier{}, rule: c.Default, lots: c.Lots}
	for _, v := range append([]Verifier{tpmVerifier{}, pivVerifier{}, yubihsmVerifier{}, androidVerifier{}}, c.Verifiers...) {
		if !v.Kind().valid() || p.verifiers[v.Kind()] != nil {
			return nil, refuse(ErrPolicy, "kind %s is there already, or is no word", show.Text(v.Kind()))
		}
		p.verifiers[v.Kind()] = v
	}
	if c.Manufacturers != nil {
		for kind := range c.Manufacturers.names {
			if p.verifiers[kind] == nil {
				return nil, refuse(ErrPolicy, "a manufacturer is pinned for kind %s, which is not known", show.Text(kind))
			}
		}
	}
	if err := p.checkRule(c.Default); err != nil {
		return nil, err
	}
	for lot, r := range c.Lots {
		if err := p.checkRule(r); err != nil {
			return nil, err
		}
		if r.Level.strictness() < c.Default.Level.strictness() {
			return nil, refuse(ErrPolicy, "lot %s is %s and the default %s: a station could name that lot to get round the default", show.Text(lot), r.Level, c.Default.Level)
		}
	}
	return p, nil
}

func (p *Policy) checkRule(r Rule) error {
	if r.Level.strictness() < 0 {
		return refuse(ErrPolicy, "%s is not required, accepted or ignored", show.Text(r.Level))
	}
	pinned := false
	for kind := range p.verifiers {
		pinned = pinned || p.makers.Has(kind)
	}
	if r.Level != Ignored && !pinned {
		return refuse(ErrPolicy, "evidence is %s, and no manufacturer is pinned", r.Level)
	}
	for _, s := range r.States {
		// A machine is asked for one quote, so that all states are of the same registers.
		if s.String() != r.States[0].String() {
			return refuse(ErrPolicy, "states %s and %s are of other registers: %s and %s", show.Text(r.States[0].Name), show.Text(s.Name), r.States[0], s)
		}
	}
	for _, k := range r.Kinds {
		if p.verifiers[k] == nil {
			return refuse(ErrPolicy, "kind %s is not known", show.Text(k))
		}
		if !p.makers.Has(k) {
			return refuse(ErrPolicy, "kind %s is taken, and no manufacturer of it is pinned", show.Text(k))
		}
	}
	return nil
}

// Rule is what holds for a lot.
func (p *Policy) Rule(lot string) Rule {
	if r, ok := p.lots[lot]; ok {
		return r
	}
	return p.rule
}

// Manufacturers are the pinned ones.
func (p *Policy) Manufacturers() *Manufacturers { return p.makers }

// Request is the certification request that evidence came in: parsed, with possession of the key proven over all of it.
type Request struct {
	Key crypto.PublicKey
	// Subject and SPKI are its DER.
	Subject, SPKI []byte
	Lot           string
}

// Takes says whether evidence of a kind is taken for a lot.
func (p *Policy) Takes(kind Kind, lot string) error {
	rule := p.Rule(lot)
	switch {
	case p.verifiers[kind] == nil:
		return refuse(ErrManufacturer, "evidence of kind %s is not known here", show.Text(kind))
	case len(rule.Kinds) > 0 && !slices.Contains(rule.Kinds, kind):
		return refuse(ErrManufacturer, "evidence of kind %s is not taken, only %s", show.Text(kind), show.List(rule.Kinds))
	case !p.makers.Has(kind):
		return refuse(ErrManufacturer, "no manufacturer of kind %s is pinned", show.Text(kind))
	}
	return nil
}

// QualifyingFor is the qualifying data for a request: it binds the nonce, the subject and the key. It cannot bind the
// whole request, which holds the evidence itself; the request's own signature does.
func QualifyingFor(nonce, subject, spki []byte) []byte {
	return Qualifying("hanaper csr v1", nonce, subject, spki)
}

// Verify judges evidence for a request by the rule of its lot, of which Level is for the caller to see to. The caller has checked the
// nonce. activation says how credential activation was shown; at is when.
func (p *Policy) Verify(e *Evidence, r Request, activation Activation, at time.Time) (*Verdict, error) {
	if err := p.Takes(e.Kind, r.Lot); err != nil {
		return nil, err
	}
	rule, verifier := p.Rule(r.Lot), p.verifiers[e.Kind]
	if builtin[e.Kind] && len(e.Other) > 0 {
		return nil, refuse(ErrMalformed, "it holds a statement of type %x, which is not one of kind %s", e.Other[0].Type, show.Text(e.Kind))
	}
	want := Want{Key: r.Key, Nonce: e.Nonce, Qualifying: QualifyingFor(e.Nonce, r.Subject, r.SPKI), Activation: activation, States: rule.States, At: at}
	v, err := verifier.Verify(p.makers, e, want)
	if err != nil {
		return nil, err
	}
	if v == nil || v.Kind != e.Kind {
		return nil, refuse(ErrMalformed, "the verifier of kind %s gave no verdict of that kind", show.Text(e.Kind))
	}
	if have, err := keyDigest(r.Key); err != nil || v.Key != have {
		return nil, refuse(ErrOtherKey, "the verdict is about another key")
	}
	return v, nil
}

var builtin = map[Kind]bool{TPM: true, PIV: true, YubiHSM: true, Android: true}

// tpmVerifier is VerifyTPM for evidence in a request.
type tpmVerifier struct{}

func (tpmVerifier) Kind() Kind { return TPM }

func (tpmVerifier) Verify(m *Manufacturers, e *Evidence, want Want) (*Verdict, error) {
	t := *e.TPM
	ek, err := parseTPMKey("endorsement key", t.EKPublic)
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(e.Certificates)
	if err != nil {
		return nil, err
	}
	// The certificates stand in no order: the endorsement key's comes first now.
	t.EKChain = nil
	for _, c := range chain {
		if sameKey(c.PublicKey, ek.pub) {
			t.EKChain = slices.Insert(t.EKChain, 0, c.Raw)
		} else {
			t.EKChain = append(t.EKChain, c.Raw)
		}
	}
	return m.VerifyTPM(&t, want)
}
