package factory

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/weakkey"
)

// ServiceConfig is what a Service is made of.
type ServiceConfig struct {
	// IssuerConfig is the issuing CA that certificates come from.
	IssuerConfig
	// Others take its place, in their order, while none of its tokens signs; their lists are kept fresh, and what they issued is answered.
	Others []IssuerConfig
	// Roots are the Fleet Roots that their chains end in; EST hands them out.
	Roots []*x509.Certificate
	Store record.Store
	// IDs is what a whole device id must match; nil means DefaultConfig's.
	IDs          *regexp.Regexp
	Days         int
	Organization string
	CRLValidity  time.Duration
	CRLRefresh   time.Duration
	// CRLInterval is how far lists that new revocations make necessary lie apart at least; 0 means DefaultConfig's, negative none.
	CRLInterval time.Duration
	// Attestation judges evidence of where keys were born; nil refuses requests that hold any.
	Attestation *Attestation
	// Lots says who may order lots, and what is asked of devices by lots and stations.
	Lots LotPolicy
	// TokenHealth is nil while a token can be used, as far as can be known without a signature; nil where nothing is known.
	TokenHealth func() error
	// Renewal lets devices renew through gateways; nil for no renewal.
	Renewal *Renewal
	// Shared lets test benches begin with a shared credential; nil for no such thing.
	Shared *Shared
	// Witnesses hold, elsewhere, how far the record had come.
	Witnesses []Witness
	// IssuanceLog follows the store; nil for none.
	IssuanceLog IssuanceLog
	Log         *slog.Logger
	Now         func() time.Time
	// Elapsed counts time, and cannot be set: jumps of Now are seen by it. nil counts from the machine's start.
	Elapsed func() time.Duration
	// ClockGap is how long the record may be older than the clock when the service starts; 0 means DefaultConfig's.
	ClockGap time.Duration
	// Expiries lists what ends beside the issuing certificates and their lists; nil for nothing.
	Expiries func() []Expiry
	// MinimumDays is how long a device's certificate lasts at least; 0 means a year, or Days where that is less.
	MinimumDays int
	// Profiles stand beside the built-in one, which Days, MinimumDays, IDs and Organization describe; DefaultProfile is the name of the one
	// for devices of lots that name none, empty for the built-in one.
	Profiles       []*Profile
	DefaultProfile string
	// WeakKeys are lists of RSA keys that get no certificate.
	WeakKeys weakkey.Blacklist
	// Version is hanaperd's, for metrics.
	Version string
	Rand    io.Reader
}

// Service enrols and revokes. It is safe for concurrent use, and several may share a store.
type Service struct {
	c       ServiceConfig
	issuers []*issuing
	// renewed are further CAs whose certificates are renewed; they sign nothing here.
	renewed []*issuing
	// profiles are by name.
	profiles map[string]*Profile
	// benches are those of shared credentials and of what they are used for, by name; no lot can name them.
	benches map[string]*Profile
	devices turns
	lots    lotCache
	meter   meter
	crlDue  chan struct{}
	clock   *clock
	vitals  vitals
	tally   tally
	logSeen logSeen
	pace    pace
	// clockStarted is set once the clock was held against the record; clockSaid is what the log said of it last.
	clockStarted atomic.Bool
	clockSaid    atomic.Pointer[string]
	// damage is what was found of the store when it was read as a whole; nil for nothing.
	damage atomic.Pointer[string]
	// tokenDown is true from a failed signature until the next good one, storeDown the same of writes.
	tokenDown, storeDown atomic.Bool
}

