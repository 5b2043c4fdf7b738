package factory_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
)

// attesting makes a service ask for evidence.
func attesting(t testing.TB, c attest.PolicyConfig) func(*factory.ServiceConfig) {
	t.Helper()
	policy, err := attest.NewPolicy(c)
	if err != nil {
		t.Fatal(err)
	}
	challenger, err := attest.NewChallenger(bytes.Repeat([]byte{7}, 32), 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *factory.ServiceConfig) {
		s.Attestation = &factory.Attestation{Policy: policy, Challenger: challenger}
	}
}

func required(m *attest.Manufacturers) attest.PolicyConfig {
	return attest.PolicyConfig{Manufacturers: m, Default: attest.Rule{Level: attest.Required}}
}

// chipKey signs with a key of a software TPM.
type chipKey struct{ *attesttest.Object }

func (k chipKey) Public() crypto.PublicKey { return k.Key }

func (k chipKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	raw, err := k.SignDigest(digest)
	if err != nil {
		return nil, err
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](raw)
	if err != nil {
		return nil, err
	}
	e, err := sig.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)})
}

// board is a device with a TPM.
type board struct {
	*attesttest.Chip
	ak  *attesttest.Object
	key chipKey
}

func newBoard(t testing.TB, maker *attesttest.Maker, seed string) *board {
	t.Helper()
	c := maker.NewChip(t)
	return &board{c, c.New(t, attesttest.AKTemplate(), "ak"+seed), chipKey{c.New(t, attesttest.KeyTemplate(), "key"+seed)}}
}

func (b *board) ask(t testing.TB, c *factory.Client, id string) (*factory.ChallengeAnswer, error) {
	t.Helper()
	return c.Challenge(t.Context(), factory.ChallengeRequest{DeviceID: id, Lot: "lot-1", Kind: attest.TPM, EKChain: b.EKChain, EKPublic: b.EKPublic, AKPublic: b.ak.Public})
}

// qualify is the qualifying data for a key and a nonce.
func qualify(t testing.TB, key crypto.Signer, id string, nonce []byte) []byte {
	t.Helper()
	subject, err := csr.MarshalName(pkix.Name{CommonName: id})
	if err != nil {
		t.Fatal(err)
	}
	spki, err := csr.MarshalKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return attest.QualifyingFor(nonce, subject, spki)
}

