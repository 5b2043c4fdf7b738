package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// endorsement is the key by which a TPM is known: its manufacturer signed a certificate for it.
type endorsement struct {
	kind   string
	public crypto.PublicKey
	spki   []byte
	// certificate is the manufacturer's, DER; nil where the TPM holds none.
	certificate []byte
	shape       *endorsementShape
}

// endorsementShape is one of TCG's ways to make an endorsement key (EK Credential Profile 2.5, annex B), with the NV index of its
// certificate and the place where machines keep the key.
type endorsementShape struct {
	kind     string
	nv       tpm2.TPMHandle
	place    tpm2.TPMHandle
	template func() tpm2.TPMTPublic
}

// endorsementShapes in the order in which they are looked for.
var endorsementShapes = []endorsementShape{
	{"ecc-p256", 0x01c0000a, 0x8101000a, func() tpm2.TPMTPublic { return tpm2.ECCEKTemplate }},
	{"rsa-2048", 0x01c00002, 0x81010001, func() tpm2.TPMTPublic { return tpm2.RSAEKTemplate }},
}

// serial names the TPM: the first 16 hex digits of the SHA-256 of the endorsement key's SubjectPublicKeyInfo.
func (e endorsement) serial() string {
	sum := sha256.Sum256(e.spki)
	return hex.EncodeToString(sum[:8])
}

// findEndorsement reads the first endorsement certificate that the TPM holds. For one without a certificate the elliptic-curve endorsement
// key is made, which nobody vouches for.
func findEndorsement(w *wire) (endorsement, error) {
	for i := range endorsementShapes {
		shape := &endorsementShapes[i]
		data, err := readNV(w, shape.nv)
		if errors.Is(err, errNoNV) {
			continue
		}
		if err != nil {
			return endorsement{}, fmt.Errorf("read the endorsement certificate at 0x%08x: %w", uint32(shape.nv), err)
		}
		cert, err := parseEndorsement(data)
		if err != nil {
			return endorsement{}, fmt.Errorf("the endorsement certificate at 0x%08x: %w", uint32(shape.nv), err)
		}
		return endorsement{kind: shape.kind, public: cert.PublicKey, spki: cert.RawSubjectPublicKeyInfo, certificate: cert.Raw, shape: shape}, nil
	}
	shape := &endorsementShapes[0]
	o, err := loadEndorsement(w, shape)
	if err != nil {
		return endorsement{}, fmt.Errorf("make the endorsement key: %w", err)
	}
	defer w.flush(o.handle)
	pub, err := publicKey(o.public)
	if err != nil {
		return endorsement{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	return endorsement{kind: shape.kind, public: pub, spki: spki, shape: shape}, err
}

// parseEndorsement reads the certificate at the beginning of an NV area, which may be longer than it.
func parseEndorsement(data []byte) (*x509.Certificate, error) {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(data, &raw); err != nil {
		return nil, errors.New("it is none")
	}
	return x509.ParseCertificate(raw.FullBytes)
}

// loadEndorsement finds the endorsement key at its place, or makes it.
func loadEndorsement(w *wire, shape *endorsementShape) (object, error) {
	want := shape.template()
	if pub, name, err := readName(w, shape.place); err == nil && like(pub, &want) {
		return object{shape.place, name, pub}, nil
	}
	return createPrimary(w, tpm2.TPMRHEndorsement, want, "endorsement key")
}

var errNoNV = errors.New("there is no such NV index")

// maxNV bounds an NV area that is read; endorsement certificates have 1 to 2 KiB.
const maxNV = 8 << 10

// readNV reads an NV index that anybody may read.
func readNV(w *wire, index tpm2.TPMHandle) ([]byte, error) {
	answer, err := tpm2.NVReadPublic{NVIndex: index}.Execute(w)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, errNoNV
	}
	if err != nil {
		return nil, err
	}
	pub, err := answer.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if pub.DataSize > maxNV {
		return nil, errors.New("it is too long")
	}
	name, err := tpm2.NVName(pub)
	if err != nil {
		return nil, err
	}
	named := tpm2.NamedHandle{Handle: index, Name: *name}
	authority := tpm2.AuthHandle{Handle: index, Name: *name, Auth: tpm2.PasswordAuth(nil)}
	if !pub.Attributes.AuthRead {
		authority = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	var data []byte
	const chunk = 512 // every TPM's buffer has room for it
	for len(data) < int(pub.DataSize) {
		part, err := tpm2.NVRead{AuthHandle: authority, NVIndex: named, Size: min(chunk, pub.DataSize-uint16(len(data))), Offset: uint16(len(data))}.Execute(w)
		if err != nil {
			return nil, err
		}
		if len(part.Data.Buffer) == 0 {
			break
		}
		data = append(data, part.Data.Buffer...)
	}
	return bytes.Clone(data), nil
}
