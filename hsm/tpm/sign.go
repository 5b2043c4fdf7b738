package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"math/big"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/signature"
)

var hashes = map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512}

// Sign signs as hsm.Key says; the reader is not used, for the TPM has its own randomness.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

// SignContext is Sign within a context. Every signature is verified here before it is handed on: TPMs differ in the salt of
// RSA-PSS, and one whose salt is not as long as the hash is refused (hsm.ErrUnsupported).
func (k *Key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := k.scheme(digest, opts)
	if err != nil {
		return nil, k.t.fail(err, "sign with %s", k.name())
	}
	sig, err := use(ctx, k, func(w *wire, root, key object) ([]byte, error) { return k.t.sign(w, root, key, digest, scheme) })
	if err == nil {
		err = checkSignature(k.f.key, digest, opts, sig)
	}
	if err != nil {
		return nil, k.t.fail(err, "sign with %s", k.name())
	}
	return sig, nil
}

// scheme is what the TPM is told about a signature.
func (k *Key) scheme(digest []byte, opts crypto.SignerOpts) (tpm2.TPMTSigScheme, error) {
	var none tpm2.TPMTSigScheme
	if !k.f.attributes().Sign {
		return none, advice.New(advice.Usage, "use a key that was generated for signing", "it is not for signatures")
	}
	if opts == nil {
		return none, advice.New(advice.Usage, "name the hash", "no hash is named")
	}
	h := opts.HashFunc()
	alg, ok := hashes[h]
	if !ok || len(digest) != h.Size() {
		return none, advice.New(advice.Usage, "sign a digest of SHA-256, SHA-384 or SHA-512", "%d bytes with hash %v cannot be signed", len(digest), h)
	}
	return schemeOf(k.f.key, alg, opts)
}

func schemeOf(pub crypto.PublicKey, alg tpm2.TPMIAlgHash, opts crypto.SignerOpts) (tpm2.TPMTSigScheme, error) {
	hash := tpm2.TPMSSchemeHash{HashAlg: alg}
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &hash)}, nil
	}
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok {
		return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &hash)}, nil
	}
	if pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != opts.HashFunc().Size() {
		return tpm2.TPMTSigScheme{}, advice.New(advice.Usage, "ask for a salt as long as the hash", "%w: a PSS salt of another length than the hash's", hsm.ErrUnsupported)
	}
	return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgRSAPSS, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSAPSS, &hash)}, nil
}

// sign has the TPM sign.
func (t *Token) sign(w *wire, root, key object, digest []byte, scheme tpm2.TPMTSigScheme) ([]byte, error) {
	answer, err := tpm2.Sign{KeyHandle: key.with(t.authority(root, t.s.PCRs, in)), Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: scheme,
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(w)
	if err != nil {
		return nil, err
	}
	return encodeSignature(&answer.Signature)
}

// encodeSignature is a signature of the TPM in the form that crypto.Signer has.
func encodeSignature(s *tpm2.TPMTSignature) ([]byte, error) {
	switch s.SigAlg {
	case tpm2.TPMAlgECDSA:
		ec, err := s.Signature.ECDSA()
		if err != nil {
			return nil, err
		}
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1BigInt(new(big.Int).SetBytes(ec.SignatureR.Buffer))
			b.AddASN1BigInt(new(big.Int).SetBytes(ec.SignatureS.Buffer))
		})
		return b.Bytes()
	case tpm2.TPMAlgRSASSA:
		r, err := s.Signature.RSASSA()
		if err != nil {
			return nil, err
		}
		return r.Sig.Buffer, nil
	case tpm2.TPMAlgRSAPSS:
		r, err := s.Signature.RSAPSS()
		if err != nil {
			return nil, err
		}
		return r.Sig.Buffer, nil
	}
	return nil, fmt.Errorf("the TPM answered with a signature of another kind (0x%04x)", uint16(s.SigAlg))
}

// checkSignature verifies; PSS is held to a salt as long as the hash.
func checkSignature(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts, sig []byte) error {
	pss, isPSS := opts.(*rsa.PSSOptions)
	if isPSS {
		exact := *pss
		exact.SaltLength = rsa.PSSSaltLengthEqualsHash
		exact.Hash = opts.HashFunc()
		opts = &exact
	}
	if signature.Verify(pub, digest, opts, sig) {
		return nil
	}
	if isPSS && signature.VerifyAnySalt(pub, digest, sig) {
		return advice.New(advice.Failed, "use P-256 or P-384 in this TPM, or RSA with PKCS #1 v1.5", "%w: this TPM's RSA-PSS salt is not as long as the hash, which others refuse", hsm.ErrUnsupported)
	}
	return advice.New(advice.Failed, "do not use this TPM until its vendor has explained it", "the TPM's signature does not verify")
}
