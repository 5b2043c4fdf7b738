// Package csr turns the bytes of a PKCS#10 certification request into a Request: parsed, possession proven, policy met.
//
// It trusts nothing in the request. An attacker who can send requests chooses every byte of them; what reaches a
// caller as a *Request has a signature by the key it names, a key that is not known to be weak, and only the names and
// extensions that the Policy allows. An attacker who can change the Policy can ask for any name that the issuing
// profile (package ca) does not refuse by itself.
//
// The DER is read octet by octet here; crypto/x509 only verifies the signature, because its own parser drops what it
// does not know: unknown kinds of subject alternative names, request attributes, all but the last common name.
package csr

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
)

// Request is a certification request that was parsed, whose possession is proven and that meets its policy. Callers
// must not change what its methods return.
type Request struct {
	raw, tbs, spki, rawSubject []byte
	cn                         string
	attrs                      []Attribute
	pub                        crypto.PublicKey
	digest                     [32]byte
	dns, emails                []string
	ips                        []net.IP
	uris                       []*url.URL
	sigAlg                     x509.SignatureAlgorithm
	sig                        []byte
	asksCA                     bool
	asks, ignored              []Ask
	evidence, renewalProof     []byte
}

// Raw is the request's DER.
func (r *Request) Raw() []byte { return r.raw }

// CommonName is the subject's one CN.
func (r *Request) CommonName() string { return r.cn }

// Subject is the subject as asked for; RawSubject keeps its exact order and encoding.
func (r *Request) Subject() pkix.Name { return toName(r.attrs) }

// Attributes are the subject's attributes in their order.
func (r *Request) Attributes() []Attribute { return slices.Clone(r.attrs) }

// RawSubject is the DER of the subject.
func (r *Request) RawSubject() []byte { return r.rawSubject }

// PublicKey is the key whose possession was proven.
func (r *Request) PublicKey() crypto.PublicKey { return r.pub }

// SPKI is the DER of the SubjectPublicKeyInfo.
func (r *Request) SPKI() []byte { return r.spki }

// SPKIDigest is the SHA-256 of SPKI.
func (r *Request) SPKIDigest() [32]byte { return r.digest }

// DNSNames are the requested DNS names.
func (r *Request) DNSNames() []string { return r.dns }

// EmailAddresses are the requested mail addresses.
func (r *Request) EmailAddresses() []string { return r.emails }

// IPs are the requested IP addresses.
func (r *Request) IPs() []net.IP { return r.ips }

// URIs are the requested URIs.
func (r *Request) URIs() []*url.URL { return r.uris }

// AsksCA is true if the request has basicConstraints with CA:TRUE.
func (r *Request) AsksCA() bool { return r.asksCA }

// Evidence is the DER of the AttestationBundle of where the key was born, nil if there is none. Nothing in it was looked at: it is
// as foreign as the rest, and signed with the request.
func (r *Request) Evidence() []byte { return r.evidence }

// Equal reports whether both are the same request, octet by octet.
func (r *Request) Equal(o *Request) bool { return bytes.Equal(r.raw, o.raw) }
