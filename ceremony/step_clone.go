package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// The kinds of leaves of a clone that people make.
const (
	kindCloneIntent = "clone-intent"
	kindCloned      = "cloned"
)

var _ = register[cloneIntentLeaf](kindCloneIntent) && register[clonedLeaf](kindCloned)

// maxInstructions bounds what a script tells people to do by hand, in bytes.
const maxInstructions = 2000

// ManualClone has people copy a key into another token with the vendor's own tool, before a witness, and then proves that
// the copy is the key. Tokens that clone among themselves, and TPMs, have no other way.
type ManualClone struct {
	// Name of the cloned key.
	Name string `yaml:"name"`
	// Key is the one that is copied.
	Key   string `yaml:"key"`
	Token string `yaml:"token"`
	// Label that the copy has; that of the key where it is left out.
	Label string `yaml:"label"`
	// Witness is somebody of the roster who is present besides those who act, and signs the transcript.
	Witness string `yaml:"witness"`
	// Instructions say what people do with the vendor's tool.
	Instructions string `yaml:"instructions"`
}

// cloneIntentLeaf: people are about to copy the key; until then the token held no key of this label.
type cloneIntentLeaf struct {
	Head
	Name        string `json:"name"`
	Key         string `json:"key"`
	Token       string `json:"token"`
	Label       string `json:"label"`
	Fingerprint string `json:"spki_sha256"`
	Witness     string `json:"witness"`
}

func (l *cloneIntentLeaf) left(o *leftover) {
	o.remain(kindCloneIntent, "people copied a key into token %q, label %q, or may have: have them destroy the copy before the witness %s", l.Token, l.Label, show.Text(l.Witness))
}

func (l *cloneIntentLeaf) makes() place { return place{l.Token, l.Label} }

// clonedLeaf: the copy as its token reads it back, after somebody said that it was made. A test signature follows.
type clonedLeaf struct {
	Head
	Name string `json:"name"`
	// Agreed is what the people present answered when they had done it.
	Agreed      string         `json:"agreed"`
	Witness     string         `json:"witness"`
	SPKI        []byte         `json:"spki"`
	Fingerprint string         `json:"spki_sha256"`
	Attributes  hsm.Attributes `json:"attributes"`
	// StandIn: in a rehearsal nothing is copied, and the key itself stands in for its copy.
	StandIn bool `json:"stand_in,omitempty"`
}

func (m *ManualClone) label(k *key) string {
	if m.Label == "" && k != nil {
		return k.label
	}
	return m.Label
}

// told is the instructions as one paragraph.
func (m *ManualClone) told() string { return strings.Join(strings.Fields(m.Instructions), " ") }

func (m *ManualClone) people() people {
	return people{witness: m.Witness, act: "The officers present act with the vendor's tool; the witness " + m.Witness +
		" compares label and token with this page; the administrator types Yes when it is done" + watch}
}

func (m *ManualClone) needs(p *Plan) []need {
	return []need{{token: m.Token, label: m.label(p.state.keys[m.Key])}}
}

func (m *ManualClone) left(o *leftover, own []entry) { o.leaves(own) }

func (m *ManualClone) describe(s *Session) string {
	of := ""
	if k := s.state.keys[m.Key]; k != nil && k.of != "" {
		of = fmt.Sprintf(" (which stands for key %q)", k.of)
	}
	return fmt.Sprintf("BY HAND, before the witness %s: copy key %q%s into token %q as %q, label %q: %s; then prove the copy by its public key, its attributes and a test signature",
		m.Witness, m.Key, of, m.Token, m.Name, m.label(s.state.keys[m.Key]), strings.TrimRight(m.told(), "."))
}

func (m *ManualClone) perform(s *Session) error {
	source, err := m.check(s)
	if err != nil {
		return err
	}
	label := m.label(source)
	intent := &cloneIntentLeaf{Name: m.Name, Key: m.Key, Token: m.Token, Label: label, Fingerprint: hexSHA256(source.spki), Witness: m.Witness}
	if err := s.emit(intent, kindCloneIntent); err != nil {
		return err
	}
	k := &key{session: s, name: m.Name, token: m.Token, label: label, algorithm: source.algorithm, class: hsm.Restored, purpose: source.purpose,
		bornHere: source.bornHere, imported: source.imported, restoredFrom: source, of: source.original(), standIn: s.how.marked(), madeHere: true}
	var l clonedLeaf
	if err := s.outcome(&l, kindCloned, func(again bool) error {
		if err := m.copied(s, k, source, again); err != nil {
			return err
		}
		l.Name, l.Agreed, l.Witness, l.StandIn = m.Name, "Yes", m.Witness, s.how.marked()
		l.SPKI, l.Fingerprint, l.Attributes = source.spki, hexSHA256(source.spki), k.attrs
		return nil
	}, func() error {
		if l.Agreed != "Yes" || l.Witness != m.Witness || l.StandIn != s.how.marked() || len(l.Attributes.ID) == 0 {
			return errors.New("is not what the script asks for")
		}
		if err := s.how.witnessed(m.Witness, s.present()); err != nil {
			return err
		}
		k.id = bytes.Clone(l.Attributes.ID)
		return k.accept(keyLeaf{Head: l.Head, Name: l.Name, SPKI: l.SPKI, Fingerprint: l.Fingerprint, Attributes: l.Attributes})
	}); err != nil {
		return err
	}
	s.state.keys[m.Name] = k
	if !s.how.marked() {
		s.witnesses = append(s.witnesses, witnessRecord{m.Witness, s.step, fmt.Sprintf("key %q copied by hand into token %q as %q", m.Key, m.Token, m.Name)})
	}
	return k.prove()
}

