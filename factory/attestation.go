package factory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
)

// Attestation is how a Service asks for evidence of where devices' keys were born, and judges it.
type Attestation struct {
	Policy *attest.Policy
	// Challenger makes the nonces. Servers that share a record share its key.
	Challenger *attest.Challenger
}

// ChallengeRequest is the body of POST /v1/attestation/challenge. The octets of certificates and keys are base64 in JSON.
type ChallengeRequest struct {
	// DeviceID is the CN that the request will have, Lot the lot that it will name.
	DeviceID string `json:"device_id"`
	Lot      string `json:"lot,omitempty"`
	// Kind is that of the chip.
	Kind attest.Kind `json:"kind"`
	// EKChain, EKPublic and AKPublic are those of attest.TPMEvidence, for a TPM and no other kind.
	EKChain  [][]byte `json:"ek_chain,omitempty"`
	EKPublic []byte   `json:"ek_public,omitempty"`
	AKPublic []byte   `json:"ak_public,omitempty"`
}

// ChallengeAnswer is the answer to it.
type ChallengeAnswer struct {
	Nonce   []byte    `json:"nonce"`
	Expires time.Time `json:"expires"`
	// Credential is for the TPM to answer.
	Credential *attest.Credential `json:"credential,omitempty"`
	// Quote says what the TPM must quote; nil for nothing.
	Quote *QuoteRequest `json:"quote,omitempty"`
}

// QuoteRequest names registers of a TPM.
type QuoteRequest struct {
	Bank      string `json:"bank"`
	Registers []int  `json:"registers"`
}

var errNoAttestation = fault(CodePolicy, "leave the device's attestation out of the station's configuration, or set attestation.policy in hanaperd's", "hanaperd asks for no evidence of where keys were born")

// Challenge gives a station what a device's evidence must be made for. Nothing is kept of it.
func (s *Service) Challenge(_ context.Context, station string, q ChallengeRequest) (*ChallengeAnswer, error) {
	if s.c.Attestation == nil {
		return nil, errNoAttestation
	}
	if err := checkWord("lot", q.Lot); err != nil {
		return nil, fault(CodePolicy, "use letters, digits and . _ : - /, at most 64", "%v", err)
	}
	prof, err := s.profileOf(q.Lot)
	if err != nil {
		return nil, err
	}
	if f := prof.checkID(q.DeviceID); f != nil {
		return nil, f
	}
	// A challenge that a clock which jumped has dated would be taken when its time comes.
	now, bad := s.clock.check()
	if bad != nil {
		return nil, clockFault(bad)
	}
	p := s.c.Attestation.Policy
	rule := p.Rule(q.Lot)
	if rule.Level == attest.Ignored {
		return nil, errNoAttestation
	}
	if err := p.Takes(q.Kind, q.Lot); err != nil {
		return nil, evidenceFault(err)
	}
	c := s.c.Attestation.Challenger
	nonce, until, err := c.Issue(s.c.Rand, now, station, q.DeviceID)
	if err != nil {
		return nil, err
	}
	a := &ChallengeAnswer{Nonce: nonce, Expires: until.UTC().Truncate(time.Second)}
	if q.Kind != attest.TPM {
		return a, nil
	}
	if a.Credential, _, err = p.Manufacturers().MakeCredential(s.c.Rand, q.EKChain, q.EKPublic, q.AKPublic, c.Secrets(nonce), now); err != nil {
		return nil, evidenceFault(err)
	}
	if len(rule.States) > 0 {
		a.Quote = &QuoteRequest{rule.States[0].Bank, rule.States[0].Registers()}
	}
	return a, nil
}

// judge decides on the evidence of a request for a device whose id is locked. It gives what is to be kept of it, nil for nothing. Last of
// all the nonce is used up, in the record, so that whatever is refused before writes nothing.
func (s *Service) judge(ctx context.Context, station string, r *csr.Request, lot string) ([]byte, error) {
	a := s.c.Attestation
	if a == nil {
		return nil, nil
	}
	// A request for a certificate that is on record gets that one: its evidence was judged when it was recorded.
	rec, err := s.c.Store.ByDevice(ctx, r.CommonName())
	if err == nil && rec.SPKIDigest == r.SPKIDigest() {
		return nil, nil
	}
	if err != nil && !errors.Is(err, record.ErrNotFound) {
		return nil, away("the store", err)
	}
	now, bad := s.clock.check()
	if bad != nil {
		return nil, clockFault(bad)
	}
	kept := Evidence{Level: a.Policy.Rule(lot).Level, At: now.UTC().Truncate(time.Second), Station: station, Request: r.Raw()}
	switch {
	case r.Evidence() == nil && kept.Level == attest.Required:
		return nil, fault(CodeEvidence, "set device.attestation in the station's configuration", "evidence of where the device's key was born is required, and the request holds none")
	case r.Evidence() == nil:
		return nil, nil
	case kept.Level == attest.Ignored:
		return kept.encode()
	}
	e, err := attest.ParseEvidence(r.Evidence())
	if err != nil {
		return nil, evidenceFault(err)
	}
	if _, err := a.Challenger.Check(e.Nonce, now, station, r.CommonName()); err != nil {
		return nil, evidenceFault(err)
	}
	kept.Verdict, err = a.Policy.Verify(e, attest.Request{Key: r.PublicKey(), Subject: r.RawSubject(), SPKI: r.SPKI(), Lot: lot},
		attest.BySecret(a.Challenger.Secrets(e.Nonce)), now)
	if err != nil {
		return nil, evidenceFault(err)
	}
	if err := s.useNonce(ctx, e.Nonce, r); err != nil {
		return nil, err
	}
	s.c.Log.Info("evidence verified", "device", r.CommonName(), "kind", string(e.Kind), "manufacturer", kept.Verdict.Manufacturer, "chip", kept.Verdict.Certificate)
	return kept.encode()
}

// useNonce keeps that a nonce was used, by which request: the same request may be sent again, and no other, by whatever server that shares the
// record.
func (s *Service) useNonce(ctx context.Context, nonce []byte, r *csr.Request) error {
	sum, by := sha256.Sum256(nonce), sha256.Sum256(r.Raw())
	name := "nonce " + hex.EncodeToString(sum[:])
	first, err := s.c.Store.SwapMark(ctx, name, nil, by[:])
	s.wrote(ctx, err)
	if err != nil {
		return away("the store", err)
	}
	if first {
		return nil
	}
	was, err := s.c.Store.Mark(ctx, name)
	if err != nil {
		return away("the store", err)
	}
	if !slices.Equal(was, by[:]) {
		return fault(CodeEvidence, "ask for a new challenge and make the evidence for it", "the challenge was used before, by another request")
	}
	return nil
}

// evidenceFault is a refusal of package attest.
func evidenceFault(err error) *Fault {
	return &Fault{Code: CodeEvidence, Text: "evidence of where the key was born: " + show.Line(err.Error()), Hint: adviceOf(err)}
}
