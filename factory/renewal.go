package factory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/record"
)

// RenewRequest is what a gateway hands on for a device: the DER of the certificate whose key the device has proven to the gateway, and its
// request, PEM or DER.
type RenewRequest struct {
	Certificate, CSR []byte
}

// maxDeviceCertificate bounds the certificate that a gateway hands on, in bytes.
const maxDeviceCertificate = 16 << 10

// gatewayWord begins Intent.Station of what a gateway handed on; no station's name holds a blank.
const gatewayWord = "gateway "

// Renew gives a device the certificate of its next generation, for the same id. gateway is the authenticated caller. What it says
// is believed only as far as it must be: the certificate is held against the record, and a new key against a proof by the old one (docs/spec/renewal.md).
// The same request again gets the same certificate (isNew false).
func (s *Service) Renew(ctx context.Context, gateway string, q RenewRequest) (a *EnrollAnswer, isNew bool, err error) {
	defer func() { s.tally.renewal(ctx, isNew, err) }()
	if s.c.Renewal == nil {
		return nil, false, errNoRenewal
	}
	old, rec, err := s.shown(ctx, q.Certificate)
	if err != nil {
		return nil, false, err
	}
	if rec.Profile == sharedProfile {
		return nil, false, fault(CodeForbidden, "an operator issues another ('hanaperd shared issue')", "%q is a shared credential, which is not renewed", rec.DeviceID)
	}
	if rec.Profile == benchProfile {
		// Before anything else, also where the answer is on record.
		if err := s.mayRenewBench(old); err != nil {
			return nil, false, err
		}
	}
	free, err := s.devices.wait(ctx, record.Fold(rec.DeviceID))
	if err != nil {
		return nil, false, err
	}
	defer free()
	latest, err := s.c.Store.ByDevice(ctx, rec.DeviceID)
	if err != nil {
		return nil, false, away("the store", err)
	}
	if latest.ID == rec.ID && rec.Generation > 1 {
		// A device that comes with its latest certificate has it.
		if _, err := s.endEarlier(ctx, rec, gatewayWord+gateway); err != nil {
			return nil, false, err
		}
	}
	r, err := s.renewing(rec, old, q.CSR)
	if err != nil {
		return nil, false, err
	}
	switch {
	case latest.ID == rec.ID:
	case latest.Generation == rec.Generation+1 && latest.SPKIDigest == r.SPKIDigest() && strings.HasPrefix(latest.Station, gatewayWord):
		a, err := s.again(ctx, latest)
		return a, false, err
	default:
		return nil, false, fault(CodeNotLatest, "a device keeps its new key before it asks, and asks again with it; if the key is lost, an operator permits a new one (hanaperd device reissue)",
			"device id %q has a later certificate, for another key", rec.DeviceID)
	}
	now, bad := s.clock.check()
	if bad != nil {
		return nil, false, clockFault(bad)
	}
	if err := s.mayRenew(ctx, rec, r, now); err != nil {
		return nil, false, err
	}
	return s.renewAs(ctx, gatewayWord+gateway, rec, r, now)
}

var errNoRenewal = fault(CodeNotFound, "set renewal in the configuration of the hanaperd that renews", "this hanaperd renews no certificates")

