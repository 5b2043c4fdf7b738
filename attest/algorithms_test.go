package attest_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/attest/attesttest"
)

// rsaTemplate is an RSA key with the attributes and, for an attestation key, the scheme given.
func rsaTemplate(like tpm2.TPMTPublic, scheme tpm2.TPMTRSAScheme) tpm2.TPMTPublic {
	like.Type = tpm2.TPMAlgRSA
	like.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: scheme, KeyBits: 2048})
	like.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	return like
}

// TestTPMAlgorithms: attestation keys and device keys of every kind that TPMs have, and the elliptic-curve endorsement key.
func TestTPMAlgorithms(t *testing.T) {
	maker := attesttest.NewMaker(t, "Acme")
	pinned := attesttest.Pin(t, attest.TPM, maker)
	chip := maker.NewChip(t)
	ssa := tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}
	pss := tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA384})}
	sha1 := tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA1})}
	rsaKey := rsaTemplate(attesttest.KeyTemplate(), tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull})
	for name, c := range map[string]struct {
		ak, key tpm2.TPMTPublic
		reason  error
	}{
		"RSASSA certifies ECC":  {rsaTemplate(attesttest.AKTemplate(), ssa), attesttest.KeyTemplate(), nil},
		"RSAPSS certifies RSA":  {rsaTemplate(attesttest.AKTemplate(), pss), rsaKey, nil},
		"ECDSA certifies RSA":   {attesttest.AKTemplate(), rsaKey, nil},
		"RSASSA with SHA-1":     {rsaTemplate(attesttest.AKTemplate(), sha1), attesttest.KeyTemplate(), attest.ErrAK},
		"a key named with SHA1": {attesttest.AKTemplate(), named(attesttest.KeyTemplate(), tpm2.TPMAlgSHA1), attest.ErrWeakKey},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := prove(t, pinned, chip, c.ak, c.key)
			if !errors.Is(err, c.reason) || (err == nil) != (c.reason == nil) {
				t.Errorf("%v, want %v", err, c.reason)
			}
		})
	}
	t.Run("ECC endorsement key", func(t *testing.T) {
		if _, err := prove(t, pinned, chip.ECC(t, maker), attesttest.AKTemplate(), attesttest.KeyTemplate()); err != nil {
			t.Error(err)
		}
	})
}

func named(k tpm2.TPMTPublic, alg tpm2.TPMIAlgHash) tpm2.TPMTPublic {
	k.NameAlg = alg
	return k
}

// prove makes evidence with keys of these templates and verifies it.
func prove(t *testing.T, pinned *attest.Manufacturers, chip *attesttest.Chip, akTemplate, keyTemplate tpm2.TPMTPublic) (*attest.Verdict, error) {
	t.Helper()
	ak, key := chip.New(t, akTemplate, "ak"), chip.New(t, keyTemplate, "key")
	defer key.Unload(t)
	defer ak.Unload(t)
	secrets := newSecrets()
	c, _, err := pinned.MakeCredential(rand.Reader, chip.EKChain, chip.EKPublic, ak.Public, secrets, time.Now().Add(time.Minute))
	if err != nil {
		return nil, err
	}
	secret, err := chip.Activate(ak, c.Blob, c.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	e := attest.TPMEvidence{EKChain: chip.EKChain, EKPublic: chip.EKPublic, AKPublic: ak.Public, KeyPublic: key.Public, Secret: secret}
	e.Attest, e.Signature = ak.Certify(t, key, qualifying)
	return pinned.VerifyTPM(&e, attest.Want{Key: key.Key, Qualifying: qualifying, Activation: attest.BySecret(secrets), At: time.Now().Add(time.Minute)})
}
