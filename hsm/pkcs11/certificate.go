package pkcs11

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// PutCertificate stores a certificate object. The very same one stored before is left alone; another one under the same id is
// refused.
func (t *Token) PutCertificate(ctx context.Context, label string, id []byte, cert *x509.Certificate) error {
	if label == "" || len(id) == 0 || cert == nil {
		return advice.New(advice.Usage, "give all three", "%s: a certificate object needs a label, an id and a certificate", t.Info().Name())
	}
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return t.fail(err, "store certificate %q", label)
	}
	// Run again after an outage: the second run finds what the first one stored.
	err = t.do(ctx, func(s session) error {
		have, err := t.certificates(s, id)
		if err != nil {
			return err
		}
		for _, c := range have {
			if bytes.Equal(c.Raw, cert.Raw) {
				return nil
			}
		}
		if len(have) > 0 {
			return advice.New(advice.Refused, "choose another id, or destroy the old one first", "%s: another certificate with id %x %w (subject %s)",
				t.Info().Name(), id, hsm.ErrExists, show.Text(have[0].Subject.String()))
		}
		o, err := t.m.ctx.CreateObject(s.h, []*p11.Attribute{
			attr(p11.CKA_CLASS, p11.CKO_CERTIFICATE), attr(p11.CKA_CERTIFICATE_TYPE, p11.CKC_X_509), attr(p11.CKA_TOKEN, true), attr(p11.CKA_PRIVATE, false),
			attr(p11.CKA_LABEL, label), attr(p11.CKA_ID, id), attr(p11.CKA_SUBJECT, cert.RawSubject), attr(p11.CKA_ISSUER, cert.RawIssuer),
			attr(p11.CKA_SERIAL_NUMBER, serial), attr(p11.CKA_VALUE, cert.Raw),
		})
		if err != nil {
			return err
		}
		v, err := t.attributes(s, o, p11.CKA_VALUE, p11.CKA_ID)
		if err != nil {
			return err
		}
		if !bytes.Equal(v[p11.CKA_VALUE], cert.Raw) || !bytes.Equal(v[p11.CKA_ID], id) {
			return fmt.Errorf("%w: the certificate reads back otherwise than it was stored", hsm.ErrAttributes)
		}
		return nil
	})
	return t.fail(err, "store certificate %q", label)
}

// RemoveCertificate destroys the objects of this very certificate under this id, and proves that none is left. One that is not there is
// no error; others under the id stay.
func (t *Token) RemoveCertificate(ctx context.Context, id []byte, cert *x509.Certificate) error {
	if len(id) == 0 || cert == nil {
		return advice.New(advice.Usage, "give both", "%s: a certificate that is removed is named by id and content", t.Info().Name())
	}
	these := func(s session) (these []p11.ObjectHandle, err error) {
		found, err := t.search(s, p11.CKO_CERTIFICATE, hsm.Query{ID: id})
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			v, err := t.attributes(s, o, p11.CKA_VALUE)
			if err != nil {
				return nil, err
			}
			if bytes.Equal(v[p11.CKA_VALUE], cert.Raw) {
				these = append(these, o)
			}
		}
		return these, nil
	}
	// Run again after an outage: what the first run destroyed is not found.
	err := t.do(ctx, func(s session) error {
		found, err := these(s)
		if err != nil {
			return err
		}
		for _, o := range found {
			if err := t.m.destroy(s, o); err != nil {
				return err
			}
		}
		if found, err = these(s); err == nil && len(found) > 0 {
			err = fmt.Errorf("it is still there after it was destroyed")
		}
		return err
	})
	return t.fail(err, "remove the certificate with id %x", id)
}

// Certificate finds the certificate object with this id. Nothing but its bytes comes from the token: whether it is to be trusted is
// the caller's affair.
func (t *Token) Certificate(ctx context.Context, id []byte) (*x509.Certificate, error) {
	if len(id) == 0 {
		return nil, advice.New(advice.Usage, "give the id", "%s: certificate without an id", t.Info().Name())
	}
	var certs []*x509.Certificate
	err := t.do(ctx, func(s session) (err error) {
		certs, err = t.certificates(s, id)
		return err
	})
	switch {
	case err != nil:
		return nil, t.fail(err, "certificate with id %x", id)
	case len(certs) == 0:
		return nil, advice.New(advice.Failed, "`hanaper token show` lists the certificates", "%s: certificate with id %x: %w", t.Info().Name(), id, hsm.ErrNoKey)
	case len(certs) > 1:
		return nil, advice.New(advice.Failed, "destroy the one that does not belong there", "%s: certificates with id %x: %d of them: %w", t.Info().Name(), id, len(certs), hsm.ErrAmbiguous)
	}
	return certs[0], nil
}

// CertificateObject is a certificate in a token, with the object's names.
type CertificateObject struct {
	Label       string
	ID          []byte
	Certificate *x509.Certificate
}

// Certificates lists all certificate objects that can be parsed.
func (t *Token) Certificates(ctx context.Context) ([]CertificateObject, error) {
	var all []CertificateObject
	err := t.do(ctx, func(s session) error {
		all = nil
		found, err := t.search(s, p11.CKO_CERTIFICATE, hsm.Query{})
		if err != nil {
			return err
		}
		for _, o := range found {
			v, err := t.attributes(s, o, p11.CKA_LABEL, p11.CKA_ID, p11.CKA_VALUE)
			if err != nil {
				return err
			}
			if cert, err := x509.ParseCertificate(v[p11.CKA_VALUE]); err == nil {
				all = append(all, CertificateObject{Label: label(v[p11.CKA_LABEL]), ID: v[p11.CKA_ID], Certificate: cert})
			}
		}
		return nil
	})
	return all, t.fail(err, "list certificates")
}

// certificates are those under an id. One that cannot be parsed is an error: it may be the one that is meant.
func (t *Token) certificates(s session, id []byte) ([]*x509.Certificate, error) {
	if len(id) == 0 {
		return nil, nil
	}
	found, err := t.search(s, p11.CKO_CERTIFICATE, hsm.Query{ID: id})
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, o := range found {
		v, err := t.attributes(s, o, p11.CKA_VALUE)
		if err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(v[p11.CKA_VALUE])
		if err != nil {
			return nil, fmt.Errorf("certificate with id %x: %w", id, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}
