package factory

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory/record"
)

// Enroll gives the device in the request its one certificate. station is the authenticated caller. The same key for the
// same device id gets the certificate on record again (isNew false); another key is refused.
func (s *Service) Enroll(ctx context.Context, station string, q EnrollRequest) (a *EnrollAnswer, isNew bool, err error) {
	return s.enrollAs(ctx, station, q, nil)
}

// enrollAs is Enroll, or what a shared credential is made and used by.
func (s *Service) enrollAs(ctx context.Context, station string, q EnrollRequest, how *benchEnrolment) (a *EnrollAnswer, isNew bool, err error) {
	asked := Refusal{At: s.c.Now(), Caller: "station " + station, Lot: q.Lot}
	defer func(began time.Time) { err = s.tally.enrolment(ctx, asked, isNew, err, time.Since(began)) }(time.Now())
	for try := 0; ; try++ {
		a, isNew, err = s.enroll(ctx, station, q, &asked, how)
		if !errors.Is(err, record.ErrLotChanged) {
			return a, isNew, err
		}
		// The lot was opened, changed or closed since it was read.
		s.lots.forget(q.Lot)
		if try == 3 {
			return nil, false, away("the store", err)
		}
	}
}

// enroll is Enroll with the lot as it was read last; asked is told the device.
func (s *Service) enroll(ctx context.Context, station string, q EnrollRequest, asked *Refusal, how *benchEnrolment) (a *EnrollAnswer, isNew bool, err error) {
	if err := errors.Join(checkWord("hardware_id", q.HardwareID), checkWord("lot", q.Lot)); err != nil {
		return nil, false, fault(CodePolicy, "use letters, digits and . _ : - /, at most 64", "%v", err)
	}
	lot, err := s.lotOf(ctx, q.Lot, false)
	if err != nil {
		return nil, false, err
	}
	prof, err := s.profile(lot.Profile)
	if how != nil {
		prof, err = how.profile, how.lotFault(&lot, q.Lot)
	}
	if err != nil {
		return nil, false, err
	}
	r, beyond, err := prof.read(q.CSR)
	if r != nil {
		asked.Device = r.CommonName()
	}
	if err == nil {
		err = s.checkKey(r.PublicKey())
	}
	if err != nil {
		return nil, false, err
	}
	id := r.CommonName()
	if err := s.compareStation(ctx, station, q.Last); err != nil {
		return nil, false, err
	}
	free, err := s.devices.wait(ctx, record.Fold(id))
	if err != nil {
		return nil, false, err
	}
	defer free()
	evidence, err := s.judge(ctx, station, r, q.Lot)
	if err != nil {
		return nil, false, err
	}

	now, bad := s.clock.check()
	if bad != nil {
		return s.known(ctx, id, r.SPKIDigest(), clockFault(bad))
	}
	if f := s.damageFault(); f != nil {
		return s.known(ctx, id, r.SPKIDigest(), f)
	}
	by := s.first(now)
	if f := s.ending(by, prof, now); f != nil {
		return s.known(ctx, id, r.SPKIDigest(), f)
	}
	if by.silent() {
		// The line's next boards do not queue up behind one that waits for a token which hangs.
		return s.known(ctx, id, r.SPKIDigest(), away("the issuing token", errSilent))
	}
	if lot, err = s.admit(ctx, lot, asks{q.Lot, station, id, q.HardwareID}, r.SPKIDigest(), now); err != nil {
		var f *Fault
		if errors.As(err, &f) {
			return s.known(ctx, id, r.SPKIDigest(), f)
		}
		return nil, false, err
	}
	rate := s.rateOf(station)
	if f := s.refuseRate(station, rate); f != nil {
		return s.known(ctx, id, r.SPKIDigest(), f)
	}
	defer func() {
		if !isNew {
			s.meter.giveBack(station, rate)
		}
	}()
	in := record.Intent{DeviceID: id, Generation: 1, LotRevision: lot.Revision, Profile: prof.Name, HardwareID: q.HardwareID, Lot: q.Lot, Station: station, SPKI: r.SPKI(), SPKIDigest: r.SPKIDigest(),
		CSRDigest: sha256.Sum256(r.Raw()), At: now}
	in.Asked = beyond
	if evidence != nil {
		sum := sha256.Sum256(evidence)
		in.Evidence, in.EvidenceDigest = evidence, sum[:]
	}
	until, err := how.end(by.cert, now)
	if err != nil {
		return nil, false, err
	}
	prepared, err := s.prepareUntil(by, &in, until)
	if err != nil {
		return nil, false, err
	}
	rec, isNew, err := s.c.Store.Begin(ctx, in)
	if err == nil && !isNew && (rec.SPKIDigest != in.SPKIDigest || !rec.RevokedAt.IsZero()) {
		next, permitted, bad := s.further(ctx, rec, in)
		if bad != nil {
			return nil, false, bad
		}
		if permitted {
			rec, isNew, err = s.c.Store.Begin(ctx, next)
		}
	}
	s.wrote(ctx, err)
	switch {
	case errors.Is(err, record.ErrLotChanged):
		return nil, false, err
	case errors.Is(err, record.ErrLotClosed), errors.Is(err, record.ErrLotID):
		return nil, false, s.lotAnswer(err, id, q.Lot)
	case errors.Is(err, record.ErrScrapped):
		return nil, false, scrapped(id)
	case errors.Is(err, record.ErrReserved):
		s.noteOtherKey(ctx, rec, &in)
		return nil, false, reserved(id)
	case errors.Is(err, record.ErrKeyKnown):
		return nil, false, fault(CodeKeyKnown, "is the right board connected? this one is enrolled already; each device needs a key of its own", "this key belongs to another device id")
	case errors.Is(err, record.ErrQuota):
		return nil, false, fault(CodeLotFull, "an operator opens another lot, or a larger one", "lot %q has as many devices as it may have", q.Lot)
	case errors.Is(err, record.ErrHeld):
		return nil, false, s.heldFault(ctx)
	case err != nil:
		return nil, false, away("the store", err)
	case isNew:
		a, err = s.finish(ctx, rec, prepared)
		return a, err == nil, err
	}
	if rec.SPKIDigest != in.SPKIDigest {
		s.noteOtherKey(ctx, rec, &in)
		return nil, false, fault(CodeOtherKey, "is the right board connected? an id is given to a second key only where an operator permits it: 'hanaperd device reissue' after a repair, 'hanaperd device swap' after boards were scanned wrongly",
			"device id %q is enrolled with another key", id)
	}
	if a, err = s.again(ctx, rec); err != nil {
		return nil, false, err
	}
	if a.Differs = differs(rec, &in); a.Differs != "" {
		s.c.Log.Warn("a device that is on record was asked for with other words; the record stays", "device", id, "station", station, "differs", a.Differs)
	}
	return a, false, nil
}

