package factory

// Shared credentials: an attacker who takes one off a test bench can have certificates made for keys that he gets to know, as many as its lot has
// places left, for ids that nobody has, in an environment whose officers call it development. Nothing else: it is no device's certificate
// (docs/spec/shared-credentials.md).

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/strict"
)

// SharedUsage and BenchUsage are the extended key usages that mark a shared credential and a device that began with one. The first stands alone: with
// no clientAuth beside it no server takes the certificate for a client's, but a gateway that knows what it is. They lie in the arc that Microsoft gives out
// by GUID.
const (
	SharedUsage = "1.2.840.113556.1.8000.2554.52344.6121.26807.19576.32932.5102531.13969508.1"
	BenchUsage  = "1.2.840.113556.1.8000.2554.52344.6121.26807.19576.32932.5102531.13969508.2"
)

// The names, on record, of what such certificates hold. No profile of a file may have them, and no order can name them.
const (
	sharedProfile = "shared-credential"
	benchProfile  = "test-bench"
)

// The OU of such certificates, for whoever reads one.
const (
	sharedUnit = "SHARED CREDENTIAL - NOT FOR PRODUCTION"
	benchUnit  = "TEST BENCH - NOT FOR PRODUCTION"
)

// sharedWord begins Intent.Station of what came by a shared credential; no station's name holds a blank.
const sharedWord = "shared "

// sharedPrefix begins the id of a shared credential, and of no device that comes by one.
const sharedPrefix = "shared-"

// SharedDevicesPath is where a gateway hands on what a test bench asks for.
const SharedDevicesPath = "/v1/shared/devices"

// Shared lets test benches begin with a credential that they share.
type Shared struct {
	// Allowed asks the officers' policy, at every request, whether this CA may do so at this time, and until when.
	Allowed func(issuer *x509.Certificate, now time.Time) (until time.Time, err error)
	// ServerRoots are the Gateway Server Roots, which benches are told of.
	ServerRoots []*x509.Certificate
	// CredentialDays is how long a credential lasts at most, DeviceDays a device's certificate.
	CredentialDays, DeviceDays int
}

// SharedRequest asks for a shared credential whose devices are enrolled under a lot. Days is how long it lasts; 0 means as long as may be.
type SharedRequest struct {
	Lot  string `json:"lot"`
	Days int    `json:"days,omitempty"`
}

// SharedAnswer is a shared credential. PKCS12 holds its key, its certificate and the Gateway Server Roots, under an empty password.
type SharedAnswer struct {
	ID       string    `json:"id"`
	Serial   string    `json:"serial"`
	Lot      string    `json:"lot"`
	NotAfter time.Time `json:"not_after"`
	PKCS12   []byte    `json:"pkcs12,omitempty"`
}

// BenchRequest is what a test bench asks for. TTL is in days; 0 means as long as may be.
type BenchRequest struct {
	Device string
	TTL    int
}

// benchEnrolment is what an enrolment of this kind has otherwise than a station's.
type benchEnrolment struct {
	profile *Profile
	until   time.Time
	allowed func(issuer *x509.Certificate, now time.Time) (time.Time, error)
}

// lotFault refuses a lot that is not there, and leaves the lot's form of ids to devices: a shared credential has one of its own.
func (b *benchEnrolment) lotFault(l *heldLot, name string) error {
	if !l.there {
		return fault(CodeLotUnknown, "an operator opens it with a signed order: 'hanaperd lot open'", "there is no lot %q", name)
	}
	if b.profile.Name == sharedProfile {
		l.ids, l.HardwareIDs = nil, nil
	}
	return nil
}

// end asks the officers' policy about the CA that is to sign, and says when the certificate ends at the latest; nothing of both for a station's device.
func (b *benchEnrolment) end(issuer *x509.Certificate, now time.Time) (until time.Time, err error) {
	if b == nil {
		return until, nil
	}
	if until, err = b.allowed(issuer, now); err != nil {
		return until, err
	}
	if !b.until.IsZero() && b.until.Before(until) {
		until = b.until
	}
	return until.Truncate(time.Second), nil
}

var errNoShared = fault(CodeNotFound, "they are for test benches: set shared_credentials in the configuration of a hanaperd that is not for production", "this hanaperd knows no shared credentials")

