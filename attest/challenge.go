package attest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/big"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// A challenge is a credential that somebody makes in advance for the two keys of a TPM, on a machine that the TPM's machine cannot look
// into, and whose secret nobody keeps. The challenge itself is public. Whoever shows the secret later has made the challenge, has it from
// its maker, or has asked the TPM that holds both keys: there is no other way to it. So an offline reader who believes one of the
// makers believes the TPM.
//
// All that is random in a challenge is derived from its secret. So whoever sees the secret makes the challenge anew, and sees that
// it was for these two keys and no others.

const (
	attestorType  = "hanaper-tpm-attestor/1"
	challengeType = "hanaper-tpm-challenge/1"
	secretSize    = 32
)

// Attestor is what a TPM shows of itself before it is asked anything: the certificates of its endorsement key, that key, and its
// attestation key. All of it is foreign.
type Attestor struct {
	Type string `json:"type"`
	// Label and Serial say, for people, of which store it is.
	Label  string `json:"label"`
	Serial string `json:"serial"`
	// EKChain is as in TPMEvidence, EKPublic and AKPublic too.
	EKChain  [][]byte `json:"ek_chain"`
	EKPublic []byte   `json:"ek_public"`
	AKPublic []byte   `json:"ak_public"`
}

// Encode writes the attestor as a file.
func (a *Attestor) Encode() ([]byte, error) {
	c := *a
	c.Type = attestorType
	return encode(c)
}

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// ParseAttestor reads the file of an attestor; VerifyAttestor says what it is worth.
func ParseAttestor(name string, data []byte) (*Attestor, error) {
	a := &Attestor{}
	if err := strict.JSON(name, data, a); err != nil {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("it is no attestor: %w", err), "give the file that `hanaper token attestor` wrote")
	}
	if a.Type != attestorType {
		return nil, refuse(ErrMalformed, "it is no %s", attestorType)
	}
	if _, err := a.Binding(); err != nil {
		return nil, err
	}
	return a, nil
}

// Binding names the pair of keys, as that of TPMEvidence.
func (a *Attestor) Binding() ([32]byte, error) {
	return (&TPMEvidence{EKPublic: a.EKPublic, AKPublic: a.AKPublic}).Binding()
}

// VerifyAttestor checks what can be known before the TPM is asked: the endorsement key is of a pinned manufacturer, and the attestation
// key is one that signs its TPM's own statements only. It does not know whether the attestation key lives in that TPM.
func (m *Manufacturers) VerifyAttestor(a *Attestor, at time.Time) (*Verdict, error) {
	_, _, v, err := m.verifyTPMKeys(a.EKChain, a.EKPublic, a.AKPublic, at)
	return v, err
}

// Challenge is a credential whose secret nobody kept.
type Challenge struct {
	Type string `json:"type"`
	// Maker says, for people, who made it.
	Maker string `json:"maker"`
	// Keys is the binding of the keys that it is for, hex.
	Keys string `json:"keys_sha256"`
	Credential
}

// NewChallenge makes a challenge for an attestor that is found good. The secret comes from random, and is not kept.
func (m *Manufacturers) NewChallenge(random io.Reader, maker string, a *Attestor, at time.Time) (*Challenge, error) {
	ek, ak, _, err := m.verifyTPMKeys(a.EKChain, a.EKPublic, a.AKPublic, at)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, secretSize)
	defer clear(secret)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, err
	}
	c, err := credentialFrom(ek, ak, secret)
	if err != nil {
		return nil, err
	}
	keys := bind(ek, ak)
	return &Challenge{Maker: maker, Keys: hex.EncodeToString(keys[:]), Credential: *c}, nil
}

// Encode writes the challenge as a file.
func (c *Challenge) Encode() ([]byte, error) {
	d := *c
	d.Type = challengeType
	return encode(d)
}

