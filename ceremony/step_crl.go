package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/show"
)

// CRL issues a certificate revocation list.
type CRL struct {
	Name   string `yaml:"name"`
	Issuer string `yaml:"issuer"`
	// Number must be above every earlier one of the issuer.
	Number     int64  `yaml:"number"`
	ThisUpdate string `yaml:"this_update"`
	NextUpdate string `yaml:"next_update"`
	// Revoked lists every revoked certificate that has not expired.
	Revoked []Revocation `yaml:"revoked"`
	// Released are serials (hex) of the issuer's previous CRL that may be missing from this one.
	Released []string `yaml:"released"`
}

// Revocation is an entry: a certificate by its name, or a serial.
type Revocation struct {
	Certificate string `yaml:"certificate"`
	Serial      string `yaml:"serial"`
	// Reason by its name in RFC 5280, section 5.3.1, such as keyCompromise.
	Reason string `yaml:"reason"`
	At     string `yaml:"at"`
}

// reasons of RFC 5280, section 5.3.1, but removeFromCRL, which is for delta CRLs.
var reasons = map[string]int{
	"": 0, "unspecified": 0, "keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4,
	"cessationOfOperation": 5, "certificateHold": 6, "privilegeWithdrawn": 9, "aACompromise": 10,
}

func (c *CRL) people() people { return byProgram }

func (c *CRL) needs(*Plan) []need { return nil }

func (c *CRL) left(o *leftover, own []entry) { o.numbered(own) }

func (c *CRL) describe(*Session) string {
	return fmt.Sprintf("sign the CRL %q of %q, number %d, %d revoked, from %s to %s",
		c.Name, c.Issuer, c.Number, len(c.Revoked), c.ThisUpdate, c.NextUpdate)
}

func (c *CRL) perform(s *Session) error {
	if err := s.claim(c.Name); err != nil {
		return err
	}
	issuer, cert, k, err := s.issuer(c.Issuer)
	if err != nil {
		return err
	}
	t := ca.CRLTemplate{Number: big.NewInt(c.Number)}
	if k.bornHere {
		// The key was born in this chain of ceremonies: all that it issued is known.
		t.Issued = func(serial *big.Int) bool { return s.state.serials[fmt.Sprintf("%040x", serial)] }
	}
	if t.ThisUpdate, err = s.date("this_update", c.ThisUpdate); err != nil {
		return err
	}
	if t.NextUpdate, err = s.expiry("next_update", c.NextUpdate); err != nil {
		return err
	}
	if t.NextUpdate.After(cert.cert.NotAfter) {
		return refuse(RuleDate, "next_update %s lies after the end of its issuer %q, %s: the list would outlive it", show.Text(c.NextUpdate), c.Issuer, formatTime(cert.cert.NotAfter))
	}
	if t.ThisUpdate.After(s.script.until) {
		return refuse(RuleDate, "this_update %s lies after the ceremony's window", show.Text(c.ThisUpdate))
	}
	if c.Number < 1 {
		return refuse(RuleCRLNumber, "CRL number %d is not positive", c.Number)
	}
	previous, err := c.rises(s, cert, t.Number)
	if err != nil {
		return err
	}
	for i, r := range c.Revoked {
		entry, err := s.revocation(r, cert, t)
		if err != nil {
			return fmt.Errorf("revoked %d: %w", i+1, err)
		}
		if slices.ContainsFunc(t.Entries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(entry.SerialNumber) == 0 }) {
			return refuse(RuleCRLEntry, "revoked %d: serial %x stands twice", i+1, entry.SerialNumber)
		}
		t.Entries = append(t.Entries, entry)
	}
	for _, text := range c.Released {
		n, err := parseSerial(text)
		if err != nil {
			return err
		}
		t.Released = append(t.Released, n)
	}
	if err := c.compare(s, cert, t, previous); err != nil {
		return err
	}
	crl, err := c.make(s, issuer, t, previous, k)
	if err != nil {
		return err
	}
	s.state.crlNames[c.Name] = crl
	for _, by := range []string{cert.name, issuerOf(cert.cert)} {
		if highest := s.state.numbers[by]; highest != nil && t.Number.Cmp(highest) <= 0 {
			continue // only where format 1.0 let a number be used a second time
		}
		s.state.numbers[by] = t.Number
		if !s.aborted() || !s.state.unsignedCRLs[c.Name] {
			s.state.crls[by] = crl
		}
	}
	return s.artefact(c.path(), crl.Raw, nil)
}

