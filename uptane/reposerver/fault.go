package reposerver

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Why a server refused, for errors.Is.
var (
	// ErrChecksum: the targets on the server are not those that the caller built on. garage-sign exits with 2.
	ErrChecksum = errors.New("could not overwrite targets, trying to update an older version of role; pull the targets first")
	// ErrNotFound: there is no such role, key or file.
	ErrNotFound = errors.New("not found on the server")
	// ErrKeySealed: the server holds the key in a token that never gives it out. CosignRoot is the way.
	ErrKeySealed = errors.New("the server's key never leaves its token")
	// ErrKeyInUse: the server does not destroy a key that the current root lists.
	ErrKeyInUse = errors.New("the key is listed in the current root")
	// ErrTooBig: the file is larger than the server takes.
	ErrTooBig = errors.New("larger than the server takes")
	// ErrExists: a file of this name was uploaded already.
	ErrExists = errors.New("was uploaded already")
	// ErrUnauthorized: the server does not know the caller.
	ErrUnauthorized = errors.New("the server refuses the credentials")
)

// The codes in the server's error documents.
const (
	codeChecksumMismatch = "role_checksum_mismatch"
	codeChecksumAbsent   = "role_checksum_not_provided"
	codeNotFound         = "missing_entity"
	codeKeySealed        = "private_key_sealed"
	codeKeyInUse         = "private_key_in_use"
	codeTooLarge         = "payload_too_large"
	codeExists           = "entity_already_exists"
	codeInvalidRoot      = "invalid_root_role"
	codeInvalidTargets   = "invalid_offline_targets"
	codeBadSignature     = "payload_signature_invalid"
	codeNoDelegation     = "delegations_not_defined"
	codeBadRequest       = "invalid_entity"
	codeUnauthorized     = "unauthorized"
	codeForbidden        = "forbidden"
	codeNotImplemented   = "not_implemented"
	codeECURegistered    = "ecu_already_registered"
	codeNotRegistered    = "device_not_registered"
	codeNotUploaded      = "image_not_uploaded"
	codeInternal         = "internal_server_error"
	codeBusy             = "too_many_requests"
)

// ResponseError is an answer other than success.
type ResponseError struct {
	Status      int
	Method      string
	Path        string
	Code        string // of the error document; may be empty
	Description string
}

func (e *ResponseError) Error() string {
	text := fmt.Sprintf("%s %s: the server answers %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Description != "" {
		text += ": " + e.Description
	}
	return text
}

// Is maps status and code to this package's sentinels.
func (e *ResponseError) Is(target error) bool {
	switch target {
	case ErrChecksum:
		return e.Status == http.StatusPreconditionFailed && e.Code == codeChecksumMismatch || e.Status == http.StatusPreconditionRequired
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrKeySealed:
		return e.Status == http.StatusConflict && e.Code == codeKeySealed
	case ErrKeyInUse:
		return e.Status == http.StatusConflict && e.Code == codeKeyInUse
	case ErrTooBig:
		return e.Status == http.StatusRequestEntityTooLarge
	case ErrExists:
		return e.Status == http.StatusConflict && e.Code == codeExists
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// printable makes a server's text fit for a terminal.
func printable(s string) string {
	const most = 1000
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.TrimSpace(s)
}
