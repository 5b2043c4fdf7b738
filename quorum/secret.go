package quorum

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloudflare/circl/group"

	"github.com/hanaper/hanaper/internal/show"
)

// Secret is what a quorum holds together: a random scalar, put together from enough shares and found to be the one that
// was split. PINs and keys are derived from it; it is never used itself.
type Secret struct {
	scalar group.Scalar
	about  about
}

// String keeps the secret out of logs.
func (*Secret) String() string { return "quorum.Secret(hidden)" }

// GoString keeps the secret out of logs.
func (*Secret) GoString() string { return "quorum.Secret(hidden)" }

// Wipe overwrites the secret, which cannot be used afterwards. Copies that the garbage collector made stay until it is
// done with them: the process locks its memory and makes no core dumps.
func (s *Secret) Wipe() {
	if s.scalar != nil {
		s.scalar.SetUint64(0)
		s.scalar = nil
	}
}

var (
	// ErrWiped means a secret that was wiped.
	ErrWiped = errors.New("quorum: secret was wiped")
	// ErrPINLength means a token whose PINs are too short for a derived one.
	ErrPINLength = errors.New("quorum: PIN length")
)

// The PIN lengths that are derived: no shorter one is worth the name, and no longer one adds anything.
const (
	minDerivedPIN = 8
	maxDerivedPIN = 32
)

// alphabet has 62 characters that every token takes in a PIN.
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// PIN derives the PIN of the token, for the purpose (user or so) and epoch of the shares. min and max are the lengths in
// bytes that the token accepts (CK_TOKEN_INFO); max 0 or above 255 means no limit known. The PIN has min(max, 32)
// characters, or min if that is more, drawn evenly from 62: 5.95 bits each. The caller wipes it.
func (s *Secret) PIN(min, max int) ([]byte, error) {
	if s.about.purpose == PurposeWrap {
		return nil, fmt.Errorf("quorum: a secret for %q has no PIN", s.about.purpose)
	}
	if max <= 0 || max > 255 {
		max = 255
	}
	n := maxDerivedPIN
	if n > max {
		n = max
	}
	if n < min {
		n = min
	}
	if n > max || n < minDerivedPIN {
		return nil, fmt.Errorf("%w: token %s takes PINs of %d to %d characters; a derived one has at least %d", ErrPINLength, show.Text(s.about.serial), min, max, minDerivedPIN)
	}
	// Bytes below 248 = 4*62 are even over the alphabet; 4n+64 of them hold n good ones but for a chance below 2^-128.
	stream, err := s.derive("hanaper pin v1", 4*n+64)
	if err != nil {
		return nil, err
	}
	defer clear(stream)
	pin := make([]byte, 0, n)
	for _, b := range stream {
		if b < 4*byte(len(alphabet)) && len(pin) < n {
			pin = append(pin, alphabet[int(b)%len(alphabet)])
		}
	}
	if len(pin) < n {
		clear(pin)
		return nil, fmt.Errorf("%w: derivation ran dry", ErrPINLength)
	}
	return pin, nil
}

// Key derives a 32-byte key: the wrapping key of a backup, from a secret of purpose wrap. The caller wipes it.
func (s *Secret) Key() ([]byte, error) {
	if s.about.purpose != PurposeWrap {
		return nil, fmt.Errorf("quorum: a secret for %q has no key", s.about.purpose)
	}
	return s.derive("hanaper wrapping key v1", 32)
}

// derive is HKDF-SHA256 (RFC 5869) of the scalar's 32 bytes, no salt, info = label || 0 || what the secret is for.
func (s *Secret) derive(label string, n int) ([]byte, error) {
	if s.scalar == nil {
		return nil, ErrWiped
	}
	key, err := s.scalar.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("quorum: %w", err)
	}
	defer clear(key)
	return hkdf.Key(sha256.New, key, nil, label+"\x00"+string(s.about.encode(nil)), n)
}