// prove answers a challenge with the board's own keys.
func (b *board) prove(t testing.TB, a *factory.ChallengeAnswer, id string) *attest.Evidence {
	t.Helper()
	secret, err := b.Activate(b.ak, a.Credential.Blob, a.Credential.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	e := &attest.Evidence{Kind: attest.TPM, Nonce: a.Nonce, TPM: &attest.TPMEvidence{EKChain: b.EKChain, EKPublic: b.EKPublic, AKPublic: b.ak.Public, KeyPublic: b.key.Object.Public, Secret: secret}}
	q := qualify(t, b.key, id, a.Nonce)
	e.TPM.Attest, e.TPM.Signature = b.ak.Certify(t, b.key.Object, q)
	if a.Quote != nil {
		state, err := attest.NewPCRState("", a.Quote.Bank, registers(a.Quote.Registers))
		if err != nil {
			t.Fatal(err)
		}
		e.TPM.Quote, e.TPM.QuoteSignature = b.ak.Quote(t, state.Selection(), q)
	}
	return e
}

func registers(ns []int) map[int][]byte {
	m := map[int][]byte{}
	for _, n := range ns {
		m[n] = make([]byte, 32)
	}
	return m
}

// enrollWith sends evidence in a request signed by key.
func enrollWith(t testing.TB, key crypto.Signer, id string, e *attest.Evidence) factory.EnrollRequest {
	t.Helper()
	der, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return factory.EnrollRequest{CSR: request(t, key, csr.Template{Subject: pkix.Name{CommonName: id}, Evidence: der}), HardwareID: "board-1", Lot: "lot-1"}
}

// TestAttestedDevice: a device with a TPM of a pinned manufacturer is enrolled, its evidence is kept, and somebody else can verify it later with roots of his own.
func TestAttestedDevice(t *testing.T) {
	maker, other := attesttest.NewMaker(t, "Acme"), attesttest.NewMaker(t, "Other")
	p := newPlant(t)
	r := serve(t, p, attesting(t, required(attesttest.Pin(t, attest.TPM, maker))))
	line := r.client(p.station(t, "line-1"))
	b := newBoard(t, maker, "")
	a, err := b.ask(t, line, "dev-1")
	if err != nil {
		t.Fatal(err)
	}
	if a.Quote != nil || time.Until(a.Expires) > 6*time.Minute {
		t.Errorf("challenge %+v", a)
	}
	q := enrollWith(t, b.key, "dev-1", b.prove(t, a, "dev-1"))
	got, isNew, err := line.Enroll(t.Context(), q)
	if err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	// The answer was lost: the same again gets the same, also when the challenge has ended.
	r.now.add(time.Hour)
	again, isNew, err := line.Enroll(t.Context(), q)
	if err != nil || isNew || again.Certificate != got.Certificate {
		t.Errorf("again: %v, %v", isNew, err)
	}
	d, err := line.Device(t.Context(), "dev-1")
	if err != nil || d.Attested == nil || d.Attested.Kind != attest.TPM || d.Attested.Manufacturer != "Acme" {
		t.Errorf("on record: %+v, %v", d, err)
	}
	kept, err := line.Evidence(t.Context(), "dev-1")
	if err != nil {
		t.Fatal(err)
	}
	leaf := parsePEM(t, got.Certificate)
	auditor := policyOf(t, required(attesttest.Pin(t, attest.TPM, maker)))
	v, err := factory.VerifyEvidence(kept, leaf, auditor)
	if err != nil || v.Manufacturer != "Acme" || v.Fact("activation") != "seen by hanaperd, for station line-1" {
		t.Fatalf("offline: %+v, %v", v, err)
	}
	refuseOffline(t, kept, leaf, auditor, policyOf(t, required(attesttest.Pin(t, attest.TPM, other))))
}

func policyOf(t testing.TB, c attest.PolicyConfig) *attest.Policy {
	t.Helper()
	p, err := attest.NewPolicy(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refuseOffline: what an auditor does not take.
func refuseOffline(t *testing.T, kept []byte, leaf *x509.Certificate, auditor, stranger *attest.Policy) {
	t.Helper()
	if _, err := factory.VerifyEvidence(kept, leaf, stranger); !errors.Is(err, attest.ErrManufacturer) {
		t.Errorf("another auditor's root: %v", err)
	}
	wrong := *leaf
	wrong.RawSubjectPublicKeyInfo = append([]byte(nil), leaf.RawSubjectPublicKeyInfo...)
	wrong.RawSubjectPublicKeyInfo[40] ^= 1
	if _, err := factory.VerifyEvidence(kept, &wrong, auditor); !errors.Is(err, attest.ErrOtherKey) {
		t.Errorf("a certificate for another key: %v", err)
	}
	wrong = *leaf
	wrong.Subject.CommonName = "dev-2"
	if _, err := factory.VerifyEvidence(kept, &wrong, auditor); !errors.Is(err, attest.ErrOtherKey) {
		t.Errorf("a certificate for another device: %v", err)
	}
	for name, change := range map[string]func(k map[string]any){
		"another time":         func(k map[string]any) { k["at"] = "2090-01-01T00:00:00Z" },
		"another station":      func(k map[string]any) { k["station"] = "line-2" },
		"another manufacturer": func(k map[string]any) { k["verdict"].(map[string]any)["manufacturer"] = "Other" },
		"another chip":         func(k map[string]any) { k["verdict"].(map[string]any)["certificate"] = strings.Repeat("0", 64) },
		"no verdict":           func(k map[string]any) { delete(k, "verdict") },
		"another type":         func(k map[string]any) { k["type"] = "hanaper-evidence/2" },
		"another key in it":    func(k map[string]any) { k["more"] = 1 },
		"another request":      func(k map[string]any) { k["request"] = "MAA=" },
	} {
		var k map[string]any
		if err := json.Unmarshal(kept, &k); err != nil {
			t.Fatal(err)
		}
		change(k)
		data, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		v, err := factory.VerifyEvidence(data, leaf, auditor)
		if name == "another station" { // says who vouches, and nothing hangs on it
			if err != nil || v.Fact("activation") != "seen by hanaperd, for station line-2" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if name == "another manufacturer" { // the auditor's own names count
			if err != nil || v.Manufacturer != "Acme" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: accepted: %+v", name, v)
		}
	}
}

func parsePEM(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	certs, err := factory.ParseCertificates([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// TestAttestationRefusals: what gets no certificate, each with its reason, and nothing is written.
func TestAttestationRefusals(t *testing.T) {
	maker, other := attesttest.NewMaker(t, "Acme"), attesttest.NewMaker(t, "Other")
	p := newPlant(t)
	zero, err := attest.NewPCRState("release 1", "sha256", map[int][]byte{16: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	policy := required(attesttest.Pin(t, attest.TPM, maker))
	policy.Default.States = []attest.PCRState{zero}
	r := serve(t, p, attesting(t, policy))
	line, line2 := r.client(p.station(t, "line-1")), r.client(p.station(t, "line-2"))
	b := newBoard(t, maker, "")
	b2, foreign := newBoard(t, maker, "2"), newBoard(t, other, "3")
	soft := newKey(t)
	challenge := func(id string) *factory.ChallengeAnswer {
		t.Helper()
		a, err := b.ask(t, line, id)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	good := challenge("dev-1")
	if good.Quote == nil || good.Quote.Bank != "sha256" || len(good.Quote.Registers) != 1 {
		t.Fatalf("the challenge asks for no quote: %+v", good)
	}
	before := r.rows()

	// The challenge itself is refused to chips that nobody vouches for, and to attestation keys that sign anything.
	if _, err := foreign.ask(t, line, "dev-1"); !says(err, "pinned manufacturer") {
		t.Errorf("a challenge for another manufacturer's chip: %v", err)
	}
	loose := attesttest.AKTemplate()
	loose.ObjectAttributes.Restricted = false
	b2.ak.Unload(t)
	b2.ak = b2.New(t, loose, "loose")
	if _, err := b2.ask(t, line, "dev-1"); !says(err, "not restricted") {
		t.Errorf("a challenge for a loose key: %v", err)
	}
	cut := *b
	c := *b.Chip
	c.EKChain = c.EKChain[:1]
	cut.Chip = &c
	if _, err := cut.ask(t, line, "dev-1"); !says(err, "cut short") {
		t.Errorf("a challenge for a chain cut short: %v", err)
	}

	evidence := func(id string, change func(e *attest.Evidence)) *attest.Evidence {
		t.Helper()
		e := b.prove(t, challenge(id), id)
		if change != nil {
			change(e)
		}
		return e
	}
	for _, c := range []struct {
		name string
		who  *factory.Client
		q    factory.EnrollRequest
		says string
	}{
		{"no evidence", line, deviceRequest(t, b.key, "dev-1"), "required"},
		{"a key in software with the board's evidence", line, enrollWith(t, soft, "dev-1", evidence("dev-1", nil)), "not the key of the request"},
		{"another manufacturer", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) { e.TPM.EKChain, e.TPM.EKPublic = foreign.EKChain, foreign.EKPublic })), "pinned manufacturer"},
		{"chain cut short", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) { e.TPM.EKChain = e.TPM.EKChain[:1] })), "cut short"},
		{"a loose attestation key", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) { e.TPM.AKPublic = b2.ak.Public })), "not restricted"},
		{"the secret of another credential", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) { e.TPM.Secret = bytes.Repeat([]byte{1}, 32) })), "answer to the credential is wrong"},
		{"another device's nonce", line, enrollWith(t, b.key, "dev-2", b.prove(t, good, "dev-2")), "for another device"},
		{"another station's nonce", line2, enrollWith(t, b.key, "dev-1", b.prove(t, good, "dev-1")), "to another station"},
		{"a nonce that was made up", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) { e.Nonce = make([]byte, 41) })), "made up"},
		{"evidence older than its nonce", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) {
			old := b.prove(t, good, "dev-1")
			e.TPM.Attest, e.TPM.Signature = old.TPM.Attest, old.TPM.Signature
		})), "not made for this challenge"},
		{"no quote", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) { e.TPM.Quote, e.TPM.QuoteSignature = nil, nil })), "there is none"},
		{"evidence for another name", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) {
			e.TPM.Attest, e.TPM.Signature = b.ak.Certify(t, b.key.Object, qualify(t, b.key, "dev-9", e.Nonce))
		})), "not made for this challenge"},
		{"a statement that is none of ours", line, enrollWith(t, b.key, "dev-1", evidence("dev-1", func(e *attest.Evidence) {
			e.Other = []attest.Statement{{Type: []byte{6, 1, 42}, Value: []byte{5, 0}}}
		})), "not one of kind tpm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := c.who.Enroll(t.Context(), c.q)
			var f *factory.Fault
			if !says(err, c.says) || !errors.As(err, &f) || f.Code != factory.CodeEvidence {
				t.Errorf("%v; want one that says %q", err, c.says)
			}
		})
	}
	// Two attributes with evidence, and evidence that is too large, do not come through the request's own checks.
	e := evidence("dev-1", nil)
	der, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = line.Enroll(t.Context(), factory.EnrollRequest{CSR: twoAttributes(t, der)})
	if !says(err, "stands twice") {
		t.Errorf("two attributes: %v", err)
	}
	e.Certificates = append(e.TPM.EKChain, make([]byte, 0))
	huge := append([]byte{0x30, 0x82, 0x3a, 0x98}, make([]byte, 15000)...)
	if _, _, err = line.Enroll(t.Context(), factory.EnrollRequest{CSR: request(t, soft, csr.Template{Subject: pkix.Name{CommonName: "dev-1"}, Evidence: huge})}); !says(err, "too large") {
		t.Errorf("huge evidence: %v", err)
	}
	// An old challenge.
	old := evidence("dev-1", nil)
	r.now.add(6 * time.Minute)
	if _, _, err := line.Enroll(t.Context(), enrollWith(t, b.key, "dev-1", old)); !says(err, "challenge has expired") {
		t.Errorf("an old challenge: %v", err)
	}
	// The machine changes.
	fresh := challenge("dev-1")
	if _, err := (tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}}}).Execute(b.TPM); err != nil {
		t.Fatal(err)
	}
	if _, _, err := line.Enroll(t.Context(), enrollWith(t, b.key, "dev-1", b.prove(t, fresh, "dev-1"))); !says(err, "other values than the policy allows") {
		t.Errorf("changed registers: %v", err)
	}
	if r.rows() != before {
		t.Errorf("refusals wrote: %s, before %s", r.rows(), before)
	}
}

