package factory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
)

// ServiceConfig is what a Service is made of.
type ServiceConfig struct {
	Issuer *ca.Issuer
	// Chain is the issuing certificate and those between it and the Fleet Root, in that order: what a device needs besides its own.
	Chain []*x509.Certificate
	Store Store
	// IDs is what a whole device id must match; nil means DefaultConfig's.
	IDs          *regexp.Regexp
	Days         int
	Organization string
	CRLValidity  time.Duration
	CRLRefresh   time.Duration
	// PublishCRL is given each new list (DER); nil if nobody else wants it.
	PublishCRL func(der []byte) error
	// PublishedCRL reads back what PublishCRL was last given, in this process or an earlier one; nil, nil if there is nothing.
	PublishedCRL func() (*x509.RevocationList, error)
	Log          *slog.Logger
	Now          func() time.Time
	Rand         io.Reader
}

// Service enrols and revokes. It is safe for concurrent use.
type Service struct {
	c        ServiceConfig
	issuer   [32]byte
	profile  *ca.Profile
	policy   *csr.Policy
	chainPEM []byte
	devices  keyLocks
	crl      atomic.Pointer[CRL]
	// published is the number of the list that PublishCRL took last, under the CRL's lock.
	published int64
	crlDue    chan struct{}
	// tokenDown is true from a failed signature until the next good one, storeDown the same of writes.
	tokenDown, storeDown atomic.Bool
}

