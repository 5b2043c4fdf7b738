package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/hanaper/hanaper/hsm"
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
	})
	if err != nil {
		return err
	}
	if l.Name != name {
		return s.fail(s.entryError(fmt.Errorf("is about token %q, not %q", l.Name, name)))
	}
	if !s.uri(name).MatchesToken(l.Token) {
		return s.fail(refuse(RuleToken, "the token opened as %q is %s, not %s", name, l.Token.Name(), s.uri(name)))
	}
	s.infos[name] = l.Token
	return nil
}

// uri names the token that the script means. A rehearsal's has another serial.
func (s *Session) uri(name string) hsm.URI {
	u := s.script.tokens[name]
	if s.rehearsal {
		u.Serial = ""
	}
	return u
}

// token gives an open token.
func (s *Session) token(name string) (hsm.Token, error) {
	if t, ok := s.tokens[name]; ok {
		return t, nil
	}
	info, ok := s.infos[name]
	if !ok || s.login == nil {
		return nil, refuse(RuleReference, "token %q does not exist at this step", name)
	}
	uri := s.script.tokens[name]
	uri.Serial = info.Serial
	t, err := s.login.token(s.ctx, name, uri)
	if err != nil {
		return nil, err
	}
	s.tokens[name] = t
	return t, nil
}

// generate makes a key as the script's name. Its id is random and journalled before, so that a session which resumes
// can tell a key that this ceremony made from any other.
func (s *Session) generate(name, token string, spec hsm.GenerateSpec) (*key, error) {
	in := keyIntentLeaf{Name: name, Token: token, Label: spec.Label, Algorithm: spec.Algorithm, Class: spec.Class}
	if err := s.outcome(&in, kindKeyIntent, func(bool) error {
		id := make([]byte, 20)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		in.ID = hex.EncodeToString(id)
		return nil
	}); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(in.ID)
	if err != nil || len(id) != 20 {
		return nil, s.fail(s.entryError(errors.New("(key-intent) has no id of 20 octets")))
	}
	want := keyIntentLeaf{Head: in.Head, Name: name, Token: token, Label: spec.Label, Algorithm: spec.Algorithm, Class: spec.Class, ID: in.ID}
	if in != want {
		return nil, s.fail(s.entryError(errors.New("(key-intent) is not what the script asks for")))
	}
	spec.ID = id
	k := &key{session: s, name: name, token: token, label: spec.Label, id: id, algorithm: spec.Algorithm, class: spec.Class, bornHere: true}
	var out keyLeaf
	if err := s.outcome(&out, kindKey, func(again bool) error {
		t, err := s.token(token)
		if err != nil {
			return err
		}
		if again {
			k.live, err = adopt(s.ctx, t, spec)
		}
		if err == nil && k.live == nil {
			k.live, err = t.Generate(s.ctx, spec)
		}
		if err != nil {
			return err
		}
		out.Name, out.Attributes = name, k.live.Attributes()
		out.SPKI, out.Fingerprint, err = marshalSPKI(k.live.Public())
		return err
	}); err != nil {
		return nil, err
	}
	if err := k.accept(out); err != nil {
		return nil, s.fail(err)
	}
	return k, nil
}

// adopt finds the key that a session cut short may have generated: it has the intent's label and its random id.
func adopt(ctx context.Context, t hsm.Token, spec hsm.GenerateSpec) (hsm.Key, error) {
	keys, err := t.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		a := k.Attributes()
		if a.Label == spec.Label && bytes.Equal(a.ID, spec.ID) {
			return k, nil
		}
		if a.Label == spec.Label {
			return nil, refuse(RuleLabel, "a key %q that this ceremony did not make is in %s", spec.Label, t.Info().Name())
		}
	}
	_, err = clearRemnant(ctx, t, hsm.Query{Label: spec.Label, ID: spec.ID})
	return nil, err
}

// clearRemnant removes half a pair that carries the random id of an intent: what a token leaves that was cut short between
// the two halves.
func clearRemnant(ctx context.Context, t hsm.Token, q hsm.Query) (bool, error) {
	if able, ok := t.(interface {
		ClearRemnant(context.Context, hsm.Query) (bool, error)
	}); ok {
		return able.ClearRemnant(ctx, q)
	}
	return false, nil
}

// serial draws a certificate's serial number of 20 octets. It counts as used from then on.
func (s *Session) serial(what string) (*big.Int, error) {
	l := serialLeaf{}
	if err := s.outcome(&l, kindSerial, func(bool) error {
		b := make([]byte, 20)
		if _, err := rand.Read(b); err != nil {
			return err
		}
		b[0] = b[0]&0x7f | 0x40
		l.For, l.Serial = what, hex.EncodeToString(b)
		return nil
	}); err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(l.Serial)
	if err != nil || len(b) != 20 || b[0]&0xc0 != 0x40 || l.For != what || hex.EncodeToString(b) != l.Serial {
		return nil, s.fail(s.entryError(errors.New("(serial) is not a serial number of 20 octets for this certificate")))
	}
	if s.state.serials[l.Serial] {
		return nil, s.fail(refuse(RuleSerial, "serial %s was drawn before", l.Serial))
	}
	s.state.serials[l.Serial] = true
	return new(big.Int).SetBytes(b), nil
}

// artefact states a file of the result.
func (s *Session) artefact(path string, data []byte) error {
	if len(path) > 250 || !fileForm.MatchString(path) {
		return s.fail(refuse(RuleOutput, "%q is no name for an output", path))
	}
	if s.rehearsal {
		path += rehearsalSuffix
	}
	if _, ok := s.state.artefacts[path]; ok {
		return s.fail(refuse(RuleOutput, "output %s would be written twice", path))
	}
	if err := s.emit(&artefactLeaf{Path: path, SHA256: hexSHA256(data), Size: len(data)}, kindArtefact); err != nil {
		return err
	}
	s.state.artefacts[path] = bytes.Clone(data)
	s.state.order = append(s.state.order, path)
	return nil
}

// warn keeps what a reader of check should know.
func (s *Session) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf("step %d: ", s.step)+fmt.Sprintf(format, args...))
}

// unsigned is true where a script is validated and a key taken up from an earlier ceremony would sign.
func (s *Session) unsigned(keys ...crypto.Signer) bool {
	return (s.specimen || s.rehearsal) && slices.ContainsFunc(keys, func(k crypto.Signer) bool {
		own, ok := k.(*key)
		return ok && own.imported
	})
}
