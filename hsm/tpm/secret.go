package tpm

import "golang.org/x/sys/unix"

// secret holds bytes outside Go's heap, in memory that is locked, so that it does not reach a swap file. The library copies a PIN for the
// moment of each use.
type secret struct {
	page []byte
	n    int
}

// newSecret copies b and wipes it. Where the system does not lock memory the secret stays in ordinary memory.
func newSecret(b []byte) *secret {
	defer clear(b)
	page, err := unix.Mmap(-1, 0, max(unix.Getpagesize(), len(b)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return &secret{page: append([]byte(nil), b...), n: len(b)}
	}
	_ = unix.Mlock(page)
	dontDump(page)
	return &secret{page: page, n: copy(page, b)}
}

func (s *secret) bytes() []byte {
	if s == nil {
		return nil
	}
	return s.page[:s.n]
}

// wipe overwrites the secret. The page stays mapped: an operation that its caller left may still read it.
func (s *secret) wipe() {
	if s != nil {
		clear(s.page)
	}
}