// NewService checks the parts against each other.
func NewService(c ServiceConfig) (*Service, error) {
	if c.Issuer == nil || c.Store == nil || len(c.Chain) == 0 {
		return nil, errors.New("factory: issuer, chain and store are needed")
	}
	if !c.Chain[0].Equal(c.Issuer.Certificate()) {
		return nil, errors.New("factory: the chain does not begin with the issuing certificate")
	}
	d := DefaultConfig()
	if c.IDs == nil {
		c.IDs = regexp.MustCompile(`^(?:` + d.Devices.IDPattern + `)$`)
	}
	if c.Days == 0 {
		c.Days = d.Devices.Days
	}
	if c.CRLValidity == 0 {
		c.CRLValidity, c.CRLRefresh = d.CRL.Validity, d.CRL.Refresh
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	profile, err := ca.Builtin("device")
	if err != nil {
		return nil, err
	}
	s := &Service{c: c, issuer: issuerID(c.Issuer.Certificate()), profile: profile, policy: csr.DevicePolicy(),
		crlDue: make(chan struct{}, 1)}
	for _, cert := range c.Chain {
		s.chainPEM = append(s.chainPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return s, nil
}

// issuerID names a CA by its subject and key.
func issuerID(c *x509.Certificate) [32]byte {
	return sha256.Sum256(slices.Concat(c.RawSubject, c.RawSubjectPublicKeyInfo))
}

// Enroll gives the device in the request its one certificate. station is the authenticated caller. The same key for the
// same device id gets the certificate on record again (isNew false); another key is refused.
func (s *Service) Enroll(ctx context.Context, station string, q EnrollRequest) (a *EnrollAnswer, isNew bool, err error) {
	r, err := csr.Parse([]byte(q.CSR), s.policy)
	if err != nil {
		return nil, false, &Fault{Code: CodePolicy, Text: "certification request: " + err.Error(),
			Hint: "a device asks with one CN, a key of its own, and no extension"}
	}
	id := r.CommonName()
	if !s.c.IDs.MatchString(id) {
		return nil, false, fault(CodePolicy, "see devices.id_pattern in hanaperd's configuration", "device id %.80q is not of the allowed form", id)
	}
	if err := errors.Join(checkWord("hardware_id", q.HardwareID), checkWord("lot", q.Lot)); err != nil {
		return nil, false, fault(CodePolicy, "use letters, digits and . _ : - /, at most 64", "%v", err)
	}
	unlock, err := s.devices.lock(ctx, id)
	if err != nil {
		return nil, false, away("hanaperd", err)
	}
	defer unlock()

	now := s.c.Now().UTC().Truncate(time.Second)
	in := Intent{DeviceID: id, HardwareID: q.HardwareID, Lot: q.Lot, Station: station, SPKI: r.SPKI(), SPKIDigest: r.SPKIDigest(),
		CSRDigest: sha256.Sum256(r.Raw()), Issuer: s.issuer, At: now}
	in.NotBefore, in.NotAfter = s.validity(now)
	prepared, err := s.prepare(&in)
	if err != nil {
		return nil, false, err
	}
	rec, isNew, err := s.c.Store.Begin(ctx, in)
	s.wrote(ctx, err)
	switch {
	case errors.Is(err, ErrKeyKnown):
		return nil, false, fault(CodeKeyKnown, "is the right board connected? this one is enrolled already; each device needs a key of its own", "this key belongs to another device id")
	case err != nil:
		return nil, false, away("the store", err)
	case isNew:
		return s.sign(ctx, rec, prepared, true)
	}
	if rec.SPKIDigest != in.SPKIDigest {
		return nil, false, fault(CodeOtherKey, "is the right board connected? an id is never given to a second key, also after a revocation: enrol a repaired device under a new id",
			"device id %q is enrolled with another key", id)
	}
	if !rec.RevokedAt.IsZero() {
		return nil, false, fault(CodeRevoked, "a revoked device does not come back by itself", "the certificate of device id %q is revoked", id)
	}
	if !rec.Open() {
		if rec.Issuer != s.issuer {
			return nil, false, otherIssuer(rec)
		}
		return s.answer(rec), false, nil
	}
	return s.resume(ctx, rec)
}

// resume brings an intent to its end that a crash or an outage left open: with the same serial and the same bytes, or,
// when those cannot be made any more (another issuing certificate), by closing it for a new one.
func (s *Service) resume(ctx context.Context, rec Record) (*EnrollAnswer, bool, error) {
	if rec.Issuer == s.issuer {
		again := rec.Intent
		prepared, err := s.prepare(&again)
		if err == nil && again.TBSDigest == rec.TBSDigest {
			return s.sign(ctx, rec, prepared, false)
		}
	}
	in := rec.Intent
	in.Serial, in.Issuer, in.At = nil, s.issuer, s.c.Now().UTC().Truncate(time.Second)
	in.NotBefore, in.NotAfter = s.validity(in.At)
	prepared, err := s.prepare(&in)
	if err != nil {
		return nil, false, err
	}
	old := rec.Serial
	rec, err = s.c.Store.Replace(ctx, rec.ID, in)
	if err != nil {
		return nil, false, away("the store", err)
	}
	if !rec.Open() {
		return s.answer(rec), false, nil
	}
	s.c.Log.Info("open intent closed for a new one", "device", rec.DeviceID, "abandoned_serial", fmt.Sprintf("%x", old))
	return s.sign(ctx, rec, prepared, false)
}

// prepare builds the certificate and holds it to the profile's rules; it fills in serial and TBS digest.
func (s *Service) prepare(in *Intent) (*ca.Prepared, error) {
	if in.NotAfter.Before(in.At) {
		return nil, fault(CodeInternal, "have a ceremony renew it, and put it in issuing.certificate", "the issuing certificate expired at %s",
			in.NotAfter.UTC().Format(time.RFC3339))
	}
	pub, err := x509.ParsePKIXPublicKey(in.SPKI)
	if err != nil {
		return nil, err
	}
	t := ca.Template{Subject: pkix.Name{CommonName: in.DeviceID}, PublicKey: pub, NotBefore: in.NotBefore, NotAfter: in.NotAfter}
	if s.c.Organization != "" {
		t.Subject.Organization = []string{s.c.Organization}
	}
	if in.Serial != nil {
		t.Serial = new(big.Int).SetBytes(in.Serial)
	}
	p, err := s.c.Issuer.Prepare(s.profile, t, s.c.Rand)
	if err != nil {
		var rule *ca.RuleError
		if errors.As(err, &rule) {
			return nil, &Fault{Code: CodePolicy, Text: err.Error(), Hint: "no certificate may break this rule", cause: nil}
		}
		return nil, err
	}
	in.Serial, in.TBSDigest = p.Serial().Bytes(), p.TBSDigest()
	return p, nil
}

// sign signs what was prepared for the open intent rec, records it, and answers with what is on record.
func (s *Service) sign(ctx context.Context, rec Record, p *ca.Prepared, isNew bool) (*EnrollAnswer, bool, error) {
	if p.TBSDigest() != rec.TBSDigest {
		return nil, false, errors.New("what would be signed is not what was recorded")
	}
	cert, err := p.Sign(ctx, s.c.Rand)
	if err != nil {
		s.unsigned(ctx)
		return nil, false, away("the issuing token", err)
	}
	s.tokenDown.Store(false)
	rec.IssuedAt = s.c.Now().UTC().Truncate(time.Second)
	// The intent is durable and the signature exists: a caller who hung up does not keep the result from the record.
	rec.Certificate, err = s.c.Store.Finish(context.WithoutCancel(ctx), rec.ID, cert.Raw, rec.IssuedAt)
	s.wrote(ctx, err)
	if err != nil {
		return nil, false, away("the store", err)
	}
	s.c.Log.Info("enrolled", "device", rec.DeviceID, "serial", fmt.Sprintf("%x", rec.Serial), "station", rec.Station,
		"hardware_id", rec.HardwareID, "lot", rec.Lot)
	return s.answer(rec), isNew, nil
}

// unsigned notes for Health that a signature failed, unless it did because its caller hung up.
func (s *Service) unsigned(ctx context.Context) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		s.tokenDown.Store(true)
	}
}

// wrote notes for Health whether the store takes writes: one whose disk is full still answers questions.
func (s *Service) wrote(ctx context.Context, err error) {
	if ctx.Err() == nil {
		s.storeDown.Store(err != nil && !errors.Is(err, ErrKeyKnown))
	}
}

func (s *Service) answer(r Record) *EnrollAnswer {
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})
	return &EnrollAnswer{DeviceID: r.DeviceID, Serial: fmt.Sprintf("%x", r.Serial), Certificate: string(leaf),
		Chain: string(leaf) + string(s.chainPEM), NotAfter: r.NotAfter.UTC()}
}

