package stepcas

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/show"
)

// Type is what step-ca's configuration names this service by.
const Type = "hanapercas"

// callTime bounds one call of hanaperd.
const callTime = 10 * time.Second

func init() {
	apiv1.Register(Type, func(ctx context.Context, o apiv1.Options) (apiv1.CertificateAuthorityService, error) {
		return New(ctx, o)
	})
}

// Service is an apiv1.CertificateAuthorityService whose certificates hanaperd issues. It is safe for concurrent use.
type Service struct {
	config  Config
	fleet   []*x509.Certificate
	station *factory.Client
	// operator is nil where nothing can be revoked.
	operator *factory.Client
	server   *softcas.SoftCAS
	// last is the last certificate that was got: hanaperd sees by it that its record was put back from an older copy.
	last atomic.Pointer[string]
}

var (
	_ apiv1.CertificateAuthorityService = (*Service)(nil)
	_ apiv1.CertificateAuthorityGetter  = (*Service)(nil)
)

// Type tells step-ca what this service is.
func (s *Service) Type() apiv1.Type { return Type }

// CreateCertificate has hanaperd enrol the device whose request a provisioner has let in. The same key for the same device id gets the
// certificate on record again.
func (s *Service) CreateCertificate(q *apiv1.CreateCertificateRequest) (*apiv1.CreateCertificateResponse, error) {
	switch {
	case q.Template == nil || q.CSR == nil:
		return nil, apiv1.ValidationError{Message: "hanapercas: template and request are needed"}
	case q.IsCAServerCert:
		return s.server.CreateCertificate(q)
	}
	cert, chain, err := s.enroll(q.CSR, q.Template)
	if err != nil {
		return nil, err
	}
	return &apiv1.CreateCertificateResponse{Certificate: cert, CertificateChain: chain}, nil
}

// RenewCertificate enrols the request, if step-ca has one. Without a request signed by the device's key there is nothing that hanaperd
// could hold the device to: a device renews by EST, or asks its provisioner anew.
func (s *Service) RenewCertificate(q *apiv1.RenewCertificateRequest) (*apiv1.RenewCertificateResponse, error) {
	if q.Template == nil || q.CSR == nil {
		return nil, apiv1.NotImplementedError{Message: "hanapercas: a renewal needs a request signed by the device's key, which step-ca's renewals have not: let the device renew by EST, or ask its provisioner anew"}
	}
	cert, chain, err := s.enroll(q.CSR, q.Template)
	if err != nil {
		return nil, err
	}
	return &apiv1.RenewCertificateResponse{Certificate: cert, CertificateChain: chain}, nil
}

func (s *Service) enroll(request *x509.CertificateRequest, template *x509.Certificate) (*x509.Certificate, []*x509.Certificate, error) {
	// step-ca changes fields of the request that it parsed; what the device signed is the bytes.
	signed, err := x509.ParseCertificateRequest(request.Raw)
	if err != nil {
		return nil, nil, apiv1.ValidationError{Message: "hanapercas: request: " + err.Error()}
	}
	if cn := signed.Subject.CommonName; cn != "" && !approved(template, cn) {
		return nil, nil, &failure{status: http.StatusForbidden, text: fmt.Sprintf("the device asks for common name %.80q, and the provisioner approved %.80q", cn, template.Subject.CommonName)}
	}
	q := factory.EnrollRequest{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request.Raw})), Lot: s.config.Lot, HardwareID: s.config.HardwareID}
	if last := s.last.Load(); last != nil {
		q.Last = *last
	}
	a, _, err := s.station.Enroll(context.Background(), q)
	if err != nil {
		return nil, nil, failed(err)
	}
	chain, err := factory.ParseCertificates([]byte(a.Chain))
	if err != nil {
		return nil, nil, bad("hanaperd's answer: %w", err)
	}
	if err := s.check(chain, signed, template); err != nil {
		return nil, nil, bad("hanaperd's answer is not taken: %w", err)
	}
	s.last.Store(&a.Certificate)
	return chain[0], chain[1:], nil
}

