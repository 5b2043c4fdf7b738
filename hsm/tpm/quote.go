package tpm

import (
	"context"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/internal/advice"
)

// Quote has the attestation key sign the values of platform configuration registers (TPM2_Quote) for this qualifying data of up to 32 bytes: of
// one bank (sha256, sha384, sha512), numbered 0 to 23. It gives the statement (TPMS_ATTEST) and its signature (TPMT_SIGNATURE).
func (t *Token) Quote(ctx context.Context, bank string, registers []int, qualifying []byte) (statement, signature []byte, err error) {
	alg, ok := map[string]tpm2.TPMIAlgHash{"sha256": tpm2.TPMAlgSHA256, "sha384": tpm2.TPMAlgSHA384, "sha512": tpm2.TPMAlgSHA512}[bank]
	if !ok {
		return nil, nil, advice.New(advice.Usage, "sha256, sha384 or sha512", "quote: bank %.20q is unknown", bank)
	}
	bits := make([]byte, 3)
	for _, n := range registers {
		if n < 0 || n > 23 {
			return nil, nil, advice.New(advice.Usage, "registers have the numbers 0 to 23", "quote: register %d", n)
		}
		bits[n/8] |= 1 << (n % 8)
	}
	type made struct{ statement, signature []byte }
	m, err := withAttestor(ctx, t, func(w *wire, root, attestor object) (made, error) {
		answer, err := tpm2.Quote{SignHandle: attestor.with(session(root, t.pin.Bytes(), both)), QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
			InScheme:  tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: alg, PCRSelect: bits}}}}.Execute(w)
		if err != nil {
			return made{}, err
		}
		return made{answer.Quoted.Bytes(), tpm2.Marshal(answer.Signature)}, nil
	})
	return m.statement, m.signature, t.fail(err, "quote registers")
}

// File is the key as a TSS2 PRIVATE KEY file, which only this TPM can load, with lines before it that say what it is. It is no secret.
func (k *Key) File() []byte { return k.f.encode() }
