package attest

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of the TCG EK Credential Profile (for TPM 2.0), sections 3.1 and 3.2.
var (
	oidSAN             = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEKCertificate   = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidTPMManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// tpmName is what an endorsement key's certificate says of the chip, in the directory name of its subjectAltName.
type tpmName struct{ manufacturer, model, version string }

// checkEKCertificate holds a certificate to the TCG EK Credential Profile as far as confusion with another certificate of
// the same CA matters: it is no CA, says that it is for an endorsement key, and its key may be used to receive secrets and
// not to sign. It clears the one critical extension that crypto/x509 does not know, the subjectAltName with a directory
// name, after reading it.
func checkEKCertificate(c *x509.Certificate) (tpmName, error) {
	var name tpmName
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSAN) {
			var ok bool
			if name, ok = readTPMName(e.Value); !ok {
				return name, refuse(ErrMalformed, "the subjectAltName of the endorsement key's certificate")
			}
		}
	}
	if name.manufacturer != "" {
		c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidSAN.Equal)
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		return name, refuse(ErrCertificate, "the endorsement key's certificate has the critical extension %s, which is not known here", oid)
	}
	named := slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal)
	usages := len(c.UnknownExtKeyUsage) + len(c.ExtKeyUsage)
	switch {
	case c.IsCA:
		return name, refuse(ErrCertificate, "the endorsement key's certificate is a CA's")
	case usages > 0 && !named:
		return name, refuse(ErrCertificate, "the certificate has an extended key usage, but not that of endorsement keys (2.23.133.8.1)")
	case !named && name.manufacturer == "":
		return name, refuse(ErrCertificate, "neither its extended key usage nor its subjectAltName says that it is an endorsement key's")
	case c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return name, refuse(ErrCertificate, "the endorsement key's certificate allows its key to sign")
	}
	switch c.PublicKey.(type) {
	case *rsa.PublicKey:
		if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
			return name, refuse(ErrCertificate, "the endorsement key's certificate does not allow keyEncipherment")
		}
	case *ecdsa.PublicKey:
		if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageKeyAgreement == 0 {
			return name, refuse(ErrCertificate, "the endorsement key's certificate does not allow keyAgreement")
		}
	default:
		return name, refuse(ErrMalformed, "the endorsement key's certificate has a key of a type that is not known here (%s)", c.PublicKeyAlgorithm)
	}
	return name, nil
}

// readTPMName reads the GeneralNames (RFC 5280, section 4.2.1.6) of an endorsement key's certificate: the attributes of the
// TCG in a directory name. Other kinds of name are passed over; an attribute that stands twice is refused, for two readers
// could then see two chips.
func readTPMName(value []byte) (tpmName, bool) {
	var n tpmName
	var names cryptobyte.String
	s := cryptobyte.String(value)
	if !s.ReadASN1(&names, cbasn1.SEQUENCE) || !s.Empty() {
		return n, false
	}
	for !names.Empty() {
		var general, rdns cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&general, &tag) {
			return n, false
		}
		if tag != cbasn1.Tag(4).ContextSpecific().Constructed() {
			continue
		}
		if !general.ReadASN1(&rdns, cbasn1.SEQUENCE) || !general.Empty() {
			return n, false
		}
		for !rdns.Empty() {
			var rdn cryptobyte.String
			if !rdns.ReadASN1(&rdn, cbasn1.SET) {
				return n, false
			}
			for !rdn.Empty() {
				if !n.readAttribute(&rdn) {
					return n, false
				}
			}
		}
	}
	return n, true
}

func (n *tpmName) readAttribute(rdn *cryptobyte.String) bool {
	var attr, text cryptobyte.String
	var oid asn1.ObjectIdentifier
	var tag cbasn1.Tag
	if !rdn.ReadASN1(&attr, cbasn1.SEQUENCE) || !attr.ReadASN1ObjectIdentifier(&oid) || !attr.ReadAnyASN1(&text, &tag) || !attr.Empty() {
		return false
	}
	var to *string
	switch {
	case oid.Equal(oidTPMManufacturer):
		to = &n.manufacturer
	case oid.Equal(oidTPMModel):
		to = &n.model
	case oid.Equal(oidTPMVersion):
		to = &n.version
	default:
		return true
	}
	if *to != "" || len(text) == 0 || len(text) > maxText || tag != cbasn1.UTF8String && tag != cbasn1.PrintableString {
		return false
	}
	*to = string(text)
	return true
}

func (n tpmName) facts(v *Verdict) {
	v.add("tpm manufacturer", n.manufacturer)
	v.add("tpm model", n.model)
	v.add("tpm version", n.version)
}

// checkEKChain verifies the endorsement key's certificate up to a pinned root.
func (m *Manufacturers) checkEKChain(at time.Time, ders [][]byte) (*x509.Certificate, tpmName, anchor, error) {
	chain, err := parseChain(ders)
	if err != nil {
		return nil, tpmName{}, anchor{}, err
	}
	name, err := checkEKCertificate(chain[0])
	if err != nil {
		return nil, name, anchor{}, err
	}
	a, err := m.verify(TPM, chain, at)
	if err != nil {
		return nil, name, a, err
	}
	return chain[0], name, a, nil
}