// differs says what a request for a device that is on record says otherwise than the record.
func differs(rec record.Record, in *record.Intent) string {
	var says []string
	for _, w := range []struct{ name, have, said string }{{"hardware_id", rec.HardwareID, in.HardwareID}, {"lot", rec.Lot, in.Lot}} {
		if w.have != w.said {
			says = append(says, fmt.Sprintf("%s is %q on record, and the request says %q", w.name, w.have, w.said))
		}
	}
	return strings.Join(says, "; ")
}

// known answers for a device whose certificate is on record, where no new one may be made; others get why.
func (s *Service) known(ctx context.Context, id string, key [32]byte, why *Fault) (*EnrollAnswer, bool, error) {
	rec, err := s.c.Store.ByDevice(ctx, id)
	switch {
	case err != nil && !errors.Is(err, record.ErrNotFound) && why.Code != CodeDamaged:
		return nil, false, away("the store", err)
	case err == nil && rec.SPKIDigest == key && rec.Open() && why.Code == CodeUnavailable:
		return nil, false, pending("the issuing token", why)
	case err != nil || rec.SPKIDigest != key || rec.Open():
		return nil, false, why
	}
	a, err := s.again(ctx, rec)
	return a, false, err
}

// ending refuses a certificate that would be shorter than the shortest that a device gets, or not valid at all.
func (s *Service) ending(by *issuing, p *Profile, now time.Time) *Fault {
	_, until := p.validity(by.cert, now)
	if days := int(until.Sub(now) / (24 * time.Hour)); days < p.MinimumDays {
		return fault(CodeEnding, "have the ceremony issue the CA a new certificate, or name another CA in issuing.others; devices.minimum_days is the least",
			"no new device is enrolled: the issuing certificate %q ends at %s, and a device's must last %d days", by.cert.Subject.CommonName, stamp(by.cert.NotAfter), p.MinimumDays)
	}
	return nil
}

