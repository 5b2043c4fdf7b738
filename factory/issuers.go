package factory

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"time"

	"github.com/hanaper/hanaper/factory/record"
)

// IssuersAnswer is the answer to GET /v1/issuers: the issuing CAs of the configuration, in its order.
type IssuersAnswer struct {
	Issuers []IssuerAnswer `json:"issuers"`
}

// IssuerAnswer is one of them. ID names it in GET /v1/crl/ID; CRLNumber and NextUpdate are those of its latest list, 0 and absent while there is none.
type IssuerAnswer struct {
	ID         string     `json:"id"`
	Subject    string     `json:"subject"`
	NotAfter   time.Time  `json:"not_after"`
	CRLNumber  int64      `json:"crl_number"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
}

// PublicID names an issuing CA to others: the SHA-256 of its SubjectPublicKeyInfo in hex, as hanaper-repo names it.
func PublicID(c *x509.Certificate) string {
	digest := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(digest[:])
}

// Issuers lists the issuing CAs.
func (s *Service) Issuers(ctx context.Context) *IssuersAnswer {
	a := &IssuersAnswer{}
	for _, by := range s.issuers {
		one := IssuerAnswer{ID: PublicID(by.cert), Subject: by.cert.Subject.String(), NotAfter: by.cert.NotAfter.UTC()}
		if c := s.latest(ctx, by); c != nil {
			until := c.NextUpdate.UTC()
			one.CRLNumber, one.NextUpdate = c.Number, &until
		}
		a.Issuers = append(a.Issuers, one)
	}
	return a
}

// LatestCRL is the list that GET /v1/crl/ISSUER serves, of the first issuing CA where none is named (GET /v1/crl): the latest in the store, whoever
// signed it, or the last one seen while the store is away.
func (s *Service) LatestCRL(ctx context.Context, issuer string) (*record.CRL, error) {
	by := s.issuers[0]
	if issuer != "" {
		by = nil
		for _, l := range s.issuers {
			if PublicID(l.cert) == issuer {
				by = l
			}
		}
		if by == nil {
			return nil, fault(CodeNotFound, "GET /v1/issuers (`hanaperd crl --issuers`) lists them", "no issuing CA has the id %.80q", issuer)
		}
	}
	c := s.latest(ctx, by)
	if c == nil {
		return nil, away("the issuing token", errors.New("no CRL is signed yet"))
	}
	return c, nil
}

func (s *Service) latest(ctx context.Context, by *issuing) *record.CRL {
	c := by.crl.Load()
	if n, err := s.c.Store.LatestCRLNumber(ctx, by.id); err == nil && n > 0 && (c == nil || n > c.Number) {
		if last, err := s.c.Store.LatestCRL(ctx, by.id); err == nil {
			c = &last
			by.crl.Store(c)
		}
	}
	return c
}