// approved says that the provisioner let this common name in. Ids that differ in case only are one device's, and ACME has names in lower case.
func approved(template *x509.Certificate, cn string) bool {
	if template.Subject.CommonName != "" {
		return strings.EqualFold(template.Subject.CommonName, cn)
	}
	names := append([]string{}, template.DNSNames...)
	for _, ip := range template.IPAddresses {
		names = append(names, ip.String())
	}
	for _, n := range names {
		if strings.EqualFold(n, cn) {
			return true
		}
	}
	return false
}

// check holds an answer against the Fleet Root, the request, and what the provisioner approved.
func (s *Service) check(chain []*x509.Certificate, request *x509.CertificateRequest, template *x509.Certificate) error {
	leaf := chain[0]
	switch {
	case !bytes.Equal(leaf.RawSubjectPublicKeyInfo, request.RawSubjectPublicKeyInfo):
		return errors.New("the certificate is for another key")
	case !approved(template, leaf.Subject.CommonName):
		return fmt.Errorf("the certificate is for %.80q", leaf.Subject.CommonName)
	case leaf.IsCA:
		return errors.New("it is a CA's")
	}
	return ca.Verify(chain, s.fleet, time.Now())
}

// RevokeCertificate revokes for good, with the operator's certificate of the configuration.
func (s *Service) RevokeCertificate(q *apiv1.RevokeCertificateRequest) (*apiv1.RevokeCertificateResponse, error) {
	if s.operator == nil {
		return nil, &failure{status: http.StatusForbidden, text: "revoking is an operator's, and operatorCertificate and operatorKey are not in authority.config: revoke with hanaperd revoke"}
	}
	serial, ok := new(big.Int).SetString(q.SerialNumber, 10)
	if q.Certificate != nil {
		serial, ok = q.Certificate.SerialNumber, true
	}
	if !ok {
		return nil, apiv1.ValidationError{Message: fmt.Sprintf("hanapercas: serial number %.90q is no decimal number", q.SerialNumber)}
	}
	reason, ok := factory.ReasonOf(q.ReasonCode)
	if !ok {
		return nil, apiv1.ValidationError{Message: fmt.Sprintf("hanapercas: reason %d is none that a device's certificate is revoked for: %s", q.ReasonCode, strings.Join(factory.Reasons(), ", "))}
	}
	a, err := s.operator.Revoke(context.Background(), factory.RevokeRequest{Serial: serial.Text(16), Reason: reason})
	if err != nil {
		return nil, failed(err)
	}
	if got, ok := new(big.Int).SetString(a.Serial, 16); !ok || got.Cmp(serial) != 0 {
		return nil, bad("hanaperd says that it revoked %.90q", a.Serial)
	}
	return &apiv1.RevokeCertificateResponse{Certificate: q.Certificate}, nil
}

// GetCertificateAuthority gives the Fleet Root of the configuration, and what hanaperd has between it and devices.
func (s *Service) GetCertificateAuthority(*apiv1.GetCertificateAuthorityRequest) (*apiv1.GetCertificateAuthorityResponse, error) {
	b, err := s.station.CACertificates(context.Background())
	if err != nil {
		return nil, failed(err)
	}
	chain, err := factory.ParseCertificates(b)
	if err != nil {
		return nil, bad("hanaperd's CA certificates: %w", err)
	}
	for _, root := range s.fleet {
		if err = ca.Verify(chain, []*x509.Certificate{root}, time.Now()); err == nil {
			return &apiv1.GetCertificateAuthorityResponse{RootCertificate: root, IntermediateCertificates: chain}, nil
		}
	}
	return nil, bad("hanaperd's CA certificates are not under fleetRoot: %w", err)
}

// failure is an error with the HTTP status that step-ca answers where its protocol has room for one.
type failure struct {
	status int
	text   string
	cause  error
}

func (f *failure) Error() string {
	if f.cause != nil {
		return "hanapercas: " + f.cause.Error()
	}
	return "hanapercas: " + f.text
}

func (f *failure) Unwrap() error { return f.cause }

// StatusCode is what step-ca asks errors for.
func (f *failure) StatusCode() int { return f.status }

// failed takes over the status of hanaperd's refusal, and its hint.
func failed(err error) error {
	var f *factory.Fault
	if !errors.As(err, &f) {
		return &failure{status: http.StatusBadGateway, cause: err}
	}
	if f.Hint != "" {
		err = fmt.Errorf("%w (%s)", err, show.Text(f.Hint))
	}
	return &failure{status: f.Status(), cause: err}
}
