package gateway

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math"

	"golang.org/x/crypto/cryptobyte"
)

// oidGeneration is the extension in which a device's certificate says which generation of it this is (docs/spec/certificates.md).
var oidGeneration = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 39118, 56300, 476, 18215, 33346, 6046118, 9776393, 1}

// generation reads it strictly: one extension, not critical, with one positive INTEGER in DER. 0 means that the certificate does not say.
func generation(c *x509.Certificate) (int, error) {
	var n int
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidGeneration) {
			continue
		}
		in := cryptobyte.String(e.Value)
		if n != 0 || e.Critical || !in.ReadASN1Integer(&n) || !in.Empty() || n < 1 || n > math.MaxInt32 {
			return 0, errors.New("its generation is malformed")
		}
	}
	return n, nil
}