// takeShared keeps the profiles of what Shared lets be issued.
func (s *Service) takeShared() error {
	if s.c.Shared == nil {
		return nil
	}
	if s.c.Attestation != nil {
		return errors.New("factory: shared_credentials and attestation.policy exclude each other: hanaperd makes the keys of test benches itself")
	}
	c := s.c.Shared
	if c.Allowed == nil || len(c.ServerRoots) == 0 || c.CredentialDays < 1 || c.DeviceDays < 1 {
		return errors.New("factory: what shared credentials need is not complete")
	}
	s.benches = map[string]*Profile{}
	for _, p := range []struct {
		name, unit string
		usages     []string
		days       int
		ids        *regexp.Regexp
	}{
		{sharedProfile, sharedUnit, []string{SharedUsage}, c.CredentialDays, regexp.MustCompile(`^` + sharedPrefix + `[0-9a-f]{16}$`)},
		{benchProfile, benchUnit, []string{"clientAuth", BenchUsage}, c.DeviceDays, s.profiles[DeviceProfile].IDs},
	} {
		base, err := ca.BuiltinConfig("device")
		if err != nil {
			return err
		}
		base.Name, base.ExtKeyUsage, base.AllowedAttributes = p.name, p.usages, append(base.AllowedAttributes, "OU")
		cert, err := ca.NewProfile(base)
		if err != nil {
			return err
		}
		s.benches[p.name] = &Profile{Name: p.name, Certificate: cert, Policy: csr.DevicePolicy(), IDs: p.ids, Days: p.days, MinimumDays: 1, unit: p.unit}
	}
	return nil
}

// IssueShared makes a shared credential, for an operator. Its key is made here and is nowhere but in the answer.
func (s *Service) IssueShared(ctx context.Context, operator string, q SharedRequest) (*SharedAnswer, error) {
	if s.c.Shared == nil {
		return nil, errNoShared
	}
	if q.Lot == "" {
		return nil, fault(CodeRequest, "name the lot whose quantity bounds what the credential can be used for", "the request names no lot")
	}
	if q.Days < 0 || q.Days > s.c.Shared.CredentialDays {
		return nil, fault(CodePolicy, "shared_credentials.credential_days in hanaperd's configuration is the most", "a shared credential lasts 1 to %d days", s.c.Shared.CredentialDays)
	}
	var tail [8]byte
	_, _ = rand.Read(tail[:])
	id := sharedPrefix + hex.EncodeToString(tail[:])
	rec, p12, err := s.makeBench(ctx, sharedWord+"by operator "+operator, s.benches[sharedProfile], id, q.Lot, q.Days)
	if err != nil {
		return nil, err
	}
	s.c.Log.Warn("a SHARED CREDENTIAL was issued: whoever has it can have devices certified", "id", id, "serial", rec.Serial, "lot", q.Lot, "not_after", stamp(rec.NotAfter), "operator", operator)
	return &SharedAnswer{ID: id, Serial: rec.Serial, Lot: q.Lot, NotAfter: rec.NotAfter, PKCS12: p12}, nil
}

// EnrollBench gives a test bench that came with a shared credential a key and a certificate of its own, in PKCS#12 under an empty password. gateway
// is the authenticated caller, der the credential whose key the bench has proven to it. The key is nowhere but in the answer.
func (s *Service) EnrollBench(ctx context.Context, gateway string, der []byte, q BenchRequest) (p12 []byte, err error) {
	if s.c.Shared == nil {
		return nil, errNoShared
	}
	defer func() { s.tally.bench(err) }()
	cert, rec, err := s.shown(ctx, der)
	if err != nil {
		return nil, err
	}
	if rec.Profile != sharedProfile {
		return nil, fault(CodeCertificate, "only a test bench's shared credential asks for further devices", "the certificate of %q is not a shared credential", rec.DeviceID)
	}
	now, bad := s.clock.check()
	if bad != nil {
		return nil, clockFault(bad)
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return nil, fault(CodeExpired, "an operator issues another ('hanaperd shared issue')", "the shared credential %q is not valid now", rec.DeviceID)
	}
	if _, err := s.allowed(s.renews(cert).cert, now); err != nil {
		return nil, err
	}
	if strings.HasPrefix(record.Fold(q.Device), sharedPrefix) {
		return nil, fault(CodePolicy, "choose another deviceId", "device ids that begin with %s are those of shared credentials", sharedPrefix)
	}
	known, err := s.c.Store.ByDevice(ctx, q.Device)
	switch {
	case err == nil:
		return nil, registered(known.DeviceID)
	case !errors.Is(err, record.ErrNotFound):
		return nil, away("the store", err)
	}
	a, p12, err := s.makeBench(ctx, sharedWord+rec.DeviceID+" through gateway "+gateway, s.benches[benchProfile], q.Device, rec.Lot, q.TTL)
	var f *Fault
	if errors.As(err, &f) && (f.Code == CodeOtherKey || f.Code == CodeRevoked) {
		return nil, registered(q.Device)
	}
	if err != nil {
		return nil, err
	}
	s.c.Log.Warn("a TEST BENCH was enrolled by a shared credential, with a key that hanaperd made", "device", a.DeviceID, "serial", a.Serial, "shared", rec.DeviceID, "lot", rec.Lot, "gateway", gateway)
	return p12, nil
}

