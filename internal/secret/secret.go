// Package secret keeps a PIN out of Go's heap, which is copied and never wiped: in one page that is locked into memory and left
// out of core dumps. An attacker who can read this process's memory reads it; one who gets a swap file or a core dump does not.
package secret

import (
	"crypto/subtle"

	"golang.org/x/sys/unix"
)

// Secret is a kept PIN. It is not safe for concurrent use.
type Secret struct {
	page []byte
	n    int
	// ordinary memory was not mapped for this alone.
	ordinary bool
}

// New copies pin, which the caller wipes. It is nil where the system does not lock memory: then the PIN is not kept.
func New(pin []byte) *Secret {
	page, err := unix.Mmap(-1, 0, max(unix.Getpagesize(), len(pin)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil
	}
	if err := unix.Mlock(page); err != nil {
		_ = unix.Munmap(page)
		return nil
	}
	dontDump(page)
	return &Secret{page: page, n: copy(page, pin)}
}

// NewUnasked is New for what nobody can be asked for again: where the system does not lock memory, it lies in ordinary memory.
func NewUnasked(b []byte) *Secret {
	if s := New(b); s != nil {
		return s
	}
	return &Secret{page: append(make([]byte, 0, len(b)), b...), n: len(b), ordinary: true}
}

// Bytes is the PIN where it lies; nil of a nil Secret. It is gone after Wipe: copy what is used longer.
func (s *Secret) Bytes() []byte {
	if s == nil {
		return nil
	}
	return s.page[:s.n]
}

// Clear overwrites the PIN and leaves the page where it is, for what was left behind and may still read there.
func (s *Secret) Clear() {
	if s != nil {
		clear(s.page)
	}
}

// Equal compares without telling by its time where the two differ.
func (s *Secret) Equal(pin []byte) bool { return subtle.ConstantTimeCompare(s.Bytes(), pin) == 1 }

// Wipe overwrites and frees the page. A nil Secret has nothing to wipe.
func (s *Secret) Wipe() {
	if s == nil || s.page == nil {
		return
	}
	clear(s.page)
	if !s.ordinary {
		_ = unix.Munlock(s.page)
		_ = unix.Munmap(s.page)
	}
	s.page, s.n = nil, 0
}