// ParseChallenge reads the file of a challenge. Whether it was made as it should shows when its secret does.
func ParseChallenge(name string, data []byte) (*Challenge, error) {
	c := &Challenge{}
	if err := strict.JSON(name, data, c); err != nil {
		return nil, err
	}
	switch {
	case c.Type != challengeType:
		return nil, refuse(ErrMalformed, "it is no %s", challengeType)
	case len(c.Blob) == 0 || len(c.Blob) > maxTPMStructure || len(c.Encrypted) == 0 || len(c.Encrypted) > maxTPMStructure || c.Maker == "" || len(c.Maker) > maxText:
		return nil, refuse(ErrMalformed, "it is empty or too large")
	}
	return c, nil
}

// For says whether a challenge is for an attestor, by what it says of itself.
func (c *Challenge) For(a *Attestor) error {
	keys, err := a.Binding()
	if err != nil {
		return err
	}
	if c.Keys != hex.EncodeToString(keys[:]) {
		return refuse(ErrNotActivated, "the challenge is for other keys than the attestor's")
	}
	return nil
}

// Opened says whether secret is the one in the challenge, and the challenge the one that this secret makes for the attestor.
func (c *Challenge) Opened(a *Attestor, secret []byte) error {
	if err := c.For(a); err != nil {
		return err
	}
	ek, err := parseTPMKey("endorsement key", a.EKPublic)
	if err != nil {
		return err
	}
	ak, err := parseTPMKey("attestation key", a.AKPublic)
	if err != nil {
		return err
	}
	if len(secret) != secretSize {
		return refuse(ErrNotActivated, "the answer to the challenge has %d octets, not %d", len(secret), secretSize)
	}
	made, err := credentialFrom(ek, ak, secret)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(made.Blob, c.Blob)&subtle.ConstantTimeCompare(made.Encrypted, c.Encrypted) != 1 {
		return refuse(ErrNotActivated, "the answer is not the secret of this challenge for these keys")
	}
	return nil
}

// ByChallenges: the secrets of these challenges, in order, which the evidence's attestor gave back. The caller believes that at least one maker did
// not tell the secret to anybody.
func ByChallenges(a *Attestor, cs []*Challenge, secrets [][]byte) (Activation, error) {
	if len(cs) == 0 || len(cs) != len(secrets) {
		return Activation{}, refuse(ErrNotActivated, "%d challenges have %d answers", len(cs), len(secrets))
	}
	for i, c := range cs {
		if err := c.Opened(a, secrets[i]); err != nil {
			return Activation{}, err
		}
	}
	keys, err := a.Binding()
	if err != nil {
		return Activation{}, err
	}
	return ByWitness(fmt.Sprintf("whoever made its %d challenges", len(cs)), keys), nil
}

// credentialFrom makes a credential of which everything random comes from its secret.
func credentialFrom(ek, ak *tpmKey, secret []byte) (*Credential, error) {
	to, err := tpm2.ImportEncapsulationKey(ek.area)
	if err != nil {
		return nil, refuse(ErrEK, "%w", err)
	}
	blob, encrypted, err := tpm2.CreateCredential(nil, derived{to, ek, secret}, ak.name, secret)
	if err != nil {
		return nil, refuse(ErrEK, "%w", err)
	}
	return &Credential{blob, encrypted}, nil
}

// derived encapsulates with what is derived from a secret in place of randomness. Go's own functions take no randomness from their callers
// any more, or do not promise what they do with it.
type derived struct {
	tpm2.LabeledEncapsulationKey
	ek     *tpmKey
	secret []byte
}

// expand gives n octets for a purpose (HKDF-SHA-256).
func (d derived) expand(purpose string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, d.secret, d.ek.name, "hanaper challenge v1 "+purpose, n)
}

