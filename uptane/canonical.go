package uptane

import "slices"

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
		if c := s[i]; c >= 0x20 && c != '"' && c != '\\' {
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
		default:
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
