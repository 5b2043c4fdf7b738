package uptane

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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
	entries *entries // of an object: read as targets, in place of members
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
	return p.parse()
}

// parser reads one text. A value's members and items lie in blocks that many values share, because one allocation for
// each of them is most of the time that a document of many targets takes.
type parser struct {
	s string
	i int

	openMembers, members []member // those of values that are not at their end yet, and the block for those that are
	openItems, items     []value

	// rewritten is set by whatever the canonical form writes in another way: white space, escapes, members out of order.
	rewritten bool

	// entries are read instead of a value where the targets of a document stand (see entries.go); nil: nowhere.
	entries *entries

	// wide takes characters outside printable ASCII, where two forms of them are tried.
	wide bool
	body int // the depth of the object whose member "targets" that is
}

// parse reads the whole text.
func (p *parser) parse() (value, error) {
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

// next begins with another text. Values that were read before are overwritten.
func (p *parser) next(s string) {
	p.s, p.i = s, 0
	p.forget()
}

// forget gives the blocks free: values that were read before are overwritten.
func (p *parser) forget() { p.members, p.items, p.rewritten = p.members[:0], p.items[:0], false }

// keep moves what was collected since base into a block.
func keep[T any](open, block *[]T, base int) []T {
	n := len(*open) - base
	if cap(*block)-len(*block) < n {
		*block = make([]T, 0, max(n, min(2*cap(*block), 1024), 16))
	}
	start := len(*block)
	*block = append(*block, (*open)[base:]...)
	*open = (*open)[:base]
	return (*block)[start:len(*block):len(*block)]
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
			p.rewritten = true
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
	sorted, base := true, len(p.openMembers)
	for more := true; more; {
		key, err := p.memberName()
		if err != nil {
			return v, err
		}
		var child value
		if p.entries != nil && depth == p.body && key == "targets" && !p.entries.done && p.i < len(p.s) && p.s[p.i] == '{' {
			child, err = p.targets(depth + 1)
		} else {
			child, err = p.value(depth + 1)
		}
		if err != nil {
			return v, err
		}
		if n := len(p.openMembers); n > base && p.openMembers[n-1].key >= key {
			sorted = false
		}
		p.openMembers = append(p.openMembers, member{key, child})
		if more, err = p.more(); err != nil {
			return v, err
		}
	}
	v.members = keep(&p.openMembers, &p.members, base)
	if !sorted {
		p.rewritten = true
		slices.SortStableFunc(v.members, func(a, b member) int { return cmp.Compare(a.key, b.key) })
		for i := 1; i < len(v.members); i++ {
			if v.members[i].key == v.members[i-1].key {
				return v, p.fail(ErrDuplicate, "member "+strconv.Quote(v.members[i].key)+" repeated in the object that ends")
			}
		}
	}
	return v, nil
}

// memberName reads a member's name and the colon, up to its value.
func (p *parser) memberName() (string, error) {
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		return "", p.fail(ErrMalformed, "expected a member name")
	}
	key, err := p.string()
	if err != nil {
		return "", err
	}
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != ':' {
		return "", p.fail(ErrMalformed, "expected a colon")
	}
	p.i++
	p.space()
	return key, nil
}

// more reads what stands after a member: a comma, or the end of the object.
func (p *parser) more() (bool, error) {
	p.space()
	if p.i >= len(p.s) {
		return false, p.fail(ErrMalformed, "JSON ends inside an object")
	}
	c := p.s[p.i]
	if c != ',' && c != '}' {
		return false, p.fail(ErrMalformed, "expected a comma or a closing brace")
	}
	p.i++
	return c == ',', nil
}

func (p *parser) array(depth int) (value, error) {
	v := value{kind: array}
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == ']' {
		p.i++
		return v, nil
	}
	base := len(p.openItems)
	for {
		p.space()
		child, err := p.value(depth + 1)
		if err != nil {
			return v, err
		}
		p.openItems = append(p.openItems, child)
		p.space()
		if p.i >= len(p.s) {
			return v, p.fail(ErrMalformed, "JSON ends inside an array")
		}
		c := p.s[p.i]
		p.i++
		if c == ']' {
			v.items = keep(&p.openItems, &p.items, base)
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
			return p.valid(s)
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.fail(ErrMalformed, "raw control character in a string")
		case c > 0x7e && !p.wide:
			return "", p.fail(ErrNotASCII, "a string holds a character outside printable ASCII, on which server and client disagree,")
		}
		p.i++
	}
	return "", p.fail(ErrMalformed, "JSON ends inside a string")
}

// valid refuses bytes that are no UTF-8; they come as far as this where wide is set.
func (p *parser) valid(s string) (string, error) {
	if p.wide && !utf8.ValidString(s) {
		return "", p.fail(ErrMalformed, "a string is not UTF-8")
	}
	return s, nil
}

// escaped goes on with a string once an escape was met.
func (p *parser) escaped(start int) (string, error) {
	p.rewritten = true
	b := append(make([]byte, 0, 64), p.s[start:p.i]...)
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return p.valid(string(b))
		case c < 0x20:
			return "", p.fail(ErrMalformed, "raw control character in a string")
		case c > 0x7e && !p.wide:
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
		if p.wide {
			r, n := escapedRune(p.s[p.i-1:])
			if n == 0 {
				return "", p.fail(ErrMalformed, "unknown escape in a string")
			}
			b = utf8.AppendRune(b, r)
			p.i += n - 1
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