// shown holds a certificate that a gateway hands on against the record: issued by a CA whose devices are renewed here, recorded octet for
// octet, not revoked.
func (s *Service) shown(ctx context.Context, der []byte) (*x509.Certificate, record.Record, error) {
	bad := func(format string, args ...any) (*x509.Certificate, record.Record, error) {
		return nil, record.Record{}, fault(CodeCertificate, "is the device one of this factory's, and does this hanaperd have the record of it? see renewal.issued_by", format, args...)
	}
	if len(der) > maxDeviceCertificate {
		return bad("the device's certificate is longer than %d bytes", maxDeviceCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || cert.SerialNumber.Sign() <= 0 || !bytes.Equal(cert.Raw, der) {
		return bad("the device's certificate cannot be read")
	}
	by := s.renews(cert)
	if by == nil {
		return bad("the device's certificate is not of a CA whose certificates are renewed here")
	}
	rec, err := s.c.Store.BySerial(ctx, by.id, cert.SerialNumber.Bytes())
	switch {
	case errors.Is(err, record.ErrNotFound):
		return bad("the device's certificate is not on record")
	case err != nil:
		return nil, rec, away("the store", err)
	case rec.State != record.StateIssued || !bytes.Equal(rec.Certificate, der):
		return bad("the device's certificate is not the one on record")
	case !rec.RevokedAt.IsZero():
		return nil, rec, fault(CodeRevoked, "an operator permits a new certificate for it (hanaperd device reissue)", "the certificate of device id %q is revoked", rec.DeviceID)
	}
	return cert, rec, nil
}

// renews finds the CA that signed a certificate, among those whose certificates are renewed here; nil for none.
func (s *Service) renews(cert *x509.Certificate) *issuing {
	for _, list := range [][]*issuing{s.issuers, s.renewed} {
		for _, by := range list {
			if bytes.Equal(cert.RawIssuer, by.cert.RawSubject) && cert.CheckSignatureFrom(by.cert) == nil {
				return by
			}
		}
	}
	return nil
}

// renewing parses a request that renews old, and holds its key to the policy.
func (s *Service) renewing(rec record.Record, old *x509.Certificate, data []byte) (*csr.Request, error) {
	profile, err := s.profileOn(&rec.Intent)
	if err != nil {
		return nil, err
	}
	policy, err := profile.Policy.ForRenewal(old)
	if err != nil {
		return nil, err
	}
	r, err := csr.Parse(data, policy)
	if err == nil {
		err = r.Renews(old)
	}
	if err != nil {
		return nil, &Fault{Code: CodePolicy, Text: "certification request: " + err.Error(), Hint: adviceOf(err)}
	}
	if err := s.checkKey(r.PublicKey()); err != nil {
		return nil, err
	}
	rule := s.c.Renewal.of(profile.Name)
	same := r.SPKIDigest() == rec.SPKIDigest
	switch {
	case same && rule.Key == RenewNewKey:
		return nil, fault(CodeRenewalKey, "make a new key, and let the old one vouch for it (docs/spec/renewal.md)", "device id %q is renewed with a new key only", rec.DeviceID)
	case same:
		return r, nil
	case rule.Key == RenewSameKey:
		return nil, fault(CodeRenewalKey, "ask with the key of the certificate; renewal.key in hanaperd's configuration says which key is taken", "device id %q is renewed with the same key only", rec.DeviceID)
	case s.c.Attestation != nil:
		return nil, fault(CodeRenewalKey, "renew with the same key, or have the device enrolled anew at a station", "no evidence can be shown through a gateway of where a new key was born")
	case rule.NewKey == NewKeyTrustGateway:
		return r, nil
	}
	if err := r.CheckRenewalProof(old); err != nil {
		return nil, &Fault{Code: CodeKeyProof, Text: err.Error(), Hint: adviceOf(err)}
	}
	return r, nil
}

// mayRenew holds a renewal of the latest certificate to the policy's times and counts.
func (s *Service) mayRenew(ctx context.Context, rec record.Record, r *csr.Request, now time.Time) error {
	profile, err := s.profileOn(&rec.Intent)
	if err != nil {
		return err
	}
	rule := s.c.Renewal.of(profile.Name)
	if end := rec.NotAfter.AddDate(0, 0, rule.GraceDays); now.After(end) {
		return fault(CodeExpired, "have the device enrolled anew at a station", "the certificate of device id %q expired at %s", rec.DeviceID, stamp(rec.NotAfter))
	}
	if from := rec.NotAfter.AddDate(0, 0, -rule.FromDays); now.Before(from) {
		return fault(CodeEarly, "ask then; renewal.from_days in hanaperd's configuration says when", "device id %q may be renewed from %s on", rec.DeviceID, stamp(from))
	}
	all, err := s.c.Store.Generations(ctx, rec.DeviceID, maxGenerations)
	if err != nil {
		return away("the store", err)
	}
	count := 0
	for _, g := range all {
		if g.SPKIDigest == r.SPKIDigest() && g.SPKIDigest != rec.SPKIDigest {
			return fault(CodeRenewalKey, "make a new key", "device id %q had this key before", rec.DeviceID)
		}
		if g.Generation > 1 && now.Sub(g.At) < year {
			count++
		}
	}
	if next := rec.At.Add(rule.Interval); rec.Generation > 1 && now.Before(next) {
		return fault(CodeEarly, "ask then; renewal.interval in hanaperd's configuration lies between two", "device id %q may be renewed again from %s on", rec.DeviceID, stamp(next))
	}
	if count >= rule.PerYear {
		return fault(CodeOften, "find out why it asks so often; renewal.per_year in hanaperd's configuration is the most", "device id %q got %d certificates within a year", rec.DeviceID, count)
	}
	if f := s.damageFault(); f != nil {
		return f
	}
	by := s.first(now)
	if f := s.ending(by, profile, now); f != nil {
		return f
	}
	leave, err := s.benchUntil(rec.Profile, by.cert, now)
	if err != nil {
		return err
	}
	if !leave.IsZero() && !leave.After(rec.NotAfter) {
		return fault(CodePolicy, "the officers' policy says until when test benches may be had by shared credentials", "a new certificate for device id %q would end no later than the one it has", rec.DeviceID)
	}
	if _, until := profile.validity(by.cert, now); until.Equal(by.cert.NotAfter) && !until.After(rec.NotAfter) {
		return fault(CodeEnding, "have the ceremony issue the CA a new certificate, or name another CA in issuing.others", "a new certificate for device id %q would end no later than the one it has", rec.DeviceID)
	}
	if from, _ := profile.validity(by.cert, now); r.SPKIDigest() != rec.SPKIDigest && !from.After(rec.NotBefore) {
		// Gateways take another key only with a certificate that begins later.
		return fault(CodeEarly, "ask again in a few minutes", "a certificate for a new key of device id %q would begin no later than the one it has", rec.DeviceID)
	}
	if by.silent() {
		return away("the issuing token", errSilent)
	}
	return nil
}

// renewAs records the intent of the next generation, and brings it to its end.
func (s *Service) renewAs(ctx context.Context, who string, rec record.Record, r *csr.Request, now time.Time) (*EnrollAnswer, bool, error) {
	// What was said of the device stays: words, profile, and, of the same key, where it was born.
	in := rec.Intent
	in.Generation, in.Station, in.SPKI, in.SPKIDigest, in.CSRDigest, in.At = rec.Generation+1, who, r.SPKI(), r.SPKIDigest(), sha256.Sum256(r.Raw()), now
	in.Serial = nil
	if in.SPKIDigest != rec.SPKIDigest {
		in.Evidence, in.EvidenceDigest = nil, nil
	}
	by := s.first(now)
	until, err := s.benchUntil(in.Profile, by.cert, now)
	if err != nil {
		return nil, false, err
	}
	prepared, err := s.prepareUntil(by, &in, until)
	if err != nil {
		return nil, false, err
	}
	next, isNew, err := s.c.Store.Begin(ctx, in)
	s.wrote(ctx, err)
	switch {
	case errors.Is(err, record.ErrKeyKnown):
		return nil, false, fault(CodeKeyKnown, "each device needs a key of its own", "this key belongs to another device id")
	case errors.Is(err, record.ErrHeld):
		return nil, false, s.heldFault(ctx)
	case errors.Is(err, record.ErrScrapped):
		return nil, false, scrapped(rec.DeviceID)
	case err != nil:
		return nil, false, away("the store", err)
	case isNew:
		a, err := s.finish(ctx, next, prepared)
		return a, err == nil, err
	case next.Generation == in.Generation && next.SPKIDigest == in.SPKIDigest:
		a, err := s.again(ctx, next) // another server was faster
		return a, false, err
	}
	if next.ID == rec.ID {
		// The record's own look, under the device's lock: it was revoked, or an operator permitted another key.
		return nil, false, fault(CodeRevoked, "an operator permits a new certificate for it (hanaperd device reissue)", "the certificate of device id %q was revoked meanwhile", rec.DeviceID)
	}
	return nil, false, fault(CodeNotLatest, "ask again", "device id %q got a later certificate meanwhile", rec.DeviceID)
}

// actor is who has a certificate recorded, as events name him.
func actor(rec record.Record) string {
	if strings.HasPrefix(rec.Station, gatewayWord) {
		return rec.Station
	}
	if strings.HasPrefix(rec.Station, sharedWord) {
		return rec.Station
	}
	return "station " + rec.Station
}

// enrolledOrRenewed is what the log says of a new certificate.
func enrolledOrRenewed(rec record.Record) string {
	if strings.HasPrefix(rec.Station, gatewayWord) {
		return "renewed"
	}
	return "enrolled"
}

// before is the issued certificate that a renewal took the place of; found is false where the certificate is no renewal's.
func (s *Service) before(ctx context.Context, rec record.Record) (old record.Record, found bool, err error) {
	if !strings.HasPrefix(rec.Station, gatewayWord) {
		return old, false, nil
	}
	all, err := s.c.Store.Generations(ctx, rec.DeviceID, maxGenerations)
	if err != nil {
		return old, false, away("the store", err)
	}
	for _, g := range all {
		if g.Generation < rec.Generation && g.State == record.StateIssued {
			return g, true, nil
		}
	}
	return old, false, nil
}

// withdrawn says that a renewal must not be handed out: the certificate that it renews was revoked while it was signed. Whoever revokes a device
// looks for later certificates after he has revoked (Service.Revoke); who renews looks for a revocation after he has recorded: one of
// both sees the other.
func (s *Service) withdrawn(ctx context.Context, rec record.Record) error {
	old, found, err := s.before(ctx, rec)
	if err != nil || !found || old.RevokedAt.IsZero() {
		return err
	}
	if err := s.end(ctx, rec, old.Reason, "hanaperd"); err != nil {
		return err
	}
	return fault(CodeRevoked, "a revoked device does not come back by itself", "the certificate of device id %q was revoked meanwhile", rec.DeviceID)
}

// withdrawLater does what a crash kept withdrawn from doing.
func (s *Service) withdrawLater(ctx context.Context, rec record.Record) error {
	old, found, err := s.before(ctx, rec)
	if err != nil || !found || old.RevokedAt.IsZero() || old.Reason == record.ReasonSuperseded || old.RevokedAt.After(rec.IssuedAt) || !s.live(rec) {
		return err
	}
	return s.end(ctx, rec, old.Reason, "hanaperd")
}

// end revokes a certificate on record, whose list follows by itself.
func (s *Service) end(ctx context.Context, rec record.Record, reason int, who string) error {
	_, changed, err := s.c.Store.Revoke(ctx, record.Revocation{Issuer: rec.Issuer, Serial: rec.Serial, Reason: reason, At: s.clock.best(), Who: who})
	s.wrote(ctx, err)
	if err != nil {
		return away("the store", err)
	}
	if changed {
		s.c.Log.Info("revoked", "device", rec.DeviceID, "serial", fmt.Sprintf("%x", rec.Serial), "reason", reasonName(reason), "who", who)
		s.wakeCRL()
	}
	return nil
}
