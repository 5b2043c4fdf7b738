package factory

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

const evidenceType = "hanaper-evidence/1"

// Evidence is what is kept of a device's evidence with its enrolment, as JSON (docs/spec/attestation.md). The request in it is signed by the
// device's key and holds the evidence; the rest is what hanaperd says.
type Evidence struct {
	Type string `json:"type"`
	// Level is what the policy asked for.
	Level attest.Level `json:"level"`
	// At is when it was judged, for whom Station asked.
	At      time.Time `json:"at"`
	Station string    `json:"station"`
	// Request is the certification request, DER.
	Request []byte `json:"request"`
	// Verdict is nil where the policy ignored the evidence.
	Verdict *attest.Verdict `json:"verdict,omitempty"`
}

func (e Evidence) encode() ([]byte, error) {
	e.Type = evidenceType
	return json.Marshal(e)
}

// ParseEvidence reads what is kept. It believes nothing of it.
func ParseEvidence(name string, data []byte) (*Evidence, error) {
	var e Evidence
	if err := strict.JSON(name, data, &e); err != nil {
		return nil, err
	}
	if e.Type != evidenceType {
		return nil, advice.New(advice.Usage, "a newer release wrote it, or it is another file", "%s: its type is %.40q, not %s", name, e.Type, evidenceType)
	}
	return &e, nil
}

// VerifyEvidence holds evidence that was kept to the device's certificate and to roots that the reader holds (policy), offline. The caller has
// verified the certificate's chain. What the reader must believe hanaperd is that the attestation key of a TPM was activated, and when:
// everything else is verified anew.
func VerifyEvidence(kept []byte, cert *x509.Certificate, policy *attest.Policy) (*attest.Verdict, error) {
	k, err := ParseEvidence("evidence", kept)
	if err != nil {
		return nil, err
	}
	bad := func(reason error, format string, args ...any) error {
		return advice.New(advice.Unverified, "take evidence and certificate of one device from the same record", "%w: "+format, append([]any{reason}, args...)...)
	}
	r, err := csr.Parse(k.Request, csr.KeptPolicy())
	if err != nil {
		return nil, err
	}
	switch {
	case k.Verdict == nil:
		return nil, bad(attest.ErrPolicy, "hanaperd did not look at this evidence (policy %.20q)", k.Level)
	case !bytes.Equal(cert.RawSubjectPublicKeyInfo, r.SPKI()):
		return nil, bad(attest.ErrOtherKey, "the certificate is for another key than the request in the evidence")
	case cert.Subject.CommonName != r.CommonName():
		return nil, bad(attest.ErrOtherKey, "the certificate is for device %.80q, the evidence for %.80q", cert.Subject.CommonName, r.CommonName())
	case k.At.Before(cert.NotBefore) || k.At.After(cert.NotAfter):
		return nil, bad(attest.ErrStale, "it says that it was judged at %s, and the certificate is valid from %s to %s", k.At.UTC().Format(time.RFC3339),
			cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
	}
	e, err := attest.ParseEvidence(r.Evidence())
	if err != nil {
		return nil, err
	}
	var seen attest.Activation
	if e.TPM != nil {
		keys, err := e.TPM.Binding()
		if err != nil {
			return nil, err
		}
		seen = attest.ByWitness("hanaperd, for station "+k.Station, keys)
	}
	v, err := policy.Verify(e, attest.Request{Key: r.PublicKey(), Subject: r.RawSubject(), SPKI: r.SPKI()}, seen, k.At)
	if err != nil {
		return nil, err
	}
	if v.Kind != k.Verdict.Kind || v.Certificate != k.Verdict.Certificate || v.Key != k.Verdict.Key {
		return nil, bad(attest.ErrMalformed, "hanaperd's verdict was about another chip or key")
	}
	return v, nil
}
