package strict

import (
	"bytes"
	"slices"
)

// flat says of the common case, without making tokens of it, that data is one JSON object and nothing else, whose keys are plain ASCII and
// differ also without case, and whose values are no objects and no lists. What it says yes to may still be no JSON: it finds where strings end,
// and leaves what is in them, and other values, to the decoder. What it says no to may be good: the tokens decide.
func flat(data []byte) bool {
	s := scanner(data)
	if !s.take('{') {
		return false
	}
	var room [16][]byte
	keys := room[:0]
	for {
		key, ok := s.text()
		if !ok || bytes.IndexByte(key, '\\') >= 0 || slices.ContainsFunc(key, func(c byte) bool { return c >= 0x80 }) ||
			slices.ContainsFunc(keys, func(k []byte) bool { return bytes.EqualFold(k, key) }) || len(keys) == cap(keys) {
			return false
		}
		keys = append(keys, key)
		if !s.take(':') || !s.value() {
			return false
		}
		if s.take(',') {
			continue
		}
		if !s.take('}') {
			return false
		}
		s.blanks()
		return len(s) == 0
	}
}

// scanner is what is still to be read.
type scanner []byte

func (s *scanner) blanks() {
	for len(*s) > 0 && ((*s)[0] == ' ' || (*s)[0] == '\t' || (*s)[0] == '\n' || (*s)[0] == '\r') {
		*s = (*s)[1:]
	}
}

// take reads one byte, and blanks before it.
func (s *scanner) take(c byte) bool {
	s.blanks()
	if len(*s) == 0 || (*s)[0] != c {
		return false
	}
	*s = (*s)[1:]
	return true
}

// text reads a string and gives what is between its quotes, as it is written.
func (s *scanner) text() (inner []byte, ok bool) {
	if !s.take('"') {
		return nil, false
	}
	for i := 0; i < len(*s); i++ {
		switch (*s)[i] {
		case '\\':
			i++
		case '"':
			inner, *s = (*s)[:i], (*s)[i+1:]
			return inner, true
		}
	}
	return nil, false
}

// value reads a string, or what may be a number, true, false or null.
func (s *scanner) value() bool {
	s.blanks()
	if len(*s) > 0 && (*s)[0] == '"' {
		_, ok := s.text()
		return ok
	}
	n := 0
	for n < len(*s) && ((*s)[n] == '+' || (*s)[n] == '-' || (*s)[n] == '.' || '0' <= (*s)[n] && (*s)[n] <= '9' || 'a' <= (*s)[n] && (*s)[n] <= 'z' || (*s)[n] == 'E') {
		n++
	}
	*s = (*s)[n:]
	return n > 0
}
