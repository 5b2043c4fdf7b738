package uptane

import (
	"cmp"
	"slices"
	"strconv"
)

// entries are the targets of a document as they are read: one after another, each checked and put into canonical form, and
// none kept as a tree. A document may have tens of thousands.
type entries struct {
	list []entry
	text []byte // holds the canonical form of each, name and colon included
	at   int    // where the object was written last
	done bool   // they were read
}

// entry is one target. Its places are in text.
type entry struct {
	name   string
	target Target
	start  int // of its canonical form
	end    int
	value  int // length of its name's canonical form, and the colon
	custom int // length of the canonical form of its custom object; 0: it has none
	// err is what is wrong with it in any repository, imageErr in the Image repository.
	err, imageErr error
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
	e.text = make([]byte, 0, len(p.s)-p.i)
	one := parser{s: p.s}
	sorted := true
	for more := true; more; {
		name, err := p.memberName()
		if err != nil {
			return v, err
		}
		one.i = p.i
		one.forget()
		tree, err := one.value(depth + 1)
		if err != nil {
			return v, err
		}
		p.i = one.i
		if n := len(e.list); n > 0 && e.list[n-1].name >= name {
			sorted = false
		}
		e.add(name, &tree)
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

// add reads one target.
func (e *entries) add(name string, tree *value) {
	one := entry{name: name, start: len(e.text)}
	var custom *value
	one.target, custom, one.err = targetOf(name, tree)
	if custom != nil && one.err == nil {
		one.imageErr = checkImageCustom(custom)
	}
	e.text = appendString(e.text, name)
	e.text = append(e.text, ':')
	one.value = len(e.text) - one.start
	if c, ok := tree.get("custom"); ok && one.err == nil {
		e.text = append(e.text, `{"custom":`...)
		at := len(e.text)
		e.text = c.append(e.text)
		one.custom = len(e.text) - at
		for i := range tree.members[1:] {
			m := &tree.members[1+i]
			e.text = append(e.text, ',')
			e.text = appendString(e.text, m.key)
			e.text = append(e.text, ':')
			e.text = m.value.append(e.text)
		}
		e.text = append(e.text, '}')
	} else {
		e.text = tree.append(e.text)
	}
	one.end = len(e.text)
	e.list = append(e.list, one)
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
	at := e.at + 1
	for i := range e.list {
		one := &e.list[i]
		one.start, one.end = at, at+one.end-one.start
		at = one.end + 1
		if one.custom > 0 {
			start := one.start + one.value + customStart
			one.target.Custom = written[start : start+one.custom : start+one.custom]
		}
	}
	e.text = written
}