// again answers for a device that is on record with the key that asks.
func (s *Service) again(ctx context.Context, rec record.Record) (*EnrollAnswer, error) {
	if !rec.RevokedAt.IsZero() {
		return nil, fault(CodeRevoked, "a revoked device does not come back by itself", "the certificate of device id %q is revoked", rec.DeviceID)
	}
	if rec.Open() {
		return s.resume(ctx, rec)
	}
	a, err := s.answer(rec)
	if err != nil {
		return nil, err
	}
	// What has lain on a disk is looked at again before it is handed out.
	if by := s.knows(rec.Issuer); !intact(rec, by.cert) {
		s.c.Log.Error("the certificate on record is damaged; restore the store from a backup", "device", rec.DeviceID, "serial", a.Serial)
		return nil, fault(CodeInternal, "have the store checked, and restored from a backup", "the certificate of device id %q is damaged in the factory's record", rec.DeviceID)
	}
	return a, nil
}

// intact says that the certificate on record is the one whose bytes were recorded before it was signed, and that its signature is good.
func intact(rec record.Record, issuer *x509.Certificate) bool {
	cert, err := x509.ParseCertificate(rec.Certificate)
	return err == nil && sha256.Sum256(cert.RawTBSCertificate) == rec.TBSDigest && cert.CheckSignatureFrom(issuer) == nil
}

// noteOtherKey keeps that somebody asked for a device's id with another key: a slip at the line, or somebody who tries.
func (s *Service) noteOtherKey(ctx context.Context, rec record.Record, in *record.Intent) {
	_, err := s.c.Store.Append(ctx, record.Event{Kind: record.OtherKey, At: in.At, Who: "station " + in.Station, DeviceID: in.DeviceID, CertificateID: rec.ID,
		Note: fmt.Sprintf("key %x", in.SPKIDigest)})
	if err != nil && ctx.Err() == nil {
		s.c.Log.Error("a refused request is not on record", "device", in.DeviceID, "error", err)
	}
}

// finish signs what was prepared for the open intent rec. Where no token of its issuing CA signs, another CA takes its place.
func (s *Service) finish(ctx context.Context, rec record.Record, p *ca.Prepared) (*EnrollAnswer, error) {
	a, err := s.sign(ctx, rec, p)
	var failed *tokenError
	if !errors.As(err, &failed) {
		return a, err
	}
	if next := s.first(s.c.Now()); next.id != rec.Issuer && next.awake() {
		return s.replace(ctx, rec, next)
	}
	return nil, err
}

// resume brings an intent to its end that a crash or an outage left open: with the same serial and the same bytes, or,
// when those cannot be made any more (another issuing certificate), by closing it for a new one.
func (s *Service) resume(ctx context.Context, rec record.Record) (*EnrollAnswer, error) {
	by := s.by(rec.Issuer)
	if by != nil && (by.awake() || s.first(s.c.Now()) == by) {
		again := rec.Intent
		prepared, err := s.prepare(by.Issuer, &again)
		if err == nil && again.TBSDigest == rec.TBSDigest {
			return s.finish(ctx, rec, prepared)
		}
	}
	return s.replace(ctx, rec, s.first(s.c.Now()))
}