func says(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// twoAttributes is a request with the same evidence twice.
func twoAttributes(t testing.TB, bundle []byte) string {
	t.Helper()
	key := newKey(t).(*ecdsa.PrivateKey)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	attribute, err := asn1.Marshal(struct {
		ID     asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}, []asn1.RawValue{{FullBytes: bundle}}})
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := asn1.Marshal(struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, asn1.RawValue{FullBytes: parsed.RawSubject}, asn1.RawValue{FullBytes: parsed.RawSubjectPublicKeyInfo},
		asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: append(append([]byte(nil), attribute...), attribute...)}})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := csr.SignMessage(t.Context(), rand.Reader, key, x509.ECDSAWithSHA256, tbs)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = csr.Assemble(tbs, x509.ECDSAWithSHA256, sig); err != nil {
		t.Fatal(err)
	}
	return string(csr.PEM(der))
}

// TestReplayedNonce: a challenge is good for one request, at any of several servers that share a record, also after a restart.
func TestReplayedNonce(t *testing.T) {
	maker := attesttest.NewMaker(t, "Acme")
	p := newPlant(t)
	ask := attesting(t, required(attesttest.Pin(t, attest.TPM, maker)))
	r := serve(t, p, ask)
	// A second server, on the same record.
	second := serve(t, p, ask, func(c *factory.ServiceConfig) { c.Store = r.store })
	station := p.station(t, "line-1")
	line, line2 := r.client(station), second.client(station)
	b := newBoard(t, maker, "")
	a, err := b.ask(t, line, "dev-1")
	if err != nil {
		t.Fatal(err)
	}
	// The request goes to the other server than the challenge came from.
	if _, isNew, err := line2.Enroll(t.Context(), enrollWith(t, b.key, "dev-1", b.prove(t, a, "dev-1"))); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	before := r.rows()
	// A second key of the same board, with the same nonce.
	b.key.Unload(t)
	b.key = chipKey{b.New(t, attesttest.KeyTemplate(), "another")}
	for name, c := range map[string]*factory.Client{"the server that gave it": line, "the server that took it": line2} {
		if _, _, err := c.Enroll(t.Context(), enrollWith(t, b.key, "dev-1", b.prove(t, a, "dev-1"))); !says(err, "was used before") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.rows() != before {
		t.Errorf("a replay wrote: %s, before %s", r.rows(), before)
	}
}

// TestEvidencePolicies: accepted and ignored, by lot; without attestation a request with evidence is refused, as it was.
func TestEvidencePolicies(t *testing.T) {
	maker := attesttest.NewMaker(t, "Acme")
	pinned := attesttest.Pin(t, attest.TPM, maker)
	p := newPlant(t)
	b := newBoard(t, maker, "")
	station := p.station(t, "line-1")
	t.Run("none", func(t *testing.T) {
		r := serve(t, p)
		before := r.rows()
		line := r.client(station)
		if _, err := b.ask(t, line, "dev-1"); !says(err, "asks for no evidence") {
			t.Errorf("a challenge: %v", err)
		}
		e := &attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: [][]byte{{0x30, 0}}}
		if _, _, err := line.Enroll(t.Context(), enrollWith(t, newKey(t), "dev-1", e)); !says(err, "attestation evidence") {
			t.Errorf("evidence: %v", err)
		}
		if r.rows() != before {
			t.Error("a refusal wrote")
		}
	})
	t.Run("accepted", func(t *testing.T) {
		r := serve(t, p, attesting(t, attest.PolicyConfig{Manufacturers: pinned, Default: attest.Rule{Level: attest.Accepted},
			Lots: map[string]attest.Rule{"strict": {Level: attest.Required}}}))
		line := r.client(station)
		if _, isNew, err := line.Enroll(t.Context(), deviceRequest(t, newKey(t), "dev-1")); err != nil || !isNew {
			t.Errorf("without evidence: %v", err)
		}
		before := r.rows()
		q := deviceRequest(t, newKey(t), "dev-2")
		q.Lot = "strict"
		if _, _, err := line.Enroll(t.Context(), q); !says(err, "required") {
			t.Errorf("without evidence in a strict lot: %v", err)
		}
		bad := &attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: [][]byte{{0x30, 0}}}
		if _, _, err := line.Enroll(t.Context(), enrollWith(t, newKey(t), "dev-2", bad)); !says(err, "challenge is not one for this") {
			t.Errorf("bad evidence: %v", err)
		}
		if r.rows() != before {
			t.Error("a refusal wrote")
		}
		if d, err := line.Device(t.Context(), "dev-1"); err != nil || d.Attested != nil {
			t.Errorf("%+v, %v", d, err)
		}
		if _, err := line.Evidence(t.Context(), "dev-1"); !says(err, "no evidence") {
			t.Errorf("evidence of a device without: %v", err)
		}
	})
	t.Run("ignored", func(t *testing.T) {
		r := serve(t, p, attesting(t, attest.PolicyConfig{Default: attest.Rule{Level: attest.Ignored}}))
		line := r.client(station)
		bad := &attest.Evidence{Kind: attest.PIV, Nonce: []byte("n"), Certificates: [][]byte{{0x30, 0}}}
		got, _, err := line.Enroll(t.Context(), enrollWith(t, newKey(t), "dev-1", bad))
		if err != nil {
			t.Fatal(err)
		}
		d, err := line.Device(t.Context(), "dev-1")
		if err != nil || d.Attested != nil {
			t.Errorf("ignored evidence counts: %+v, %v", d, err)
		}
		kept, err := line.Evidence(t.Context(), "dev-1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := factory.VerifyEvidence(kept, parsePEM(t, got.Certificate), policyOf(t, required(pinned))); err == nil {
			t.Error("an auditor takes it")
		}
	})
}

