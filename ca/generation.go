package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math"

	"golang.org/x/crypto/cryptobyte"
)

// oidGeneration names the extension that holds a device's generation (docs/spec/certificates.md). It lies in the arc that Microsoft gives out by
// GUID, in parts of at most 24 bits: the arc 2.25 would make one number of 128 bits of it, which crypto/x509 and others do not read in a certificate.
var oidGeneration = asn1.ObjectIdentifier{1, 2, 840, 113556, 1, 8000, 2554, 39118, 56300, 476, 18215, 33346, 6046118, 9776393, 1}

// MaxGeneration is the greatest generation that a certificate can hold.
const MaxGeneration = math.MaxInt32

// Generation reads which generation of its device a certificate is: 1 for the first enrolment, one more for each after it. 0 means that the certificate
// does not say, as those of earlier releases.
func Generation(cert *x509.Certificate) (int, error) {
	var n int
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidGeneration) {
			continue
		}
		in := cryptobyte.String(e.Value)
		if n != 0 || e.Critical || !in.ReadASN1Integer(&n) || !in.Empty() || n < 1 || n > MaxGeneration {
			return 0, errors.New("ca: the generation in the certificate is malformed")
		}
	}
	return n, nil
}

func (c *content) addGeneration(b *cryptobyte.Builder) {
	if c.generation != 0 {
		addExtension(b, oidGeneration, false, func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(c.generation)) })
	}
}
