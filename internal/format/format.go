// Package format numbers the versions of what ceremonies write: MAJOR.MINOR. A minor version only adds; a major one may
// change what exists.
//
// An attacker who can change a number read here chooses the rules that a reader holds the rest to. So a reader takes it
// only from a file whose signatures it has verified, and refuses a number that it does not know.
package format

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of a format. The zero value is no version; it stands for today's.
type Version struct{ Major, Minor int }

// First is the first version of all formats, and that from which most rules hold.
var First = Version{1, 0}

// Parse reads a version in its one spelling, such as 1.0.
func Parse(s string) (Version, error) {
	major, minor, ok := strings.Cut(s, ".")
	a, aerr := strconv.ParseUint(major, 10, 16)
	b, berr := strconv.ParseUint(minor, 10, 16)
	v := Version{int(a), int(b)}
	if !ok || aerr != nil || berr != nil || a == 0 || v.String() != s {
		return Version{}, fmt.Errorf("%.20q is no version of a format, such as 1.0", s)
	}
	return v, nil
}

// Must is Parse for a constant.
func Must(s string) Version {
	v, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return v
}

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Before says whether v is older than o. Today's version is older than none.
func (v Version) Before(o Version) bool {
	if v == (Version{}) {
		return false
	}
	return v.Major < o.Major || v.Major == o.Major && v.Minor < o.Minor
}
