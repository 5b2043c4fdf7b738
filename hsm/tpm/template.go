package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
)

// storageRoot is the template of the parent of all keys: the elliptic-curve storage root key of TCG's provisioning guidance on
// P-256, with an empty unique field, as files of "TSS2 PRIVATE KEY" with the parent 0x40000001 mean it.
func storageRoot() tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return t
}

// storageRootPlaces is where a machine's installer keeps a storage root key, if it keeps one.
var storageRootPlaces = []tpm2.TPMHandle{0x81000001, 0x81000002}

// fixed are the attributes of an object that was made in this TPM and stays there.
func fixed() tpm2.TPMAObject {
	return tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true}
}

var curves = map[hsm.Algorithm]tpm2.TPMECCCurve{hsm.P256: tpm2.TPMECCNistP256, hsm.P384: tpm2.TPMECCNistP384}

var rsaBits = map[hsm.Algorithm]tpm2.TPMKeyBits{hsm.RSA2048: 2048, hsm.RSA3072: 3072}

// template is that of a key. Its scheme is left open: each signature says what it wants. A policy, if there is one, takes the place of
// the bare PIN.
func template(spec hsm.GenerateSpec, policy []byte) (tpm2.TPMTPublic, error) {
	t := tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: fixed(), AuthPolicy: tpm2.TPM2BDigest{Buffer: policy}}
	t.ObjectAttributes.UserWithAuth = len(policy) == 0
	t.ObjectAttributes.SignEncrypt = spec.Use == hsm.Signing
	t.ObjectAttributes.Decrypt = spec.Use != hsm.Signing
	if curve, ok := curves[spec.Algorithm]; ok {
		t.Type = tpm2.TPMAlgECC
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull},
			CurveID: curve, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}})
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
		return t, nil
	}
	if bits, ok := rsaBits[spec.Algorithm]; ok {
		t.Type = tpm2.TPMAlgRSA
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull}, KeyBits: bits})
		t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
		return t, nil
	}
	return t, fmt.Errorf("%w: algorithm %q", hsm.ErrUnsupported, string(spec.Algorithm))
}

// sealedTemplate is that of data that the TPM gives out for a PIN, a policy, or both.
func sealedTemplate(policy []byte, withPIN bool) tpm2.TPMTPublic {
	a := tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: len(policy) == 0, NoDA: !withPIN}
	return tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: a, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{})}
}
