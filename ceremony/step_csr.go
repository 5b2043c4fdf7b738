package ceremony

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/show"
)

// Request makes a PKCS#10 request for a key, to be certified by an external CA.
type Request struct {
	Name    string        `yaml:"name"`
	Key     string        `yaml:"key"`
	Subject SubjectConfig `yaml:"subject"`
}

func (r *Request) people() people { return byProgram }

func (r *Request) needs(*Plan) []need { return nil }

func (r *Request) left(o *leftover, own []entry) { o.leaves(own) }

func (r *Request) describe(*Session) string {
	return fmt.Sprintf("make the certification request %q, CN=%s, signed by key %q", r.Name, r.Subject.CommonName, r.Key)
}

func (r *Request) perform(s *Session) error {
	if err := s.claim(r.Name); err != nil {
		return err
	}
	k, err := s.keyFor(r.Key, purposeCA)
	if err != nil {
		return err
	}
	if r.Subject.CommonName == "" {
		return malformed("subject.common_name is missing")
	}
	path := "artefacts/" + r.Name + ".csr"
	if s.how.lacks(k) {
		s.willSign(k, 1)
		return s.artefact(path, nil, nil)
	}
	if s.finished() {
		return s.artefact(path, nil, func(data []byte) error { return r.confirm(s, k, data) })
	}
	der, err := csr.Create(rand.Reader, k, csr.Template{Subject: r.Subject.name()})
	if s.aborted() {
		if _, err := s.rebuilt("request "+r.Name, err); err != nil {
			return err
		}
	} else if err != nil {
		return malformed("%w", err)
	}
	return s.artefact(path, csr.PEM(der), nil)
}

// confirm holds a finished request to what the step asks for: the subject, the key, and nothing besides.
func (r *Request) confirm(s *Session, k *key, data []byte) error {
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("it is not one PEM block CERTIFICATE REQUEST")
	}
	made, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	want, err := csr.MarshalName(r.Subject.name())
	if err != nil {
		return err
	}
	//lint:ignore SA1019 Attributes is deprecated for writing; here it must be empty
	besides := len(made.Extensions) + len(made.Attributes)
	if !ca.SameName(made.RawSubject, want) || !bytes.Equal(made.RawSubjectPublicKeyInfo, k.spki) || besides > 0 {
		return errors.New("its subject, key or extensions are others")
	}
	list, err := s.signatures()
	if err != nil {
		return err
	}
	return s.match(list, []message{{"request " + r.Name, k, made.RawTBSCertificateRequest, made.Signature}})
}

// ImportCertificate takes in a certificate that a CA outside issued for a key of the ceremony, or that CA's own.
type ImportCertificate struct {
	Name string `yaml:"name"`
	// Certificate is an input that holds one PEM certificate.
	Certificate string `yaml:"certificate"`
	// Issuer is a certificate imported before; empty for one that is self-signed.
	Issuer string `yaml:"issuer"`
	// Key is the key that the certificate must be for; empty where it is someone else's.
	Key string `yaml:"key"`
	// OTAConnect allows a certificate under a root of profile ota-connect-root.
	OTAConnect bool `yaml:"ota_connect"`
}

func (i *ImportCertificate) people() people { return compared }

func (i *ImportCertificate) needs(*Plan) []need { return nil }

func (i *ImportCertificate) left(o *leftover, own []entry) { o.leaves(own) }

func (i *ImportCertificate) describe(*Session) string {
	what := "a CA outside"
	if i.Key != "" {
		what = fmt.Sprintf("key %q", i.Key)
	}
	return fmt.Sprintf("import the certificate in input %q as %q, for %s", i.Certificate, i.Name, what)
}

