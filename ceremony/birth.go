package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// A ceremony can have a TPM certify where each key was born that it generates there. The script pins three things as inputs: whose TPMs
// are believed (the roots of manufacturers), which TPM it is (its attestor: endorsement certificate and attestation key), and challenges,
// which people made for that attestor beforehand on machines of their own, and whose secrets nobody kept.
//
// When the token is opened, the TPM answers the challenges. Only the TPM that holds both of the attestor's keys can, or whoever made the challenge:
// so a reader of the transcript who believes one of the makers knows that the attestation key lives in that TPM. When a key is
// generated, the attestation key certifies it, for this ceremony's nonce, script and step. Package attest judges all of it, at the ceremony
// and in verify.

const (
	kindAttestor = "attestor"
	kindBirth    = "birth"
)

// birthFormat is the format that added births.
var birthFormat = format.Must("1.2")

var _ = registerSince[attestorLeaf](kindAttestor, birthFormat) && registerSince[birthLeaf](kindBirth, birthFormat)

// BirthConfig asks that each key which the ceremony generates in a TPM is certified as born in it.
type BirthConfig struct {
	// Manufacturers is an input: certificates (PEM) of the manufacturers whose TPMs are believed. Those that sign themselves are roots,
	// the others help to build chains.
	Manufacturers string `yaml:"manufacturers"`
	// Attestor is an input: what `hanaper token attestor` wrote of the TPM.
	Attestor string `yaml:"attestor"`
	// Challenges are inputs that people made with `hanaper token challenge`, on machines of their own; one at least.
	Challenges []string `yaml:"challenges"`
}

// attestorLeaf: what the TPM of a token answered to the script's challenges, in their order.
type attestorLeaf struct {
	Head
	Token   string   `json:"token"`
	Answers [][]byte `json:"answers"`
}

func (l *attestorLeaf) record() string {
	return fmt.Sprintf("%s: its TPM answered %d challenges", l.Token, len(l.Answers))
}

// birthLeaf: the TPM's statement about a key that was just generated.
type birthLeaf struct {
	Head
	Name string `json:"name"`
	// Public is the key's TPMT_PUBLIC, Statement the TPMS_ATTEST of TPM2_Certify, Signature a TPMT_SIGNATURE.
	Public    []byte `json:"public"`
	Statement []byte `json:"statement"`
	Signature []byte `json:"signature"`
	// Manufacturer is the subject of the pinned root that the TPM's endorsement certificate leads to, and Endorsement the
	// certificate's SHA-256.
	Manufacturer string `json:"manufacturer"`
	Endorsement  string `json:"endorsement_sha256"`
}

func (l *birthLeaf) show(s *shown) {
	s.box("manufacturer of the TPM in which "+l.Name+" was born", l.Manufacturer)
	s.box("SHA-256 of that TPM's endorsement certificate"+ends, l.Endorsement)
}

func (l *birthLeaf) record() string {
	return fmt.Sprintf("%s: certified as born in a TPM of %s, endorsement certificate %s", l.Name, show.Text(l.Manufacturer), l.Endorsement)
}

// birth is what a script pins for a TPM.
type birth struct {
	makers     *attest.Manufacturers
	attestor   *attest.Attestor
	challenges []*attest.Challenge
}

// certifier is a token that answers challenges and certifies keys (package hsm/tpm).
type certifier interface {
	Attestor(ctx context.Context) (chain [][]byte, endorsementKey, attestationKey []byte, err error)
	Activate(ctx context.Context, blob, encrypted []byte) ([]byte, error)
	Certify(ctx context.Context, k hsm.Key, qualifying []byte) (public, statement, signature []byte, err error)
}

// checkBirths reads what the script pins of TPMs.
func (s *Script) checkBirths() error {
	for _, n := range sortedKeys(s.tokens) {
		c := s.config.Tokens[n].Birth
		if c == nil {
			continue
		}
		if s.tokens[n].Scheme != hsm.SchemeTPM {
			return fmt.Errorf("token %q: birth is for TPMs: their URI has the scheme tpm", n)
		}
		b, err := s.readBirth(c)
		if err != nil {
			return fmt.Errorf("token %q: birth: %w", n, err)
		}
		s.births[n] = b
	}
	return nil
}

