package uptane

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

type kind byte

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// value is a JSON value that server and client read alike. Numbers keep their text, objects are sorted by key.
type value struct {
	kind    kind
	str     string // the text of a string, a number, "true" or "false"
	items   []value
	members []member
}

type member struct {
	key   string
	value value
}

// get finds a member by its exact name.
func (v *value) get(key string) (*value, bool) {
	i, found := slices.BinarySearchFunc(v.members, key, func(m member, k string) int { return cmp.Compare(m.key, k) })
	if !found {
		return nil, false
	}
	return &v.members[i].value, true
}

// parseJSON reads one JSON value and refuses what server and client would read differently: characters outside
// printable ASCII (however written), control characters without a short escape, numbers that are not 64-bit integers,
// and repeated members.
func parseJSON(data []byte) (value, error) {
	p := parser{s: string(data)}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return value{}, err
	}
	p.space()
	if p.i != len(p.s) {
		return value{}, p.fail(ErrMalformed, "data after the end of the JSON value")
	}
	return v, nil
}

type parser struct {
	s string
	i int
}

func (p *parser) fail(sentinel error, what string) error {
	line := 1 + strings.Count(p.s[:min(p.i, len(p.s))], "\n")
	return because(sentinel, "%s at line %d (byte %d)", what, line, p.i)
}

func (p *parser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *parser) value(depth int) (value, error) {
	if depth > maxDepth {
		return value{}, p.fail(ErrMalformed, "nesting deeper than "+strconv.Itoa(maxDepth)+" levels")
	}
	if p.i >= len(p.s) {
		return value{}, p.fail(ErrMalformed, "JSON ends too early")
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		s, err := p.string()
		return value{kind: text, str: s}, err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, w := range []struct {
		word string
		kind kind
	}{{"null", null}, {"true", boolean}, {"false", boolean}} {
		if strings.HasPrefix(p.s[p.i:], w.word) {
			p.i += len(w.word)
			return value{kind: w.kind, str: w.word}, nil
		}
	}
	return value{}, p.fail(ErrMalformed, "not a JSON value")
}

func (p *parser) object(depth int) (value, error) {
	v := value{kind: object}
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
		return v, nil
	}
	sorted := true
	for {
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != '"' {
			return v, p.fail(ErrMalformed, "expected a member name")
		}
		key, err := p.string()
		if err != nil {
			return v, err
		}
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != ':' {
			return v, p.fail(ErrMalformed, "expected a colon")
		}
		p.i++
		p.space()
		child, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		if n := len(v.members); n > 0 && v.members[n-1].key >= key {
			sorted = false
		}
		v.members = append(v.members, member{key, child})
		p.space()
		if p.i >= len(p.s) {
			return v, p.fail(ErrMalformed, "JSON ends inside an object")
		}
		c := p.s[p.i]
		p.i++
		if c == '}' {
			break
		}
		if c != ',' {
			p.i--
			return v, p.fail(ErrMalformed, "expected a comma or a closing brace")
		}
	}
	if !sorted {
		slices.SortStableFunc(v.members, func(a, b member) int { return cmp.Compare(a.key, b.key) })
		for i := 1; i < len(v.members); i++ {
			if v.members[i].key == v.members[i-1].key {
				return v, p.fail(ErrDuplicate, "member "+strconv.Quote(v.members[i].key)+" repeated in the object that ends")
			}
		}
	}
	return v, nil
}

func (p *parser) array(depth int) (value, error) {
	v := value{kind: array}
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
		return v, nil
	}
	for {
		p.space()
		child, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		v.items = append(v.items, child)
		p.space()
		if p.i >= len(p.s) {
			return v, p.fail(ErrMalformed, "JSON ends inside an array")
		}
		c := p.s[p.i]
		p.i++
		if c == ']' {
			return v, nil
		}
		if c != ',' {
			p.i--
			return v, p.fail(ErrMalformed, "expected a comma or a closing bracket")
		}
	}
}

func (p *parser) number() (value, error) {
	start := p.i
	if p.s[p.i] == '-' {
		p.i++
	}
	digits := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	s := p.s[start:p.i]
	if p.i < len(p.s) && strings.IndexByte(".eE", p.s[p.i]) >= 0 {
		return value{}, p.fail(ErrNumber, "a fraction or an exponent in a number, where only integers are allowed,")
	}
	if p.i == digits || s[digits-start] == '0' && p.i > digits+1 || s == "-0" {
		return value{}, p.fail(ErrMalformed, "malformed number")
	}
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		return value{}, p.fail(ErrNumber, "number "+s+" does not fit into a signed 64-bit integer")
	}
	return value{kind: number, str: s}, nil
}

// string reads a string literal; p.i is at its opening quote.
func (p *parser) string() (string, error) {
	p.i++
	start := p.i
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"':
			s := p.s[start:p.i]
			p.i++
			return s, nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.fail(ErrMalformed, "raw control character in a string")
		case c > 0x7e:
			return "", p.fail(ErrNotASCII, "a string holds a character outside printable ASCII, on which server and client disagree,")
		}
		p.i++
	}
	return "", p.fail(ErrMalformed, "JSON ends inside a string")
}

// escaped goes on with a string once an escape was met.
func (p *parser) escaped(start int) (string, error) {
	b := append(make([]byte, 0, 64), p.s[start:p.i]...)
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return string(b), nil
		case c < 0x20:
			return "", p.fail(ErrMalformed, "raw control character in a string")
		case c > 0x7e:
			return "", p.fail(ErrNotASCII, "a string holds a character outside printable ASCII, on which server and client disagree,")
		case c != '\\':
			b = append(b, c)
			p.i++
			continue
		}
		p.i++
		if p.i >= len(p.s) {
			break
		}
		if i := strings.IndexByte(`"\/bfnrt`, p.s[p.i]); i >= 0 {
			b = append(b, "\"\\/\b\f\n\r\t"[i])
			p.i++
			continue
		}
		if p.s[p.i] != 'u' || p.i+5 > len(p.s) {
			return "", p.fail(ErrMalformed, "unknown escape in a string")
		}
		n, err := strconv.ParseUint(p.s[p.i+1:p.i+5], 16, 16)
		if err != nil {
			return "", p.fail(ErrMalformed, "unknown escape in a string")
		}
		if n > 0x7e || n < 0x20 && !bytes.ContainsRune([]byte("\b\f\n\r\t"), rune(n)) {
			return "", p.fail(ErrNotASCII, "a string holds a character outside printable ASCII, on which server and client disagree,")
		}
		b = append(b, byte(n))
		p.i += 5
	}
	return "", p.fail(ErrMalformed, "JSON ends inside a string")
}
