package tpm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
)

// Measurement is what a TPM says of how its machine was started: registers that firmware, boot loader and kernel extended, and a
// statement of them that a key signs which never leaves the TPM.
type Measurement struct {
	// PCRs are the registers 0 to 15, in order, of the bank SHA-256.
	PCRs [][]byte
	// AttestationKey (TPMT_PUBLIC) is a primary key of the endorsement hierarchy: the same TPM makes the same one each time, so it is a
	// name of the machine. Statement (TPMS_ATTEST of TPM2_Quote) and Signature (TPMT_SIGNATURE) are over those registers.
	AttestationKey, Statement, Signature []byte
	// Endorsement is the endorsement key's certificate, DER; nil where the TPM holds none. Nothing here ties it to AttestationKey.
	Endorsement []byte
}

// atOnce is the patience with a machine that may have no TPM.
const atOnce = time.Millisecond

// Measure reads the registers of the TPM at a device (DefaultDevice if it is empty) and has them quoted for this qualifying data of up
// to 32 bytes. Nothing is kept: neither in the TPM nor on a disk. Without a TPM the error wraps hsm.ErrGone.
func Measure(ctx context.Context, device string, qualifying []byte) (*Measurement, error) {
	return operate(ctx, newChip(device, atOnce), func(w *wire) (*Measurement, error) { return measure(w, qualifying) })
}

func measure(w *wire, qualifying []byte) (*Measurement, error) {
	ak, err := createPrimary(w, tpm2.TPMRHEndorsement, attestorTemplate(), "attestation key")
	if err != nil {
		return nil, fmt.Errorf("make the attestation key: %w", err)
	}
	registers := make([]int, maxPCR+1)
	for n := range registers {
		registers[n] = n
	}
	// Somebody may extend a register between the reading and the quote: then both are made again.
	for range 3 {
		values, err := readPCRs(w, registers)
		if err != nil {
			return nil, err
		}
		answer, err := tpm2.Quote{SignHandle: ak.with(tpm2.PasswordAuth(nil)), QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selection(registers)}.Execute(w)
		if err != nil {
			return nil, fmt.Errorf("quote the registers: %w", err)
		}
		statement, err := answer.Quoted.Contents()
		if err != nil {
			return nil, err
		}
		quoted, err := statement.Attested.Quote()
		if err != nil {
			return nil, err
		}
		if string(quoted.PCRDigest.Buffer) != string(digestOf(values)) {
			continue
		}
		m := &Measurement{AttestationKey: tpm2.Marshal(*ak.public), Statement: answer.Quoted.Bytes(), Signature: tpm2.Marshal(answer.Signature)}
		for _, v := range values {
			raw, _ := hex.DecodeString(v.Value) // readPCRs checked it
			m.PCRs = append(m.PCRs, raw)
		}
		if e, err := findEndorsement(w); err == nil {
			m.Endorsement = e.certificate
		}
		return m, nil
	}
	return nil, errors.New("the TPM's registers change while they are read")
}

// Extend extends a register, 0 to 15, of the bank SHA-256 at the TPM of a device: its value is from then on the hash of what it was and
// the digest, and nothing but a restart of the machine takes that back. Without a TPM the error wraps hsm.ErrGone.
func Extend(ctx context.Context, device string, register int, digest [32]byte) error {
	if register < 0 || register > maxPCR {
		return fmt.Errorf("%w: register %d cannot be extended for good", hsm.ErrUnsupported, register)
	}
	_, err := operate(ctx, newChip(device, atOnce), func(w *wire) (struct{}, error) {
		_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}}}.Execute(w)
		return struct{}{}, err
	})
	return err
}
