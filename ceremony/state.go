package ceremony

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/trust"
)

// state is what a ceremony has made so far, or carries on from an earlier one.
type state struct {
	keys         map[string]*key
	certificates map[string]*certificate
	// crls are the newest of each issuer, by issuerOf and by the name of its certificate, which is what counted in format 1.0;
	// crlNames all that steps named.
	crls     map[string]*x509.RevocationList
	crlNames map[string]*x509.RevocationList
	// numbers are the highest CRL numbers that were used, by the same; one of an aborted ceremony counts.
	numbers map[string]*big.Int
	// unsignedCRLs are specimens that imported keys would have signed.
	unsignedCRLs map[string]bool
	// serials drawn, hex.
	serials map[string]bool
	// issued says by which key: the SHA-256 of its SubjectPublicKeyInfo, by serial.
	issued    map[string]string
	artefacts map[string][]byte
	order     []string
	uptane    map[string]*uptaneState
	trust     *trust.Repository
	// trustUsed is the highest version of the trust repository's targets that an aborted ceremony signed, or may have.
	trustUsed int64
	// trustUnsigned is true after a version that is not signed, for keys of earlier ceremonies would sign it.
	trustUnsigned bool
	backups       map[string]*backup
	shares        map[string]*quorum.Shares
	// pinShares are the shares to which a step set a PIN last, by the token's serial and the purpose; superseded are those before, by
	// their digest, each with the name of those that replaced them.
	pinShares  map[string][32]byte
	superseded map[[32]byte]string
	// replaced are the shares of wrapping keys that a step of this ceremony replaces: the step's name, by their digest.
	replaced map[[32]byte]string
	// made are all shares that steps of this ceremony made, in their order.
	made []*madeShares
	// held are the shares that hold a PIN now, by token name and purpose.
	held map[string]*quorum.Shares
	// releases are the SHA-256 of the manifests that were signed, or may have been, by version; signed those of this ceremony.
	releases map[string]string
	signed   []ReleaseRecord
	// ceremonies are the ids of this ceremony and those it carries on from.
	ceremonies []string
}

// certificate is one that the ceremony made or imported.
type certificate struct {
	name   string
	cert   *x509.Certificate
	issuer string // name, empty for one that is self-signed or whose issuer is not of the ceremony
	key    string // name, empty where the key is someone else's
	// unsigned is true for a specimen that an imported key would have signed.
	unsigned bool
}

func newState() *state {
	return &state{
		keys: map[string]*key{}, certificates: map[string]*certificate{}, crls: map[string]*x509.RevocationList{},
		crlNames: map[string]*x509.RevocationList{}, numbers: map[string]*big.Int{}, serials: map[string]bool{}, issued: map[string]string{}, artefacts: map[string][]byte{},
		uptane: map[string]*uptaneState{}, unsignedCRLs: map[string]bool{}, backups: map[string]*backup{}, shares: map[string]*quorum.Shares{}, held: map[string]*quorum.Shares{}, replaced: map[[32]byte]string{}, pinShares: map[string][32]byte{}, superseded: map[[32]byte]string{}, releases: map[string]string{},
	}
}

// claim checks that a name is well formed and means nothing yet.
func (s *Session) claim(name string) error {
	if !nameForm.MatchString(name) {
		return malformed("name %q: use 1 to 64 of a-z, 0-9, '.' and '-'", name)
	}
	_, isKey := s.state.keys[name]
	_, isCert := s.state.certificates[name]
	_, isCRL := s.state.crlNames[name]
	_, isInput := s.script.inputs[name]
	if isKey || isCert || isCRL || isInput {
		return refuse(RuleName, "the name %q is taken", name)
	}
	return nil
}

// claimNew is claim for what a step makes or takes in from outside, and a later ceremony takes up by its name: what an earlier one
// left under that name could be reached by nobody.
func (s *Session) claimNew(name string) error {
	if err := s.claim(name); err != nil || s.script.earlier == nil {
		return err
	}
	old := s.script.earlier.left()
	what := ""
	if k := old.keys[name]; k != nil && !k.destroyed {
		what = "key"
	} else if c := old.certificates[name]; c != nil && c.cert.IsCA {
		what = "CA certificate"
	} else if old.backups[name] != nil {
		what = "backup"
	}
	return s.hold(RuleHeld, what == "", "the name %q is that of a %s that an earlier ceremony left: choose another", name, what)
}

