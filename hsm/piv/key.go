package piv

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"math/big"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

// Slot is where a key is in the card (SP 800-73-4, part 1, table 4b).
type Slot byte

// The slots of an officer's two keys.
const (
	Signature     Slot = 0x9c // the PIN is given before each signature
	KeyManagement Slot = 0x9d // decryption and key agreement
)

var certificateOf = map[Slot]uint32{Signature: 0x5fc10a, KeyManagement: 0x5fc10b}

// The algorithm identifiers of SP 800-78-4, table 6-2.
var identifierOf = map[hsm.Algorithm]byte{hsm.RSA2048: 0x07, hsm.P256: 0x11, hsm.P384: 0x14}

// Algorithms are those that PIV cards have.
func Algorithms() []hsm.Algorithm { return []hsm.Algorithm{hsm.P256, hsm.P384, hsm.RSA2048} }

// Certificate reads a slot's certificate; hsm.ErrNoKey where there is none.
func (c *Card) Certificate(slot Slot) (*x509.Certificate, error) {
	value, err := c.object(certificateOf[slot])
	if err != nil {
		return nil, err
	}
	der, err := inside(value, 0x70)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// PutCertificate writes a slot's certificate, in place of the one that is there. The management key was given.
func (c *Card) PutCertificate(slot Slot, der []byte) error {
	value := append(append(encode(0x70, der), encode(0x71, []byte{0})...), encode(0xfe)...)
	return c.fail(c.put(certificateOf[slot], value), "write the certificate")
}

// PutGUID writes a CHUID with this number. The management key was given.
func (c *Card) PutGUID(guid [16]byte) error {
	value := append(append(append(append(encode(0x30, nobody()), encode(0x34, guid[:])...), encode(0x35, []byte("99991231"))...), encode(0x3e)...), encode(0xfe)...)
	return c.fail(c.put(chuid, value), "write the CHUID")
}

// Generate makes a key in a slot, in place of the one that is there. The management key was given.
func (c *Card) Generate(slot Slot, a hsm.Algorithm) (crypto.PublicKey, error) {
	id, known := identifierOf[a]
	if !known {
		return nil, advice.New(advice.Usage, "use P-256, P-384 or RSA-2048", "PIV cards have no keys of %s", a)
	}
	answer, err := c.send(apdu{ins: 0x47, p2: byte(slot), data: encode(0xac, encode(0x80, []byte{id}))})
	if err != nil {
		return nil, c.fail(err, "make a key of "+string(a))
	}
	pub, err := parsePublic(answer, a)
	return pub, c.fail(err, "read the new key's public half")
}

// parsePublic reads the answer to GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4, part 2, table 11).
func parsePublic(answer []byte, a hsm.Algorithm) (crypto.PublicKey, error) {
	value, err := inside(answer, 0x7f49)
	if err != nil {
		return nil, err
	}
	if a == hsm.RSA2048 {
		n, err1 := inside(value, 0x81)
		e, err2 := inside(value, 0x82)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if pub.N.BitLen() != 2048 || len(e) > 4 || pub.E < 65537 || pub.E&1 == 0 {
			return nil, errors.New("it is no RSA key of 2048 bits with an exponent of 65537 or more")
		}
		return pub, nil
	}
	point, err := inside(value, 0x86)
	if err != nil {
		return nil, err
	}
	curve := elliptic.P256()
	if a == hsm.P384 {
		curve = elliptic.P384()
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// Signer is the key in a slot, for certificates about it. pin is given before each signature.
func (c *Card) Signer(slot Slot, public crypto.PublicKey, pin []byte) crypto.Signer {
	return &signer{c, slot, public, pin}
}

type signer struct {
	c      *Card
	slot   Slot
	public crypto.PublicKey
	pin    []byte
}

func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign signs a digest, by ECDSA or by RSA as PKCS #1 v1.5 has it with SHA-256, and verifies what the card answered.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	a := hsm.AlgorithmOf(s.public)
	data := digest
	if pub, is := s.public.(*rsa.PublicKey); is {
		if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
			return nil, advice.New(advice.Usage, "sign with SHA-256", "%s: only PKCS #1 v1.5 with SHA-256 is offered", s.c.name())
		}
		data = padded(digest, pub.Size())
	}
	if err := s.c.VerifyPIN(s.pin); err != nil {
		return nil, err
	}
	answer, err := s.c.send(apdu{ins: 0x87, p1: identifierOf[a], p2: byte(s.slot), data: encode(0x7c, encode(0x82), encode(0x81, data))})
	if err == nil {
		if answer, err = inside(answer, 0x7c); err == nil {
			answer, err = inside(answer, 0x82)
		}
	}
	if err == nil && !signature.Verify(s.public, digest, opts, answer) {
		err = errors.New("the signature does not verify under the new key")
	}
	return answer, s.c.fail(err, "sign")
}

// padded is EMSA-PKCS1-v1_5 with SHA-256 (RFC 8017, section 9.2).
func padded(digest []byte, size int) []byte {
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
	out := make([]byte, size)
	out[1] = 1
	for i := 2; i < size-len(info)-1; i++ {
		out[i] = 0xff
	}
	copy(out[size-len(info):], info)
	return out
}

// nobody is a FASC-N (Federal Agency Smart Credential Number) of no agency, as cards of others have it: 40 characters of four bits
// and an odd parity, least bit first, the last of which is the exclusive or of the others.
func nobody() []byte {
	const start, separator, end = 0xb, 0xd, 0xf
	characters := []byte{start, 9, 9, 9, 9, separator, 9, 9, 9, 9, separator, 9, 9, 9, 9, 9, 9, separator, 0, separator, 1, separator,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1, end}
	check := byte(0)
	for _, c := range characters {
		check ^= c
	}
	out := make([]byte, 25)
	bit := 0
	for _, c := range append(characters, check) {
		parity := byte(1)
		for i := range 4 {
			b := c >> i & 1
			parity ^= b
			out[bit/8] |= b << (7 - bit%8)
			bit++
		}
		out[bit/8] |= parity << (7 - bit%8)
		bit++
	}
	return out
}
