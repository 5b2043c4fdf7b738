package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

const (
	// sealTime is how long a page's form may be sent.
	sealTime = 30 * time.Minute
	// maxSpent is how many spent seals are remembered; beyond, the console refuses acts until old ones have run out.
	maxSpent = 10000
)

// seals makes and checks the tokens in forms. A token is bound to the certificate that the page was made for, to the act, and to what the page
// showed; it works once, in this process, for half an hour. The key is made at the start and never leaves the memory.
type seals struct {
	key [32]byte
	now func() time.Time

	mu    sync.Mutex
	spent map[[16]byte]time.Time
}

func newSeals(now func() time.Time) *seals {
	s := &seals{now: now, spent: map[[16]byte]time.Time{}}
	_, _ = rand.Read(s.key[:]) // never fails (crypto/rand)
	return s
}

// A token is 16 random bytes, 8 of the time it ends, and the 32 of the MAC.
const sealLength = 16 + 8 + sha256.Size

var sealForm = base64.RawURLEncoding

func (s *seals) mac(head []byte, leaf *x509.Certificate, what [32]byte) []byte {
	m := hmac.New(sha256.New, s.key[:])
	holder := sha256.Sum256(leaf.Raw)
	m.Write(head)
	m.Write(holder[:])
	m.Write(what[:])
	return m.Sum(nil)
}

// make gives the token for a page that showed what to the holder of this certificate.
func (s *seals) make(leaf *x509.Certificate, what [32]byte) string {
	head := make([]byte, 24, sealLength)
	_, _ = rand.Read(head[:16])
	binary.BigEndian.PutUint64(head[16:], uint64(s.now().Add(sealTime).Unix()))
	return sealForm.EncodeToString(append(head, s.mac(head, leaf, what)...))
}

var (
	errSeal    = errors.New("this form was not made for your certificate, or by this server since it was started, or what it is about has changed since")
	errSealOld = errors.New("this form is older than half an hour")
	errSpent   = errors.New("this form was sent already")
	errMany    = errors.New("too many forms were sent in the last half hour")
)

// spend checks a token and makes it useless from now on.
func (s *seals) spend(token string, leaf *x509.Certificate, what [32]byte) error {
	raw, err := sealForm.Strict().DecodeString(token)
	if err != nil || len(raw) != sealLength {
		return errSeal
	}
	head := raw[:24]
	if !hmac.Equal(raw[24:], s.mac(head, leaf, what)) {
		return errSeal
	}
	now, end := s.now(), time.Unix(int64(binary.BigEndian.Uint64(head[16:])), 0)
	if now.After(end) {
		return errSealOld
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, ends := range s.spent {
		if now.After(ends) {
			delete(s.spent, id)
		}
	}
	id := [16]byte(head[:16])
	if _, known := s.spent[id]; known {
		return errSpent
	}
	if len(s.spent) >= maxSpent {
		return errMany
	}
	s.spent[id] = end
	return nil
}
