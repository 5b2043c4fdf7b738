package uptane

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Canonical returns the form that is signed and hashed: keys sorted at every level, no white space, no trailing
// newline, and the ordinary JSON escapes, so that a newline in a PEM is the two characters \n. It is not OLPC's
// canonical JSON, which emits the raw newline. It refuses what server and client read differently: characters above
// 0x7e, control characters without a short escape, numbers that are not 64-bit integers, repeated members.
func Canonical(data []byte) ([]byte, error) {
	v, err := parseJSON(data)
	if err != nil {
		return nil, err
	}
	return v.append(make([]byte, 0, len(data))), nil
}

// Wide is the canonical form of what devices write, in any language: characters above 0x7f and control characters become \uXXXX,
// as the real client signs them. RawText is the other way.
func Wide(data []byte) ([]byte, error) {
	p := parser{s: string(data), wide: true}
	v, err := p.parse()
	if err != nil {
		return nil, err
	}
	return v.append(make([]byte, 0, len(data))), nil
}

// RawText is what Wide returned, with characters above 0x7f as UTF-8: some clients sign that.
func RawText(wide []byte) []byte {
	out := make([]byte, 0, len(wide))
	for i := 0; i < len(wide); {
		if wide[i] != '\\' {
			out = append(out, wide[i])
			i++
			continue
		}
		if wide[i+1] != 'u' {
			out = append(out, wide[i:i+2]...)
			i += 2
			continue
		}
		r, n := escapedRune(string(wide[i:]))
		if r >= utf8.RuneSelf {
			out = utf8.AppendRune(out, r)
		} else {
			out = append(out, wide[i:i+n]...)
		}
		i += n
	}
	return out
}

// escapedRune reads \uXXXX, or two of them that are one character, at the beginning of s; n is 0 where there is none.
func escapedRune(s string) (r rune, n int) {
	unit := func(s string) rune {
		if len(s) < 6 || s[:2] != `\u` {
			return -1
		}
		u, err := strconv.ParseUint(s[2:6], 16, 16)
		if err != nil {
			return -1
		}
		return rune(u)
	}
	if r = unit(s); r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if r = utf16.DecodeRune(r, unit(s[6:])); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

func (v *value) append(b []byte) []byte {
	switch v.kind {
	case null:
		return append(b, "null"...)
	case boolean, number:
		return append(b, v.str...)
	case text:
		return appendString(b, v.str)
	case array:
		b = append(b, '[')
		for i := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.items[i].append(b)
		}
		return append(b, ']')
	default:
		if v.entries != nil {
			return v.entries.append(b)
		}
		b = append(b, '{')
		for i := range v.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, v.members[i].key)
			b = append(b, ':')
			b = v.members[i].value.append(b)
		}
		return append(b, '}')
	}
}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		var e byte
		if c := s[i]; c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			continue // nearly all
		}
		switch s[i] {
		case '"':
			e = '"'
		case '\\':
			e = '\\'
		case '\b':
			e = 'b'
		case '\f':
			e = 'f'
		case '\n':
			e = 'n'
		case '\r':
			e = 'r'
		case '\t':
			e = 't'
		default: // of Wide alone
			r, n := utf8.DecodeRuneInString(s[i:])
			b = append(b, s[start:i]...)
			for _, u := range utf16.Encode([]rune{r}) {
				b = fmt.Appendf(b, "\\u%04x", u)
			}
			i += n - 1
			start = i + 1
			continue
		}
		b = append(b, s[start:i]...)
		b = append(b, '\\', e)
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// writer emits an object's members; they must come in sorted order.
type writer struct {
	b     []byte
	first []bool
}

func (w *writer) open() { w.b = append(w.b, '{'); w.first = append(w.first, true) }

func (w *writer) close() { w.b = append(w.b, '}'); w.first = w.first[:len(w.first)-1] }

func (w *writer) key(k string) {
	if n := len(w.first) - 1; w.first[n] {
		w.first[n] = false
	} else {
		w.b = append(w.b, ',')
	}
	w.b = appendString(w.b, k)
	w.b = append(w.b, ':')
}

func (w *writer) text(s string) { w.b = appendString(w.b, s) }
func (w *writer) raw(s string)  { w.b = append(w.b, s...) }

func (w *writer) texts(list []string) {
	w.b = append(w.b, '[')
	for i, s := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendString(w.b, s)
	}
	w.b = append(w.b, ']')
}

// checkText refuses text that cannot be emitted.
func checkText(what, s string) error {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > 0x7e || c < 0x20 && !slices.Contains([]byte("\b\f\n\r\t"), c) {
			return hinted(ErrNotASCII, "write it in printable ASCII: server and client disagree on anything else",
				"%s %q holds a character outside printable ASCII", what, s)
		}
	}
	return nil
}
