package ceremony

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

const (
	kindShares    = "shares"
	kindPINIntent = "pin-intent"
	kindPIN       = "pin"
)

var _ = register[sharesLeaf](kindShares) && register[pinIntentLeaf](kindPINIntent) && register[pinLeaf](kindPIN)

// HoldSecret splits a new secret among officers: the user PIN or the security officer PIN of a token, which is set to what
// is derived from it, or the wrapping key of backups.
type HoldSecret struct {
	Name  string `yaml:"name"`
	Token string `yaml:"token"`
	// Purpose: user, so or wrap.
	Purpose string `yaml:"purpose"`
	// Threshold of shares; the roster's where it is left out.
	Threshold int `yaml:"threshold"`
	// Holders by name; every officer with a decryption key where it is left out.
	Holders []string `yaml:"holders"`
	// Previous is an input: the shares that these replace.
	Previous string `yaml:"previous"`
}

// sharesLeaf: the new shares, stored before anything derived from them is used.
type sharesLeaf struct {
	Head
	Name     string `json:"name"`
	Document []byte `json:"document"`
}

func (l *sharesLeaf) changesPIN(pins *pinHistory) { pins.newest, _ = quorum.ParseShares(l.Document) }

// pinIntentLeaf: a PIN is about to be set to what the shares hold.
type pinIntentLeaf struct{ pinLeaf }

func (*pinIntentLeaf) left(o *leftover) {
	o.remain(kindPINIntent, "the PIN was changed, or may have been, to what its new shares hold; keep them")
}

func (l *pinIntentLeaf) changesPIN(pins *pinHistory) { pins.perhaps(l.Token, l.Purpose) }

// pinLeaf: a PIN was set to what the shares hold.
type pinLeaf struct {
	Head
	Token   string `json:"token"`
	Purpose string `json:"purpose"`
	Shares  string `json:"shares_sha256"`
}

func (l *pinLeaf) changesPIN(pins *pinHistory) { pins.changed(l.Token, l.Purpose) }

func (h *HoldSecret) people() people {
	who := "every officer with a decryption key"
	if h.Holders != nil {
		who = strings.Join(h.Holders, ", ")
	}
	return people{act: "The holders (" + who + ") put in their cards when asked and test their shares" + watch}
}

func (h *HoldSecret) needs(*Plan) []need { return nil }

func (h *HoldSecret) left(o *leftover, own []entry) { o.leaves(own) }

func (h *HoldSecret) describe(*Session) string {
	what := "split a new wrapping key for backups"
	switch h.Purpose {
	case "user":
		what = fmt.Sprintf("set the user PIN of token %q to a secret split", h.Token)
	case "so":
		what = fmt.Sprintf("set the security officer PIN of token %q to a secret split", h.Token)
	}
	who := "the officers of the roster"
	if h.Holders != nil {
		who = fmt.Sprint(h.Holders)
	}
	return fmt.Sprintf("%s among %s, as shares %q", what, who, h.Name)
}

// holders are those who must open their share in this step.
func (h *HoldSecret) holders(p *Plan) []string {
	if h.Purpose == string(quorum.PurposeWrap) {
		return nil
	}
	if h.Holders != nil {
		return h.Holders
	}
	var names []string
	for _, o := range p.roster.Officers() {
		if o.Role == quorum.RoleOfficer && o.DecryptionKey != nil {
			names = append(names, o.Name)
		}
	}
	return names
}

func (h *HoldSecret) perform(s *Session) error {
	if err := s.claim(h.Name); err != nil {
		return err
	}
	if _, ok := s.state.shares[h.Name]; ok {
		return refuse(RuleName, "the name %q is taken", h.Name)
	}
	if h.Purpose != "user" && h.Purpose != "so" && h.Purpose != "wrap" {
		return malformed("purpose %q is none of user, so and wrap", h.Purpose)
	}
	info, ok := s.infos[h.Token]
	if !ok {
		return refuse(RuleReference, "there is no token %q", h.Token)
	}
	if h.Purpose != string(quorum.PurposeWrap) {
		if err := s.noTPM(h.Token, "which has no security officer to set its PIN", "let one person keep the PIN, or hold the keys in a token that has one"); err != nil {
			return err
		}
	}
	roster, err := s.script.openRoster()
	if err != nil {
		return err
	}
	c := quorum.ShareConfig{Purpose: quorum.Purpose(h.Purpose), TokenSerial: info.Serial, Threshold: h.Threshold, Holders: h.Holders}
	if s.how.onSpecimens() && c.TokenSerial == "" {
		c.TokenSerial = "specimen"
	}
	if h.Previous != "" {
		if c.Previous, err = s.shares(h.Previous, c.Purpose); err != nil {
			return err
		}
	}
	var l sharesLeaf
	var d *quorum.Shares
	if err := s.outcome(&l, kindShares, func(bool) error {
		d, secret, err := quorum.Split(c, roster)
		if err != nil {
			return refuse(RuleThreshold, "%w", err)
		}
		secret.Wipe()
		l.Name, l.Document = h.Name, d.Data()
		return nil
	}, func() error {
		threshold := h.Threshold
		if threshold == 0 {
			threshold = roster.Threshold()
		}
		if d, err = quorum.ParseShares(l.Document); err == nil {
			err = d.CheckRoster(roster)
		}
		if err != nil || l.Name != h.Name || d.Purpose() != c.Purpose || d.TokenSerial() != c.TokenSerial || d.Threshold() != threshold ||
			h.Holders != nil && fmt.Sprint(d.Holders()) != fmt.Sprint(h.Holders) {
			return errors.Join(errors.New("is not what the script asks for"), err)
		}
		return nil
	}); err != nil {
		return err
	}
	made := &madeShares{name: h.Name, doc: d}
	s.state.made = append(s.state.made, made)
	if h.Purpose != "wrap" {
		made.pin = PINNotSet
	}
	if err := s.artefact("shares/"+h.Name+".json", l.Document, nil); err != nil {
		return err
	}
	if h.Purpose != "wrap" {
		if err := h.setPIN(s, d, made); err != nil {
			return err
		}
		if s.how.secrets() {
			s.state.held[h.Token+" "+h.Purpose] = d
		}
	}
	s.state.shares[h.Name] = d
	if c.Previous != nil && h.Purpose == "wrap" {
		s.state.replaced[c.Previous.Digest()] = h.Name
	}
	return nil
}

