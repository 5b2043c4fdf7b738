package ceremony

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

// admit takes note of a token as it was opened.
func (s *Session) admit(name string) error {
	var l tokenLeaf
	err := s.outcome(&l, kindToken, func(bool) error {
		t, err := s.token(name)
		if err != nil {
			return err
		}
		l.Name, l.Token = name, t.Info()
		return nil
	}, func() error {
		if l.Name != name {
			return fmt.Errorf("is about token %q, not %q", l.Name, name)
		}
		if uri := s.how.uri(s.script.tokens[name]); !uri.MatchesToken(l.Token) {
			return refuse(RuleToken, "the token opened as %q is %s, not %s", name, l.Token.Name(), uri)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.infos[name] = l.Token
	return s.attests(name)
}

// token gives an open token.
func (s *Session) token(name string) (hsm.Token, error) {
	uri := s.script.tokens[name]
	if info, ok := s.infos[name]; ok {
		uri.Serial = info.Serial
	} else if s.how.isBlank(name) {
		return nil, refuse(RuleReference, "token %q does not exist at this step", name)
	}
	return s.how.open(s.ctx, name, uri)
}

const kindSerial = "serial"

var _ = register[serialLeaf](kindSerial)

// serialLeaf: a serial number drawn for a certificate; used from here on, whatever happens next.
type serialLeaf struct {
	Head
	For    string `json:"for"`
	Serial string `json:"serial"`
}

func (l *serialLeaf) show(s *shown)    { s.box("serial number"+ends, l.Serial) }
func (l *serialLeaf) left(o *leftover) { o.serials = append(o.serials, l.Serial) }

// serial draws a certificate's serial number of 20 octets. It counts as used from then on.
func (s *Session) serial(what string) (*big.Int, error) {
	l := serialLeaf{}
	b := make([]byte, 20)
	if err := s.outcome(&l, kindSerial, func(bool) error {
		if _, err := rand.Read(b); err != nil {
			return err
		}
		b[0] = b[0]&0x7f | 0x40
		l.For, l.Serial = what, hex.EncodeToString(b)
		return nil
	}, func() error {
		var err error
		b, err = hex.DecodeString(l.Serial)
		if err != nil || len(b) != 20 || b[0]&0xc0 != 0x40 || l.For != what || hex.EncodeToString(b) != l.Serial {
			return errors.New("is not a serial number of 20 octets for this certificate")
		}
		if s.state.serials[l.Serial] {
			return refuse(RuleSerial, "serial %s was drawn before", show.Text(l.Serial))
		}
		return nil
	}); err != nil {
		return nil, err
	}
	s.state.serials[l.Serial] = true
	return new(big.Int).SetBytes(b), nil
}

// warn keeps what a reader of check should know.
func (s *Session) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf("step %d: ", s.step)+fmt.Sprintf(format, args...))
}