func (s *Script) readBirth(c *BirthConfig) (*birth, error) {
	input := func(what, name string) ([]byte, error) {
		if name == "" {
			return nil, fmt.Errorf("%s is missing", what)
		}
		data, ok := s.inputs[name]
		if !ok {
			return nil, fmt.Errorf("there is no input %q", name)
		}
		return data, nil
	}
	data, err := input("manufacturers", c.Manufacturers)
	if err != nil {
		return nil, err
	}
	b := &birth{}
	if b.makers, err = Manufacturers(data); err != nil {
		return nil, fmt.Errorf("input %q: %w", c.Manufacturers, err)
	}
	if data, err = input("attestor", c.Attestor); err != nil {
		return nil, err
	}
	if b.attestor, err = attest.ParseAttestor(c.Attestor, data); err != nil {
		return nil, fmt.Errorf("input %q: %w", c.Attestor, err)
	}
	if len(c.Challenges) == 0 || len(c.Challenges) > maxChallenges {
		return nil, fmt.Errorf("%d challenges; give 1 to %d, made with `hanaper token challenge`", len(c.Challenges), maxChallenges)
	}
	seen := map[string]bool{}
	for _, n := range c.Challenges {
		if data, err = input("a challenge", n); err != nil {
			return nil, err
		}
		ch, err := attest.ParseChallenge(n, data)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", n, err)
		}
		if seen[string(ch.Blob)] {
			return nil, fmt.Errorf("input %q: the challenge is there twice", n)
		}
		seen[string(ch.Blob)] = true
		b.challenges = append(b.challenges, ch)
	}
	return b, nil
}

// maxChallenges bounds the challenges of a TPM: each asks it for half a second.
const maxChallenges = 16

// Manufacturers reads certificates (PEM) of manufacturers of TPMs: those that sign themselves are roots, and each gives its subject as the name
// of a manufacturer; the others help to build chains.
func Manufacturers(data []byte) (*attest.Manufacturers, error) {
	var makers []attest.ManufacturerConfig
	var between []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %.40q; it should hold certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			makers = append(makers, attest.ManufacturerConfig{Name: c.Subject.String(), Kind: attest.TPM, Roots: []*x509.Certificate{c}})
		} else {
			between = append(between, c)
		}
	}
	if len(makers) == 0 {
		return nil, errors.New("it holds no root of a manufacturer: no certificate in it signs itself")
	}
	makers[0].Intermediates = between
	return attest.NewManufacturers(makers...)
}

