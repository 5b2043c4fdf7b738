package factory

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

func readFile(path string) ([]byte, error) {
	b, err := input.Read(path, maxPEM)
	return b, advice.Wrap(advice.Usage, err, "")
}

// LoadCertificates reads the certificates of a PEM file, at least one, and nothing else.
func LoadCertificates(path string) ([]*x509.Certificate, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "is the path right, and may this user read it? The ceremony's folder has certificates in artefacts/")
	}
	certs, err := ParseCertificates(b)
	if err != nil {
		return nil, advice.New(advice.Usage, "it must hold certificates in PEM, as the ceremony wrote them", "%s: %w", show.Text(path), err)
	}
	return certs, nil
}

// ParseCertificates reads PEM that holds certificates, at least one, and nothing else.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("holds something that is not PEM")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block of type %.40q", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return certs, nil
}

// ReadCRL reads the DER of one CRL from a file that holds it in PEM or DER; it does not look into it.
func ReadCRL(path string) ([]byte, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	return b, nil
}

// LoadCRL reads one CRL, PEM or DER.
func LoadCRL(path string) (*x509.RevocationList, error) {
	b, err := ReadCRL(path)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, advice.New(advice.Usage, "", "%s is no CRL: %w", show.Text(path), err)
	}
	return list, nil
}

// LoadIdentity reads a TLS certificate (leaf first) and its key, which nobody else may be able to read.
func LoadIdentity(certificate, key string) (tls.Certificate, error) {
	st, err := os.Stat(key)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "the csr verb makes key and request"
		}
		return tls.Certificate{}, advice.Wrap(advice.Usage, err, hint)
	}
	if input.LetsOthersIn(key, st) {
		return tls.Certificate{}, advice.New(advice.Refused, "run: chmod 600 "+key, "key file %s: mode %04o lets group or others in", show.Text(key), st.Mode().Perm())
	}
	c, err := readFile(certificate)
	if err != nil {
		return tls.Certificate{}, advice.Wrap(advice.Usage, err, "is the path right, and may this user read it? The ceremony's folder has certificates in artefacts/")
	}
	k, err := readFile(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(k)
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return tls.Certificate{}, advice.New(advice.Usage, "the certificate comes first in its file, and the key must be its own", "%s with key %s: %w", show.Text(certificate), show.Text(key), err)
	}
	return pair, nil
}