// TestAttestedPIV: a device whose key lies in a card that attests with certificates.
func TestAttestedPIV(t *testing.T) {
	maker := attesttest.NewMaker(t, "Yubi")
	p := newPlant(t)
	r := serve(t, p, attesting(t, required(attesttest.Pin(t, attest.PIV, maker))))
	line := r.client(p.station(t, "line-1"))
	a, err := line.Challenge(t.Context(), factory.ChallengeRequest{DeviceID: "dev-1", Kind: attest.PIV})
	if err != nil || a.Credential != nil {
		t.Fatalf("%+v, %v", a, err)
	}
	key := newKey(t)
	e := &attest.Evidence{Kind: attest.PIV, Nonce: a.Nonce, Certificates: maker.NewElement(t, "f9").Attest(t, attesttest.Leaf(t, "slot", attesttest.PIVExtensions()...), key.Public())}
	if _, isNew, err := line.Enroll(t.Context(), enrollWith(t, key, "dev-1", e)); err != nil || !isNew {
		t.Fatal(err)
	}
	if d, err := line.Device(t.Context(), "dev-1"); err != nil || d.Attested == nil || d.Attested.Kind != attest.PIV {
		t.Errorf("%+v, %v", d, err)
	}
	before := r.rows()
	if _, err := line.Challenge(t.Context(), factory.ChallengeRequest{DeviceID: "dev-2", Kind: "tile"}); !says(err, "not known") {
		t.Errorf("an unknown kind: %v", err)
	}
	if _, err := line.Challenge(t.Context(), factory.ChallengeRequest{DeviceID: "../x", Kind: attest.PIV}); !says(err, "not of the allowed form") {
		t.Errorf("a bad id: %v", err)
	}
	if r.rows() != before {
		t.Error("a challenge wrote")
	}
}
