package tpm

import (
	"bytes"
	stdasn1 "encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// blob is an object as the TPM wrapped it for its parent: worth nothing without this TPM. Its form is the ASN.1 of "TSS2 PRIVATE KEY"
// files, which openssl's tpm2 provider, tpm2-tools and others read and write.
type blob struct {
	// sealed is true for data, false for a key.
	sealed bool
	// open is true for an object without an authorisation value.
	open bool
	// parent is a permanent handle (the primary key of that hierarchy, by the convention of storageRoot) or a persistent one.
	parent  tpm2.TPMHandle
	public  []byte // TPM2B_PUBLIC
	private []byte // TPM2B_PRIVATE
}

const blobType = "TSS2 PRIVATE KEY"

// maxBlob bounds a key file; that of an RSA-3072 key has less than 2 KiB.
const maxBlob = 64 << 10

var (
	oidLoadable = stdasn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}
	oidSealed   = stdasn1.ObjectIdentifier{2, 23, 133, 10, 1, 5}
)

var errBlob = errors.New("it is no TSS2 PRIVATE KEY that this program reads")

func (b *blob) der() []byte {
	var out cryptobyte.Builder
	out.AddASN1(asn1.SEQUENCE, func(s *cryptobyte.Builder) {
		oid := oidLoadable
		if b.sealed {
			oid = oidSealed
		}
		s.AddASN1ObjectIdentifier(oid)
		// Written in any case: tpm2-openssl takes a file without it for one of an object without an authorisation value.
		s.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(s *cryptobyte.Builder) { s.AddASN1Boolean(b.open) })
		s.AddASN1Uint64(uint64(b.parent))
		s.AddASN1OctetString(b.public)
		s.AddASN1OctetString(b.private)
	})
	return out.BytesOrPanic()
}

func (b *blob) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blobType, Bytes: b.der()})
}

// parseBlob reads the PEM block in data; text before it is the caller's, and nothing may follow.
func parseBlob(data []byte) (*blob, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != blobType || len(bytes.TrimSpace(rest)) > 0 || len(block.Headers) > 0 {
		return nil, errBlob
	}
	return parseDER(block.Bytes)
}

func parseDER(der []byte) (*blob, error) {
	b := &blob{}
	in := cryptobyte.String(der)
	var s cryptobyte.String
	var oid stdasn1.ObjectIdentifier
	if !in.ReadASN1(&s, asn1.SEQUENCE) || !in.Empty() || !s.ReadASN1ObjectIdentifier(&oid) {
		return nil, errBlob
	}
	switch {
	case oid.Equal(oidSealed):
		b.sealed = true
	case !oid.Equal(oidLoadable):
		return nil, errBlob
	}
	var empty cryptobyte.String
	var has bool
	if !s.ReadOptionalASN1(&empty, &has, asn1.Tag(0).Constructed().ContextSpecific()) {
		return nil, errBlob
	}
	if has {
		// Some write TRUE as 1, which is BER.
		var value cryptobyte.String
		if !empty.ReadASN1(&value, asn1.BOOLEAN) || !empty.Empty() || len(value) != 1 {
			return nil, errBlob
		}
		b.open = value[0] != 0
	}
	for tag := uint8(1); tag <= 5; tag++ {
		if s.PeekASN1Tag(asn1.Tag(tag).Constructed().ContextSpecific()) {
			return nil, fmt.Errorf("%w: it has a policy, a secret or another field of tag %d", errBlob, tag)
		}
	}
	var parent uint64
	if !s.ReadASN1Integer(&parent) || parent > 0xffffffff ||
		!s.ReadASN1Bytes(&b.public, asn1.OCTET_STRING) || !s.ReadASN1Bytes(&b.private, asn1.OCTET_STRING) || !s.Empty() {
		return nil, errBlob
	}
	b.parent = tpm2.TPMHandle(parent)
	if !whole(b.public) || !whole(b.private) {
		return nil, errBlob
	}
	return b, nil
}

// whole says whether data is one sized buffer of the TPM, and no more.
func whole(data []byte) bool {
	return len(data) > 2 && len(data) == 2+int(data[0])<<8+int(data[1])
}

// area is the public area.
func (b *blob) area() (*tpm2.TPMTPublic, error) { return parsePublic(b.public) }

// parsePublic reads a TPM2B_PUBLIC strictly: it must encode to the same bytes again.
func parsePublic(data []byte) (pub *tpm2.TPMTPublic, err error) {
	defer func() {
		if r := recover(); r != nil { // the decoder of a library, on bytes of a stranger
			pub, err = nil, fmt.Errorf("its public area cannot be read: %v", r)
		}
	}()
	if !whole(data) {
		return nil, errors.New("its public area is cut short")
	}
	pub, err = tpm2.Unmarshal[tpm2.TPMTPublic](data[2:])
	if err != nil {
		return nil, fmt.Errorf("its public area cannot be read: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(*pub), data[2:]) {
		return nil, errors.New("its public area is not in the one form that there is")
	}
	return pub, nil
}
