package factory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory/record"
)

// IssuerConfig is one issuing CA.
type IssuerConfig struct {
	Issuer *ca.Issuer
	// Chain is the issuing certificate and those between it and the Fleet Root, in that order: what a device needs besides its own.
	Chain []*x509.Certificate
	// Clones have the same certificate, and copies of its key in other tokens.
	Clones []*ca.Issuer
	// PublishCRL is given each new list (DER); nil if nobody else wants it.
	PublishCRL func(der []byte) error
	// PublishedCRL reads back what PublishCRL was last given (DER), in this process or an earlier one; nil, nil if there is nothing.
	PublishedCRL func() ([]byte, error)
}

// issuing is an issuing CA at work: its certificate, and the tokens that hold its key.
type issuing struct {
	IssuerConfig
	id       [32]byte
	cert     *x509.Certificate
	chainPEM []byte
	keys     []*signingKey
	// crl is the latest list that this process has seen.
	crl atomic.Pointer[record.CRL]
	// signedAt is when this process signed one, in Unix nanoseconds.
	signedAt atomic.Int64
	// whole says that this process has made a list from all revocations of the store; from then on it reads those that are new.
	whole atomic.Bool
	// kept is the list that this process signed or read last, so that it is not read again.
	kept atomic.Pointer[x509.RevocationList]
	// published is the number of the list that PublishCRL took last.
	publishing sync.Mutex
	published  int64
}

// signingKey is the key in one token, with what became of its last signature.
type signingKey struct {
	*ca.Issuer
	failed atomic.Int64 // Unix nanoseconds of the process's clock; 0 while it works
	// trying is true while somebody finds out whether a key that failed works again: nobody else waits for it meanwhile.
	trying atomic.Bool
}

// errSilent is the answer to those who would wait behind the one who tries.
var errSilent = errors.New("it did not sign last, and somebody tries it already")

// silent says that none of its keys signed last, and that somebody tries each: who comes now would only wait.
func (l *issuing) silent() bool {
	return !slices.ContainsFunc(l.keys, func(k *signingKey) bool { return k.failed.Load() == 0 || !k.trying.Load() })
}

// asleep says that the key failed a moment ago: others are asked first.
func (k *signingKey) asleep() bool {
	at := k.failed.Load()
	return at != 0 && counted()-at < int64(retryAfter)
}

func (k *signingKey) note(err error) {
	if err == nil {
		k.failed.Store(0)
	} else {
		k.failed.Store(counted())
	}
}

func newIssuing(c IssuerConfig) (*issuing, error) {
	if c.Issuer == nil || len(c.Chain) == 0 {
		return nil, errors.New("factory: issuer and chain are needed")
	}
	l := &issuing{IssuerConfig: c}
	if !c.Chain[0].Equal(c.Issuer.Certificate()) {
		return nil, errors.New("factory: the chain does not begin with the issuing certificate")
	}
	l.describe()
	for _, i := range append([]*ca.Issuer{c.Issuer}, c.Clones...) {
		if !i.Certificate().Equal(l.cert) {
			return nil, errors.New("factory: a cloned key has another certificate")
		}
		l.keys = append(l.keys, &signingKey{Issuer: i})
	}
	return l, nil
}

// describe fills in what follows from the chain.
func (l *issuing) describe() {
	l.cert = l.Chain[0]
	l.id = issuerID(l.cert)
	for _, cert := range l.Chain {
		l.chainPEM = append(l.chainPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
}

// issuerID names a CA by its subject and key.
func issuerID(c *x509.Certificate) [32]byte {
	return sha256.Sum256(slices.Concat(c.RawSubject, c.RawSubjectPublicKeyInfo))
}

// parse reads a list. Whose it is, and what it says, is not checked.
func (l *issuing) parse(der []byte) (*x509.RevocationList, error) {
	if kept := l.kept.Load(); kept != nil && bytes.Equal(kept.Raw, der) {
		return kept, nil
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	l.keep(list)
	return list, nil
}

// keep remembers a list that will be asked for again, unless it takes too much memory.
func (l *issuing) keep(list *x509.RevocationList) {
	if len(list.RevokedCertificateEntries) > maxKept {
		list = nil
	}
	l.kept.Store(list)
}

// awake says that one of its keys signed last, or has had time to come back.
func (l *issuing) awake() bool {
	return slices.ContainsFunc(l.keys, func(k *signingKey) bool { return !k.asleep() })
}

// inOrder are the keys, those first that work.
func (l *issuing) inOrder() []*signingKey {
	return slices.SortedStableFunc(slices.Values(l.keys), func(a, b *signingKey) int {
		switch {
		case a.asleep() == b.asleep():
			return 0
		case b.asleep():
			return -1
		}
		return 1
	})
}

// each lets do sign with one key of by after another until it succeeds, or fails for a reason that is not the token's. Where there is
// another to go on with, a token that does not answer is not waited for longer than failover.
func (s *Service) each(ctx context.Context, by *issuing, do func(context.Context, *ca.Issuer) error) (err error) {
	keys := by.inOrder()
	for n, k := range keys {
		began := time.Now()
		err = func() error {
			trial := k.failed.Load() != 0
			if trial && !k.trying.CompareAndSwap(false, true) {
				return &tokenError{errSilent}
			}
			if trial {
				defer k.trying.Store(false)
			}
			if n+1 < len(keys) || len(s.issuers) > 1 {
				part, cancel := context.WithTimeout(ctx, failover)
				defer cancel()
				return do(part, k.Issuer)
			}
			return do(ctx, k.Issuer)
		}()
		if err == nil {
			s.tally.token.observe(time.Since(began))
			k.note(nil)
			return nil
		}
		var sign *tokenError
		if !errors.As(err, &sign) {
			return err
		}
		// A caller who hung up says nothing of the token.
		if !errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, errSilent) {
			k.note(err)
		}
	}
	return err
}

// tokenError is a signature that failed.
type tokenError struct{ error }

func (e *tokenError) Unwrap() error { return e.error }

// first is the issuing CA that new certificates come from: the first in the configuration that works and has not expired.
func (s *Service) first(now time.Time) *issuing {
	for _, l := range s.issuers {
		if l.awake() && now.Before(l.cert.NotAfter) {
			return l
		}
	}
	return s.issuers[0]
}

// knows finds a CA whose certificates are handed out: an issuing one, or one whose certificates are renewed; nil for no such.
func (s *Service) knows(id [32]byte) *issuing {
	if by := s.by(id); by != nil {
		return by
	}
	for _, by := range s.renewed {
		if by.id == id {
			return by
		}
	}
	return nil
}

// by finds a configured issuing CA; nil for one that is not.
func (s *Service) by(id [32]byte) *issuing {
	for _, l := range s.issuers {
		if l.id == id {
			return l
		}
	}
	return nil
}
