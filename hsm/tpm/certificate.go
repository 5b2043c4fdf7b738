package tpm

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// CertificateObject is a certificate of the store, with its names.
type CertificateObject struct {
	Label       string
	ID          []byte
	Certificate *x509.Certificate
}

// PutCertificate stores a certificate. The very same one stored before is left alone; another one under the same id is refused.
func (t *Token) PutCertificate(_ context.Context, label string, id []byte, cert *x509.Certificate) error {
	if checkLabel(label) != nil || len(id) == 0 || len(id) > 100 || cert == nil {
		return advice.New(advice.Usage, "give all three", "%s: a certificate needs a label, an id and a certificate", t.Info().Name())
	}
	return t.fail(t.putCertificate(label, id, cert), "store certificate %q", label)
}

func (t *Token) putCertificate(label string, id []byte, cert *x509.Certificate) error {
	if err := t.usable(); err != nil {
		return err
	}
	lock, err := t.s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	data := append([]byte("label: "+strconv.Quote(label)+"\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	err = durable.Create(t.s.path(certificatesDir, id), data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		have, err := t.readCertificate(id)
		if err != nil {
			return err
		}
		if have.Certificate.Equal(cert) {
			return nil
		}
		return advice.New(advice.Refused, "choose another id, or remove the old one's file first", "another certificate with id %x %w (subject %s)", id, hsm.ErrExists, show.Text(have.Certificate.Subject.String()))
	}
	return err
}

// RemoveCertificate removes this very certificate under this id. One that is not there is no error; another one under the id stays.
func (t *Token) RemoveCertificate(_ context.Context, id []byte, cert *x509.Certificate) error {
	if len(id) == 0 || cert == nil {
		return advice.New(advice.Usage, "give both", "%s: a certificate that is removed is named by id and content", t.Info().Name())
	}
	return t.fail(t.removeCertificate(id, cert), "remove the certificate with id %x", id)
}

func (t *Token) removeCertificate(id []byte, cert *x509.Certificate) error {
	if err := t.usable(); err != nil {
		return err
	}
	lock, err := t.s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	have, err := t.readCertificate(id)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !have.Certificate.Equal(cert) {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.Remove(t.s.path(certificatesDir, id))
}

func (t *Token) readCertificate(id []byte) (CertificateObject, error) {
	path := t.s.path(certificatesDir, id)
	data, err := input.Read(path, maxBlob)
	if err != nil {
		return CertificateObject{}, err
	}
	bad := func(why error) (CertificateObject, error) {
		return CertificateObject{}, fmt.Errorf("%s: %w", show.Text(path), why)
	}
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	label, err := strconv.Unquote(strings.TrimPrefix(string(first), "label: "))
	if err == nil {
		err = checkLabel(label)
	}
	if err != nil {
		return bad(errors.New("its first line is no label"))
	}
	block, after := pem.Decode(rest)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(after)) > 0 {
		return bad(errors.New("it holds no certificate, or more than one"))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return bad(err)
	}
	return CertificateObject{label, id, cert}, nil
}

// Certificate finds the certificate with this id. Whether it is to be trusted is the caller's affair.
func (t *Token) Certificate(_ context.Context, id []byte) (*x509.Certificate, error) {
	if len(id) == 0 {
		return nil, advice.New(advice.Usage, "give the id", "%s: certificate without an id", t.Info().Name())
	}
	if t.isClosed() {
		return nil, t.fail(hsm.ErrClosed, "certificate with id %x", id)
	}
	c, err := t.readCertificate(id)
	if errors.Is(err, fs.ErrNotExist) {
		err = advice.New(advice.Failed, "`hanaper token show` lists the certificates", "%w", hsm.ErrNoKey)
	}
	if err != nil {
		return nil, t.fail(err, "certificate with id %x", id)
	}
	return c.Certificate, nil
}

// Certificates lists all certificates that can be read.
func (t *Token) Certificates(context.Context) ([]CertificateObject, error) {
	ids, err := t.s.ids(certificatesDir)
	if err != nil {
		return nil, t.fail(err, "list certificates")
	}
	var all []CertificateObject
	for _, id := range ids {
		if c, err := t.readCertificate(id); err == nil {
			all = append(all, c)
		}
	}
	return all, nil
}