// attests holds a TPM's attestor to the manufacturers, before any token is touched, and has the TPM answer the script's challenges.
func (s *Session) attests(name string) error {
	b := s.script.births[name]
	if b == nil {
		return nil
	}
	// At the end of the window: whatever is valid then is valid at the ceremony, too, unless it was made since.
	if _, err := b.makers.AsOf(s.script.asOf).VerifyAttestor(b.attestor, s.script.until); err != nil {
		return refuse(RuleBirth, "token %q: its attestor: %w", name, err)
	}
	for _, c := range b.challenges {
		if err := c.For(b.attestor); err != nil {
			return refuse(RuleBirth, "token %q: the challenge of %s: %w", name, show.Text(c.Maker), err)
		}
	}
	if !s.how.certifies() {
		return nil
	}
	var l attestorLeaf
	return s.outcome(&l, kindAttestor, func(bool) error {
		t, err := s.certifier(name)
		if err != nil {
			return err
		}
		_, ek, ak, err := t.Attestor(s.ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(ek, b.attestor.EKPublic) || !bytes.Equal(ak, b.attestor.AKPublic) {
			return refuse(RuleBirth, "token %q has another endorsement key or attestation key than the attestor that the script pins", name)
		}
		l.Token = name
		for _, c := range b.challenges {
			answer, err := t.Activate(s.ctx, c.Blob, c.Encrypted)
			if err != nil {
				return refuse(RuleBirth, "the challenge of %s: %w", show.Text(c.Maker), err)
			}
			l.Answers = append(l.Answers, answer)
		}
		return nil
	}, func() error {
		if l.Token != name {
			return fmt.Errorf("is about token %q, not %q", l.Token, name)
		}
		a, err := attest.ByChallenges(b.attestor, b.challenges, l.Answers)
		if err != nil {
			return refuse(RuleBirth, "token %q: %w", name, err)
		}
		s.activations[name] = a
		return nil
	})
}

func (s *Session) certifier(token string) (certifier, error) {
	t, err := s.token(token)
	if err != nil {
		return nil, err
	}
	c, ok := t.(certifier)
	if !ok {
		return nil, advice.New(advice.Usage, "let the bindings name the TPM", "%s certifies no keys: it is no TPM", t.Info().Name())
	}
	return c, nil
}

// born has the TPM certify a key that was just generated in it.
func (s *Session) born(k *key) error {
	b := s.script.births[k.token]
	if b == nil || !s.how.certifies() {
		return nil
	}
	qualifying, err := s.qualifying(k.name)
	if err != nil {
		return err
	}
	var l birthLeaf
	return s.outcome(&l, kindBirth, func(bool) error {
		t, err := s.certifier(k.token)
		if err != nil {
			return err
		}
		if err := k.revive(); err != nil {
			return err
		}
		l.Name = k.name
		if l.Public, l.Statement, l.Signature, err = t.Certify(s.ctx, k.live, qualifying); err != nil {
			return err
		}
		v, err := b.verdict(s, k, &l, qualifying)
		if err != nil {
			return err
		}
		l.Manufacturer, l.Endorsement = v.Manufacturer, v.Certificate
		return nil
	}, func() error {
		if l.Name != k.name {
			return fmt.Errorf("is about key %q, not %q", l.Name, k.name)
		}
		v, err := b.verdict(s, k, &l, qualifying)
		if err != nil {
			return err
		}
		if l.Manufacturer != v.Manufacturer || l.Endorsement != v.Certificate {
			return errors.New("names another manufacturer or endorsement certificate than its evidence")
		}
		k.birth = b.words(v)
		return nil
	})
}

// verdict judges the evidence of a birth.
func (b *birth) verdict(s *Session, k *key, l *birthLeaf, qualifying []byte) (*attest.Verdict, error) {
	e := attest.TPMEvidence{EKChain: b.attestor.EKChain, EKPublic: b.attestor.EKPublic, AKPublic: b.attestor.AKPublic,
		KeyPublic: l.Public, Attest: l.Statement, Signature: l.Signature}
	v, err := b.makers.AsOf(s.script.asOf).VerifyTPM(&e, attest.Want{Key: k.public, Qualifying: qualifying, Activation: s.activations[k.token], At: s.script.until})
	if err != nil {
		return nil, refuse(RuleBirth, "key %q: %w", k.name, err)
	}
	return v, nil
}

// qualifying is what the TPM signs into its statement: this ceremony, this script, this step, this key. No earlier statement has it, for
// the nonce of the approvals is used once.
func (s *Session) qualifying(key string) ([]byte, error) {
	nonce, err := hex.DecodeString(s.nonce)
	if err != nil || len(nonce) == 0 {
		return nil, errors.New("ceremony: a birth without the nonce of the approvals")
	}
	digest := s.script.Digest()
	return attest.Qualifying("hanaper birth v1", nonce, digest[:], binary.BigEndian.AppendUint32(nil, uint32(s.step)), []byte(key)), nil
}

// birthRecord is a birth in a report.
type birthRecord struct {
	// Manufacturer is the subject of the pinned root, Endorsement the SHA-256 of the endorsement certificate.
	Manufacturer string `json:"manufacturer"`
	Endorsement  string `json:"endorsement_sha256"`
	Root         string `json:"root_sha256"`
	// Chip is what the certificate says of the TPM.
	Chip string `json:"chip,omitempty"`
	// Makers are those who made the challenges: one of them must have kept no secret.
	Makers []string `json:"challenges_by"`
}

func (b *birth) words(v *attest.Verdict) *birthRecord {
	r := &birthRecord{Manufacturer: v.Manufacturer, Endorsement: v.Certificate, Root: v.Root,
		Chip: strings.TrimSpace(strings.Join([]string{v.Fact("tpm manufacturer"), v.Fact("tpm model"), v.Fact("tpm version")}, " "))}
	for _, c := range b.challenges {
		r.Makers = append(r.Makers, c.Maker)
	}
	return r
}

// birthFacts say what will be proven of keys that are born in a token; none where the script asks for no proof.
func (s *Script) birthFacts(token string) []Value {
	b := s.births[token]
	if b == nil {
		return nil
	}
	v, err := b.makers.AsOf(s.asOf).VerifyAttestor(b.attestor, s.until)
	if err != nil {
		return nil // no such script is performed
	}
	r := b.words(v)
	return []Value{{"born in a TPM of", show.Text(r.Manufacturer)}, {"its certificate", show.Text(r.Endorsement)}, {"challenges by", show.List(r.Makers)}}
}

// checkTPM refuses, before any token is touched, what a TPM cannot do.
func (s *Session) checkTPM(token string, a hsm.Algorithm, c hsm.Class) error {
	if s.script.tokens[token].Scheme != hsm.SchemeTPM {
		return nil
	}
	if err := hsm.TPMCan(a, c); err != nil {
		return refuse(RuleToken, "token %q: %w", token, err)
	}
	return nil
}

// noTPM refuses a kind of step on a TPM.
func (s *Session) noTPM(token, what, hint string) error {
	if s.script.tokens[token].Scheme != hsm.SchemeTPM {
		return nil
	}
	return refuse(RuleToken, "%w", advice.New(advice.Refused, hint, "token %q is a TPM, %s", token, what))
}
