package ceremony

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
)

const kindFound = "found"

var _ = register[foundLeaf](kindFound)

// compared are the people who look on while files are compared.
var compared = people{act: "The program compares; the administrator and one officer look"}

// ImportArtefact takes in what an earlier ceremony made: a key with the token that holds it, a certificate, or a CRL.
// Each keeps its name.
type ImportArtefact struct {
	// Exactly one of the three.
	Key         string `yaml:"key"`
	Certificate string `yaml:"certificate"`
	CRL         string `yaml:"crl"`
	// Token is the name that the key's token has in this script.
	Token string `yaml:"token"`
}

// foundLeaf: a key of an earlier ceremony, as the token reads it back now.
type foundLeaf struct {
	Head
	Name       string         `json:"name"`
	Token      string         `json:"token"`
	SPKI       []byte         `json:"spki"`
	Attributes hsm.Attributes `json:"attributes"`
}

func (l *foundLeaf) record() string {
	return fmt.Sprintf("%s in token %s: SHA-256 of the public key %s; read back: %s", l.Name, l.Token, hexSHA256(l.SPKI), attributeWords(l.Attributes))
}

func (i *ImportArtefact) people() people { return compared }

func (i *ImportArtefact) needs(*Plan) []need { return nil }

func (i *ImportArtefact) left(o *leftover, own []entry) { o.leaves(own) }

func (i *ImportArtefact) describe(*Session) string {
	switch {
	case i.Key != "":
		return fmt.Sprintf("take up the key %q of an earlier ceremony, in token %q", i.Key, i.Token)
	case i.Certificate != "":
		return fmt.Sprintf("take up the certificate %q of an earlier ceremony", i.Certificate)
	}
	return fmt.Sprintf("take up the CRL %q of an earlier ceremony", i.CRL)
}

func (i *ImportArtefact) perform(s *Session) error {
	if s.script.earlier == nil {
		return refuse(RuleEarlier, "the script names no earlier ceremony")
	}
	old := s.script.earlier.left()
	given := 0
	for _, n := range []string{i.Key, i.Certificate, i.CRL} {
		if n != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return malformed("exactly one of key, certificate and crl must be given")
	case (i.Key != "") != (i.Token != ""):
		return malformed("token is for a key, and a key needs it")
	case i.Key != "":
		return i.key(s, old)
	case i.Certificate != "":
		return i.certificate(s, old)
	}
	if err := s.claim(i.CRL); err != nil {
		return err
	}
	crl, ok := old.crlNames[i.CRL]
	if !ok {
		return refuse(RuleReference, "the earlier ceremony has no CRL %q", i.CRL)
	}
	s.state.crlNames[i.CRL] = crl
	return nil
}

// certificate takes up a certificate with those above it, and the newest CRL that it issued.
func (i *ImportArtefact) certificate(s *Session, old *state) error {
	c, ok := old.certificates[i.Certificate]
	if !ok {
		return refuse(RuleReference, "the earlier ceremony has no certificate %q", i.Certificate)
	}
	if err := s.claim(c.name); err != nil {
		return err
	}
	for n := c; ; {
		if _, ok := s.state.certificates[n.name]; !ok {
			taken := *n
			s.state.certificates[n.name] = &taken
			if crl := old.crls[n.name]; crl != nil {
				s.state.crls[n.name] = crl
			}
			if number := old.numbers[n.name]; number != nil {
				s.state.numbers[n.name] = number
			}
		}
		up, ok := old.certificates[n.issuer]
		if n.issuer == "" || !ok {
			return nil
		}
		if !bytes.Equal(n.cert.RawIssuer, up.cert.RawSubject) || !bytes.Equal(n.cert.AuthorityKeyId, up.cert.SubjectKeyId) {
			return refuse(RuleReference, "certificate %q is not by the newest %q that the earlier ceremonies left", n.name, n.issuer)
		}
		n = up
	}
}

// takes gives the key that the step takes up; nil if it takes up something else.
func (i *ImportArtefact) takes(s *Script) (token string, k *key) {
	if i.Key == "" || s.earlier == nil {
		return "", nil
	}
	return i.Token, s.earlier.left().keys[i.Key]
}

// key takes up a key: the token must hold it, with the label, id and public key of the earlier transcript.
func (i *ImportArtefact) key(s *Session, old *state) error {
	was, ok := old.keys[i.Key]
	if !ok || was.destroyed {
		return refuse(RuleReference, "the earlier ceremony left no key %q", i.Key)
	}
	if err := s.claim(i.Key); err != nil {
		return err
	}
	uri, ok := s.script.tokens[i.Token]
	if !ok {
		return refuse(RuleReference, "there is no token %q", i.Token)
	}
	if !uri.MatchesToken(was.home) {
		return refuse(RuleToken, "key %q is in %s, not in %s", i.Key, was.home.Name(), uri)
	}
	k := &key{session: s, name: was.name, token: i.Token, label: was.label, id: was.id, algorithm: was.algorithm, class: was.class,
		public: was.public, spki: was.spki, attrs: was.attrs, purpose: was.purpose, bornHere: was.bornHere, backedUp: was.backedUp, imported: true, of: was.of}
	l := foundLeaf{}
	if err := s.outcome(&l, kindFound, func(bool) error {
		l.Name, l.Token, l.SPKI, l.Attributes = k.name, k.token, k.spki, k.attrs
		if s.how.lacks(k) {
			return s.how.standFor(k)
		}
		if err := k.revive(); err != nil {
			return err
		}
		l.Attributes = k.live.Attributes()
		return nil
	}, func() error {
		if l.Name != k.name || l.Token != k.token || !bytes.Equal(l.SPKI, k.spki) || !bytes.Equal(l.Attributes.ID, k.id) {
			return errors.New("is about another key")
		}
		k.attrs = l.Attributes
		return checkAttributes(k)
	}); err != nil {
		return err
	}
	for _, other := range s.state.keys {
		// A restored key is, on purpose, the same as the one that was backed up.
		if k.of == "" && other.of == "" && ca.SameKey(other.public, k.public) {
			return refuse(RuleOneKey, "key %q is the same key as %q", k.name, other.name)
		}
	}
	s.state.keys[k.name] = k
	return nil
}

func (l *foundLeaf) show(s *shown) {
	s.box("SHA-256 of the public key (DER, SubjectPublicKeyInfo) of "+l.Name+ends, hexSHA256(l.SPKI))
}