// validity is that of a certificate signed now: never outside its issuer's.
func (s *Service) validity(now time.Time) (from, to time.Time) {
	issuer := s.c.Issuer.Certificate()
	from, to = now.Add(-backdate), now.AddDate(0, 0, s.c.Days)
	if from.Before(issuer.NotBefore) {
		from = issuer.NotBefore
	}
	if to.After(issuer.NotAfter) {
		to = issuer.NotAfter
	}
	return from.UTC(), to.UTC()
}

// Recover brings every intent that was open when it began to its end. Those that it cannot finish now stay open, and a
// retry of their station finishes them; err is the last reason.
func (s *Service) Recover(ctx context.Context) (done, left int, err error) {
	began, last := s.c.Now(), int64(0)
	for {
		open, broken := s.c.Store.OpenIntents(ctx, last, 500)
		if broken != nil {
			return done, left, away("the store", broken)
		}
		if len(open) == 0 || open[0].At.After(began) {
			return done, left, err
		}
		for _, r := range open {
			last = r.ID
			if ctx.Err() != nil {
				return done, left, ctx.Err()
			}
			one := s.recoverOne(ctx, r)
			if one == nil {
				done++
				continue
			}
			left, err = left+1, one
			if asFault(one).Code == CodeUnavailable {
				return done, left, err
			}
			s.c.Log.Error("an open intent cannot be finished", "device", r.DeviceID, "error", one)
		}
	}
}

func (s *Service) recoverOne(ctx context.Context, r Record) error {
	unlock, err := s.devices.lock(ctx, r.DeviceID)
	if err != nil {
		return away("hanaperd", err)
	}
	defer unlock()
	now, err := s.c.Store.ByDevice(ctx, r.DeviceID)
	if err != nil {
		return away("the store", err)
	}
	if !now.Open() {
		return nil
	}
	_, _, err = s.resume(ctx, now)
	return err
}

// CACertificates is the issuing certificate and those above it but for the root, in PEM.
func (s *Service) CACertificates() []byte { return s.chainPEM }

// Device tells what is on record for a device id.
func (s *Service) Device(ctx context.Context, id string) (*DeviceAnswer, error) {
	if len(id) == 0 || len(id) > maxWord {
		return nil, fault(CodeRequest, "", "device id is empty or longer than %d bytes", maxWord)
	}
	r, err := s.c.Store.ByDevice(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return nil, fault(CodeNotFound, "", "no device has the id %q", id)
	}
	if err != nil {
		return nil, away("the store", err)
	}
	return describe(r), nil
}

func describe(r Record) *DeviceAnswer {
	a := &DeviceAnswer{DeviceID: r.DeviceID, Status: "issued", Serial: fmt.Sprintf("%x", r.Serial), HardwareID: r.HardwareID, Lot: r.Lot,
		Station: r.Station, KeyDigest: fmt.Sprintf("%x", r.SPKIDigest), NotBefore: r.NotBefore.UTC(), NotAfter: r.NotAfter.UTC()}
	switch {
	case r.Open():
		a.Status = "open"
		return a
	case !r.RevokedAt.IsZero():
		a.Status, a.Reason = "revoked", reasonName(r.Reason)
		at := r.RevokedAt.UTC()
		a.RevokedAt = &at
	}
	issued := r.IssuedAt.UTC()
	a.IssuedAt = &issued
	a.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}))
	return a
}

func checkWord(name, s string) error {
	if len(s) > maxWord {
		return fmt.Errorf("%s is longer than %d bytes", name, maxWord)
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '_', c == ':', c == '-', c == '/':
		default:
			return fmt.Errorf("%s holds the byte 0x%02x", name, c)
		}
	}
	return nil
}
