package pkcs11

import (
	"crypto/subtle"

	"golang.org/x/sys/unix"
)

// secret holds a PIN outside Go's heap, in one page that is locked into memory and left out of core dumps.
type secret struct {
	page []byte
	n    int
}

// newSecret copies pin. It is nil where the system does not lock memory: then the PIN is not kept.
func newSecret(pin []byte) *secret {
	page, err := unix.Mmap(-1, 0, max(unix.Getpagesize(), len(pin)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil
	}
	if err := unix.Mlock(page); err != nil {
		_ = unix.Munmap(page)
		return nil
	}
	dontDump(page)
	return &secret{page: page, n: copy(page, pin)}
}

func (s *secret) bytes() []byte { return s.page[:s.n] }

func (s *secret) equal(pin []byte) bool { return subtle.ConstantTimeCompare(s.bytes(), pin) == 1 }

// wipe overwrites and frees the page. A nil secret has nothing to wipe.
func (s *secret) wipe() {
	if s == nil || s.page == nil {
		return
	}
	clear(s.page)
	_ = unix.Munlock(s.page)
	_ = unix.Munmap(s.page)
	s.page, s.n = nil, 0
}