// setPIN has the holders test their shares, puts the secret together and sets the PIN.
func (h *HoldSecret) setPIN(s *Session, d *quorum.Shares, made *madeShares) error {
	sum := quorum.Digest(d.Digest()).String()
	if err := s.emit(&pinIntentLeaf{pinLeaf{Token: h.Token, Purpose: h.Purpose, Shares: sum}}, kindPINIntent); err != nil {
		return err
	}
	made.pin = PINPerhaps
	var l pinLeaf
	if err := s.outcome(&l, kindPIN, func(again bool) error {
		l.Token, l.Purpose, l.Shares = h.Token, h.Purpose, sum
		if !s.how.secrets() {
			return nil
		}
		return h.change(s, d, again)
	}, func() error {
		if l.Token != h.Token || l.Purpose != h.Purpose || l.Shares != sum {
			return errors.New("is about another PIN")
		}
		return nil
	}); err != nil {
		return err
	}
	made.pin = PINSet
	if h.Purpose == string(quorum.PurposeUser) {
		s.how.pinChanged(h.Token, d)
	}
	h.supersedes(s, d)
	return nil
}

// supersedes notes which shares no longer open the token. In a rehearsal none do.
func (h *HoldSecret) supersedes(s *Session, d *quorum.Shares) {
	if s.how.marked() {
		return
	}
	pin := d.TokenSerial() + " " + h.Purpose
	var before [][32]byte
	if sum, ok := s.state.pinShares[pin]; ok {
		before = append(before, sum)
	}
	if pinned, err := s.script.Shares(h.Token, d.Purpose()); err == nil && pinned != nil {
		before = append(before, pinned.Digest())
	}
	for _, sum := range before {
		if sum != [32]byte(d.Digest()) {
			s.state.superseded[sum] = h.Name
		}
	}
	s.state.pinShares[pin] = d.Digest()
}

// openedBySuperseded refuses shares that an earlier ceremony replaced: each run would burn a PIN try of the token.
func (s *Session) openedBySuperseded() error {
	if s.script.earlier == nil {
		return nil
	}
	old := s.script.earlier.verified.session.state.superseded
	for _, n := range s.script.TokenNames() {
		for _, p := range []quorum.Purpose{quorum.PurposeUser, quorum.PurposeSO} {
			d, err := s.script.Shares(n, p)
			if err != nil || d == nil {
				continue
			}
			if by, ok := old[d.Digest()]; ok {
				if err := s.hold(RuleSuperseded, false, "token %q: its %s_shares were replaced by %q in an earlier ceremony, and no longer open it: pin those", n, show.Text(p), show.Text(by)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// pinSetter changes the PIN of the one who is logged in.
type pinSetter interface {
	SetPIN(before, after []byte) error
}

// change changes the PIN. again is true when a session that was cut short may have done so: the token says.
func (h *HoldSecret) change(s *Session, d *quorum.Shares, again bool) error {
	keepers, err := s.how.keepers(fmt.Sprintf("shares %q", h.Name))
	if err != nil {
		return err
	}
	if err := keepers.Test(s.ctx, d); err != nil {
		return err
	}
	v, err := s.vault(h.Token)
	if err != nil {
		return err
	}
	info := v.Info()
	if again && h.Purpose == "user" && s.how.openedWith(h.Token, d) {
		return nil
	}
	before, err := s.pin(h.Token, quorum.Purpose(h.Purpose), info)
	if err != nil {
		return err
	}
	defer clear(before)
	secret, err := keepers.Secret(s.ctx, d)
	if err != nil {
		return err
	}
	defer secret.Wipe()
	after, err := secret.PIN(info.MinPIN, info.MaxPIN)
	if err != nil {
		return err
	}
	defer clear(after)
	if h.Purpose == "so" {
		if again && v.AsSecurityOfficer(s.ctx, after, func(hsm.SecurityOfficer) error { return nil }) == nil {
			return nil
		}
		return v.AsSecurityOfficer(s.ctx, before, func(o hsm.SecurityOfficer) error { return pinSetter(o).SetPIN(before, after) })
	}
	setter, ok := v.(userPINSetter)
	if !ok {
		return fmt.Errorf("%s: its PIN cannot be changed", info.Name())
	}
	return setter.SetPIN(s.ctx, before, after)
}

func (h *HoldSecret) shows(s *Session, v *shown) {
	if d := s.state.shares[h.Name]; d != nil {
		what := map[string]string{"user": "the user PIN", "so": "the security officer PIN", "wrap": "the wrapping key"}[h.Purpose]
		showSecret(s, v, d, what+" of token "+h.Token)
	}
}

func (h *HoldSecret) asks(p *Plan) []string {
	if h.Purpose == "wrap" || p.heldBefore(p.number(h), h.Token, h.Purpose) || p.script.Initialises(h.Token) {
		return nil // a PIN that the program was given when it initialised the token is not asked for again
	}
	return []string{AskPIN(h.Token, h.Purpose, p.script.tokens[h.Token].Token)}
}