func (s *Session) key(name string) (*key, error) {
	if name == "" {
		return nil, malformed("key is missing")
	}
	k, ok := s.state.keys[name]
	if !ok {
		return nil, refuse(RuleReference, "there is no key %q at this step", name)
	}
	if k.destroyed {
		return nil, refuse(RuleReference, "key %q is destroyed before this step", name)
	}
	return k, nil
}

// keyFor gives a key for a purpose, which is the key's only one.
func (s *Session) keyFor(name, purpose string) (*key, error) {
	k, err := s.key(name)
	if err != nil {
		return nil, err
	}
	if k.purpose != "" && k.purpose != purpose {
		return nil, refuse(RulePurpose, "key %q is for %s and cannot be for %s too", name, show.Text(k.purpose), show.Text(purpose))
	}
	k.purpose = purpose
	return k, nil
}

// publicFor gives the public half of a key, or of one that an input holds, for a purpose.
func (s *Session) publicFor(name, purpose string) (crypto.PublicKey, error) {
	data, ok := s.script.inputs[name]
	if !ok {
		k, err := s.keyFor(name, purpose)
		if err != nil {
			return nil, err
		}
		return k.public, nil
	}
	return publicFromPEM(name, data)
}

// publicFromPEM reads an input that holds exactly one public key.
func publicFromPEM(name string, data []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) != 0 {
		return nil, malformed("input %q is not one PEM block PUBLIC KEY", name)
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, malformed("input %q: %w", name, err)
	}
	return pub, nil
}

func (s *Session) input(name string) ([]byte, error) {
	if name == "" {
		return nil, malformed("the name of an input is missing")
	}
	data, ok := s.script.inputs[name]
	if !ok {
		return nil, refuse(RuleReference, "there is no input %q", name)
	}
	return data, nil
}

func (s *Session) certificate(name string) (*certificate, error) {
	if name == "" {
		return nil, malformed("the name of a certificate is missing")
	}
	c, ok := s.state.certificates[name]
	if !ok {
		return nil, refuse(RuleReference, "there is no certificate %q at this step", name)
	}
	return c, nil
}

// issuer gives a CA whose key the ceremony holds, and that key.
func (s *Session) issuer(name string) (*ca.Issuer, *certificate, *key, error) {
	c, err := s.certificate(name)
	if err != nil {
		return nil, nil, nil, err
	}
	k, err := s.keyOfCertificate(c)
	if err != nil {
		return nil, nil, nil, err
	}
	i, err := s.edition().NewIssuer(c.cert, k, s.above(c)...)
	return i, c, k, err
}

// keyOfCertificate finds the key of a CA by its public key: a restored key, or a copy, has a name of its own. Where there are
// several, the one that the certificate was made with comes first, and then they are tried by name.
func (s *Session) keyOfCertificate(c *certificate) (*key, error) {
	for _, n := range append([]string{c.key}, sortedKeys(s.state.keys)...) {
		if k := s.state.keys[n]; k != nil && !k.destroyed && ca.SameKey(k.public, c.cert.PublicKey) {
			return s.keyFor(n, purposeCA)
		}
	}
	if c.key != "" {
		if _, err := s.key(c.key); err != nil {
			return nil, err
		}
	}
	return nil, refuse(RuleReference, "the key of certificate %q is not in this ceremony: it cannot issue here", c.name)
}

// issuerOf names an issuer of CRLs: by subject and key, for two certificates of a CA can have different names.
func issuerOf(c *x509.Certificate) string {
	return hexSHA256([]byte(comparedName(c.RawSubject))) + " " + hexSHA256(c.RawSubjectPublicKeyInfo)
}

