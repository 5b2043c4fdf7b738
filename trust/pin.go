package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Pin names the root that a reader starts from, by the SHA-256 of its file.
type Pin struct {
	digest [32]byte
	root   []byte
}

// PinRoot pins the bytes of a root.json.
func PinRoot(root []byte) Pin { return Pin{digest: sha256.Sum256(root), root: root} }

// ParsePin reads the SHA-256 of a root.json: 64 hex digits, with or without "sha256:" before them.
func ParsePin(s string) (Pin, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(s, "sha256:"))
	if err != nil || len(raw) != sha256.Size {
		return Pin{}, advice.New(advice.Usage, "give the SHA-256 of the environment's first root.json, as `sha256sum` prints it",
			"root digest %q is not 64 hex digits", s)
	}
	return Pin{digest: [32]byte(raw)}, nil
}

// Digest is the SHA-256 of the pinned root.
func (p Pin) Digest() [32]byte { return p.digest }

// String is "sha256:" and 64 hex digits.
func (p Pin) String() string { return "sha256:" + hex.EncodeToString(p.digest[:]) }

// ID names a CA by the SHA-256 of its SubjectPublicKeyInfo.
type ID [32]byte

// IssuerID is the ID of a CA's certificate.
func IssuerID(ca *x509.Certificate) ID { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }

// String is 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads the ID of a CA: 64 lower-case hex digits.
func ParseID(s string) (ID, error) {
	id, ok := parseID(s)
	if !ok {
		return ID{}, advice.New(advice.Usage, "a CA's id is the SHA-256 of its SubjectPublicKeyInfo, 64 hex digits in lower case", "%s is no CA's id", show.Text(s))
	}
	return id, nil
}
