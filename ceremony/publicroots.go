package ceremony

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"strings"
	"sync"
)

// publicRootList holds the SHA-256 of the public keys of the roots that browsers trust, one a line. It is compiled in
// and not read from the machine, so that a transcript is judged alike everywhere.
//
//go:embed publicroots.txt
var publicRootList string

var publicRoots = sync.OnceValue(func() map[[32]byte]bool {
	roots := map[[32]byte]bool{}
	for line := range strings.Lines(publicRootList) {
		if sum, err := hex.DecodeString(strings.TrimSpace(line)); err == nil && len(sum) == 32 {
			roots[[32]byte(sum)] = true
		}
	}
	return roots
})

// publicRoot says whether a certificate is for the key of a root that browsers trust. Such a CA certifies anybody: as an
// anchor it would let everybody's devices in.
func publicRoot(cert *x509.Certificate) bool {
	return publicRoots()[sha256.Sum256(cert.RawSubjectPublicKeyInfo)]
}
