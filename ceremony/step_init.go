package ceremony

import (
	"context"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

const kindInitIntent = "init-intent"

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

func (i *InitToken) describe(s *Session) string {
	return fmt.Sprintf("initialise a blank token as %q, label %q, and give it its first PINs", i.Token, s.script.tokens[i.Token].Token)
}

func (i *InitToken) perform(s *Session) error {
	uri, ok := s.script.tokens[i.Token]
	if !ok {
		return refuse(RuleReference, "there is no token %q", i.Token)
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
	}); err != nil {
		return err
	}
	uri = s.uri(i.Token)
	if l.Name != i.Token || !uri.MatchesToken(l.Token) || !l.Token.Initialized {
		return s.fail(s.entryError(errors.New("(token) is not the token that the script initialises")))
	}
	s.infos[i.Token] = l.Token
	return nil
}

// make initialises the token and opens it. A session that was cut short may have done so already: an empty token of
// this label is then taken.
func (i *InitToken) make(s *Session, uri hsm.URI, again bool) (hsm.Token, error) {
	if s.specimen {
		return s.tokens[i.Token], nil
	}
	if s.initialise == nil || s.custodians == nil || s.login == nil {
		return nil, advice.New(advice.Usage, "", "nobody can initialise token %q here", i.Token)
	}
	if again {
		if t, err := s.login.token(s.ctx, i.Token, uri); err == nil {
			keys, err := t.Keys(s.ctx)
			if err == nil && len(keys) == 0 {
				s.tokens[i.Token] = t
				return t, nil
			}
			return nil, errors.Join(refuse(RuleToken, "%s is not empty", t.Info().Name()), err, t.Close())
		}
	}
	blank := hsm.TokenInfo{Label: uri.Token, Serial: uri.Serial}
	so, err := s.custodians.PIN(s.ctx, i.Token, "so", blank)
	if err != nil {
		return nil, err
	}
	defer clear(so)
	user, err := s.custodians.PIN(s.ctx, i.Token, "user", blank)
	if err != nil {
		return nil, err
	}
	defer clear(user)
	info, err := s.initialise(s.ctx, i.Token, uri, so, user)
	if err != nil {
		return nil, err
	}
	uri.Serial = info.Serial
	t, err := s.login.token(s.ctx, i.Token, uri)
	if err != nil {
		return nil, err
	}
	s.tokens[i.Token] = t
	return t, nil
}

// Initialises says whether a step of the script makes the token.
func (s *Script) Initialises(name string) bool {
	for _, st := range s.steps {
		if i, ok := st.step.(*InitToken); ok && i.Token == name {
			return true
		}
	}
	return false
}
