package attest

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// X509Evidence finds the certificate of key among those of the evidence and verifies it up to a root pinned for the kind.
// Chips that attest with certificates make one for each key, signed by a key of the chip; what it says of the key stands
// in its extensions, which the caller reads. It must be no CA: whoever holds an attested key could sign certificates that
// look like the chip's. For the same reason no other certificate of the chain may be one that attests a key: attests lists
// the extension that gives such a one away.
//
// It is what a verifier of a further kind of secure element begins with.
func (m *Manufacturers) X509Evidence(kind Kind, ders [][]byte, key crypto.PublicKey, attests asn1.ObjectIdentifier, want Want) (*x509.Certificate, *Verdict, error) {
	chain, err := parseChain(ders)
	if err != nil {
		return nil, nil, err
	}
	leaf := -1
	for i, c := range chain {
		if key == nil || !sameKey(c.PublicKey, key) {
			continue
		}
		if leaf >= 0 {
			return nil, nil, refuse(ErrMalformed, "two certificates attest the key of the request")
		}
		leaf = i
	}
	if leaf < 0 {
		return nil, nil, refuse(ErrOtherKey, "no certificate attests the key of the request")
	}
	chain[0], chain[leaf] = chain[leaf], chain[0]
	cert := chain[0]
	for _, c := range chain {
		if len(c.UnhandledCriticalExtensions) > 0 {
			return nil, nil, refuse(ErrCertificate, "%s has the critical extension %s, which is not known here", show.Text(c.Subject.String()), c.UnhandledCriticalExtensions[0])
		}
		if c != cert && extension(c, attests) != nil {
			return nil, nil, refuse(ErrCertificate, "%s attests a key, and that key has signed another certificate", show.Text(c.Subject.String()))
		}
	}
	if cert.IsCA {
		return nil, nil, refuse(ErrCertificate, "the certificate that attests the key is a CA's")
	}
	if fault := weakkey.Fault(key); fault != "" {
		return nil, nil, refuse(ErrWeakKey, "%s", fault)
	}
	a, err := m.verify(kind, chain, want.At)
	if err != nil {
		return nil, nil, err
	}
	v := &Verdict{Kind: kind, Manufacturer: a.name, Root: a.root, Certificate: digest(cert.Raw)}
	v.Key, err = keyDigest(key)
	return cert, v, err
}

// extension is the value of a certificate's extension, nil for none. crypto/x509 refuses one that stands twice.
func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

// value reads one ASN.1 value that must be all of data.
func value[T any](data []byte) (v T, ok bool) {
	rest, err := asn1.Unmarshal(data, &v)
	return v, err == nil && len(rest) == 0
}