// replace closes an open intent for one of this issuing CA, and brings that to its end.
func (s *Service) replace(ctx context.Context, rec record.Record, by *issuing) (*EnrollAnswer, error) {
	now, bad := s.clock.check()
	if bad != nil {
		return nil, clockFault(bad)
	}
	in := rec.Intent
	prof, err := s.profileOn(&in)
	if err != nil {
		return nil, err
	}
	if f := s.ending(by, prof, now); f != nil {
		return nil, f
	}
	in.Serial, in.At = nil, now
	until, err := s.benchUntil(in.Profile, by.cert, now)
	if err != nil {
		return nil, err
	}
	if !until.IsZero() && rec.NotAfter.Before(until) {
		until = rec.NotAfter // a bench may have asked for less
	}
	prepared, err := s.prepareUntil(by, &in, until)
	if err != nil {
		return nil, err
	}
	old := rec
	rec, err = s.c.Store.Replace(ctx, old.ID, old.TBSDigest, in)
	if err != nil {
		return nil, away("the store", err)
	}
	if !rec.Open() {
		return s.answer(rec)
	}
	if rec.TBSDigest != in.TBSDigest {
		return nil, away("the store", errors.New("another server is at work on the same device"))
	}
	s.c.Log.Info("open intent closed for a new one", "device", rec.DeviceID, "abandoned_serial", fmt.Sprintf("%x", old.Serial))
	return s.sign(ctx, rec, prepared)
}

// prepareUntil is prepare for a certificate that this issuing CA would sign now, and that ends at until at the latest; the zero time does not bound it.
func (s *Service) prepareUntil(by *issuing, in *record.Intent, until time.Time) (*ca.Prepared, error) {
	prof, err := s.profileOn(in)
	if err != nil {
		return nil, err
	}
	in.Issuer = by.id
	in.NotBefore, in.NotAfter = prof.validity(by.cert, in.At)
	if !until.IsZero() && until.Before(in.NotAfter) {
		in.NotAfter = until.UTC()
	}
	return s.prepare(by.Issuer, in)
}