// registered is the answer that clients of such servers know: they choose another id then.
func registered(id string) *Fault {
	return fault(CodeRegistered, "choose another deviceId, or go on with the key that it was given", "device id %q has a certificate", id)
}

// allowed asks the officers' policy.
func (s *Service) allowed(issuer *x509.Certificate, now time.Time) (time.Time, error) {
	until, err := s.c.Shared.Allowed(issuer, now)
	if err != nil {
		return until, &Fault{Code: CodePolicy, Text: "shared credentials are not allowed here: " + err.Error(), Hint: "the officers' policy allows them, in an environment of stage development (docs/spec/shared-credentials.md)"}
	}
	return until, nil
}

// benchUntil asks the officers' policy, for the profiles of shared credentials, whether this CA may sign now, and says when the certificate ends at the latest; the zero
// time for all others.
func (s *Service) benchUntil(profile string, issuer *x509.Certificate, now time.Time) (time.Time, error) {
	if s.benches[profile] == nil {
		return time.Time{}, nil
	}
	until, err := s.allowed(issuer, now)
	return until.Truncate(time.Second).UTC(), err
}

// mayRenewBench refuses the renewal of a test bench's certificate where the officers' policy does not allow shared credentials of its CA, or where nobody asks it.
func (s *Service) mayRenewBench(old *x509.Certificate) error {
	if s.c.Shared == nil {
		return fault(CodePolicy, "have it renewed by a hanaperd that has the section shared_credentials, or let it take another id", "a test bench's certificate is renewed only where the officers' policy is asked")
	}
	now, bad := s.clock.check()
	if bad != nil {
		return clockFault(bad)
	}
	_, err := s.allowed(s.renews(old).cert, now)
	return err
}

// sharedNote is what health says for as long as shared_credentials is in the configuration.
func (s *Service) sharedNote(now time.Time) string {
	until, err := s.c.Shared.Allowed(s.first(now).cert, now)
	if err != nil {
		return "shared credentials are configured, and refused: " + err.Error()
	}
	return "SHARED CREDENTIALS are in force until " + stamp(until) + ": not for production"
}

// makeBench makes a key, enrols it under the lot, and packs both.
func (s *Service) makeBench(ctx context.Context, who string, p *Profile, id, lot string, days int) (*EnrollAnswer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), s.c.Rand)
	if err != nil {
		return nil, nil, err
	}
	der, err := csr.Create(s.c.Rand, key, csr.Template{Subject: pkix.Name{CommonName: id}})
	if err != nil {
		return nil, nil, &Fault{Code: CodePolicy, Text: "deviceId: " + err.Error(), Hint: adviceOf(err)}
	}
	how := &benchEnrolment{profile: p, allowed: s.allowed}
	if days > 0 && days < p.Days {
		how.until = s.c.Now().AddDate(0, 0, days)
	}
	a, _, err := s.enrollAs(ctx, who, EnrollRequest{CSR: string(csr.PEM(der)), Lot: lot}, how)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := ParseCertificates([]byte(a.Certificate))
	if err != nil || len(leaf) != 1 {
		return nil, nil, fmt.Errorf("the certificate on record: %w", err)
	}
	// The roots alone: what stands in it beside the leaf is what the bench believes servers by.
	p12, err := pkcs12.Modern2023.WithRand(s.c.Rand).Encode(key, leaf[0], s.c.Shared.ServerRoots, "")
	return a, p12, err
}

// decodeBench reads {"deviceId", "ttl"}. Clients write the days as a number, or as a string of digits.
func decodeBench(body []byte) (q BenchRequest, err error) {
	var w struct {
		DeviceID string          `json:"deviceId"`
		TTL      json.RawMessage `json:"ttl"`
	}
	if err := strict.JSON("body", body, &w); err != nil {
		return q, fault(CodeRequest, `send {"deviceId": "...", "ttl": DAYS}`, "%v", err)
	}
	q.Device = w.DeviceID
	if q.Device == "" {
		return q, fault(CodeRequest, `send {"deviceId": "...", "ttl": DAYS}`, "the request names no deviceId")
	}
	if text := strings.Trim(string(w.TTL), `"`); text != "" && text != "null" {
		if q.TTL, err = strconv.Atoi(text); err != nil || q.TTL < 1 {
			return q, fault(CodeRequest, "ttl is a number of days", "ttl is none")
		}
	}
	return q, nil
}
