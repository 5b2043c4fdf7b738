package attest_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
)

// BenchmarkVerifyTPM is what evidence adds to an enrolment: two RSA and two ECDSA signatures, and the structures.
func BenchmarkVerifyTPM(b *testing.B) {
	root, err := x509.ParseCertificate(golden(b, "tpm-root.der"))
	if err != nil {
		b.Fatal(err)
	}
	pinned, err := attest.NewManufacturers(attest.ManufacturerConfig{Name: "Acme", Kind: attest.TPM, Roots: []*x509.Certificate{root}})
	if err != nil {
		b.Fatal(err)
	}
	p := split(golden(b, "tpm-evidence.bin"))
	e := attest.TPMEvidence{EKChain: [][]byte{p[0], p[1]}, EKPublic: p[2], AKPublic: p[3], KeyPublic: p[4], Attest: p[5], Signature: p[6]}
	binding, err := e.Binding()
	if err != nil {
		b.Fatal(err)
	}
	key, err := attest.KeyOf(e.KeyPublic)
	if err != nil {
		b.Fatal(err)
	}
	w := attest.Want{Key: key, Qualifying: qualifying, Activation: attest.ByWitness("golden", binding), At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	for b.Loop() {
		if _, err := pinned.VerifyTPM(&e, w); err != nil {
			b.Fatal(err)
		}
	}
}
