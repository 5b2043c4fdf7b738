// Package advice has errors that say what to do next and which exit code they deserve.
package advice

import (
	"errors"
	"fmt"
)

// Kind is the class of an outcome; its value is the process's exit code.
type Kind int

const (
	// Failed: something went wrong on the way.
	Failed Kind = 1
	// Usage: the call, a config or a script is not well formed.
	Usage Kind = 2
	// Refused: a quorum or a policy does not allow it.
	Refused Kind = 3
	// Unverified: a verification failed.
	Unverified Kind = 4
)

type advised struct {
	err  error
	hint string
	kind Kind
}

func (a *advised) Error() string { return a.err.Error() }
func (a *advised) Unwrap() error { return a.err }

// New returns an error of this kind with a hint (which may be empty); format may hold %w.
func New(kind Kind, hint, format string, args ...any) error {
	return &advised{err: fmt.Errorf(format, args...), hint: hint, kind: kind}
}

// Wrap keeps err's text and gives it a kind and a hint; a nil err stays nil.
func Wrap(kind Kind, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &advised{err: err, hint: hint, kind: kind}
}

// Hint returns the outermost hint that is not empty.
func Hint(err error) string {
	for a := (*advised)(nil); errors.As(err, &a); err = a.err {
		if a.hint != "" {
			return a.hint
		}
	}
	return ""
}

// KindOf returns the outermost kind, and Failed for an error without one.
func KindOf(err error) Kind {
	if a := (*advised)(nil); errors.As(err, &a) {
		return a.kind
	}
	return Failed
}
