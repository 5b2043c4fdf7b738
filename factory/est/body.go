package est

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The media types.
const (
	// TypePKCS10 is that of a request's body.
	TypePKCS10 = "application/pkcs10"
	// TypeCACerts is that of the answer to cacerts, without a parameter as in RFC 7030, appendix A.1.
	TypeCACerts = "application/pkcs7-mime"
	// TypeCertsOnly is that of the answer to an enrolment (RFC 7030, section 4.2.3 and appendix A.3).
	TypeCertsOnly = "application/pkcs7-mime; smime-type=certs-only"
	// TypeCSRAttrs is that of the answer to csrattrs.
	TypeCSRAttrs = "application/csrattrs"
)

// Errors of Decode.
var (
	// ErrEmpty: there is nothing in the body.
	ErrEmpty = errors.New("the body is empty")
	// ErrPEM: the body is PEM, which EST does not have.
	ErrPEM = errors.New("the body is PEM")
	// ErrBase64: the body is not base64 of its one spelling (RFC 4648, section 4).
	ErrBase64 = errors.New("the body is not base64 (RFC 4648, section 4)")
)

// Decode reads a body: base64 with padding, and spaces, tabs and line ends anywhere (RFC 8951, section 3.1). Bits that padding leaves over
// must be zero, and nothing may follow the padding, so that one request has one spelling but for blanks.
func Decode(body []byte) ([]byte, error) {
	text := make([]byte, 0, len(body))
	for _, c := range body {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			text = append(text, c)
		}
	}
	switch {
	case len(text) == 0:
		return nil, ErrEmpty
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return nil, ErrPEM
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(der, text)
	if err != nil {
		return nil, ErrBase64
	}
	return der[:n], nil
}

// Encode gives the body of an answer: base64 without line ends. RFC 8951, section 3.1, leaves them to the sender, and not every client takes
// them (strongSwan's does not).
func Encode(der []byte) []byte { return base64.StdEncoding.AppendEncode(nil, der) }

var (
	oidData       = []int{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = []int{1, 2, 840, 113549, 1, 7, 2}
)

// CertsOnly makes a CMS SignedData of version 1 that holds these certificates (DER) and neither content nor signatures: the Simple PKI
// Response of RFC 5272, section 4.1. It is DER, so the certificates are in order of their octets.
func CertsOnly(certificates ...[]byte) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(certificates), bytes.Compare)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
				b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					for _, der := range sorted {
						b.AddBytes(der)
					}
				})
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
			})
		})
	})
	return b.Bytes()
}
