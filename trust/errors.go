package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Errors that readers may want to tell apart. All are of kind advice.Unverified.
var (
	// ErrEmpty: there is no repository where one was looked for.
	ErrEmpty = errors.New("holds no trust repository")
	// ErrPin: the root that was pinned is not in the repository's root chain.
	ErrPin = errors.New("the pinned root is not in the root chain")
	// ErrIncomplete: a file that signed metadata names is missing.
	ErrIncomplete = errors.New("is missing")
	// ErrSignature: too few valid signatures.
	ErrSignature = errors.New("too few valid signatures")
	// ErrExpired: metadata or a CRL has expired.
	ErrExpired = errors.New("has expired")
	// ErrRollback: a version or CRL number falls, or a file has changed under the same version.
	ErrRollback = errors.New("goes back")
	// ErrLoosened: a revoked serial or a CRL vanished without the officers' release.
	ErrLoosened = errors.New("loosens what only officers may loosen")
	// ErrEnvironment: the repository is another environment's.
	ErrEnvironment = errors.New("belongs to another environment")
	// ErrMalformed: a file is not in the form that docs/spec/trust.md states.
	ErrMalformed = errors.New("is malformed")
	// ErrMixed: a file does not match the version, length or hash in the metadata that names it.
	ErrMixed = errors.New("does not match the metadata that names it")
)

var hints = map[error]string{
	ErrEmpty:       "point at the folder (or URL) that holds metadata/ and targets/, as `hanaper-repo init` publishes it",
	ErrPin:         "check the root digest in the config against the ceremony's record",
	ErrIncomplete:  "copy the whole repository again; timestamp.json last",
	ErrSignature:   "do not use these files; fetch the repository anew from its publisher",
	ErrExpired:     "check the clock; if it is right, the publisher must sign anew (is hanaper-repo running?)",
	ErrRollback:    "do not use these files; someone may be replaying an old repository",
	ErrLoosened:    "if the serial is to be released, the officers must name it in the ceremony's releases",
	ErrEnvironment: "check which environment's repository and root digest the config names",
	ErrMalformed:   "do not use these files; fetch the repository anew from its publisher",
	ErrMixed:       "copy the whole repository again; timestamp.json last",
}

// expired says that something has expired, and who helps: the publisher signs the online roles anew, officers alone their own part.
func expired(thing, detail string, args ...any) error {
	hint := hints[ErrExpired]
	if thing == expiringRoot || thing == expiringOfficers || strings.HasSuffix(thing, ".root.json") || strings.HasSuffix(thing, ".targets.json") {
		hint = "check the clock; if it is right, only officers help: a ceremony signs the trust repository anew, and 'hanaper-repo import' publishes it"
	}
	if detail == "" {
		return refuseWith(hint, ErrExpired, thing, "")
	}
	return refuseWith(hint, ErrExpired, thing, ": "+fmt.Sprintf(detail, args...))
}

func refuseWith(hint string, sentinel error, thing, detail string) error {
	return advice.New(advice.Unverified, hint, "%s %w%s", show.Line(thing), sentinel, detail)
}

// refuse makes an error about the thing named that wraps the sentinel and carries its hint; detail may be empty.
func refuse(sentinel error, thing string, detail string, args ...any) error {
	if detail != "" {
		detail = ": " + fmt.Sprintf(detail, args...)
	}
	return refuseWith(hints[sentinel], sentinel, thing, detail)
}

// refuseHint is refuse with a hint of its own.
func refuseHint(sentinel error, hint, thing, detail string, args ...any) error {
	return refuseWith(hint, sentinel, thing, ": "+fmt.Sprintf(detail, args...))
}

// usage makes an error about what the caller asked for.
func usage(hint, format string, args ...any) error {
	return advice.New(advice.Usage, hint, format, args...)
}

// unreadable wraps an error of the file system or network.
func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(ErrIncomplete, path, "")
	}
	if errors.Is(err, errLarger) {
		return refuse(ErrMalformed, path, "%v", err)
	}
	return fmt.Errorf("reading %s: %w", show.Text(path), err)
}

// mismatched is unreadable for a file whose size signed metadata states.
func mismatched(path string, err error) error {
	if errors.Is(err, errLarger) {
		return refuse(ErrMixed, path, "%v", err)
	}
	return unreadable(path, err)
}