// check holds the step to the rules, and gives the key that is copied.
func (m *ManualClone) check(s *Session) (*key, error) {
	if err := s.claimNew(m.Name); err != nil {
		return nil, err
	}
	source, err := s.key(m.Key)
	if err != nil {
		return nil, err
	}
	label := m.label(source)
	if !labelForm.MatchString(label) {
		return nil, malformed("label %q: use 1 to 64 letters, digits, spaces and . _ : -", label)
	}
	if told := m.told(); told == "" || len(told) > maxInstructions || strings.ContainsFunc(told, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return nil, malformed("instructions: say in 1 to %d bytes of plain text what people do by hand", maxInstructions)
	}
	if _, ok := s.infos[m.Token]; !ok {
		return nil, refuse(RuleReference, "there is no token %q at this step", m.Token)
	}
	if err := s.checkTPM(m.Token, source.algorithm, hsm.Restored); err != nil {
		return nil, err
	}
	if m.Token == source.token {
		return nil, refuse(RuleWitness, "key %q is in token %q already: a clone is made in another token", m.Key, m.Token)
	}
	for _, k := range s.state.keys {
		if k.token == m.Token && k.label == label && !k.destroyed {
			return nil, refuse(RuleLabel, "token %q holds the label %q already", m.Token, label)
		}
	}
	if m.Witness == "" {
		return nil, malformed("witness is missing: what people do by hand needs one, by the name in the roster")
	}
	roster, err := s.script.openRoster()
	if err != nil {
		return nil, err
	}
	for _, o := range roster.Officers() {
		if o.Name == m.Witness {
			return source, nil
		}
	}
	return nil, refuse(RuleWitness, "the witness %q is nobody of the roster", m.Witness)
}

// copied tells people what to do, waits until they say that it is done, and finds the copy.
func (m *ManualClone) copied(s *Session, k, source *key, again bool) error {
	if s.how.onSpecimens() {
		v, err := s.vault(m.Token)
		if err != nil {
			return err
		}
		if k.live, err = v.UnwrapKey(s.ctx, hsm.RestoreSpec{Label: k.label, ID: source.id, Public: source.public}); err == nil {
			k.attrs = k.live.Attributes()
		}
		return err
	}
	if err := s.how.witnessed(m.Witness, s.present()); err != nil {
		return err
	}
	if !k.standIn {
		t, err := s.token(m.Token)
		if err != nil {
			return err
		}
		if _, err := t.Key(s.ctx, hsm.Query{Label: k.label}); !again && !errors.Is(err, hsm.ErrNoKey) {
			return refuse(RuleLabel, "%s holds a key %q before anybody copied one (%v)", t.Info().Name(), k.label, err)
		}
		// Vendors' tools want tokens that nobody else is logged in to.
		for _, name := range []string{source.token, m.Token} {
			if err := s.release(name); err != nil {
				return err
			}
		}
	}
	if err := s.how.confirm(fmt.Sprintf("BY HAND, before the witness %s: copy key %q (SHA-256 of its public key %s) from token %q into token %q, label %q.\n  %s\nWhen it is done, or for a rehearsal was talked through:",
		m.Witness, source.label, hexSHA256(source.spki), source.token, m.Token, k.label, m.told())); err != nil {
		return err
	}
	if k.standIn {
		k.attrs = hsm.Attributes{Label: k.label, ID: source.id, Algorithm: source.algorithm, Token: true, Private: true, Sensitive: true, Sign: true}
		return nil
	}
	t, err := s.token(m.Token)
	if err != nil {
		return err
	}
	live, err := t.Key(s.ctx, hsm.Query{Label: k.label})
	if err != nil {
		return advice.Wrap(advice.Refused, err, "let people finish the copy, then `hanaper ceremony resume`, or abort")
	}
	if !ca.SameKey(live.Public(), source.public) {
		return refuse(RuleWitness, "the key %q in %s is not the key %q that was to be copied", k.label, t.Info().Name(), source.name)
	}
	k.live, k.attrs = live, live.Attributes()
	// Before the entry is written: a copy without protection must not stand in a transcript as good.
	k.id, k.public = bytes.Clone(k.attrs.ID), source.public
	if len(k.id) == 0 {
		return refuse(RuleAttributes, "the key %q in %s has no CKA_ID", k.label, t.Info().Name())
	}
	return checkAttributes(k)
}

// release closes a token for the time of an act by others; the next step that needs it opens it again and sees that it is
// the same.
func (s *Session) release(name string) error {
	for _, k := range s.state.keys {
		if k.token == name {
			k.live = nil
		}
	}
	return s.how.release(name)
}

func (l *clonedLeaf) show(s *shown) {
	s.box("SHA-256 of the public key (DER, SubjectPublicKeyInfo) of the copy "+l.Name+ends, l.Fingerprint)
}

func (m *ManualClone) shows(s *Session, v *shown) { showCopy(s, v, m.Name) }

func (m *ManualClone) asks(*Plan) []string { return []string{AskYes} }
