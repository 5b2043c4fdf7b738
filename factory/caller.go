package factory

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/ca"
)

// Caller is who speaks: a station, an operator, a publisher, a viewer or a gateway, by the URI SAN of a certificate under the Operations Root.
type Caller struct {
	Role string
	Name string
}

func (c Caller) String() string { return c.Role + " " + c.Name }

// Callers decides who may speak. The only roots it trusts are the Operations Root's; a device's certificate is refused
// because it chains elsewhere, and one that got under this root by mistake because it has no role.
type Callers struct {
	roots []*x509.Certificate
	pool  *x509.CertPool
	crl   atomic.Pointer[callerCRL]
	now   func() time.Time
}

type callerCRL struct {
	revoked map[string]bool
	next    time.Time
	// numbers of the lists taken up, by the index of their root.
	numbers map[int]*big.Int
}

// NewCallers takes the Operations Root (more than one while it is being replaced) and the Fleet Root, which must be
// another key: a fleet that could sign in its own stations could enrol itself.
func NewCallers(operations, fleet []*x509.Certificate, now func() time.Time) (*Callers, error) {
	c := &Callers{roots: operations, pool: x509.NewCertPool(), now: now}
	if len(operations) == 0 {
		return nil, errors.New("there is no Operations Root")
	}
	for _, r := range operations {
		if !r.IsCA {
			return nil, fmt.Errorf("%q is no CA certificate", r.Subject)
		}
		for _, f := range fleet {
			if ca.SameKey(r.PublicKey, f.PublicKey) {
				return nil, fmt.Errorf("the Operations Root %q has the key of %q, which devices chain to", r.Subject, f.Subject)
			}
		}
		c.pool.AddCert(r)
	}
	return c, nil
}

// Roots are the Operations Roots.
func (c *Callers) Roots() []*x509.Certificate { return slices.Clone(c.roots) }

// UseCRL makes the revoked certificates of this list refused, on open connections too. It must be signed by an
// Operations Root and not be older than the one in use.
func (c *Callers) UseCRL(list *x509.RevocationList) error {
	at := slices.IndexFunc(c.roots, func(r *x509.Certificate) bool { return list.CheckSignatureFrom(r) == nil })
	if at < 0 {
		return errors.New("the CRL is not signed by the Operations Root")
	}
	if list.Number == nil || list.NextUpdate.IsZero() {
		return errors.New("the CRL has no number or no nextUpdate")
	}
	n := &callerCRL{revoked: map[string]bool{}, next: list.NextUpdate, numbers: map[int]*big.Int{at: list.Number}}
	for _, e := range list.RevokedCertificateEntries {
		n.revoked[serialKey(e.SerialNumber)] = true
	}
	if old := c.crl.Load(); old != nil {
		if was := old.numbers[at]; was != nil && list.Number.Cmp(was) < 0 {
			return fmt.Errorf("the CRL has number %v, and %v is in use", list.Number, was)
		}
		for i, number := range old.numbers {
			if i != at {
				n.numbers[i] = number
			}
		}
		for s := range old.revoked {
			n.revoked[s] = true
		}
	}
	c.crl.Store(n)
	return nil
}

func serialKey(n *big.Int) string { return string(n.Bytes()) }

// errCRLEnded means that nobody's certificate can be checked.
var errCRLEnded = errors.New("cannot be checked: the Operations Root's CRL has expired")

// Check tells who holds a certificate that chains to the Operations Root; it looks at everything but the chain's
// signatures, which crypto/tls verified, and is cheap enough for every request. With an error, the caller is whom the certificate names.
func (c *Callers) Check(leaf *x509.Certificate) (Caller, error) {
	now := c.now()
	who := Caller{}
	role, name, none := ca.RoleOf(leaf)
	if none == nil {
		who = Caller{role, name}
	}
	switch {
	case leaf.Version != 3 || leaf.IsCA:
		return who, errors.New("is not an end-entity certificate of version 3")
	case now.After(leaf.NotAfter):
		return who, fmt.Errorf("expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return who, fmt.Errorf("is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return who, errors.New("is not for client authentication")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return who, errors.New("is not for signatures")
	case none != nil:
		return who, fmt.Errorf("has no role: %w", none)
	}
	if l := c.crl.Load(); l != nil {
		if l.revoked[serialKey(leaf.SerialNumber)] {
			return who, errors.New("is revoked")
		}
		if now.After(l.next) {
			return who, errCRLEnded
		}
	}
	return who, nil
}

// Holder tells whose certificate this is, which something that was signed names, with those between it and an Operations Root behind it: its chain is
// verified here, and all that Check looks at.
func (c *Callers) Holder(chain []*x509.Certificate) (Caller, error) {
	above := x509.NewCertPool()
	for _, i := range chain[1:] {
		above.AddCert(i)
	}
	who, err := c.Check(chain[0])
	if err != nil {
		return who, err
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: c.pool, Intermediates: above, CurrentTime: c.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return Caller{}, fmt.Errorf("does not chain to the Operations Root: %w", err)
	}
	return who, nil
}

// TLS is the server's configuration. There are no session tickets: each connection proves its key anew.
func (c *Callers) TLS(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{certificate},
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              c.pool,
		SessionTicketsDisabled: true,
		Time:                   c.now,
		NextProtos:             []string{"http/1.1"},
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.VerifiedChains) == 0 || len(s.PeerCertificates) == 0 {
				return errors.New("no verified client certificate")
			}
			if _, err := c.Check(s.PeerCertificates[0]); err != nil {
				return fmt.Errorf("client certificate %q %w", s.PeerCertificates[0].Subject, err)
			}
			return nil
		},
	}
}

// Of tells who sent a request over this connection, as things stand now.
func (c *Callers) Of(s *tls.ConnectionState) (Caller, error) {
	if s == nil || len(s.VerifiedChains) == 0 {
		return Caller{}, fault(CodeForbidden, "", "no client certificate")
	}
	who, err := c.Check(s.PeerCertificates[0])
	if err != nil {
		hint := "have the ceremony issue a new one"
		if errors.Is(err, errCRLEnded) {
			hint = "have a fresh list issued by the ceremony that holds the Operations Root, and put it where operations.crl says; your certificate need not change"
		}
		return who, &Fault{Code: CodeForbidden, Text: "your certificate " + err.Error(), Hint: hint}
	}
	return who, nil
}
