package route

import (
	"crypto/x509"
	"encoding/base64"
	"strings"
)

// Identity is who speaks: what the caller has proven of a connection.
type Identity struct {
	// Device is the device id, as it stands in the certificate; Environment the one in whose name it was admitted.
	Device, Environment string
	// Leaf is the certificate whose key the device has proven, Chain the CAs above it along which it was admitted, the root last.
	Leaf  *x509.Certificate
	Chain []*x509.Certificate
}

// fit says that the identity can stand in a header and in a path: the caller has looked, and no mistake of its may become another device's name.
func (id *Identity) fit() bool {
	ok := func(s string) bool { return s != "" && s != "." && s != ".." && visible(s) }
	return ok(id.Device) && (id.Environment == "" || ok(id.Environment))
}

// byteSequence is a certificate as RFC 8941, section 3.3.5 writes bytes, which RFC 9440, section 2.1 asks for.
func byteSequence(b *strings.Builder, c *x509.Certificate) {
	b.WriteByte(':')
	b.WriteString(base64.StdEncoding.EncodeToString(c.Raw))
	b.WriteByte(':')
}

// clientCert is the value of Client-Cert (RFC 9440, section 2.2).
func clientCert(id *Identity) string {
	var b strings.Builder
	byteSequence(&b, id.Leaf)
	return b.String()
}

// clientCertChain is the value of Client-Cert-Chain (RFC 9440, section 2.3): the CAs, each certifying the one before it.
func clientCertChain(id *Identity) string {
	var b strings.Builder
	for i, c := range id.Chain {
		if i > 0 {
			b.WriteString(", ")
		}
		byteSequence(&b, c)
	}
	return b.String()
}
