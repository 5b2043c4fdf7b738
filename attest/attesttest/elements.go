package attesttest

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func yubico(arc, n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, arc, n}
}

// Leaf is a certificate that attests a key with these extensions, before it is signed.
func Leaf(t testing.TB, cn string, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	return &x509.Certificate{SerialNumber: Serial(t), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), ExtraExtensions: extensions}
}

// Element is a chip that attests with certificates: its own attestation key, certified by the maker's intermediate.
type Element struct {
	maker *Maker
	Cert  *x509.Certificate
	Key   *rsa.PrivateKey
}

// NewElement makes a chip.
func (m *Maker) NewElement(t testing.TB, cn string) *Element {
	t.Helper()
	e := &Element{maker: m, Key: rsaKey(t)}
	e.Cert = certify(t, cn, e.Key.Public(), m.Intermediate, m.Key)
	return e
}

// Attest signs a leaf for a key and gives the chain.
func (e *Element) Attest(t testing.TB, leaf *x509.Certificate, pub crypto.PublicKey) [][]byte {
	t.Helper()
	return [][]byte{Sign(t, leaf, pub, e.Cert, e.Key).Raw, e.Cert.Raw, e.maker.Intermediate.Raw}
}

// PIVExtensions are those of a YubiKey of firmware 5.4.3, with PIN once and touch never.
func PIVExtensions() []pkix.Extension {
	return []pkix.Extension{{Id: yubico(3, 3), Value: []byte{5, 4, 3}}, {Id: yubico(3, 7), Value: []byte{2, 4, 0, 0x98, 0x96, 0x80}}, {Id: yubico(3, 8), Value: []byte{2, 1}},
		{Id: yubico(3, 9), Value: []byte{3}}}
}

// HSMExtensions are those of a YubiHSM of firmware 2.4.1, for an object that signs.
func HSMExtensions(origin byte, capabilities uint64) []pkix.Extension {
	c := []byte{3, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for i := range 8 {
		c[10-i] = byte(capabilities >> (8 * i))
	}
	return []pkix.Extension{{Id: yubico(4, 1), Value: []byte{4, 3, 2, 4, 1}}, {Id: yubico(4, 2), Value: []byte{2, 4, 2, 11, 217, 253}},
		{Id: yubico(4, 3), Value: []byte{3, 2, 0, origin}}, {Id: yubico(4, 4), Value: []byte{3, 3, 0, 0, 1}}, {Id: yubico(4, 5), Value: c},
		{Id: yubico(4, 6), Value: []byte{2, 1, 3}}, {Id: yubico(4, 9), Value: []byte{12, 3, 'k', 'e', 'y'}}}
}

// KeyDescription is the content of Android's extension.
type KeyDescription struct {
	Version, Level, KeyMintLevel int64
	Challenge                    []byte
	Purposes                     []int64
	Origin                       int64
	Locked                       bool
	BootState                    int64
	// Without leaves a tag of the hardware's list out; Software is what stands in the software's list.
	Without  map[int]bool
	Software []byte
	// Twice writes the origin a second time.
	Twice bool
}

// NewKeyDescription is that of a good key.
func NewKeyDescription(challenge []byte) *KeyDescription {
	return &KeyDescription{Version: 300, Level: 1, KeyMintLevel: 1, Challenge: challenge, Purposes: []int64{2, 3}, Locked: true}
}

// Extension encodes it.
func (d *KeyDescription) Extension() pkix.Extension {
	var b cryptobyte.Builder
	enum := func(b *cryptobyte.Builder, v int64) {
		b.AddASN1(cbasn1.ENUM, func(b *cryptobyte.Builder) { b.AddUint8(uint8(v)) })
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(d.Version)
		enum(b, d.Level)
		b.AddASN1Int64(d.Version)
		enum(b, d.KeyMintLevel)
		b.AddASN1OctetString(d.Challenge)
		b.AddASN1OctetString(nil)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			if d.Software != nil {
				b.AddBytes(d.Software)
				return
			}
			Tagged(b, 701, func(b *cryptobyte.Builder) { b.AddASN1Int64(1790000000000) })
		})
		b.AddASN1(cbasn1.SEQUENCE, d.hardware)
	})
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}, Value: b.BytesOrPanic()}
}

func (d *KeyDescription) hardware(b *cryptobyte.Builder) {
	add := func(tag int, f func(*cryptobyte.Builder)) {
		if !d.Without[tag] {
			Tagged(b, tag, f)
		}
	}
	add(1, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, p := range d.Purposes {
				b.AddASN1Int64(p)
			}
		})
	})
	add(2, func(b *cryptobyte.Builder) { b.AddASN1Int64(3) })
	add(503, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
	add(702, func(b *cryptobyte.Builder) { b.AddASN1Int64(d.Origin) })
	if d.Twice {
		add(702, func(b *cryptobyte.Builder) { b.AddASN1Int64(0) })
	}
	add(704, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(make([]byte, 32))
			b.AddASN1Boolean(d.Locked)
			b.AddASN1(cbasn1.ENUM, func(b *cryptobyte.Builder) { b.AddUint8(uint8(d.BootState)) })
			b.AddASN1OctetString(make([]byte, 32))
		})
	})
	add(705, func(b *cryptobyte.Builder) { b.AddASN1Int64(150000) })
	add(706, func(b *cryptobyte.Builder) { b.AddASN1Int64(202609) })
}

// Tagged writes an explicitly tagged value, also with a number above 30.
func Tagged(b *cryptobyte.Builder, tag int, f func(*cryptobyte.Builder)) {
	var inner cryptobyte.Builder
	inner.AddASN1(cbasn1.OCTET_STRING, f)
	body := inner.BytesOrPanic()[1:] // length and content
	switch {
	case tag < 31:
		b.AddUint8(0xa0 | uint8(tag))
	default:
		b.AddUint8(0xbf)
		if tag > 127 {
			b.AddUint8(0x80 | uint8(tag>>7))
		}
		b.AddUint8(uint8(tag & 0x7f))
	}
	b.AddBytes(body)
}
