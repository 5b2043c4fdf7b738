package pkcs11

import (
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
)

// Constants of PKCS#11 v3.0 that the binding lacks.
const (
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
	ckkECEdwards           = 0x40
	ckmAESKeyWrapPad       = 0x210A // CKM_AES_KEY_WRAP_PAD of v2.40, as SoftHSM has it (CKM_AES_KEY_WRAP_KWP is 0x210B)
	ckmAESKeyWrapKWP       = 0x210B
	ckrActionProhibited    = 0x1B
	ckUnavailable          = ^uint(0)
)

// code is the CK_RV in err, and CKR_OK where there is none.
func code(err error) uint {
	var e p11.Error
	if errors.As(err, &e) {
		return uint(e)
	}
	return p11.CKR_OK
}

// lost says whether err means that a session, the login, the token or the library went away, so that recovery may help.
func lost(err error) bool {
	if errors.Is(err, errStale) {
		return true
	}
	switch code(err) {
	case p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_DEVICE_REMOVED, p11.CKR_SLOT_ID_INVALID, p11.CKR_TOKEN_NOT_RECOGNIZED,
		p11.CKR_OPERATION_ACTIVE: // an earlier call left its operation open in this session
		return true
	}
	return broken(err)
}

// sick says whether err is one that some libraries answer to everything until they are started anew, while they claim that
// sessions and login are well. Others answer so to one request only.
func sick(err error) bool {
	c := code(err)
	return c == p11.CKR_GENERAL_ERROR || c == p11.CKR_FUNCTION_FAILED || c == p11.CKR_DEVICE_ERROR
}

// broken says whether the library itself may need a restart (p11-kit's client answers CKR_DEVICE_ERROR for ever).
func broken(err error) bool {
	switch code(err) {
	case p11.CKR_DEVICE_ERROR, p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_CRYPTOKI_NOT_INITIALIZED:
		return true
	}
	return false
}

// NeedsNewProcess says whether err is one of those that, where this package's own recovery did not help, the library may answer for
// ever in this process: a process that loads it anew may help.
func NeedsNewProcess(err error) bool { return broken(err) || errors.Is(err, hsm.ErrGone) }

// deadHandle says whether an object's handle is not valid any more: 0x82 in SoftHSM and p11-kit, 0x60 in TPMs, NSS and OpenSC.
func deadHandle(err error) bool {
	c := code(err)
	return c == p11.CKR_OBJECT_HANDLE_INVALID || c == p11.CKR_KEY_HANDLE_INVALID
}

// hint says what to do about an error of this library.
func (m *module) hint(err error) string {
	if sick(err) {
		return hintOf(err) + "; " + Advice(m.path)
	}
	return hintOf(err)
}

// hintOf says what to do about a CK_RV.
func hintOf(err error) string {
	switch code(err) {
	case p11.CKR_DEVICE_ERROR, p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED:
		return "look at the token, its connection and its own log"
	case p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_DEVICE_REMOVED, p11.CKR_TOKEN_NOT_RECOGNIZED:
		return "put the token back"
	case p11.CKR_DEVICE_MEMORY:
		return "the token is full: destroy what is not needed any more"
	case p11.CKR_FUNCTION_NOT_SUPPORTED:
		return "the token's library has no such function: use the tool of the token's maker for it"
	case p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID, p11.CKR_CURVE_NOT_SUPPORTED,
		p11.CKR_KEY_SIZE_RANGE, p11.CKR_DOMAIN_PARAMS_INVALID:
		return "this token lacks it; `hanaper token show` lists its mechanisms"
	case p11.CKR_USER_NOT_LOGGED_IN:
		return "log in: give the PIN by prompt or pin-source"
	case p11.CKR_TOKEN_WRITE_PROTECTED, p11.CKR_SESSION_READ_ONLY:
		return "the token is write-protected"
	case p11.CKR_PIN_LEN_RANGE, p11.CKR_PIN_INVALID:
		return "choose a PIN within the token's limits; `hanaper token show` tells them"
	case p11.CKR_USER_PIN_NOT_INITIALIZED:
		return "the security officer must set the user PIN first"
	case p11.CKR_WRAPPED_KEY_INVALID, p11.CKR_WRAPPED_KEY_LEN_RANGE, p11.CKR_UNWRAPPING_KEY_HANDLE_INVALID:
		return "the backup is damaged or was made under another wrapping key"
	case p11.CKR_USER_TYPE_INVALID:
		return "this token has no security officer, so nobody can mark a wrapping key as trusted: it makes no backups"
	case p11.CKR_SESSION_COUNT:
		return "the token takes no further session: close the other programs, or other parts of this one, that have it open"
	case p11.CKR_KEY_UNEXTRACTABLE, p11.CKR_KEY_NOT_WRAPPABLE:
		return "only a key of class backup can be wrapped, under a trusted wrapping key"
	}
	return ""
}
