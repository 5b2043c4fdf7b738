package csr

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// RenewalProofOID names the attribute with the proof by the old key (docs/spec/renewal.md), as openssl writes it: an identifier made of a
// UUID (X.667), c0784cb1-aa91-4144-93e8-dde85b3b1e34.
const RenewalProofOID = "2.25.255836406353030723597025368142648122932"

// derRenewalProof is its DER. Its last arc is longer than encoding/asn1 reads.
var derRenewalProof = []byte(unhex("0614698380f8a6acb5a98a858993f4b7bd85d9ecbc34"))

// maxRenewalProof bounds the attribute's text: an RSA-4096 signature has 684 characters.
const maxRenewalProof = 1400

// ErrRenewalProof: the proof that the holder of the old key wants the new one is missing or does not verify.
var ErrRenewalProof = errors.New("the old key does not vouch for the new one")

// ForRenewal is the policy for a request that renews old: it may name what old names, and hold a proof by old's key. Whether it names
// the same is Renews' to say.
func (p *Policy) ForRenewal(old *x509.Certificate) (*Policy, error) {
	have, err := ParseName(old.RawSubject)
	if err != nil {
		return nil, err
	}
	q := *p
	q.renewal = true
	q.attributes = map[string]bool{}
	for _, a := range have {
		q.attributes[a.Type] = true
	}
	delete(q.attributes, "CN")
	q.sans = [numKinds]bool{kindDNS: len(old.DNSNames) > 0, kindEmail: len(old.EmailAddresses) > 0, kindIP: len(old.IPAddresses) > 0, kindURI: len(old.URIs) > 0}
	for kind, has := range q.sans {
		q.attributes[kindNames[kind]] = has // not left out of account, even where everything else is
		q.sans[kind] = has || p.ignores(kindNames[kind])
	}
	// What the certificate has is compared, whatever the profile leaves out of account otherwise.
	q.ignored = maps.Clone(p.ignored)
	maps.DeleteFunc(q.ignored, func(name string, _ bool) bool { return q.attributes[name] })
	return &q, nil
}

// Renews says whether the request asks for a certificate of the same names as old (RFC 7030, section 4.2.2): its CN, alternative names
// that are exactly old's, and no attribute that old does not have. Other attributes of old's subject may be left out.
func (r *Request) Renews(old *x509.Certificate) error {
	have, err := ParseName(old.RawSubject)
	if err != nil {
		return err
	}
	for _, a := range r.attrs {
		// What the profile leaves out of account is not certified.
		found := slices.ContainsFunc(r.ignored, func(i Ask) bool { return i.Name == a.Type })
		for _, h := range have {
			found = found || h.Type == a.Type && h.Value == a.Value
		}
		if !found {
			return refuse(ErrSubject, "%s is %q, which the certificate does not have", a.Type, clip([]byte(a.Value)))
		}
	}
	asked, err := MarshalSANs(r.dns, r.emails, r.ips, r.uris)
	if err != nil {
		return err
	}
	held, err := MarshalSANs(old.DNSNames, old.EmailAddresses, old.IPAddresses, old.URIs)
	if err != nil {
		return err
	}
	if !bytes.Equal(asked, held) {
		return refuse(ErrSAN, "the request's are not the certificate's")
	}
	return nil
}

// RenewalMessage is what the key of old signs to vouch for the key with this SubjectPublicKeyInfo.
func RenewalMessage(old *x509.Certificate, spki []byte) []byte {
	return fmt.Appendf(nil, "hanaper-renewal/1\ncertificate %x\nkey %x\n", sha256.Sum256(old.Raw), sha256.Sum256(spki))
}

// SignRenewal makes the text of the attribute for Template.RenewalProof; key is old's.
func SignRenewal(ctx context.Context, rand io.Reader, key crypto.Signer, old *x509.Certificate, spki []byte) (string, error) {
	sig, err := SignMessage(ctx, rand, key, DefaultSignature(old.PublicKey), RenewalMessage(old, spki))
	return base64.StdEncoding.EncodeToString(sig), err
}

// RenewalProof is the text of the proof by an old key, as Template.RenewalProof; empty for none.
func (r *Request) RenewalProof() string { return base64.StdEncoding.EncodeToString(r.renewalProof) }

// CheckRenewalProof says whether the key of old vouches for the request's.
func (r *Request) CheckRenewalProof(old *x509.Certificate) error {
	if r.renewalProof == nil {
		return refuse(ErrRenewalProof, "the request has no proof by it")
	}
	if err := CheckSignature(old.PublicKey, DefaultSignature(old.PublicKey), RenewalMessage(old, r.spki), r.renewalProof); err != nil {
		return refuse(ErrRenewalProof, "%w", err)
	}
	return nil
}

// isRenewalProof says whether an attribute is the proof: content is what stands in its SEQUENCE.
func isRenewalProof(content cryptobyte.String) bool {
	return bytes.HasPrefix(content, derRenewalProof)
}

// readRenewalProof reads the attribute: one value, a UTF8String or PrintableString (what openssl writes of a text), the signature in base64.
func (p *Policy) readRenewalProof(content cryptobyte.String, r *Request) error {
	if !p.renewal {
		return refuse(ErrRequestAttribute, "proof by an old key")
	}
	if r.renewalProof != nil {
		return refuse(ErrDuplicate, "proof by an old key")
	}
	var values, value cryptobyte.String
	var tag cbasn1.Tag
	if !content.Skip(len(derRenewalProof)) || !content.ReadASN1(&values, cbasn1.SET) || !content.Empty() ||
		!values.ReadAnyASN1(&value, &tag) || !values.Empty() || tag != cbasn1.UTF8String && tag != cbasn1.PrintableString || len(value) > maxRenewalProof {
		return refuse(ErrMalformed, "the proof by an old key cannot be read")
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(string(value))
	if err != nil || len(sig) == 0 || bytes.ContainsAny(value, "\r\n") {
		return refuse(ErrMalformed, "the proof by an old key is not base64")
	}
	r.renewalProof = sig
	return nil
}

func addRenewalProof(b *cryptobyte.Builder, text string) {
	if text == "" {
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(derRenewalProof)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
		})
	})
}
