package paper

import (
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// visible is text for the PDF: what show.Line escapes, and what the fonts do not have, stands in it by its number.
func visible(s string) string {
	s = show.Line(s)
	if !strings.ContainsFunc(s, func(r rune) bool { return !inWindows(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case inWindows(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// windows are the characters of the code page 1252 that are not at their own place: 0x80 to 0x9f.
var windows = map[rune]byte{
	'€': 0x80, '‚': 0x82, 'ƒ': 0x83, '„': 0x84, '…': 0x85, '†': 0x86, '‡': 0x87, 'ˆ': 0x88, '‰': 0x89, 'Š': 0x8a, '‹': 0x8b, 'Œ': 0x8c,
	'Ž': 0x8e, '‘': 0x91, '’': 0x92, '“': 0x93, '”': 0x94, '•': 0x95, '–': 0x96, '—': 0x97, '˜': 0x98, '™': 0x99, 'š': 0x9a, '›': 0x9b,
	'œ': 0x9c, 'ž': 0x9e, 'Ÿ': 0x9f,
}

func inWindows(r rune) bool {
	_, ok := windows[r]
	return ok || r >= 0x20 && r < 0x7f || r > 0xa0 && r <= 0xff && r != 0xad
}

// latin gives s in the code page 1252, which the fonts that every PDF reader has are limited to; what is not in it is
// shown by its number.
func latin(s string) string {
	s = visible(s)
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if c, ok := windows[r]; ok {
			b = append(b, c)
		} else {
			b = append(b, byte(r))
		}
	}
	return string(b)
}