// comparedName is a name as those compare it who follow RFC 5280, section 7.1: "THE  ROOT" is "The Root", in whatever kind of string. Who
// compares octets would believe that they are two, and so one CA would have two rows of CRL numbers. What cannot be read stands for
// itself.
func comparedName(raw []byte) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) > 0 {
		return string(raw)
	}
	var name strings.Builder
	for _, rdn := range rdns {
		var parts []string
		for _, a := range rdn {
			parts = append(parts, fmt.Sprintf("%s=%q", a.Type, strings.Join(strings.Fields(strings.ToLower(fmt.Sprint(a.Value))), " ")))
		}
		slices.Sort(parts)
		fmt.Fprintf(&name, "%s\n", strings.Join(parts, "+"))
	}
	return name.String()
}

// hasOneName asks that the key of a CA has one subject in all ceremonies: under a second one it would be another CA, with another purpose
// and other numbers.
func (s *Session) hasOneName(c *certificate) error {
	if c.key == "" || !c.cert.IsCA {
		return nil
	}
	for _, st := range s.states() {
		for _, n := range sortedKeys(st.certificates) {
			if o := st.certificates[n]; o.cert.IsCA && ca.SameKey(o.cert.PublicKey, c.cert.PublicKey) && issuerOf(o.cert) != issuerOf(c.cert) {
				return s.hold(RuleOneName, false, "key %q is that of %s in certificate %q, and would be that of %s in %q: keep the subject, or make a new key", c.key, show.Text(o.cert.Subject.String()), n, show.Text(c.cert.Subject.String()), c.name)
			}
		}
	}
	return nil
}

// above lists the certificates above c, nearest first.
func (s *Session) above(c *certificate) []*x509.Certificate {
	var chain []*x509.Certificate
	for range maxSteps {
		up, ok := s.state.certificates[c.issuer]
		if c.issuer == "" || !ok {
			break
		}
		chain = append(chain, up.cert)
		c = up
	}
	return chain
}

// addCertificate takes a certificate into the state and states its files: the certificate, and the chain without root.
func (s *Session) addCertificate(c *certificate) error {
	if err := s.hasOneName(c); err != nil {
		return err
	}
	s.state.certificates[c.name] = c
	serial := fmt.Sprintf("%040x", c.cert.SerialNumber)
	s.state.serials[serial] = true
	if up := s.state.certificates[c.issuer]; c.issuer != "" && up != nil {
		s.state.issued[serial] = keyOf(up.cert)
	} else if c.issuer == "" && bytes.Equal(c.cert.RawIssuer, c.cert.RawSubject) {
		s.state.issued[serial] = keyOf(c.cert)
	}
	own := pemCertificate(c.cert)
	if err := s.artefact(c.path(), own, sameCertificates(c.cert)); err != nil {
		return err
	}
	if c.issuer == "" {
		return nil
	}
	chain, certs := own, []*x509.Certificate{c.cert}
	for _, up := range s.above(c) {
		if !ca.SameKey(up.PublicKey, c.cert.PublicKey) && string(up.RawIssuer) != string(up.RawSubject) {
			chain, certs = append(chain, pemCertificate(up)...), append(certs, up)
		}
	}
	return s.artefact("artefacts/"+c.name+".chain.pem", chain, sameCertificates(certs...))
}

// keyOf names the key of a certificate.
func keyOf(c *x509.Certificate) string { return hexSHA256(c.RawSubjectPublicKeyInfo) }

func (c *certificate) path() string { return "artefacts/" + c.name + ".pem" }

// sameCertificates says whether a file holds exactly these certificates, in PEM.
func sameCertificates(certs ...*x509.Certificate) func([]byte) error {
	return func(data []byte) error {
		for _, c := range certs {
			block, rest := pem.Decode(data)
			if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || !bytes.Equal(block.Bytes, c.Raw) || !bytes.HasPrefix(data, []byte("-----BEGIN")) {
				return fmt.Errorf("it does not hold the certificate of %s at its place", show.Text(c.Subject.String()))
			}
			data = rest
		}
		if len(data) > 0 {
			return errors.New("it holds something more")
		}
		return nil
	}
}

func pemCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// The purposes of keys.
const (
	purposeCA = "certificates and CRLs"
)
