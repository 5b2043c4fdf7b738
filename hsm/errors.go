package hsm

import (
	"errors"

	"github.com/hanaper/hanaper/internal/advice"
)

// What can be wrong with a token or a key. Errors that wrap these name the token's label and serial.
var (
	// ErrNoToken: no token matches the URI.
	ErrNoToken = errors.New("no such token")
	// ErrAmbiguous: more than one token, key or certificate matches.
	ErrAmbiguous = errors.New("more than one matches")
	// ErrNoKey: no key, or no certificate, matches the query.
	ErrNoKey = errors.New("no such object")
	// ErrExists: an object with this label or id is in the token already.
	ErrExists = errors.New("exists already")
	// ErrPIN: the token refused the PIN. It is never tried again by itself, for each try may be one of the last.
	ErrPIN = errors.New("PIN refused")
	// ErrPINLocked: the token accepts no PIN any more until the security officer sets a new one.
	ErrPINLocked = errors.New("PIN locked")
	// ErrAttributes: a fresh key's attributes are not those of its class.
	ErrAttributes = errors.New("attributes are not those of the key's class")
	// ErrUnsupported: the token has no mechanism for what was asked.
	ErrUnsupported = errors.New("not supported by the token")
	// ErrGone: the token or its module went away and did not come back within the context's time.
	ErrGone = errors.New("token went away")
	// ErrClosed: the token was closed.
	ErrClosed = errors.New("token is closed")
)

// Unattended gives an error of a service the kind Refused where the token refused its PIN: whoever starts a service that failed anew, as systemd does,
// must not start this one, for each start would be one more try.
func Unattended(err error) error {
	if errors.Is(err, ErrPIN) || errors.Is(err, ErrPINLocked) {
		return advice.Wrap(advice.Refused, err, "")
	}
	return err
}