// prepare builds the certificate and holds it to the profile's rules; it fills in serial and TBS digest.
func (s *Service) prepare(by *ca.Issuer, in *record.Intent) (*ca.Prepared, error) {
	if in.NotAfter.Before(in.At) {
		return nil, fault(CodeInternal, "have a ceremony renew it, and put it in issuing.certificate", "the issuing certificate expired at %s",
			in.NotAfter.UTC().Format(time.RFC3339))
	}
	pub, err := x509.ParsePKIXPublicKey(in.SPKI)
	if err != nil {
		return nil, err
	}
	t := ca.Template{Subject: pkix.Name{CommonName: in.DeviceID}, PublicKey: pub, NotBefore: in.NotBefore, NotAfter: in.NotAfter, Generation: max(in.Generation, 1)}
	prof, err := s.profileOn(in)
	if err != nil {
		return nil, err
	}
	if err := prof.fill(&t, in); err != nil {
		return nil, err
	}
	if in.Serial != nil {
		t.Serial = new(big.Int).SetBytes(in.Serial)
	}
	p, err := by.Prepare(prof.Certificate, t, s.c.Rand)
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
func (s *Service) sign(ctx context.Context, rec record.Record, p *ca.Prepared) (*EnrollAnswer, error) {
	if p.TBSDigest() != rec.TBSDigest {
		return nil, errors.New("what would be signed is not what was recorded")
	}
	by := s.by(rec.Issuer)
	if by == nil {
		return nil, otherIssuer(rec)
	}
	var cert []byte
	err := s.each(ctx, by, func(ctx context.Context, i *ca.Issuer) (err error) {
		if i != by.Issuer || p == nil {
			// The same bytes, for a copy of the key: what was prepared can be signed once.
			again := rec.Intent
			if p, err = s.prepare(i, &again); err != nil {
				return err
			}
			if again.TBSDigest != rec.TBSDigest {
				return errors.New("what would be signed is not what was recorded")
			}
		}
		one := p
		p = nil
		if cert, err = one.SignDER(ctx, s.c.Rand); err != nil {
			return &tokenError{err}
		}
		return nil
	})
	s.signed(ctx, err)
	if err != nil {
		return nil, pending("the issuing token", err)
	}
	// The intent is durable and the signature exists: a caller who hung up does not keep the result from the record.
	done, err := s.c.Store.Finish(context.WithoutCancel(ctx), record.Result{ID: rec.ID, TBSDigest: rec.TBSDigest, Generation: rec.Generation,
		Certificate: cert, At: s.clock.best(), Who: actor(rec)})
	s.wrote(ctx, err)
	if errors.Is(err, record.ErrAbandoned) {
		return nil, away("the store", errors.New("another server took this device's intent over"))
	}
	if err != nil {
		return nil, away("the store", err)
	}
	rec.State, rec.Certificate, rec.IssuedAt, rec.Sequence = record.StateIssued, done.Certificate, done.At, done.Sequence
	if err := s.withdrawn(ctx, rec); err != nil {
		return nil, err
	}
	s.c.Log.Info(enrolledOrRenewed(rec), "device", rec.DeviceID, "serial", fmt.Sprintf("%x", rec.Serial), "station", rec.Station,
		"hardware_id", rec.HardwareID, "lot", rec.Lot, "sequence", rec.Sequence)
	if asked, err := parseAsked(rec.Asked); err == nil && len(asked.Ignored) > 0 {
		s.c.Log.Info("asked for, and left out by the profile", "device", rec.DeviceID, "profile", rec.Profile, "ignored", askWords(asked.Ignored))
	}
	return s.answer(rec)
}

// signed notes for Health whether a token signs, unless it did not because its caller hung up.
func (s *Service) signed(ctx context.Context, err error) {
	var failed *tokenError
	switch {
	case err == nil:
		s.tokenDown.Store(false)
	case !errors.Is(ctx.Err(), context.Canceled) && errors.As(err, &failed):
		s.tokenDown.Store(true)
	}
}

// answersOfStore say nothing against the store.
var answersOfStore = []error{record.ErrKeyKnown, record.ErrQuota, record.ErrHeld, record.ErrAbandoned, record.ErrNotFound, record.ErrLotKnown, record.ErrLotClosed, record.ErrLotChanged, record.ErrLotID,
	record.ErrOrderOld, record.ErrScrapped, record.ErrOpen, record.ErrReserved, record.ErrChanged}

// wrote notes for Health whether the store takes writes: one whose disk is full still answers questions.
func (s *Service) wrote(ctx context.Context, err error) {
	if errors.Is(err, record.ErrDamaged) {
		s.damaged(err)
	}
	if ctx.Err() == nil {
		s.storeDown.Store(err != nil && !slices.ContainsFunc(answersOfStore,
			func(answer error) bool { return errors.Is(err, answer) }))
	}
}

// answer hands out what is on record, with the chain of the CA that issued it.
func (s *Service) answer(r record.Record) (*EnrollAnswer, error) {
	by := s.knows(r.Issuer)
	if by == nil {
		return nil, otherIssuer(r)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})
	return &EnrollAnswer{DeviceID: r.DeviceID, Serial: fmt.Sprintf("%x", r.Serial), Certificate: string(leaf),
		Chain: string(leaf) + string(by.chainPEM), NotAfter: r.NotAfter.UTC()}, nil
}

// validity is that of a certificate signed now: never outside its issuer's.
func (p *Profile) validity(issuer *x509.Certificate, now time.Time) (from, to time.Time) {
	from, to = now.Add(-backdate), now.AddDate(0, 0, p.Days)
	if from.Before(issuer.NotBefore) {
		from = issuer.NotBefore
	}
	if to.After(issuer.NotAfter) {
		to = issuer.NotAfter
	}
	return from.UTC(), to.UTC()
}