// compare keeps what the list revokes and releases against the last one, for people, and holds what the script releases to it. What is
// missing and not released the rules of package ca refuse.
func (c *CRL) compare(s *Session, cert *certificate, t ca.CRLTemplate, previous *x509.RevocationList) error {
	d := &change{last: "nothing: the ceremonies have no earlier CRL of this issuer"}
	was := map[string]bool{}
	if previous != nil {
		d.last = "CRL number " + previous.Number.String()
		for _, e := range previous.RevokedCertificateEntries {
			was[e.SerialNumber.String()] = true
		}
	}
	for _, e := range t.Entries {
		if !was[e.SerialNumber.String()] {
			d.added = append(d.added, fmt.Sprintf("%s, from %s, %s", s.holderOf(e.SerialNumber, cert), formatTime(e.RevocationTime), reasonName(e.ReasonCode)))
		}
		delete(was, e.SerialNumber.String())
	}
	var idle []string
	for i, n := range t.Released {
		if !was[n.String()] || slices.ContainsFunc(t.Released[:i], func(o *big.Int) bool { return o.Cmp(n) == 0 }) {
			idle = append(idle, c.Released[i])
			continue
		}
		d.gone = append(d.gone, s.holderOf(n, cert)+": it is revoked no more")
	}
	s.changes[s.step] = d
	return s.hold(RuleRemoves, len(idle) == 0, "released names %s, which the last CRL of %q does not list, or this one lists again, or which stands twice", show.List(idle), c.Issuer)
}

// holderOf says whose certificate a serial number is.
func (s *Session) holderOf(serial *big.Int, issuer *certificate) string {
	for _, st := range s.states() {
		for _, n := range sortedKeys(st.certificates) {
			if c := st.certificates[n].cert; c.SerialNumber.Cmp(serial) == 0 && bytes.Equal(c.RawIssuer, issuer.cert.RawSubject) {
				return fmt.Sprintf("certificate %s, %s, serial %x", show.Text(n), show.Text(c.Subject.String()), serial)
			}
		}
	}
	return fmt.Sprintf("serial %x, of a certificate that no ceremony has", serial)
}

// reasonName is the name of a reason in RFC 5280.
func reasonName(code int) string {
	for _, n := range sortedKeys(reasons) {
		if n != "" && reasons[n] == code {
			return n
		}
	}
	return "unspecified"
}

// maxCRLRise is more than any clock that is read as a number in seconds, or as YYYYMMDDhhmm, and leaves nine million CRLs.
var maxCRLRise = big.NewInt(1_000_000_000_000)

// rises holds the number to those that the issuer used before, and gives its last CRL. In format 1.0 an issuer was known by the
// name of its certificate.
func (c *CRL) rises(s *Session, cert *certificate, number *big.Int) (previous *x509.RevocationList, err error) {
	if highest := s.state.numbers[cert.name]; highest != nil && number.Cmp(highest) <= 0 {
		return nil, refuse(RuleCRLNumber, "CRL number %d does not rise above %s, the newest of %q", c.Number, highest, cert.name)
	}
	issuer := issuerOf(cert.cert)
	// Beyond the last number that a script can write no CRL could ever be issued again.
	last := s.state.numbers[issuer]
	if last == nil {
		last = new(big.Int)
	}
	if room := new(big.Int).Sub(number, last); room.Cmp(maxCRLRise) > 0 {
		if err := s.hold(RuleRoom, false, "CRL number %d is %d above the last of %q: by mistake or not, so few would be left. Count on by one", c.Number, room, cert.name); err != nil {
			return nil, err
		}
	}
	if highest := s.state.numbers[issuer]; highest != nil && number.Cmp(highest) <= 0 {
		if err := s.hold(RuleIssuer, false, "CRL number %d does not rise above %s, the newest of the issuer %s, of which %q is a certificate", c.Number, highest, show.Text(cert.cert.Subject.String()), cert.name); err != nil {
			return nil, err
		}
	}
	if s.held(RuleIssuer) {
		return s.state.crls[issuer], nil
	}
	return s.state.crls[cert.name], nil
}

// used counts by the issuer alone, which is what counts from format 1.1 on.
func (c *CRL) used(s *Session) {
	cert := s.script.certificateCalled(s, c.Issuer)
	if cert == nil {
		return // made in the ceremony that was aborted: its key is gone
	}
	if by, n := issuerOf(cert), big.NewInt(c.Number); s.state.numbers[by] == nil || s.state.numbers[by].Cmp(n) < 0 {
		s.state.numbers[by] = n
	}
}

// certificateCalled finds a certificate that a step of an aborted ceremony means, be the step that takes it in followed or not.
func (s *Script) certificateCalled(session *Session, name string) *x509.Certificate {
	if c := session.state.certificates[name]; c != nil {
		return c.cert
	}
	if s.earlier != nil {
		if c := s.earlier.left().certificates[name]; c != nil {
			return c.cert
		}
	}
	for _, st := range s.steps {
		if i, ok := st.step.(*ImportCertificate); ok && i.Name == name {
			if block, _ := pem.Decode(s.inputs[i.Certificate]); block != nil {
				c, _ := x509.ParseCertificate(block.Bytes)
				return c
			}
		}
	}
	return nil
}

func (c *CRL) path() string { return "artefacts/" + c.Name + ".crl" }

