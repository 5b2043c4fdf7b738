package quorum

import (
	"crypto"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// Role is what an officer may do.
type Role string

const (
	// RoleOfficer approves, signs transcripts and may hold shares; only this role counts towards a threshold.
	RoleOfficer Role = "officer"
	// RoleWitness signs transcripts.
	RoleWitness Role = "witness"
	// RoleAuditor signs transcripts afterwards.
	RoleAuditor Role = "auditor"
)

// Officer is a person as the roster knows them.
type Officer struct {
	Name string
	Role Role
	// SigningKey is ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey; Scheme says how it signs.
	SigningKey crypto.PublicKey
	Scheme     Scheme
	// KeyID is the hexadecimal SHA-256 of the signing key's SubjectPublicKeyInfo (DER).
	KeyID string
	// DecryptionKey is *ecdsa.PublicKey or *rsa.PublicKey, or nil; Decryption says how shares are encrypted to it.
	DecryptionKey crypto.PublicKey
	Decryption    Decryption
	// DecryptionKeyID is the KeyID of the decryption key; empty without one.
	DecryptionKeyID string
}

// Roster is a list of officers whose form was checked: names and keys are distinct, the threshold can be met. Whether it
// is the right list is for OpenRoster, Succeed or a comparison of its Digest to say.
type Roster struct {
	environment string
	epoch       uint64
	threshold   int
	issued      time.Time
	previous    Digest
	officers    []Officer
	data        []byte
	digest      Digest
	// asOf says by what was known of weak keys the roster, and one that follows it, was read.
	asOf format.Version
}

// Environment is the one environment for which the roster counts.
func (r *Roster) Environment() string { return r.environment }

// Epoch counts the rosters of an environment, from 1.
func (r *Roster) Epoch() uint64 { return r.epoch }

// Threshold is M, the number of officers who must agree.
func (r *Roster) Threshold() int { return r.threshold }

// Issued is the time at which the roster was made, as asserted by its maker.
func (r *Roster) Issued() time.Time { return r.issued }

// Previous is the digest of the roster of the epoch before; zero in epoch 1.
func (r *Roster) Previous() Digest { return r.previous }

// Officers lists everybody, of all roles, in the roster's order.
func (r *Roster) Officers() []Officer { return append([]Officer(nil), r.officers...) }

// Data is the document, byte for byte.
func (r *Roster) Data() []byte { return append([]byte(nil), r.data...) }

// Digest is the SHA-256 of the document's bytes, the anchor that people compare.
func (r *Roster) Digest() [32]byte { return r.digest }

// Officer finds somebody by the id of the signing key.
func (r *Roster) Officer(keyID string) (Officer, bool) {
	for _, o := range r.officers {
		if o.KeyID == keyID {
			return o, true
		}
	}
	return Officer{}, false
}

// Named finds somebody by name, in whatever case.
func (r *Roster) Named(name string) (Officer, bool) {
	for _, o := range r.officers {
		if strings.EqualFold(o.Name, name) {
			return o, true
		}
	}
	return Officer{}, false
}

// Signer makes a private key sign as the roster says; a key that is not in the roster is refused.
func (r *Roster) Signer(key crypto.Signer) (*Signer, Officer, error) {
	id, err := KeyID(key.Public())
	if err != nil {
		return nil, Officer{}, err
	}
	o, ok := r.Officer(id)
	if !ok {
		return nil, Officer{}, refused("use the key that was enrolled", "quorum: key %.16s is nobody's in the roster of %s, epoch %d", id, show.Text(r.environment), r.epoch)
	}
	s, err := NewSigner(key, o.Scheme)
	return s, o, err
}
