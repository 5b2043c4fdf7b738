package uptane

import (
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
)

// The reasons for a refusal, for errors.Is. The error's text names the document and the place.
var (
	ErrMalformed   = errors.New("malformed metadata")
	ErrNotASCII    = errors.New("character outside printable ASCII")
	ErrNumber      = errors.New("not a 64-bit integer")
	ErrDuplicate   = errors.New("repeated member")
	ErrUnexpected  = errors.New("unexpected member")
	ErrKeyType     = errors.New("key type that devices refuse")
	ErrWeakKey     = errors.New("weak key")
	ErrKeyID       = errors.New("key id that is not its key's digest")
	ErrRepeatedKey = errors.New("repeated key id")
	ErrMethod      = errors.New("unsupported signature method")
	ErrSignature   = errors.New("signature does not verify")
	ErrSalt        = errors.New("wrong PSS salt length")
	ErrThreshold   = errors.New("threshold not met")
	ErrBadRule     = errors.New("threshold that cannot be met")
	ErrVersion     = errors.New("wrong version")
	ErrRollback    = errors.New("version lower than one already seen")
	ErrExpired     = errors.New("expired")
	ErrTime        = errors.New("time not in the form YYYY-MM-DDTHH:MM:SSZ")
	ErrTooLarge    = errors.New("larger than devices read")
	ErrType        = errors.New("wrong metadata type")
	ErrHash        = errors.New("hash or length mismatch")
	ErrDisagree    = errors.New("director and image repository disagree")
	ErrNoTarget    = errors.New("no such target")
	ErrDelegation  = errors.New("unusable delegation")
	ErrPolicy      = errors.New("policy not met")
	ErrUntrusted   = errors.New("not what is trusted")
	ErrRoles       = errors.New("one key for two roles")
)

// because returns an error that wraps the sentinel and says more.
func because(sentinel error, format string, args ...any) error {
	return &reason{sentinel: sentinel, text: fmt.Sprintf(format, args...)}
}

// hinted is because with advice on what to do.
func hinted(sentinel error, hint, format string, args ...any) error {
	return advice.Wrap(advice.Refused, because(sentinel, format, args...), hint)
}

type reason struct {
	sentinel error
	text     string
}

func (r *reason) Error() string { return r.text }
func (r *reason) Unwrap() error { return r.sentinel }

// refused marks an error of something that is about to be emitted; unverified one of something that was read.
func refused(err error) error    { return advice.Wrap(advice.Refused, err, "") }
func unverified(err error) error { return advice.Wrap(advice.Unverified, err, "") }
