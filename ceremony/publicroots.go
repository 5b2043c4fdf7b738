package ceremony

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"strings"
	"sync"

	"github.com/hanaper/hanaper/internal/format"
)

// publicRootList holds the SHA-256 of the public keys of the roots that browsers trust, one a line. It is compiled in
// and not read from the machine, so that a transcript is judged alike everywhere. A line that is added later ends in a
// space and the format of transcripts from which it counts.
//
//go:embed publicroots.txt
var publicRootList string

var publicRoots = sync.OnceValue(func() map[[32]byte]format.Version {
	roots := map[[32]byte]format.Version{}
	for line := range strings.Lines(publicRootList) {
		digest, since, later := strings.Cut(strings.TrimSpace(line), " ")
		sum, err := hex.DecodeString(digest)
		if err != nil || len(sum) != 32 {
			continue
		}
		roots[[32]byte(sum)] = format.First
		if later {
			roots[[32]byte(sum)] = format.Must(since)
		}
	}
	return roots
})

// publicRoot says whether a certificate is for the key of a root that browsers trust, and since when the list says so.
// Such a CA certifies anybody: as an anchor it would let everybody's devices in.
func publicRoot(cert *x509.Certificate) (since format.Version, ok bool) {
	since, ok = publicRoots()[sha256.Sum256(cert.RawSubjectPublicKeyInfo)]
	return since, ok
}
