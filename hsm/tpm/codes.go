package tpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
)

// gone says whether the TPM itself did not answer.
func gone(err error) bool { return errors.Is(err, hsm.ErrGone) }

// wrongPIN says whether the TPM refused an authorisation value.
func wrongPIN(err error) bool {
	return errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth)
}

// notOurs says whether an object cannot be loaded because another TPM made it, the TPM was cleared since, or it was changed.
func notOurs(err error) bool {
	return errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCBinding)
}

// explain says in words what an answer of the TPM means, and what to do.
func explain(err error) (kind advice.Kind, hint string, sentinel error) {
	kind, hint = advice.KindOf(err), advice.Hint(err)
	if hint != "" {
		return kind, hint, nil
	}
	switch {
	case wrongPIN(err):
		return kind, "the TPM counts wrong PINs for all its keys together; `hanaper token list --store FOLDER` shows the count", hsm.ErrPIN
	case errors.Is(err, tpm2.TPMRCLockout), errors.Is(err, hsm.ErrPINLocked):
		return kind, "the TPM takes no PIN after too many wrong ones: wait for its recovery time, or reset the lockout with tpm2_dictionarylockout", hsm.ErrPINLocked
	case notOurs(err):
		return kind, "it was made by another TPM, or before this TPM was cleared, or its file was changed: restore the file from your own copy", nil
	case errors.Is(err, tpm2.TPMRCObjectMemory), errors.Is(err, tpm2.TPMRCSessionMemory), errors.Is(err, tpm2.TPMRCObjectHandles):
		return kind, "another program fills the TPM's few places: use /dev/tpmrm0, or tpm2_flushcontext -t", nil
	case errors.Is(err, tpm2.TPMRCInitialize):
		return kind, "the TPM was not started: an emulator needs the flag startup-clear, and a machine's firmware does it", nil
	case errors.Is(err, tpm2.TPMRCFailure):
		return kind, "the TPM failed its self-test: switch the machine off and on, and replace the TPM if it stays so", nil
	case errors.Is(err, tpm2.TPMRCValue), errors.Is(err, tpm2.TPMRCKeySize), errors.Is(err, tpm2.TPMRCCurve), errors.Is(err, tpm2.TPMRCScheme), errors.Is(err, tpm2.TPMRCHash):
		return kind, "the TPM has no such algorithm or size", nil
	case errors.Is(err, durable.ErrLocked):
		return kind, "another program changes the store: try again when it is done", nil
	case errors.Is(err, fs.ErrPermission):
		return kind, "let this user read and write it: the group `tss` often has the TPM, and the store belongs to the user of the program", nil
	case gone(err):
		return kind, "is the device or socket right, and may this user open it?", nil
	case errors.Is(err, context.DeadlineExceeded):
		return kind, "the TPM is slow or busy; allow more time", nil
	}
	return kind, "", nil
}

// failed names the token and what was tried.
func failed(err error, name, format string, args ...any) error {
	if err == nil {
		return nil
	}
	kind, hint, sentinel := explain(err)
	if sentinel != nil && !errors.Is(err, sentinel) {
		err = fmt.Errorf("%w: %w", sentinel, err)
	}
	return advice.New(kind, hint, "%s: %s: %w", show.Line(name), fmt.Sprintf(format, args...), err)
}
