package uptane

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// entries are the targets of a document as they are read: one after another, each checked and put into canonical form, and
// none kept as a tree. A document may have tens of thousands.
type entries struct {
	list []entry
	text []byte // holds the canonical form of each, name and colon included
	at   int    // where the object was written last
	done bool   // they were read
	rest []byte // used again for each
	// err is what is wrong with the first that is wrong in any repository, imageErr in the Image repository.
	err, imageErr error
}

// entry is one target. Its places are in text.
type entry struct {
	name   string
	target Target
	start  int32 // of its canonical form
	end    int32
	value  int32 // length of its name's canonical form, and the colon
	custom int32 // length of the canonical form of its custom object; 0: it has none
}

// customStart is where a custom object's canonical form begins after that of the name and the colon: it is the first member.
const customStart = len(`{"custom":`)

// targets reads the member "targets" of a document's signed part; p.i is at its opening brace.
func (p *parser) targets(depth int) (value, error) {
	e := p.entries
	e.done = true
	v := value{kind: object, entries: e}
	p.i++
	p.space()
	if p.i < len(p.s) && p.s[p.i] == '}' {
		p.i++
		return v, nil
	}
	if len(p.s) > math.MaxInt32/2 {
		return v, p.fail(ErrTooLarge, "a document of "+strconv.Itoa(len(p.s))+" bytes")
	}
	one := parser{s: p.s}
	sorted := true
	for more := true; more; {
		name, err := p.memberName()
		if err != nil {
			return v, err
		}
		from := p.i
		one.i = p.i
		one.forget()
		tree, err := one.value(depth + 1)
		if err != nil {
			return v, err
		}
		p.i = one.i
		asIs := ""
		if !one.rewritten {
			asIs = p.s[from:p.i]
		}
		if len(e.list) == 1 {
			e.expect((len(p.s) - p.i) / (p.i - from))
		}
		if n := len(e.list); n > 0 && e.list[n-1].name >= name {
			sorted = false
		}
		e.add(name, &tree, asIs)
		if more, err = p.more(); err != nil {
			return v, err
		}
	}
	if !sorted {
		slices.SortStableFunc(e.list, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
		for i := 1; i < len(e.list); i++ {
			if e.list[i].name == e.list[i-1].name {
				return v, p.fail(ErrDuplicate, "member "+strconv.Quote(e.list[i].name)+" repeated in the object that ends")
			}
		}
	}
	return v, nil
}

// expect takes the memory for about n more entries like the first, so that it is not taken again and again.
func (e *entries) expect(n int) {
	// Hostile text may begin with a small entry; most have 200 bytes or more.
	n = min(n, 8<<20/200)
	e.list = slices.Grow(e.list, n+n/16)
	e.text = slices.Grow(e.text, (n+n/16)*len(e.text))
}

// add reads one target. asIs is its text, if that is its canonical form.
func (e *entries) add(name string, tree *value, asIs string) {
	one := entry{name: strings.Clone(name), start: int32(len(e.text))}
	target, custom, err := targetOf(name, tree)
	if err != nil && e.err == nil {
		e.err = err
	}
	if custom != nil && err == nil && e.imageErr == nil {
		if err := checkImageCustom(custom); err != nil {
			e.imageErr = inside("target "+strconv.Quote(name), err)
		}
	}
	// The text that was read is not kept for their sake.
	target.SHA256, target.SHA512 = strings.Clone(target.SHA256), strings.Clone(target.SHA512)
	one.target = target
	e.text = appendString(e.text, name)
	e.text = append(e.text, ':')
	one.value = int32(len(e.text)) - one.start
	c, ok := tree.get("custom")
	switch has := ok && err == nil; {
	case asIs != "" && !has:
		e.text = append(e.text, asIs...)
	case asIs != "":
		e.text = append(e.text, asIs...)
		// What follows the custom object is short.
		e.rest = appendMembers(e.rest[:0], tree.members[1:])
		one.custom = int32(len(asIs) - customStart - len(e.rest) - 1)
	case !has:
		e.text = tree.append(e.text)
	default:
		e.text = append(e.text, `{"custom":`...)
		at := len(e.text)
		e.text = c.append(e.text)
		one.custom = int32(len(e.text) - at)
		e.text = append(appendMembers(e.text, tree.members[1:]), '}')
	}
	one.end = int32(len(e.text))
	e.list = append(e.list, one)
}

// appendMembers writes members that follow another one.
func appendMembers(b []byte, list []member) []byte {
	for i := range list {
		b = append(b, ',')
		b = appendString(b, list[i].key)
		b = append(b, ':')
		b = list[i].value.append(b)
	}
	return b
}

// append writes all of them in canonical form.
func (e *entries) append(b []byte) []byte {
	e.at = len(b)
	b = append(b, '{')
	for i := range e.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.text[e.list[i].start:e.list[i].end]...)
	}
	return append(b, '}')
}

// settle goes on with what append wrote last, so that the text stands in memory once. Custom objects are parts of it.
func (e *entries) settle(written []byte) {
	at := int32(e.at) + 1
	for i := range e.list {
		one := &e.list[i]
		one.start, one.end = at, at+one.end-one.start
		at = one.end + 1
		if one.custom > 0 {
			start := one.start + one.value + int32(customStart)
			one.target.Custom = written[start : start+one.custom : start+one.custom]
		}
	}
	e.text = written
}
