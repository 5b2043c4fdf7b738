// Package show makes text of others harmless where people read it: on a terminal, on paper, in a log, in an error.
//
// A label in a token, a name in a certificate, a field of a file and an answer from the network are chosen by whoever
// wrote them. Shown as they are they could move the cursor, change the direction of writing, hide characters, or pretend
// to be the next line of our own output. Somebody who controls every byte given to Text gets a display that is one
// piece, on one line, and that no other bytes have.
package show

import (
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text shows one foreign value. What is usual (letters, digits, a few signs, single blanks inside) stays as it is.
// Everything else is put in quotes, with a backslash before what would be misread, as in Go: strconv.Unquote of the
// result gives the value again.
func Text[T ~string | ~[]byte](value T) string {
	s := string(value)
	if usual(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	escape(&b, s, func(r rune) bool { return r == '"' || r == '\\' })
	b.WriteByte('"')
	return b.String()
}

// List shows foreign values with commas between them.
func List[T ~string | ~[]byte](values []T) string {
	shown := make([]string, len(values))
	for i, v := range values {
		shown[i] = Text(v)
	}
	return strings.Join(shown, ", ")
}

// Line shows a whole line in which foreign text may stand, such as an error of a library: whatever could steer a
// terminal, or end the line, is escaped. Quotes and backslashes stay, for the line may hold values shown by Text.
func Line(s string) string {
	if !strings.ContainsFunc(s, harmful) && !manyMarks(s) {
		return s
	}
	var b strings.Builder
	escape(&b, s, nil)
	return b.String()
}

// Lines is Line for text that may have several lines: the ends of lines and tabs stay.
func Lines(s string) string {
	parts := strings.SplitAfter(s, "\n")
	for i, p := range parts {
		body, end := strings.CutSuffix(p, "\n")
		fields := strings.Split(body, "\t")
		for j, f := range fields {
			fields[j] = Line(f)
		}
		parts[i] = strings.Join(fields, "\t")
		if end {
			parts[i] += "\n"
		}
	}
	return strings.Join(parts, "")
}

// Cell shows a value in a table whose columns are two blanks or more apart: a value that could look like two columns is
// quoted.
func Cell(s string) string {
	if strings.Contains(s, "  ") || strings.TrimSpace(s) != s || strings.ContainsFunc(s, harmful) || manyMarks(s) {
		var b strings.Builder
		b.WriteByte('"')
		escape(&b, s, func(r rune) bool { return r == '"' || r == '\\' })
		b.WriteByte('"')
		return b.String()
	}
	return s
}

// Attr is a slog.HandlerOptions.ReplaceAttr that shows every text of a log record by Line. The handlers of log/slog
// escape less: the JSON one leaves C1 controls and marks of direction as they are.
func Attr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Line(v.String()))
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			a.Value = slog.StringValue(Line(err.Error()))
		}
	}
	return a
}

// usual says that a value needs no quotes: it is not empty, cannot be taken for two values, and cannot be taken for
// words of our own around it. A comma, colon or semicolon is usual inside a word (a URI, a distinguished name, a time), not
// at its end.
func usual(s string) bool {
	last := ' '
	for _, r := range s {
		switch {
		case r == ' ':
			if last == ' ' || strings.ContainsRune(",:;", last) {
				return false
			}
		case r == utf8.RuneError:
			return false
		case r < 0x80:
			if !plain(byte(r)) {
				return false
			}
		case r >= 0x250 || !unicode.IsLetter(r):
			return false
		}
		last = r
	}
	return !strings.ContainsRune(" ,:;", last)
}

func plain(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-_.~@/+=#%$&*!?^,:;", c) >= 0
}

// maxMarks is how many combining marks may stand on one letter. More of them grow into the lines above and below.
const maxMarks = 2

// escape writes s, with what is harmful, and what also says so of, behind a backslash.
func escape(b *strings.Builder, s string, also func(rune) bool) {
	marks := maxMarks // none at the beginning: it would sit on the character before
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		mark := unicode.Is(unicode.M, r)
		switch {
		case r == utf8.RuneError && n == 1:
			writeHex(b, 'x', uint32(s[i]), 2)
		case harmful(r) || mark && marks >= maxMarks:
			writeEscaped(b, r)
		case also != nil && also(r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
		switch {
		case mark:
			marks++
		case unicode.IsLetter(r) && !harmful(r):
			marks = 0
		default:
			marks = maxMarks
		}
		i += n
	}
}

// manyMarks says that escape would escape a combining mark of s.
func manyMarks(s string) bool {
	marks := maxMarks
	for _, r := range s {
		switch {
		case unicode.Is(unicode.M, r):
			if marks++; marks > maxMarks {
				return true
			}
		case unicode.IsLetter(r):
			marks = 0
		default:
			marks = maxMarks
		}
	}
	return false
}

// harmful says of a character that it does not print, prints as nothing or as a blank, or changes how its neighbours are
// read. Letters that are written from right to left are among them: they carry along the digits and signs beside them.
func harmful(r rune) bool {
	switch {
	case r >= ' ' && r < 0x7f:
		return false
	case r == utf8.RuneError, !unicode.IsPrint(r):
		return true // controls, formats, surrogates, private use, unusual blanks, what is not assigned
	case unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r):
		return true // fillers and selectors that show nothing
	case unicode.Is(unicode.Me, r), r == 0x2800:
		return true // marks that enclose their neighbour; the blank of braille
	}
	return rightToLeft(r)
}

func rightToLeft(r rune) bool {
	for _, block := range [][2]rune{{0x0590, 0x08ff}, {0xfb1d, 0xfdff}, {0xfe70, 0xfeff}, {0x10800, 0x10fff}, {0x1e800, 0x1efff}} {
		if r >= block[0] && r <= block[1] {
			return true
		}
	}
	return false
}

func writeEscaped(b *strings.Builder, r rune) {
	switch {
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\r':
		b.WriteString(`\r`)
	case r == '\t':
		b.WriteString(`\t`)
	case r < 0x80:
		writeHex(b, 'x', uint32(r), 2)
	case r < 0x10000:
		writeHex(b, 'u', uint32(r), 4)
	default:
		writeHex(b, 'U', uint32(r), 8)
	}
}

func writeHex(b *strings.Builder, form byte, n uint32, digits int) {
	b.WriteByte('\\')
	b.WriteByte(form)
	for i := digits - 1; i >= 0; i-- {
		b.WriteByte("0123456789abcdef"[n>>(4*i)&0xf])
	}
}
