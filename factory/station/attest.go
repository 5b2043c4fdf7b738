package station

import (
	"context"
	"crypto"
	"crypto/x509/pkix"
	"encoding/hex"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// attestor is a token that says where its keys were born, as a TPM's does (package hsm/tpm).
type attestor interface {
	// Attestor gives the certificates of the endorsement key, DER, and the public areas of endorsement and attestation key.
	Attestor(ctx context.Context) (chain [][]byte, endorsementKey, attestationKey []byte, err error)
	// Activate answers a credential.
	Activate(ctx context.Context, blob, encrypted []byte) ([]byte, error)
	// Certify and Quote make statements for qualifying data.
	Certify(ctx context.Context, key hsm.Key, qualifying []byte) (public, statement, signature []byte, err error)
	Quote(ctx context.Context, bank string, registers []int, qualifying []byte) (statement, signature []byte, err error)
}

// evidence makes evidence of where the device's key was born, for a challenge of hanaperd's; nil if the configuration asks for none.
// What goes into it is judged by hanaperd alone: the station only carries it.
func (s *Station) evidence(ctx context.Context, keys keyStore, key crypto.Signer) ([]byte, error) {
	kind := attest.Kind(s.c.Device.Attestation)
	if kind == "" {
		return nil, nil
	}
	s.step("%s: evidence of its key", show.Text(s.c.Device.ID))
	store, ok := keys.(*tokenStore)
	if !ok {
		return nil, advice.New(advice.Usage, "leave device.attestation out", "a key in a file has no evidence of where it was born")
	}
	var e *attest.Evidence
	var err error
	if kind == attest.TPM {
		e, err = s.tpmEvidence(ctx, store.token, key)
	} else {
		e, err = s.certificates(ctx, kind, store.token)
	}
	if err != nil {
		return nil, err
	}
	return e.Marshal()
}

func (s *Station) challenge(ctx context.Context, q factory.ChallengeRequest) (*factory.ChallengeAnswer, error) {
	q.DeviceID, q.Lot = s.c.Device.ID, s.c.Device.Lot
	return s.client.Challenge(ctx, q)
}

func (s *Station) tpmEvidence(ctx context.Context, token hsm.Token, key crypto.Signer) (*attest.Evidence, error) {
	t, ok := token.(attestor)
	held, is := key.(hsm.Key)
	if !ok || !is {
		return nil, advice.New(advice.Usage, "device.attestation: tpm needs device.key_store: tpm", "%s makes no statements about its keys", token.Info().Name())
	}
	p := &attest.TPMEvidence{}
	var err error
	if p.EKChain, p.EKPublic, p.AKPublic, err = t.Attestor(ctx); err != nil {
		return nil, err
	}
	a, err := s.challenge(ctx, factory.ChallengeRequest{Kind: attest.TPM, EKChain: p.EKChain, EKPublic: p.EKPublic, AKPublic: p.AKPublic})
	if err != nil {
		return nil, err
	}
	if a.Credential == nil {
		return nil, advice.New(advice.Unverified, "nothing was written; is hanaperd of this release?", "the answer of hanaperd holds no credential for the TPM")
	}
	if p.Secret, err = t.Activate(ctx, a.Credential.Blob, a.Credential.Encrypted); err != nil {
		return nil, err
	}
	qualifying, err := s.qualifying(a.Nonce, key)
	if err != nil {
		return nil, err
	}
	if p.KeyPublic, p.Attest, p.Signature, err = t.Certify(ctx, held, qualifying); err != nil {
		return nil, err
	}
	if a.Quote != nil {
		if p.Quote, p.QuoteSignature, err = t.Quote(ctx, a.Quote.Bank, a.Quote.Registers, qualifying); err != nil {
			return nil, err
		}
	}
	return &attest.Evidence{Kind: attest.TPM, Nonce: a.Nonce, TPM: p}, nil
}

// qualifying is what the TPM's statements are made for: the subject and key of the request that s.request makes.
func (s *Station) qualifying(nonce []byte, key crypto.Signer) ([]byte, error) {
	subject, err := csr.MarshalName(pkix.Name{CommonName: s.c.Device.ID})
	if err != nil {
		return nil, err
	}
	spki, err := csr.MarshalKey(key.Public())
	if err != nil {
		return nil, err
	}
	return attest.QualifyingFor(nonce, subject, spki), nil
}

// certificates reads the certificates with which a token attests its keys: those in the token that the configuration names, then those of the
// chip's maker in a file.
func (s *Station) certificates(ctx context.Context, kind attest.Kind, token hsm.Token) (*attest.Evidence, error) {
	e := &attest.Evidence{Kind: kind}
	for _, id := range s.c.attestationIDs {
		cert, err := token.Certificate(ctx, id)
		if err != nil {
			return nil, advice.New(advice.Failed, "see device.attestation_certificates, and `hanaper token show`", "the attestation certificate with id %s in %s: %w",
				hex.EncodeToString(id), token.Info().Name(), err)
		}
		e.Certificates = append(e.Certificates, cert.Raw)
	}
	for _, c := range s.makers {
		e.Certificates = append(e.Certificates, c.Raw)
	}
	a, err := s.challenge(ctx, factory.ChallengeRequest{Kind: kind})
	if err != nil {
		return nil, err
	}
	e.Nonce = a.Nonce
	return e, nil
}