// make has the CRL signed, or takes it from the folder of a finished ceremony.
func (c *CRL) make(s *Session, issuer *ca.Issuer, t ca.CRLTemplate, previous *x509.RevocationList, k *key) (*x509.RevocationList, error) {
	if s.finished() {
		return c.confirmed(s, issuer, t, previous, k)
	}
	prepared, err := issuer.PrepareCRL(t, previous)
	if err != nil {
		return nil, err
	}
	if s.how.lacks(k) {
		s.willSign(k, 1)
		s.state.unsignedCRLs[c.Name] = true
		return prepared.Specimen(), nil
	}
	crl, err := prepared.Sign(context.Background(), rand.Reader) // what is journalled as begun is waited for
	if s.aborted() {
		ok, err := s.rebuilt("CRL "+c.Name, err)
		if err != nil {
			return nil, err
		}
		if !ok {
			s.state.unsignedCRLs[c.Name] = true
			return prepared.Specimen(), nil
		}
	} else if err != nil {
		return nil, err
	}
	if !bytes.Equal(crl.RawTBSRevocationList, prepared.Specimen().RawTBSRevocationList) {
		return nil, fmt.Errorf("CRL %q is not the one that was checked", c.Name)
	}
	return crl, nil
}

func (c *CRL) confirmed(s *Session, issuer *ca.Issuer, t ca.CRLTemplate, previous *x509.RevocationList, k *key) (*x509.RevocationList, error) {
	data, err := s.fromFolder(c.path())
	if err != nil {
		return nil, err
	}
	crl, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, s.notAsAsked(c.path(), err)
	}
	if s.how.lacks(k) {
		s.state.unsignedCRLs[c.Name] = true
		return crl, nil
	}
	if err := issuer.ConfirmCRL(t, previous, crl); err != nil {
		return nil, s.notAsAsked(c.path(), err)
	}
	s.today(func(e ca.Edition) error { return issuer.By(e).ConfirmCRL(t, previous, crl) })
	list, err := s.signatures()
	if err != nil {
		return nil, err
	}
	return crl, s.match(list, []message{{"CRL " + c.Name, k, crl.RawTBSRevocationList, crl.Signature}})
}

func (s *Session) revocation(r Revocation, issuer *certificate, t ca.CRLTemplate) (e x509.RevocationListEntry, err error) {
	if (r.Certificate == "") == (r.Serial == "") {
		return e, malformed("exactly one of certificate and serial must be given")
	}
	if r.Certificate != "" {
		c, err := s.certificate(r.Certificate)
		if err != nil {
			return e, err
		}
		if up := s.state.certificates[c.issuer]; c.issuer != issuer.name && (up == nil || issuerOf(up.cert) != issuerOf(issuer.cert)) {
			return e, refuse(RuleCRLEntry, "certificate %q was not issued by %q", r.Certificate, issuer.name)
		}
		e.SerialNumber = c.cert.SerialNumber
	} else if e.SerialNumber, err = parseSerial(r.Serial); err != nil {
		return e, err
	} else if e.SerialNumber.Cmp(issuer.cert.SerialNumber) == 0 {
		return e, refuse(RuleCRLEntry, "serial %s is that of %q itself: a CA does not revoke its own certificate", show.Text(r.Serial), issuer.name)
	} else if by, known := s.state.issued[fmt.Sprintf("%040x", e.SerialNumber)]; known && by != keyOf(issuer.cert) {
		return e, refuse(RuleCRLEntry, "serial %s is of a certificate that another CA than %q issued", show.Text(r.Serial), issuer.name)
	}
	reason, ok := reasons[r.Reason]
	if !ok {
		return e, malformed("reason %q is unknown", r.Reason)
	}
	e.ReasonCode = reason
	if e.RevocationTime, err = s.date("at", r.At); err != nil {
		return e, err
	}
	if e.RevocationTime.After(t.ThisUpdate) {
		return e, refuse(RuleCRLEntry, "revoked at %s, after this_update", show.Text(r.At))
	}
	return e, nil
}

func parseSerial(text string) (*big.Int, error) {
	raw, err := hex.DecodeString(text)
	n := new(big.Int).SetBytes(raw)
	if err != nil || len(raw) > 20 || n.Sign() <= 0 {
		return nil, malformed("serial %.50q: write 1 to 20 octets in hex", text)
	}
	return n, nil
}

func (c *CRL) shows(s *Session, v *shown) {
	crl := s.state.crlNames[c.Name]
	if crl == nil {
		return
	}
	v.fact("issuer", show.Text(crl.Issuer.String()))
	v.fact("revoked", fmt.Sprintf("%d certificates", len(crl.RevokedCertificateEntries)))
	if d := s.changes[s.step]; d != nil {
		v.fact("compared with", d.last)
		v.fact("revokes besides", show.Line(orNone(d.added)))
		v.fact("releases", show.Line(orNone(d.gone)))
		for _, g := range d.gone {
			v.remark("RELEASES %s", show.Line(g))
		}
	}
	v.box("CRL number, as read from the file", crl.Number.String())
}
