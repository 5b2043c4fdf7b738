package page

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

const (
	// sealTime is how long a page's form may be sent.
	sealTime = 30 * time.Minute
	// maxSpent is how many spent seals are remembered; beyond, acts are refused until old ones have run out.
	maxSpent = 10000
)

// Seals makes and checks the tokens in forms. A token is bound to whom the page was made for, to the act, and to what the page
// showed; it works once, in this process, for half an hour. The key is made at the start and never leaves the memory.
type Seals struct {
	key [32]byte
	now func() time.Time

	mu    sync.Mutex
	spent map[[16]byte]time.Time
}

// NewSeals makes a key for tokens.
func NewSeals(now func() time.Time) *Seals {
	s := &Seals{now: now, spent: map[[16]byte]time.Time{}}
	_, _ = rand.Read(s.key[:]) // never fails (crypto/rand)
	return s
}

// A token is 16 random bytes, 8 of the time it ends, and the 32 of the MAC.
const sealLength = 16 + 8 + sha256.Size

var sealForm = base64.RawURLEncoding

func (s *Seals) mac(head []byte, holder []byte, what [32]byte) []byte {
	m := hmac.New(sha256.New, s.key[:])
	sum := sha256.Sum256(holder)
	m.Write(head)
	m.Write(sum[:])
	m.Write(what[:])
	return m.Sum(nil)
}

// Make gives the token for a page that showed what to somebody, whom holder names: by his certificate, or as the kernel does.
func (s *Seals) Make(holder []byte, what [32]byte) string {
	head := make([]byte, 24, sealLength)
	_, _ = rand.Read(head[:16])
	binary.BigEndian.PutUint64(head[16:], uint64(s.now().Add(sealTime).Unix()))
	return sealForm.EncodeToString(append(head, s.mac(head, holder, what)...))
}

var (
	errSeal    = errors.New("this form was not made for you, or by this server since it was started, or what it is about has changed since")
	errSealOld = errors.New("this form is older than half an hour")
	errSpent   = errors.New("this form was sent already")
	errMany    = errors.New("too many forms were sent in the last half hour")
)

// Spend checks a token and makes it useless from now on.
func (s *Seals) Spend(token string, holder []byte, what [32]byte) error {
	raw, err := sealForm.Strict().DecodeString(token)
	if err != nil || len(raw) != sealLength {
		return errSeal
	}
	head := raw[:24]
	if !hmac.Equal(raw[24:], s.mac(head, holder, what)) {
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