// Encapsulate is that of TPM 2.0 Library, part 1, annexes B.10.4 (RSA-OAEP) and C.6.3 (ECDH, KDFe).
func (d derived) Encapsulate(_ io.Reader, label string) (seed, encrypted []byte, err error) {
	if pub, ok := d.ek.pub.(*rsa.PublicKey); ok {
		return d.encapsulateRSA(pub, label)
	}
	pub, ok := d.ek.pub.(interface {
		ECDH() (*ecdh.PublicKey, error)
	})
	if !ok {
		return nil, nil, refuse(ErrEK, "it is neither RSA nor ECC")
	}
	to, err := pub.ECDH()
	if err != nil {
		return nil, nil, err
	}
	h, err := d.NameAlg().Hash()
	if err != nil {
		return nil, nil, err
	}
	own, err := d.ephemeral(to.Curve())
	if err != nil {
		return nil, nil, err
	}
	z, err := own.ECDH(to)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := own.PublicKey().Bytes()[1:], to.Bytes()[1:]
	n := len(ours) / 2
	point := tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: ours[:n]}, Y: tpm2.TPM2BECCParameter{Buffer: ours[n:]}}
	return tpm2.KDFe(h, z, label, ours[:n], theirs[:n], h.Size()*8), tpm2.Marshal(point), nil
}

// ephemeral is the first of the derived scalars that is one of the curve's.
func (d derived) ephemeral(curve ecdh.Curve) (*ecdh.PrivateKey, error) {
	size := map[ecdh.Curve]int{ecdh.P256(): 32, ecdh.P384(): 48, ecdh.P521(): 66}[curve]
	for i := range 100 {
		raw, err := d.expand(fmt.Sprintf("scalar %d", i), size)
		if err != nil {
			return nil, err
		}
		if curve == ecdh.P521() {
			raw[0] &= 1
		}
		if key, err := curve.NewPrivateKey(raw); err == nil {
			return key, nil
		}
	}
	return nil, refuse(ErrEK, "no scalar was found")
}

func (d derived) encapsulateRSA(pub *rsa.PublicKey, label string) (seed, encrypted []byte, err error) {
	h, err := d.oaepHash()
	if err != nil {
		return nil, nil, err
	}
	if seed, err = d.expand("seed", h().Size()); err != nil {
		return nil, nil, err
	}
	salt, err := d.expand("oaep", h().Size())
	if err != nil {
		return nil, nil, err
	}
	em, err := oaep(h, seed, salt, []byte(label+"\x00"), pub.Size())
	if err != nil {
		return nil, nil, err
	}
	// RSAEP of RFC 8017, section 5.1.1, with a public key.
	c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(pub.E)), pub.N)
	return seed, c.FillBytes(make([]byte, pub.Size())), nil
}

// oaepHash is that of the key's scheme, or of its name.
func (d derived) oaepHash() (func() hash.Hash, error) {
	alg := d.ek.area.NameAlg
	if p, err := d.ek.area.Parameters.RSADetail(); err == nil && p.Scheme.Scheme == tpm2.TPMAlgOAEP {
		if s, err := p.Scheme.Details.OAEP(); err == nil && s.HashAlg != tpm2.TPMAlgNull {
			alg = s.HashAlg
		}
	}
	switch alg {
	case tpm2.TPMAlgSHA256:
		return sha256.New, nil
	case tpm2.TPMAlgSHA384:
		return sha512.New384, nil
	case tpm2.TPMAlgSHA512:
		return sha512.New, nil
	}
	return nil, refuse(ErrEK, "its OAEP uses hash 0x%04x", uint16(alg))
}

// oaep is EME-OAEP of RFC 8017, section 7.1.1, with the salt given.
func oaep(h func() hash.Hash, message, salt, label []byte, size int) ([]byte, error) {
	n := h().Size()
	if len(message) > size-2*n-2 || len(salt) != n {
		return nil, refuse(ErrEK, "its modulus is too short")
	}
	em := make([]byte, size)
	masked, db := em[1:1+n], em[1+n:]
	sum := h()
	sum.Write(label)
	copy(db, sum.Sum(nil))
	db[len(db)-len(message)-1] = 1
	copy(db[len(db)-len(message):], message)
	copy(masked, salt)
	mask(h, db, masked)
	mask(h, masked, db)
	return em, nil
}

// mask is data XOR MGF1(seed).
func mask(h func() hash.Hash, data, seed []byte) {
	var all bytes.Buffer
	for i := uint32(0); all.Len() < len(data); i++ {
		sum := h()
		sum.Write(seed)
		sum.Write(binary.BigEndian.AppendUint32(nil, i))
		all.Write(sum.Sum(nil))
	}
	subtle.XORBytes(data, data, all.Bytes())
}
