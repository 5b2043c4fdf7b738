// Package csr turns the bytes of a PKCS#10 certification request into a Request: parsed, possession proven, policy met.
//
// It trusts nothing in the request. An attacker who can send requests can choose every byte of them; what reaches a
// caller as a *Request has a signature by the key it names, a key that is not known to be weak, and only the names and
// extensions that the Policy allows. An attacker who can change the Policy can have any name certified that the issuing
// profile (package ca) does not refuse by itself.
package csr

import (
	"crypto"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/url"
)

// Policy says what a request may hold. It is made by NewPolicy or one of the built-in functions.
type Policy struct{ c PolicyConfig }

// PolicyConfig is a Policy as data.
type PolicyConfig struct {
	// KeyAlgorithms that may be certified: P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096.
	KeyAlgorithms []string `yaml:"key_algorithms"`
	// Attributes of the subject that may stand beside the one CN, by short name: C, O, OU, L, ST, DC, serialNumber,
	// emailAddress, ...
	Attributes []string `yaml:"attributes"`
	// CommonName is a regular expression that the whole CN must match.
	CommonName string `yaml:"common_name"`
	// SANs are the kinds of subject alternative names allowed: dns, ip, email, uri.
	SANs []string `yaml:"sans"`
	// Extensions that may be requested besides subjectAltName: basicConstraints, keyUsage, extKeyUsage,
	// subjectKeyIdentifier. Their values are checked for form only: the issuing profile decides.
	Extensions []string `yaml:"extensions"`
	// CA allows basicConstraints with CA:TRUE.
	CA bool `yaml:"ca"`
}

// Request is a certification request that was parsed, whose possession is proven and that meets its policy.
type Request struct {
	raw, spki, rawSubject []byte
	cn                    string
	subject               pkix.Name
	pub                   crypto.PublicKey
	digest                [32]byte
	dns, emails           []string
	ips                   []net.IP
	uris                  []*url.URL
}

// Template is what Create asks for.
type Template struct {
	Subject        pkix.Name
	DNSNames       []string
	IPs            []net.IP
	URIs           []*url.URL
	EmailAddresses []string
}

var errTODO = errors.New("csr: not written yet")

// NewPolicy checks the configuration.
func NewPolicy(c PolicyConfig) (*Policy, error) { return &Policy{c}, nil }

// DevicePolicy is the strict default for devices: one CN and nothing else.
func DevicePolicy() *Policy { return &Policy{} }

// ClientPolicy is for stations and operators.
func ClientPolicy() *Policy { return &Policy{} }

// ServerPolicy is for TLS servers: DNS and IP names.
func ServerPolicy() *Policy { return &Policy{} }

// CAPolicy is for subordinate CAs.
func CAPolicy() *Policy { return &Policy{} }

// Parse reads one request, PEM or DER, and checks it against the policy.
func Parse(data []byte, p *Policy) (*Request, error) { return nil, errTODO }

// Create makes a request signed by key.
func Create(rand io.Reader, key crypto.Signer, t Template) (der []byte, err error) { return nil, errTODO }

// PEM encodes a request.
func PEM(der []byte) []byte { return nil }

// Raw is the request's DER.
func (r *Request) Raw() []byte { return r.raw }

// CommonName is the subject's one CN.
func (r *Request) CommonName() string { return r.cn }

// Subject is the subject as asked for.
func (r *Request) Subject() pkix.Name { return r.subject }

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
