package csr

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Template is what Create asks for.
type Template struct {
	Subject pkix.Name
	// RawSubject is the DER of the subject and takes the place of Subject.
	RawSubject     []byte
	DNSNames       []string
	EmailAddresses []string
	IPs            []net.IP
	URIs           []*url.URL
	// CA asks for basicConstraints CA:TRUE and keyUsage keyCertSign, cRLSign.
	CA bool
	// Evidence is the DER of an AttestationBundle, nil for none.
	Evidence []byte
	// RenewalProof is what SignRenewal made, empty for none.
	RenewalProof string
}

// Create makes a request signed by key, with the hash that fits it, and verifies the signature in software. It needs no
// policy, but refuses names that Parse would refuse under every policy.
func Create(rand io.Reader, key crypto.Signer, t Template) ([]byte, error) {
	alg := DefaultSignature(key.Public())
	if alg == x509.UnknownSignatureAlgorithm {
		return nil, refuse(ErrKeyType, "%T", key.Public())
	}
	spki, err := MarshalKey(key.Public())
	if err != nil {
		return nil, refuse(ErrKeyType, "%w", err)
	}
	subject := t.RawSubject
	if subject == nil {
		if subject, err = MarshalName(t.Subject); err != nil {
			return nil, err
		}
	}
	if _, err := ParseName(subject); err != nil {
		return nil, err
	}
	if t.Evidence != nil {
		if s := cryptobyte.String(t.Evidence); !s.SkipASN1(cbasn1.SEQUENCE) || !s.Empty() {
			return nil, refuse(ErrMalformed, "the evidence is not one DER sequence")
		}
	}
	san, err := MarshalSANs(t.DNSNames, t.EmailAddresses, t.IPs, t.URIs)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, a := range attributesOf(san, t) {
				b.AddBytes(a)
			}
		})
	})
	tbs, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	sig, err := SignMessage(context.Background(), rand, key, alg, tbs)
	if err != nil {
		return nil, fmt.Errorf("csr: %w", err)
	}
	return Assemble(tbs, alg, sig)
}

// Assemble puts signed content, algorithm and signature together: the outer SEQUENCE of requests, certificates and CRLs.
func Assemble(tbs []byte, alg x509.SignatureAlgorithm, sig []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(AlgorithmIdentifier(alg))
		b.AddASN1BitString(sig)
	})
	return b.Bytes()
}

// attributesOf are the request's attributes in the order of DER: that of their octets.
func attributesOf(san []byte, t Template) (attributes [][]byte) {
	for _, add := range []func(*cryptobyte.Builder){
		func(b *cryptobyte.Builder) { addExtensionRequest(b, san, t.CA) },
		func(b *cryptobyte.Builder) { addEvidence(b, t.Evidence) },
		func(b *cryptobyte.Builder) { addRenewalProof(b, t.RenewalProof) },
	} {
		var b cryptobyte.Builder
		add(&b)
		if a := b.BytesOrPanic(); len(a) > 0 { // the builder fails for lengths that no memory holds
			attributes = append(attributes, a)
		}
	}
	slices.SortFunc(attributes, bytes.Compare)
	return attributes
}

func addEvidence(b *cryptobyte.Builder, bundle []byte) {
	if bundle == nil {
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidEvidence)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(bundle) })
	})
}

func addExtensionRequest(b *cryptobyte.Builder, san []byte, ca bool) {
	if san == nil && !ca {
		return
	}
	ext := func(b *cryptobyte.Builder, id int, critical bool, value []byte) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier([]int{2, 5, 29, id})
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(value)
		})
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidExtensionRequest)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				if ca {
					ext(b, 19, true, []byte(unhex("30030101ff")))
					ext(b, 15, true, []byte(unhex("03020106")))
				}
				if san != nil {
					ext(b, 17, false, san)
				}
			})
		})
	})
}

// MarshalSANs encodes the value of a subjectAltName extension (RFC 5280, section 4.2.1.6), nil for no names. It refuses
// names that Parse would refuse under every policy.
func MarshalSANs(dns, emails []string, ips []net.IP, uris []*url.URL) ([]byte, error) {
	if len(dns)+len(emails)+len(ips)+len(uris) == 0 {
		return nil, nil
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		add := func(kind uint8, value []byte) {
			b.AddASN1(cbasn1.Tag(kind).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
		}
		for _, n := range dns {
			add(kindDNS, []byte(n))
		}
		for _, n := range emails {
			add(kindEmail, []byte(n))
		}
		for _, ip := range ips {
			if v4 := ip.To4(); v4 != nil {
				ip = v4
			}
			add(kindIP, ip)
		}
		for _, u := range uris {
			add(kindURI, []byte(u.String()))
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if err := anySAN.parseSANs(der, new(Request)); err != nil {
		return nil, err
	}
	return der, nil
}

var anySAN = &Policy{sans: parsedKinds}

// PEM encodes a request.
func PEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