func (i *ImportCertificate) perform(s *Session) error {
	if err := s.claimNew(i.Name); err != nil {
		return err
	}
	data, err := s.input(i.Certificate)
	if err != nil {
		return err
	}
	cert, err := oneCertificate(data)
	if err != nil {
		return malformed("input %q: %w", i.Certificate, err)
	}
	if since, ok := publicRoot(cert); ok {
		rule := RuleAnchor
		rule.Since = since
		if err := s.hold(rule, false, "input %q is the certificate of a public root, %s: an anchor of devices is the company's own CA", i.Certificate, cert.Subject); err != nil {
			return err
		}
	}
	if err := i.isCA(s, cert); err != nil {
		return err
	}
	if err := i.notHeld(s, cert); err != nil {
		return err
	}
	made := &certificate{name: i.Name, cert: cert, issuer: i.Issuer, key: i.Key}
	if err := i.check(s, made); err != nil {
		return err
	}
	if !cert.NotAfter.After(s.script.until) || cert.NotBefore.After(s.script.until) {
		return refuse(RuleDate, "certificate %q is valid from %s to %s, not throughout the ceremony", i.Name, formatTime(cert.NotBefore), formatTime(cert.NotAfter))
	}
	if s.state.certificates[i.Name] != nil {
		return refuse(RuleName, "the name %q is taken", i.Name)
	}
	return s.addCertificate(made)
}

// isCA says of a certificate that is to be an anchor, or to have others below it, that it is no CA's, or that another CA issued it: the
// rules of package ca would say so in more words.
func (i *ImportCertificate) isCA(s *Session, cert *x509.Certificate) error {
	if i.Issuer != "" || s.format.Before(RuleIssuer.Since) {
		return nil // an old refusal was another one, and no transcript has one
	}
	switch {
	case !cert.IsCA:
		return refuse(RuleAnchor, "the certificate in input %q is not a CA's: it has no basicConstraints with CA:TRUE, and so it can neither be an anchor nor issue anything", i.Certificate)
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return refuse(RuleAnchor, "the certificate in input %q is not self-signed: %s issued it. Import that CA's own certificate first, and name it as issuer", i.Certificate, show.Text(cert.Issuer.String()))
	}
	return nil
}

// notHeld refuses a certificate that this ceremony, or one before it, has already: under a second name it would be another one to
// whoever reads the script.
func (i *ImportCertificate) notHeld(s *Session, cert *x509.Certificate) error {
	for _, n := range sortedKeys(s.state.certificates) {
		if c := s.state.certificates[n]; bytes.Equal(c.cert.Raw, cert.Raw) {
			return s.hold(RuleHeld, false, "the certificate in input %q is held already, as %q", i.Certificate, n)
		}
	}
	if s.script.earlier == nil {
		return nil
	}
	old := s.script.earlier.left()
	for _, n := range sortedKeys(old.certificates) {
		if bytes.Equal(old.certificates[n].cert.Raw, cert.Raw) {
			return s.hold(RuleHeld, false, "the certificate in input %q is held already: an earlier ceremony has it as %q; take it up with import-artefact", i.Certificate, n)
		}
	}
	return nil
}

// check holds the certificate to its key, its issuer and every rule for certificates.
func (i *ImportCertificate) check(s *Session, c *certificate) error {
	waivers := []ca.Waiver{ca.Imported}
	if i.OTAConnect {
		waivers = append(waivers, ca.OTAConnect)
	}
	issuer := c
	if i.Issuer != "" {
		var err error
		if issuer, err = s.certificate(i.Issuer); err != nil {
			return err
		}
	}
	if err := s.edition().CheckChild(c.cert, issuer.cert, waivers...); err != nil {
		return caError(err)
	}
	s.today(func(e ca.Edition) error { return e.CheckChild(c.cert, issuer.cert, waivers...) })
	if i.Key == "" {
		return nil
	}
	k, err := s.keyFor(i.Key, purposeCA)
	if err != nil {
		return err
	}
	if s.how.onSpecimens() && !k.imported {
		// The key does not exist yet, and a certificate for it cannot either.
		return refuse(RuleMatch, "key %q is generated in this very ceremony: a certificate for it cannot be an input", i.Key)
	}
	if !ca.SameKey(c.cert.PublicKey, k.public) {
		return refuse(RuleMatch, "the certificate in input %q is for another key than %q", i.Certificate, i.Key)
	}
	return nil
}
