package est

import (
	"slices"
	"strings"
)

// Root is the path below which EST lives (RFC 7030, section 3.2.2).
const Root = "/.well-known/est"

// Operation is the last segment of a path.
type Operation string

// The operations of RFC 7030, section 3.2.2.
const (
	CACerts        Operation = "cacerts"
	SimpleEnroll   Operation = "simpleenroll"
	SimpleReenroll Operation = "simplereenroll"
	FullCMC        Operation = "fullcmc"
	ServerKeyGen   Operation = "serverkeygen"
	CSRAttrs       Operation = "csrattrs"
)

var operations = []Operation{CACerts, SimpleEnroll, SimpleReenroll, FullCMC, ServerKeyGen, CSRAttrs}

// maxLabel bounds a label, in bytes: a lot's name is no longer.
const maxLabel = 64

// Under says that a path, as it was sent, belongs to EST.
func Under(escaped string) bool {
	rest, is := strings.CutPrefix(escaped, Root)
	return is && (rest == "" || rest[0] == '/')
}

// ParsePath takes a path apart, as it was sent (still escaped): the operation, and the label before it if there is one. A label is
// letters, digits and . _ : - only, begins with a letter or digit, and is no operation's name in any case. Nothing is unescaped and no
// dots are resolved, so that one label has one spelling.
func ParsePath(escaped string) (label string, op Operation, ok bool) {
	rest, is := strings.CutPrefix(escaped, Root+"/")
	if !is {
		return "", "", false
	}
	last := rest
	if before, after, two := strings.Cut(rest, "/"); two {
		if !isLabel(before) {
			return "", "", false
		}
		label, last = before, after
	}
	if !slices.Contains(operations, Operation(last)) {
		return "", "", false
	}
	return label, Operation(last), true
}

func isLabel(s string) bool {
	if s == "" || len(s) > maxLabel || strings.ContainsAny(s[:1], "._:-") {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	// RFC 7030, section 3.2.2: the label must not be that of an operation.
	return !slices.Contains(operations, Operation(strings.ToLower(s)))
}
