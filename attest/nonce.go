package attest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"time"
)

// A nonce is version 1, the time of issue (milliseconds since 1970, 8 octets), 16 random octets, and the first 16 octets of
// an HMAC over all of them and over whom it is for.
const (
	nonceVersion = 1
	nonceBody    = 1 + 8 + 16
	nonceLen     = nonceBody + 16
	// clockSkew is how far the clocks of servers that share a key may differ.
	clockSkew = time.Minute
)

// Challenger makes nonces and knows them again without keeping them, so that they outlive a restart, and so that any server
// that has the same key takes them. That a nonce is used once is for the caller to see to, in a store that all servers
// share. An attacker who has the key can make nonces and secrets of credentials, and so can present old evidence, or an
// attestation key that no TPM holds.
type Challenger struct {
	key      []byte
	lifetime time.Duration
}

// NewChallenger takes a secret of at least 32 octets, and how long a nonce lives.
func NewChallenger(key []byte, lifetime time.Duration) (*Challenger, error) {
	if len(key) < 32 {
		return nil, refuse(ErrPolicy, "the key for challenges has %d octets, fewer than 32", len(key))
	}
	if lifetime < time.Second || lifetime > 24*time.Hour {
		return nil, refuse(ErrPolicy, "challenges live %s, not 1s to 24h", lifetime)
	}
	return &Challenger{key, lifetime}, nil
}

// Issue makes a nonce for the parties named, such as a station and a device id, in their order.
func (c *Challenger) Issue(rand io.Reader, at time.Time, parties ...string) (nonce []byte, until time.Time, err error) {
	nonce = make([]byte, nonceBody, nonceLen)
	nonce[0] = nonceVersion
	binary.BigEndian.PutUint64(nonce[1:], uint64(at.UnixMilli()))
	if _, err := io.ReadFull(rand, nonce[9:]); err != nil {
		return nil, time.Time{}, err
	}
	return append(nonce, c.mac(nonce, parties)...), at.Add(c.lifetime), nil
}

func (c *Challenger) mac(body []byte, parties []string) []byte {
	parts := [][]byte{body}
	for _, p := range parties {
		parts = append(parts, []byte(p))
	}
	h := hmac.New(sha256.New, c.key)
	h.Write(Qualifying("hanaper nonce v1", parts...))
	return h.Sum(nil)[:nonceLen-nonceBody]
}

// Check tells when a nonce was issued to these parties; it refuses one that was not, or whose time is over.
func (c *Challenger) Check(nonce []byte, at time.Time, parties ...string) (issued time.Time, err error) {
	if len(nonce) != nonceLen || nonce[0] != nonceVersion || !hmac.Equal(nonce[nonceBody:], c.mac(nonce[:nonceBody], parties)) {
		return time.Time{}, refuse(ErrNonce, "it was made up, or issued to another station, for another device, or under another key")
	}
	issued = nonceTime(nonce)
	if at.After(issued.Add(c.lifetime)) || issued.After(at.Add(clockSkew)) {
		return time.Time{}, refuse(ErrNonceExpired, "it was issued at %s and is taken for %s; it is %s", issued.UTC().Format(time.RFC3339), c.lifetime, at.UTC().Format(time.RFC3339))
	}
	return issued, nil
}

func nonceTime(nonce []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(nonce[1:])))
}

// Secrets are those of credentials that are issued with a nonce.
func (c *Challenger) Secrets(nonce []byte) Secrets { return SecretsFrom(c.key, nonce) }
