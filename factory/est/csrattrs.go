package est

import (
	"encoding/asn1"
	"math/big"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Wanted is what a request should look like.
type Wanted struct {
	// KeyAlgorithms are those that are certified, by the names of csr.PolicyConfig. One alone is asked for; of several the client chooses,
	// for the form has no words for a choice.
	KeyAlgorithms []string
	// Evidence asks for the attribute with evidence of where the key was born (draft-ietf-lamps-csr-attestation).
	Evidence bool
}

var (
	oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}
	// oidTemplate is id-aa-certificationRequestInfoTemplate (RFC 9908, section 3.4).
	oidTemplate = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 61}
	// oidEvidence is id-aa-attestation.
	oidEvidence = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}

	oidECKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSAKey  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// curves by name, with the signature algorithm that goes with each.
var curves = map[string]struct{ curve, signature asn1.ObjectIdentifier }{
	"P-256": {asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	"P-384": {asn1.ObjectIdentifier{1, 3, 132, 0, 34}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	"P-521": {asn1.ObjectIdentifier{1, 3, 132, 0, 35}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// oidSHA256RSA is sha256WithRSAEncryption.
var oidSHA256RSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}

// Attributes makes a CsrAttrs (RFC 7030, section 4.5.2): the template of RFC 9908, section 3.4, for clients that know it, who look at
// nothing else then, and before it what can be said in the older form, for the others: the one key algorithm, as an attribute with curve or
// length, its signature algorithm, and the evidence, as plain identifiers.
func Attributes(w Wanted) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		only := ""
		if len(w.KeyAlgorithms) == 1 {
			only = w.KeyAlgorithms[0]
		}
		addOlder(b, only)
		if w.Evidence {
			b.AddASN1ObjectIdentifier(oidEvidence)
		}
		addAttribute(b, oidTemplate, func(b *cryptobyte.Builder) { addTemplate(b, only) })
	})
	return b.Bytes()
}

func addAttribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, values func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(cbasn1.SET, values)
	})
}

// bits is the length that the name of an RSA algorithm tells.
func bits(name string) (n int, is bool) {
	text, is := strings.CutPrefix(name, "RSA-")
	n, err := strconv.Atoi(text)
	return n, is && err == nil
}

func addOlder(b *cryptobyte.Builder, name string) {
	if c, is := curves[name]; is {
		addAttribute(b, oidECKey, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(c.curve) })
		b.AddASN1ObjectIdentifier(c.signature)
	} else if n, is := bits(name); is {
		addAttribute(b, oidRSAKey, func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(n)) })
		b.AddASN1ObjectIdentifier(oidSHA256RSA)
	} else if name == "Ed25519" {
		b.AddASN1ObjectIdentifier(oidEd25519)
	}
}

// addTemplate adds a CertificationRequestInfoTemplate: a CN for the client to fill in, the key algorithm where there is one, no attributes.
func addTemplate(b *cryptobyte.Builder, name string) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidCommonName) })
			})
		})
		if name != "" {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { addKeyTemplate(b, name) })
		}
		b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(*cryptobyte.Builder) {})
	})
}

// addKeyTemplate adds the content of a SubjectPublicKeyInfoTemplate. The length of an RSA key is told by a placeholder of that length.
func addKeyTemplate(b *cryptobyte.Builder, name string) {
	n, rsa := bits(name)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		c, ec := curves[name]
		switch {
		case ec:
			b.AddASN1ObjectIdentifier(oidECKey)
			b.AddASN1ObjectIdentifier(c.curve)
		case rsa:
			b.AddASN1ObjectIdentifier(oidRSAKey)
			b.AddASN1NULL()
		default:
			b.AddASN1ObjectIdentifier(oidEd25519)
		}
	})
	if !rsa {
		return
	}
	b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
		b.AddUint8(0)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			one := big.NewInt(1)
			b.AddASN1BigInt(new(big.Int).Sub(new(big.Int).Lsh(one, uint(n)), one))
			b.AddASN1Int64(65537)
		})
	})
}