// NewService checks the parts against each other.
func NewService(c ServiceConfig) (*Service, error) {
	if c.Store == nil {
		return nil, errors.New("factory: a store is needed")
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
	if c.CRLInterval == 0 {
		c.CRLInterval = d.CRL.Interval
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Elapsed == nil {
		c.Elapsed = boottime
	}
	if c.ClockGap == 0 {
		c.ClockGap = d.Clock.Gap
	}
	if c.MinimumDays == 0 {
		c.MinimumDays = min(leastDays, c.Days)
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	s := &Service{c: c, crlDue: make(chan struct{}, 1), clock: newClock(c.Now, c.Elapsed, c.ClockGap), meter: meter{since: c.Elapsed}}
	if err := s.takeProfiles(); err != nil {
		return nil, err
	}
	if err := s.takeShared(); err != nil {
		return nil, err
	}
	s.c.Store = timedStore(c.Store, &s.tally.store)
	for _, one := range append([]IssuerConfig{c.IssuerConfig}, c.Others...) {
		l, err := newIssuing(one)
		if err != nil {
			return nil, err
		}
		if s.by(l.id) != nil {
			return nil, fmt.Errorf("factory: the issuing CA %q is configured twice; a copy of its key is a clone", l.cert.Subject)
		}
		s.issuers = append(s.issuers, l)
	}
	return s, s.takeRenewal()
}

// Recover brings every intent that was open when it began to its end. Those that it cannot finish now stay open, and a
// retry of their station finishes them; err is the last reason.
func (s *Service) Recover(ctx context.Context) (done, left int, err error) {
	return s.recoverUntil(ctx, s.c.Now())
}

// recoverUntil is Recover for the intents of before a moment.
func (s *Service) recoverUntil(ctx context.Context, until time.Time) (done, left int, err error) {
	last := int64(0)
	for {
		open, broken := s.c.Store.OpenIntents(ctx, last, 500)
		if broken != nil {
			return done, left, away("the store", broken)
		}
		if len(open) == 0 || open[0].At.After(until) {
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

func (s *Service) recoverOne(ctx context.Context, r record.Record) error {
	free, err := s.devices.wait(ctx, record.Fold(r.DeviceID))
	if err != nil {
		return err
	}
	defer free()
	now, err := s.c.Store.BySerial(ctx, r.Issuer, r.Serial)
	if err != nil {
		return away("the store", err)
	}
	if !now.Open() {
		return nil
	}
	_, err = s.resume(ctx, now)
	return err
}

// CACertificates is the issuing certificate and those above it but for the root, in PEM.
func (s *Service) CACertificates() []byte { return s.first(s.c.Now()).chainPEM }

// allCACertificates is the DER of every configured issuing CA, those above it, and the Fleet Roots, each once.
func (s *Service) allCACertificates() [][]byte {
	var all [][]byte
	add := func(certs []*x509.Certificate) {
		for _, c := range certs {
			if !slices.ContainsFunc(all, func(der []byte) bool { return bytes.Equal(der, c.Raw) }) {
				all = append(all, c.Raw)
			}
		}
	}
	for _, l := range s.issuers {
		add(l.Chain)
	}
	add(s.c.Roots)
	return all
}

// Evidence is what was kept of where a device's key was born: the JSON of an Evidence.
func (s *Service) Evidence(ctx context.Context, id string) ([]byte, error) {
	r, err := s.onRecord(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(r.Evidence) == 0 {
		return nil, fault(CodeNotFound, "it was enrolled without", "no evidence is on record for device id %q", r.DeviceID)
	}
	return r.Evidence, nil
}

// Device tells what is on record for a device id.
func (s *Service) Device(ctx context.Context, id string) (*DeviceAnswer, error) {
	r, err := s.onRecord(ctx, id)
	if err != nil {
		return nil, err
	}
	a := describe(r)
	if a.Scrapped, err = s.c.Store.Scrapped(ctx, id); err != nil {
		return nil, away("the store", err)
	}
	a.Permit, err = s.permitOf(ctx, id)
	return a, err
}

func (s *Service) onRecord(ctx context.Context, id string) (r record.Record, err error) {
	if err := checkID(id); err != nil {
		return r, err
	}
	r, err = s.c.Store.ByDevice(ctx, id)
	if errors.Is(err, record.ErrNotFound) {
		return r, fault(CodeNotFound, "", "no device has the id %q", id)
	}
	if err != nil {
		return r, away("the store", err)
	}
	return r, nil
}

func describe(r record.Record) *DeviceAnswer {
	a := &DeviceAnswer{DeviceID: r.DeviceID, Status: "issued", Serial: fmt.Sprintf("%x", r.Serial), HardwareID: r.HardwareID, Lot: r.Lot,
		Station: r.Station, Generation: r.Generation, KeyDigest: fmt.Sprintf("%x", r.SPKIDigest), NotBefore: r.NotBefore.UTC(), NotAfter: r.NotAfter.UTC()}
	if e, err := ParseEvidence("evidence", r.Evidence); err == nil && e.Verdict != nil {
		a.Attested = &AttestedAnswer{Kind: e.Verdict.Kind, Manufacturer: e.Verdict.Manufacturer, Chip: e.Verdict.Certificate, EvidenceDigest: fmt.Sprintf("%x", r.EvidenceDigest)}
	}
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

// checkID refuses an id that no device has, before the store is asked: not every database takes every text.
func checkID(id string) error {
	if len(id) == 0 || len(id) > maxWord {
		return fault(CodeRequest, "", "device id is empty or longer than %d bytes", maxWord)
	}
	return checkText("device id", id)
}

// checkText refuses what is no text: bytes that are no UTF-8, and control characters.
func checkText(name, s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fault(CodeRequest, "write it in plain characters, on one line", "%s holds bytes that are no text", name)
	}
	return nil
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
