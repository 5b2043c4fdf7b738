package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hanaper/hanaper/csr"
)

// The extensions that Hanaper writes or knows when critical.
var (
	oidSKI         = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN         = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasic       = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidCRLNumber   = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReason      = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLDP       = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidPolicies    = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidCPS         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 1}
	oidAKI         = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidEKU         = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAIA         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSP        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidCAIssuers   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

// content is a TBSCertificate before it is encoded.
type content struct {
	edition             Edition
	serial              *big.Int
	alg                 x509.SignatureAlgorithm
	issuer, subject     []byte // DER names
	notBefore, notAfter time.Time
	spki                []byte
	ski, aki            []byte
	profile             *Profile
	pathLen             *int
	san                 []byte
	names               altNames
	crl, ocsp, aia      []string
	constraints         *constraints
	generation          int
}

// marshal encodes the TBSCertificate (RFC 5280, section 4.1).
func (c *content) marshal() ([]byte, error) {
	var names []byte
	if c.constraints != nil {
		var err error
		if names, err = c.constraints.marshal(); err != nil {
			return nil, err
		}
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1BigInt(c.serial)
		b.AddBytes(csr.AlgorithmIdentifier(c.alg))
		b.AddBytes(c.issuer)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, c.notBefore)
			addTime(b, c.notAfter)
		})
		b.AddBytes(c.subject)
		b.AddBytes(c.spki)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { c.addExtensions(b, names) })
		})
	})
	return b.Bytes()
}

func (c *content) addExtensions(b *cryptobyte.Builder, names []byte) {
	p := c.profile
	if p.c.CA {
		addExtension(b, oidBasic, true, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Boolean(true)
				if c.pathLen != nil {
					b.AddASN1Int64(int64(*c.pathLen))
				}
			})
		})
	}
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) { addNamedBits(b, uint(p.usage)) })
	if len(p.eku) > 0 {
		addExtension(b, oidEKU, p.c.ExtKeyUsageCritical, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, oid := range p.eku {
					b.AddASN1ObjectIdentifier(oid)
				}
			})
		})
	}
	addExtension(b, oidSKI, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.ski) })
	if c.aki != nil {
		addExtension(b, oidAKI, false, func(b *cryptobyte.Builder) { addAKI(b, c.aki) })
	}
	if c.san != nil {
		addExtension(b, oidSAN, false, func(b *cryptobyte.Builder) { b.AddBytes(c.san) })
	}
	if len(p.policies) > 0 {
		addExtension(b, oidPolicies, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, oid := range p.policies {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addPolicy(b, oid, p.c.CPS[oid.String()]) })
				}
			})
		})
	}
	if len(c.crl) > 0 {
		addExtension(b, oidCRLDP, false, func(b *cryptobyte.Builder) { addCRLDP(b, c.crl) })
	}
	if len(c.ocsp)+len(c.aia) > 0 {
		addExtension(b, oidAIA, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addAccess(b, oidOCSP, c.ocsp)
				addAccess(b, oidCAIssuers, c.aia)
			})
		})
	}
	c.addGeneration(b)
	if names != nil {
		addExtension(b, oidConstraints, true, func(b *cryptobyte.Builder) { b.AddBytes(names) })
	}
}

// addPolicy writes a policy, with the URL of its practice statement if it has one (RFC 5280, section 4.2.1.4).
func addPolicy(b *cryptobyte.Builder, policy asn1.ObjectIdentifier, cps string) {
	b.AddASN1ObjectIdentifier(policy)
	if cps == "" {
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidCPS)
			b.AddASN1(cbasn1.IA5String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(cps)) })
		})
	})
}

func addExtension(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// addNamedBits encodes a BIT STRING of named bits: bit 0 first, trailing zero bits left out (X.690, section 11.2.2).
func addNamedBits(b *cryptobyte.Builder, bits uint) {
	var octets [2]byte
	last := 0
	for i := range 16 {
		if bits&(1<<i) != 0 {
			octets[i/8] |= 0x80 >> (i % 8)
			last = i
		}
	}
	n := last/8 + 1
	b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) {
		b.AddUint8(uint8(7 - last%8))
		b.AddBytes(octets[:n])
	})
}

func addAKI(b *cryptobyte.Builder, id []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(id) })
	})
}

// addCRLDP writes one distribution point with one fullName for each URL.
func addCRLDP(b *cryptobyte.Builder, urls []string) {
	ctx := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, u := range urls {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(ctx(0).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(ctx(0).Constructed(), func(b *cryptobyte.Builder) {
						b.AddASN1(ctx(6), func(b *cryptobyte.Builder) { b.AddBytes([]byte(u)) })
					})
				})
			})
		}
	})
}

func addAccess(b *cryptobyte.Builder, method asn1.ObjectIdentifier, urls []string) {
	for _, u := range urls {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(method)
			b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(u)) })
		})
	}
}

// addTime writes UTCTime through 2049 and GeneralizedTime from then on (RFC 5280, section 4.1.2.5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	if y := t.Year(); y >= 1950 && y < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
