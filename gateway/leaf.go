package gateway

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/internal/weakkey"
	"github.com/hanaper/hanaper/trust"
)

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN             = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasic           = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidAuthorityKey    = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37}
)

// checkLeaf holds a certificate to what a device's must be, apart from who issued it and when it is valid. It returns
// the device id.
func checkLeaf(c *x509.Certificate, policy trust.Policy) (name string, reason Reason, detail string) {
	switch {
	case len(c.Raw) == 0 || len(c.Raw) > maxLeafSize:
		return "", BadCertificate, fmt.Sprintf("%d bytes", len(c.Raw))
	case c.Version != 3:
		return "", BadVersion, fmt.Sprintf("version %d", c.Version)
	case !goodSerial(c.SerialNumber):
		return "", BadSerial, ""
	case c.IsCA:
		return "", IsCA, ""
	case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return "", BadKeyUsage, "no digitalSignature"
	case c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return "", BadKeyUsage, "keyCertSign or cRLSign on a device's certificate"
	case len(c.AuthorityKeyId) == 0:
		return "", NoAuthorityKey, ""
	}
	if oid := unprocessed(c, leafCritical); oid != "" {
		return "", BadExtension, "critical, and not processed here: " + oid
	}
	if ext := extension(c, oidNameConstraints); ext != nil {
		return "", BadExtension, "name constraints on a device's certificate"
	}
	if detail := clientAuthOnly(c); detail != "" {
		return "", BadExtKeyUsage, detail
	}
	if detail := checkKey(c.PublicKey); detail != "" {
		return "", BadKey, detail
	}
	if !policy.AllowsKey(c.PublicKey) {
		return "", BadKey, "the officers' policy does not admit this key type or size"
	}
	if _, err := generation(c); err != nil {
		return "", BadCertificate, err.Error()
	}
	if detail := checkSAN(c); detail != "" {
		return "", TooManyNames, detail
	}
	return deviceName(c.RawSubject)
}

// leafCritical and caCritical are the extensions that are processed here, and so may be critical (RFC 5280, section 4.2). crypto/x509 knows
// more of them, such as policyConstraints, for its own Verify, which is not what finds the path.
var (
	leafCritical = []asn1.ObjectIdentifier{oidKeyUsage, oidSAN, oidBasic, oidExtKeyUsage}
	caCritical   = []asn1.ObjectIdentifier{oidKeyUsage, oidSAN, oidBasic, oidExtKeyUsage, oidNameConstraints}
)

// unprocessed is a critical extension that is not among these; "" for none.
func unprocessed(c *x509.Certificate, processed []asn1.ObjectIdentifier) string {
	for _, e := range c.Extensions {
		if e.Critical && !slices.ContainsFunc(processed, e.Id.Equal) {
			return e.Id.String()
		}
	}
	if len(c.UnhandledCriticalExtensions) > 0 {
		return c.UnhandledCriticalExtensions[0].String()
	}
	return ""
}

// goodSerial: positive, and at most 20 octets of DER, of which the first bit is the sign.
func goodSerial(n *big.Int) bool {
	return n != nil && n.Sign() > 0 && n.BitLen() <= maxSerialOctets*8-1
}

func clientAuthOnly(c *x509.Certificate) (detail string) {
	if markOf(c) == SharedCredential {
		return sharedUsageOnly(c)
	}
	client := false
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageClientAuth:
			client = true
		case x509.ExtKeyUsageAny:
			return "anyExtendedKeyUsage"
		}
	}
	if !client {
		return "no clientAuth"
	}
	return ""
}

// checkKey says what is wrong with a key, device's or CA's.
func checkKey(pub crypto.PublicKey) (detail string) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve.Params().Name {
		case "P-256", "P-384", "P-521":
			return ""
		}
		return "the curve " + k.Curve.Params().Name
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return "an Ed25519 key of a wrong length"
		}
		return weakkey.Fault(k)
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits || bits%8 != 0 {
			return fmt.Sprintf("RSA of %d bits", bits)
		}
		if k.E < 65537 || k.E%2 == 0 {
			return fmt.Sprintf("RSA with the exponent %d", k.E)
		}
		return weakkey.Fault(k)
	}
	return "a key of another kind"
}

// checkSAN counts the alternative names of every kind: crypto/x509 gives only those it knows.
func checkSAN(c *x509.Certificate) (detail string) {
	ext := extension(c, oidSAN)
	if ext == nil {
		return ""
	}
	in := cryptobyte.String(ext)
	var names cryptobyte.String
	if !in.ReadASN1(&names, cbasn1.SEQUENCE) || !in.Empty() {
		return "the subject alternative name is not well-formed DER"
	}
	n := 0
	for !names.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return "the subject alternative name is not well-formed DER"
		}
		if n++; n > maxNames {
			return fmt.Sprintf("more than %d", maxNames)
		}
	}
	return ""
}

// extension is the value of c's extension, nil if it has none.
func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

func critical(c *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Critical
		}
	}
	return false
}

// selfIssued in the sense of RFC 5280: subject and issuer are the same name.
func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }
