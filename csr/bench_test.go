package csr

import "testing"

// BenchmarkParse reads a device's request and proves possession; most of it is the one signature.
func BenchmarkParse(b *testing.B) {
	for _, alg := range []string{"P-256", "P-384", "Ed25519", "RSA-2048"} {
		b.Run(alg, func(b *testing.B) {
			der, p := good(b, alg).der(b), DevicePolicy()
			for b.Loop() {
				if _, err := Parse(der, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
