package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
)

// device is a chip with an attestation key and a device key, and good evidence for them.
type device struct {
	*attesttest.Chip
	ak, key  *attesttest.Object
	evidence attest.TPMEvidence
	want     attest.Want
}

var qualifying = attest.Qualifying("test", []byte("nonce"), []byte("request"))

// enrol makes keys and evidence, with credential activation by the chip.
func enrol(t *testing.T, pinned *attest.Manufacturers, chip *attesttest.Chip, seed string) *device {
	t.Helper()
	d := &device{Chip: chip, ak: chip.New(t, attesttest.AKTemplate(), "ak"+seed), key: chip.New(t, attesttest.KeyTemplate(), "key"+seed)}
	secrets := newSecrets()
	c, _, err := pinned.MakeCredential(rand.Reader, chip.EKChain, chip.EKPublic, d.ak.Public, secrets, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := chip.Activate(d.ak, c.Blob, c.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	d.evidence = attest.TPMEvidence{EKChain: chip.EKChain, EKPublic: chip.EKPublic, AKPublic: d.ak.Public, KeyPublic: d.key.Public, Secret: answer}
	d.evidence.Attest, d.evidence.Signature = d.ak.Certify(t, d.key, qualifying)
	d.want = attest.Want{Key: d.key.Key, Qualifying: qualifying, Activation: attest.BySecret(secrets), At: time.Now().Add(time.Minute)}
	return d
}

func newSecrets() attest.Secrets {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return attest.SecretsFrom(key, []byte("nonce"))
}

// TestTPM: evidence of a software TPM with a manufacturer's certificate is accepted, and each fault refused with its reason.
func TestTPM(t *testing.T) {
	maker, other := attesttest.NewMaker(t, "Acme"), attesttest.NewMaker(t, "Other")
	pinned := attesttest.Pin(t, attest.TPM, maker)
	chip := maker.NewChip(t)
	d := enrol(t, pinned, chip, "")
	v, err := pinned.VerifyTPM(&d.evidence, d.want)
	if err != nil {
		t.Fatal(err)
	}
	spki, _ := x509.MarshalPKIXPublicKey(d.key.Key)
	if sum := sha256.Sum256(spki); v.Kind != attest.TPM || v.Manufacturer != "Acme" || v.Key != hexOf(sum[:]) || v.Fact("tpm manufacturer") == "" ||
		v.Fact("activation") != "secret given back" {
		t.Errorf("verdict %+v", v)
	}
	seen := d.want
	binding, err := d.evidence.Binding()
	if err != nil {
		t.Fatal(err)
	}
	seen.Activation = attest.ByWitness("the transcript", binding)
	if v, err := pinned.VerifyTPM(&d.evidence, seen); err != nil || v.Fact("activation") != "seen by the transcript" {
		t.Errorf("by witness: %v, %v", v, err)
	}

	t.Run("keys", func(t *testing.T) { refuseKeys(t, pinned, d) })
	t.Run("other TPM", func(t *testing.T) { refuseOtherTPM(t, maker, other, d) })
	t.Run("certificates", func(t *testing.T) { refuseCertificates(t, maker, other, d) })
	t.Run("forgery", func(t *testing.T) { refuseForgery(t, pinned, d) })
	t.Run("state", func(t *testing.T) { refuseState(t, pinned, d) })
	t.Run("bytes", func(t *testing.T) { refuseBytes(t, pinned, d) })
}

func refused(t *testing.T, m *attest.Manufacturers, e attest.TPMEvidence, w attest.Want, reason error, text string) {
	t.Helper()
	v, err := m.VerifyTPM(&e, w)
	if v != nil || !errors.Is(err, reason) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, %v; want %v with %q", v, err, reason, text)
	}
}

func refuseKeys(t *testing.T, pinned *attest.Manufacturers, d *device) {
	// The request's key is another than the certified one.
	second := d.New(t, attesttest.KeyTemplate(), "second")
	w := d.want
	w.Key = second.Key
	refused(t, pinned, d.evidence, w, attest.ErrOtherKey, "not the key of the request")
	// The public area sent is that of the request's key, but the TPM certified another with the same name algorithm.
	e := d.evidence
	e.KeyPublic = second.Public
	refused(t, pinned, e, w, attest.ErrOtherKey, "the tpm certified the object")
	// Another nonce, or another request: the evidence is older than its nonce, or replayed.
	w = d.want
	w.Qualifying = attest.Qualifying("test", []byte("newer nonce"), []byte("request"))
	refused(t, pinned, d.evidence, w, attest.ErrStale, "not made for this challenge")
	w.Qualifying = nil
	refused(t, pinned, d.evidence, w, attest.ErrStale, "not made for this challenge")
	second.Unload(t)

	// A key that may leave the TPM, though the TPM says so itself.
	template := attesttest.KeyTemplate()
	template.ObjectAttributes.FixedTPM, template.ObjectAttributes.FixedParent = false, false
	loose := d.New(t, template, "loose")
	e, w = d.evidence, d.want
	e.KeyPublic, w.Key = loose.Public, loose.Key
	e.Attest, e.Signature = d.ak.Certify(t, loose, qualifying)
	refused(t, pinned, e, w, attest.ErrKeyAttributes, "not fixedTPM")
	loose.Unload(t)
	// A key that cannot decrypt is no decryption key.
	w = d.want
	w.Use = attest.Decrypts
	refused(t, pinned, d.evidence, w, attest.ErrKeyAttributes, "does not decrypt")
	// The attestation key itself as the device's key.
	e, w = d.evidence, d.want
	e.KeyPublic, w.Key = d.ak.Public, d.ak.Key
	e.Attest, e.Signature = d.ak.Certify(t, d.ak, qualifying)
	refused(t, pinned, e, w, attest.ErrKeyAttributes, "restricted")
}

func refuseForgery(t *testing.T, pinned *attest.Manufacturers, d *device) {
	// An attestation key that is not restricted signs a forged statement: it gets no credential, and its evidence is refused.
	template := attesttest.AKTemplate()
	template.ObjectAttributes.Restricted = false
	loose := d.New(t, template, "forger")
	e := d.evidence
	e.AKPublic = loose.Public
	statement, err := tpm2.Unmarshal[tpm2.TPMSAttest](d.evidence.Attest)
	if err != nil {
		t.Fatal(err)
	}
	info, err := statement.Attested.Certify()
	if err != nil {
		t.Fatal(err)
	}
	info.QualifiedName.Buffer = bytes.Repeat([]byte{0}, 34)
	e.Attest = tpm2.Marshal(*statement)
	// Signed as arbitrary data: the TPM refuses to hash it with a ticket, since it begins with TPM_GENERATED; without a
	// restricted key no ticket is needed.
	if e.Signature, err = loose.Sign(e.Attest); err != nil {
		t.Fatal(err)
	}
	refused(t, pinned, e, d.want, attest.ErrAK, "not restricted")
	if _, _, err := pinned.MakeCredential(rand.Reader, e.EKChain, e.EKPublic, e.AKPublic, newSecrets(), time.Now()); !errors.Is(err, attest.ErrAK) {
		t.Errorf("a credential for a loose key: %v", err)
	}
	loose.Unload(t)
	// The good attestation key signs no such data: its TPM refuses.
	if _, err := d.ak.Sign(e.Attest); err == nil {
		t.Error("a restricted key signed a forged statement")
	}
	// It signs other data, which is no statement.
	e = d.evidence
	e.Attest = append([]byte("not TPM_GENERATED"), d.evidence.Attest...)
	if e.Signature, err = d.ak.Sign(e.Attest); err != nil {
		t.Fatal(err)
	}
	refused(t, pinned, e, d.want, attest.ErrNotFromTPM, "ff544347")
	// A quote is no certification, and the other way round.
	state, err := attest.NewPCRState("boot", "sha256", map[int][]byte{0: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	e.Attest, e.Signature = d.ak.Quote(t, state.Selection(), qualifying)
	refused(t, pinned, e, d.want, attest.ErrStatement, "type 0x8018")
	e, w := d.evidence, d.want
	e.Quote, e.QuoteSignature, w.States = e.Attest, e.Signature, []attest.PCRState{state}
	refused(t, pinned, e, w, attest.ErrStatement, "type 0x8017")
	// A statement with one bit changed, and one with another's signature.
	e = d.evidence
	e.Attest = bytes.Clone(e.Attest)
	e.Attest[60] ^= 1
	refused(t, pinned, e, d.want, attest.ErrSignature, "did not sign")
}

func refuseOtherTPM(t *testing.T, maker, other *attesttest.Maker, d *device) {
	pinned := attesttest.Pin(t, attest.TPM, maker)
	second := maker.NewChip(t)
	foreign := second.New(t, attesttest.AKTemplate(), "ak")
	// The credential is for the first TPM and its key: the second TPM cannot answer it.
	secret := newSecrets()
	c, _, err := pinned.MakeCredential(rand.Reader, d.EKChain, d.EKPublic, d.ak.Public, secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Activate(foreign, c.Blob, c.Encrypted); err == nil {
		t.Error("another tpm answered the credential")
	}
	// Nor can the first, for an attestation key that lives in the second.
	if c, _, err = pinned.MakeCredential(rand.Reader, d.EKChain, d.EKPublic, foreign.Public, secret, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Activate(d.ak, c.Blob, c.Encrypted); err == nil {
		t.Error("a tpm answered a credential for a key that it does not hold")
	}
	e, w := d.evidence, d.want
	w.Activation = attest.BySecret(secret)
	refused(t, pinned, e, w, attest.ErrNotActivated, "the answer to the credential is wrong")
	e.Secret = nil
	refused(t, pinned, e, d.want, attest.ErrNotActivated, "not given back")
	w.Activation = attest.Activation{}
	refused(t, pinned, d.evidence, w, attest.ErrNotActivated, "no credential was made")
	w.Activation = attest.BySecret(nil)
	refused(t, pinned, d.evidence, w, attest.ErrNotActivated, "no credential was made")
	w.Activation = attest.BySecret(attest.SecretsFrom(nil))
	refused(t, pinned, d.evidence, w, attest.ErrNotActivated, "answer to the credential is wrong")
	w.Activation = attest.ByWitness("the transcript", [32]byte{})
	refused(t, pinned, d.evidence, w, attest.ErrNotActivated, "seen are others")
	// The credential was answered for the good attestation key; the proof then comes from another, which says of itself that it
	// is as good but was made in software.
	e = d.evidence
	e.AKPublic, e.Attest, e.Signature = softwareAK(t, d)
	refused(t, pinned, e, d.want, attest.ErrNotActivated, "answer to the credential is wrong")
	// The chain of one TPM with the endorsement key of another.
	e = d.evidence
	e.EKPublic = second.EKPublic
	refused(t, pinned, e, d.want, attest.ErrEK, "another key than the certificate")
	e.EKPublic = d.key.Public
	refused(t, pinned, e, d.want, attest.ErrEK, "another key than the certificate")
	// Another manufacturer, whose chip is as good.
	fake := other.NewChip(t)
	e.EKChain, e.EKPublic = fake.EKChain, fake.EKPublic
	refused(t, pinned, e, d.want, attest.ErrManufacturer, "neither sent nor pinned")
	e.EKChain = append(e.EKChain, other.Root.Raw)
	refused(t, pinned, e, d.want, attest.ErrManufacturer, "not pinned for kind tpm")
	// The manufacturer is pinned for another kind of chip.
	refused(t, attesttest.Pin(t, attest.PIV, maker), d.evidence, d.want, attest.ErrManufacturer, "no manufacturer of kind tpm")
	refused(t, nil, d.evidence, d.want, attest.ErrManufacturer, "no manufacturer of kind tpm")
}

// softwareAK forges a statement with a key of its own whose public area has all attributes of a good attestation key.
func softwareAK(t *testing.T, d *device) (public, statement, signature []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	area := attesttest.AKTemplate()
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	sum := sha256.Sum256(d.evidence.Attest)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()}})}
	return tpm2.Marshal(area), d.evidence.Attest, tpm2.Marshal(sig)
}

func refuseState(t *testing.T, pinned *attest.Manufacturers, d *device) {
	zero := make([]byte, 32)
	state, err := attest.NewPCRState("release 1", "sha256", map[int][]byte{0: zero, 16: zero})
	if err != nil {
		t.Fatal(err)
	}
	other, err := attest.NewPCRState("release 2", "sha256", map[int][]byte{0: zero, 16: bytes.Repeat([]byte{1}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	e, w := d.evidence, d.want
	w.States = []attest.PCRState{other, state}
	refused(t, pinned, e, w, attest.ErrPCR, "there is none")
	e.Quote, e.QuoteSignature = d.ak.Quote(t, state.Selection(), qualifying)
	if v, err := pinned.VerifyTPM(&e, w); err != nil || v.Fact("state") != "release 1" {
		t.Errorf("a good quote: %v, %v", v, err)
	}
	// Another policy, other registers, another nonce.
	w.States = []attest.PCRState{other}
	refused(t, pinned, e, w, attest.ErrPCR, "other values")
	narrow, _ := attest.NewPCRState("x", "sha256", map[int][]byte{0: zero})
	w.States = []attest.PCRState{narrow}
	refused(t, pinned, e, w, attest.ErrPCR, "not of the registers sha256:0")
	w.States = []attest.PCRState{state}
	e.Quote, e.QuoteSignature = d.ak.Quote(t, state.Selection(), []byte("another nonce"))
	refused(t, pinned, e, w, attest.ErrStale, "quote was not made for this challenge")
	// The machine changes: register 16 is extended.
	if _, err := (tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: 16, Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: zero}}}}).Execute(d.TPM); err != nil {
		t.Fatal(err)
	}
	e.Quote, e.QuoteSignature = d.ak.Quote(t, state.Selection(), qualifying)
	refused(t, pinned, e, w, attest.ErrPCR, "other values than the policy allows")
}

