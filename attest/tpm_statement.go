package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// tpmGenerated begins every statement that a TPM signs by itself (TPM_GENERATED_VALUE, part 2, section 6.2): 0xff "TCG".
const tpmGenerated = 0xff544347

// parseStatement reads a TPMS_ATTEST (part 2, section 10.12.12) of one type, made for qualifying, and its signature.
func (ak *tpmKey) parseStatement(what string, data, signature []byte, kind tpm2.TPMST, qualifying []byte) (*tpm2.TPMSAttest, error) {
	if len(data) >= 4 && binary.BigEndian.Uint32(data) != tpmGenerated {
		return nil, refuse(ErrNotFromTPM, "the %s begins with %x, not with the mark of a tpm's own statements (ff544347)", what, data[:4])
	}
	if len(data) >= 6 {
		if got := binary.BigEndian.Uint16(data[4:]); got != uint16(kind) {
			return nil, refuse(ErrStatement, "the %s has type 0x%04x, not 0x%04x", what, got, uint16(kind))
		}
	}
	st, err := decode[tpm2.TPMSAttest](what, data)
	if err != nil {
		return nil, err
	}
	if err := ak.checkSignature(what, data, signature); err != nil {
		return nil, err
	}
	if len(qualifying) == 0 || subtle.ConstantTimeCompare(st.ExtraData.Buffer, qualifying) != 1 {
		return nil, refuse(ErrStale, "the %s was not made for this challenge and request", what)
	}
	return st, nil
}

// checkSignature verifies a TPMT_SIGNATURE (part 2, section 11.3.4) by the scheme that the attestation key has for good,
// so that the evidence cannot choose a weaker one.
func (ak *tpmKey) checkSignature(what string, data, signature []byte) error {
	alg, hash, err := ak.scheme()
	if err != nil {
		return err
	}
	sig, err := decode[tpm2.TPMTSignature]("signature of the "+what, signature)
	if err != nil {
		return err
	}
	if sig.SigAlg != alg {
		return refuse(ErrSignature, "the %s is signed with scheme 0x%04x, the attestation key's is 0x%04x", what, uint16(sig.SigAlg), uint16(alg))
	}
	var used tpm2.TPMIAlgHash
	var verify func(digest []byte) bool
	switch k := ak.pub.(type) {
	case *rsa.PublicKey:
		s, err := sig.Signature.RSASSA()
		if alg == tpm2.TPMAlgRSAPSS {
			s, err = sig.Signature.RSAPSS()
		}
		if err != nil {
			return refuse(ErrMalformed, "signature of the %s: %w", what, err)
		}
		used = s.Hash
		verify = func(digest []byte) bool {
			if alg == tpm2.TPMAlgRSAPSS { // TPMs differ in the length of the salt
				return rsa.VerifyPSS(k, hash, digest, s.Sig.Buffer, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
			}
			return rsa.VerifyPKCS1v15(k, hash, digest, s.Sig.Buffer) == nil
		}
	case *ecdsa.PublicKey:
		s, err := sig.Signature.ECDSA()
		if err != nil {
			return refuse(ErrMalformed, "signature of the %s: %w", what, err)
		}
		used = s.Hash
		verify = func(digest []byte) bool {
			return ecdsa.Verify(k, digest, new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer))
		}
	}
	if sha2(used) != hash {
		return refuse(ErrSignature, "the %s is signed with hash 0x%04x, the attestation key's is %s", what, uint16(used), hash)
	}
	h := hash.New()
	h.Write(data)
	if !verify(h.Sum(nil)) {
		return refuse(ErrSignature, "the attestation key did not sign this %s", what)
	}
	return nil
}

// checkCertified: the statement is TPM2_Certify's and names the key.
func (ak *tpmKey) checkCertified(data, signature, qualifying []byte, key *tpmKey) (*tpm2.TPMSAttest, error) {
	st, err := ak.parseStatement("key statement", data, signature, tpm2.TPMSTAttestCertify, qualifying)
	if err != nil {
		return nil, err
	}
	info, err := st.Attested.Certify()
	if err != nil {
		return nil, refuse(ErrMalformed, "key statement: %w", err)
	}
	if !bytes.Equal(info.Name.Buffer, key.name) {
		return nil, refuse(ErrOtherKey, "the tpm certified the object %x, and the public area is that of %x", info.Name.Buffer, key.name)
	}
	return st, nil
}

// hashOf is the hash of a concatenation.
func hashOf(h crypto.Hash, parts ...[]byte) []byte {
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}
