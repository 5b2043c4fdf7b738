package repo

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// ReadClientCertificate reads a PKCS#12 file with a key and its certificate, and an empty password; the certificate comes
// first. where names the file in errors.
func ReadClientCertificate(where string, b []byte) (crypto.PrivateKey, []*x509.Certificate, error) {
	key, cert, chain, err := pkcs12.DecodeChain(b, "")
	if err != nil {
		return nil, nil, advice.New(advice.Usage, "it must be a PKCS#12 file with a certificate and its key, and an empty password", "%s: %w", show.Text(where), err)
	}
	return key, append([]*x509.Certificate{cert}, chain...), nil
}

// ReadServerCertificates reads the certificates of a PKCS#12 file with an empty password: a trust store as Java makes it,
// certificates alone as `openssl pkcs12 -export -nokeys` makes them, or a certificate with its key.
func ReadServerCertificates(where string, b []byte) ([]*x509.Certificate, error) {
	list, err := serverCertificates(b)
	if err == nil && len(list) == 0 {
		err = errors.New("it holds no certificate")
	}
	if err != nil {
		return nil, advice.New(advice.Usage, "it must be a PKCS#12 file with certificates, and an empty password", "%s: %w", show.Text(where), err)
	}
	return list, nil
}

func serverCertificates(b []byte) ([]*x509.Certificate, error) {
	trusted, err := pkcs12.DecodeTrustStore(b, "")
	if err == nil || errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return trusted, err
	}
	if _, cert, chain, err := pkcs12.DecodeChain(b, ""); err == nil {
		return append(chain, cert), nil
	}
	two, err2 := twoSafes(b)
	if err2 != nil {
		return nil, err // the file is no PKCS#12 at all, and the first error says so
	}
	//lint:ignore SA1019 its keys are useless, and no key is taken from it here
	blocks, err := pkcs12.ToPEM(two, "")
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// The outer layers of a PKCS#12 file (RFC 7292, section 4), as far as twoSafes has to see them.
type (
	pfx struct {
		Version  int
		AuthSafe contentInfo
		Mac      asn1.RawValue `asn1:"optional"`
	}
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
	}
)

var pkcs7Data = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}

// twoSafes gives a file whose contents are in one safe a second, empty one. The library reads certificates without a
// trust attribute and without a key only out of files with two safes. The checksum goes, for it would not fit any more;
// with an empty password it guards against accidents at most, and has been looked at by the caller.
func twoSafes(b []byte) ([]byte, error) {
	var p pfx
	if rest, err := asn1.Unmarshal(b, &p); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("not a PKCS#12 file: %w", err)
	}
	var inner []byte
	if _, err := asn1.Unmarshal(p.AuthSafe.Content.Bytes, &inner); err != nil {
		return nil, err
	}
	var safes []contentInfo
	if _, err := asn1.Unmarshal(inner, &safes); err != nil {
		return nil, err
	}
	if len(safes) == 1 {
		empty, err := octets([]byte{0x30, 0})
		if err != nil {
			return nil, err
		}
		safes = append(safes, contentInfo{pkcs7Data, empty})
	}
	inner, err := asn1.Marshal(safes)
	if err != nil {
		return nil, err
	}
	content, err := octets(inner)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Version  int
		AuthSafe contentInfo
	}{p.Version, contentInfo{pkcs7Data, content}})
}

// octets is an OCTET STRING within the explicit tag of a contentInfo.
func octets(b []byte) (asn1.RawValue, error) {
	inner, err := asn1.Marshal(b)
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}, err
}