func refuseBytes(t *testing.T, pinned *attest.Manufacturers, d *device) {
	for name, change := range map[string]func(*attest.TPMEvidence) *[]byte{
		"ek": func(e *attest.TPMEvidence) *[]byte { return &e.EKPublic }, "ak": func(e *attest.TPMEvidence) *[]byte { return &e.AKPublic },
		"key": func(e *attest.TPMEvidence) *[]byte { return &e.KeyPublic }, "attest": func(e *attest.TPMEvidence) *[]byte { return &e.Attest },
		"signature": func(e *attest.TPMEvidence) *[]byte { return &e.Signature },
	} {
		e := d.evidence
		p := change(&e)
		good := *p
		*p = append(bytes.Clone(good), 0)
		refused(t, pinned, e, d.want, attest.ErrMalformed, "octets too many")
		*p = nil
		refused(t, pinned, e, d.want, attest.ErrMalformed, "there is no")
		*p = make([]byte, 1<<20)
		if _, err := pinned.VerifyTPM(&e, d.want); err == nil {
			t.Errorf("%s of a megabyte", name)
		}
		for n := range good { // cut short anywhere
			*p = good[:n]
			if _, err := pinned.VerifyTPM(&e, d.want); err == nil {
				t.Errorf("%s cut at %d is accepted", name, n)
			}
		}
		for n := range good { // one bit flipped anywhere: only what nothing depends on may pass, and there is nothing such
			*p = bytes.Clone(good)
			(*p)[n] ^= 1
			if _, err := pinned.VerifyTPM(&e, d.want); err == nil {
				t.Errorf("%s with octet %d changed is accepted", name, n)
			}
		}
	}
	e := d.evidence
	e.EKChain = nil
	refused(t, pinned, e, d.want, attest.ErrMalformed, "no certificate")
	e.EKChain = [][]byte{make([]byte, 1<<20)}
	refused(t, pinned, e, d.want, attest.ErrTooLarge, "certificate 1")
	e.EKChain = make([][]byte, 100)
	refused(t, pinned, e, d.want, attest.ErrTooLarge, "100 certificates")
}
