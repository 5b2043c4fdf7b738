package tpm_test

import (
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
)

// BenchmarkSign is a signature through a store: connection, sweep, contexts, a salted session, the signature, its check.
func BenchmarkSign(b *testing.B) {
	c := tpmtest.New(b)
	u, _ := newStore(b, c, tpm.NewStore{})
	k, err := open(b, u).Generate(bg, hsm.GenerateSpec{Label: "key", Algorithm: hsm.P256})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		signs(b, k, hashSHA256)
	}
}

// BenchmarkBare is the TPM's own speed: a key that stays loaded, and its PIN in the clear.
func BenchmarkBare(b *testing.B) {
	c := tpmtest.New(b)
	t, err := linuxudstpm.Open(c.Socket)
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.TPMTPublic{Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, SignEncrypt: true},
		Parameters:       tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull}, CurveID: tpm2.TPMECCNistP256, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}})})}.Execute(t)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := (tpm2.Sign{KeyHandle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, Digest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}).Execute(t); err != nil {
			b.Fatal(err)
		}
	}
}
