package ceremony

import (
	"context"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
)

const kindInitIntent = "init-intent"

var _ = register[initIntentLeaf](kindInitIntent)

// Initialiser makes a blank token the one that a script calls name.
type Initialiser func(ctx context.Context, name string, uri hsm.URI, soPIN, userPIN []byte) (hsm.TokenInfo, error)

// InitToken gives a blank token its label, a security officer PIN and a user PIN. The script may leave the token's
// serial out, where the token gets one only now.
type InitToken struct {
	Token string `yaml:"token"`
}

// initIntentLeaf: a blank token is about to be initialised.
type initIntentLeaf struct {
	Head
	Name  string `json:"name"`
	Label string `json:"label"`
}

func (*initIntentLeaf) left(o *leftover) {
	o.remain(kindInitIntent, "the token is initialised, or may be")
}

func (i *InitToken) makesToken() string { return i.Token }

func (i *InitToken) people() people {
	return people{act: "The administrator puts the blank token in; its first PINs are typed by those who will keep them" + watch}
}

func (i *InitToken) needs(*Plan) []need { return nil }

func (i *InitToken) left(o *leftover, own []entry) { o.leaves(own) }

func (i *InitToken) describe(s *Session) string {
	return fmt.Sprintf("initialise a blank token as %q, label %q, and give it its first PINs", i.Token, s.script.tokens[i.Token].Token)
}

func (i *InitToken) perform(s *Session) error {
	uri, ok := s.script.tokens[i.Token]
	if !ok {
		return refuse(RuleReference, "there is no token %q", i.Token)
	}
	if err := s.noTPM(i.Token, "which no ceremony initialises", "make its store with `hanaper token init --store FOLDER`, and write its serial into the script"); err != nil {
		return err
	}
	if _, ok := s.infos[i.Token]; ok {
		return refuse(RuleToken, "token %q is initialised before this step", i.Token)
	}
	if err := s.emit(&initIntentLeaf{Name: i.Token, Label: uri.Token}, kindInitIntent); err != nil {
		return err
	}
	var l tokenLeaf
	if err := s.outcome(&l, kindToken, func(again bool) error {
		l.Name = i.Token
		t, err := i.make(s, uri, again)
		if err != nil {
			return err
		}
		l.Token = t.Info()
		return nil
	}, func() error {
		if u := s.how.uri(s.script.tokens[i.Token]); l.Name != i.Token || !u.MatchesToken(l.Token) || !l.Token.Initialized {
			return errors.New("is not the token that the script initialises")
		}
		return nil
	}); err != nil {
		return err
	}
	s.infos[i.Token] = l.Token
	return nil
}

// make initialises the token and opens it. A session that was cut short may have done so already: an empty token of
// this label is then taken.
func (i *InitToken) make(s *Session, uri hsm.URI, again bool) (hsm.Token, error) {
	if !s.how.isBlank(i.Token) {
		return s.how.open(s.ctx, i.Token, uri)
	}
	if again {
		if t, err := s.how.open(s.ctx, i.Token, uri); err == nil {
			keys, err := t.Keys(s.ctx)
			if err == nil && len(keys) == 0 {
				return t, nil
			}
			return nil, errors.Join(refuse(RuleToken, "%s is not empty", t.Info().Name()), err, s.how.release(i.Token))
		}
	}
	info, err := s.how.blank(s.ctx, i.Token, uri)
	if err != nil {
		return nil, err
	}
	uri.Serial = info.Serial
	return s.how.open(s.ctx, i.Token, uri)
}

// Initialises says whether a step of the script makes the token.
func (s *Script) Initialises(name string) bool {
	for _, st := range s.steps {
		if m, ok := st.step.(tokenMaker); ok && m.makesToken() == name {
			return true
		}
	}
	return false
}
