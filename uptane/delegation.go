package uptane

import (
	"slices"
	"strconv"
	"strings"
)

// Delegation hands the targets whose names match a path pattern to other keys. The first that matches wins.
type Delegation struct {
	// Name is the role's name; its metadata is served at delegations/<name>.json.
	Name string
	// Keys and Threshold say who signs it.
	RoleKeys
	// Paths are shell patterns of target names, in which * also matches a slash.
	Paths []string
	// Terminating ends the search for a matching target here, found or not.
	Terminating bool
}

func checkDelegationName(name string) error {
	if name == "" || len(name) > MaxDelegationName || name[0] == '.' {
		return because(ErrDelegation, "delegation name %q is empty, longer than %d characters or begins with a dot", name, MaxDelegationName)
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-.", c) >= 0) {
			return because(ErrDelegation, "delegation name %q holds a character other than letters, digits, '_', '-' and '.'", name)
		}
	}
	for _, r := range Roles() {
		if strings.EqualFold(name, string(r)) {
			return because(ErrDelegation, "delegation name %q is that of a role", name)
		}
	}
	return nil
}

func (d Delegation) check() error {
	if err := checkDelegationName(d.Name); err != nil {
		return err
	}
	if len(d.Paths) == 0 {
		return because(ErrDelegation, "delegation %s has no path pattern", d.Name)
	}
	for _, p := range d.Paths {
		if err := checkText("path pattern", p); err != nil {
			return err
		}
		if p == "" || len(p) > MaxPathPattern || strings.Contains(p, "..") {
			return because(ErrDelegation, "delegation %s: path pattern %q is empty, longer than %d characters, or holds two dots in a row",
				d.Name, p, MaxPathPattern)
		}
		if _, err := parsePattern(p); err != nil {
			return inside("delegation "+d.Name, err)
		}
	}
	return d.RoleKeys.check("delegation "+d.Name, false)
}

// Matches reports whether a target's name falls under the delegation.
func (d Delegation) Matches(target string) bool {
	return slices.ContainsFunc(d.Paths, func(p string) bool {
		elements, err := parsePattern(p)
		return err == nil && elements.match(target)
	})
}

// pattern is a shell pattern as the client's fnmatch without flags reads it: * and ? match slashes and leading dots.
type pattern []element

type element struct {
	star    bool
	negated bool
	ranges  []([2]byte) // empty: any character
}

func parsePattern(s string) (pattern, error) {
	var out pattern
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*':
			if n := len(out); n == 0 || !out[n-1].star {
				out = append(out, element{star: true})
			}
		case '?':
			out = append(out, element{})
		case '\\':
			if i++; i == len(s) {
				return nil, because(ErrDelegation, "path pattern %q ends in a backslash", s)
			}
			out = append(out, element{ranges: [][2]byte{{s[i], s[i]}}})
		case '[':
			e, end, err := parseClass(s, i)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
			i = end
		default:
			out = append(out, element{ranges: [][2]byte{{s[i], s[i]}}})
		}
	}
	return out, nil
}

// parseClass reads a bracket expression at s[i] and returns the index of its closing bracket.
func parseClass(s string, i int) (e element, end int, err error) {
	start := i
	i++
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		e.negated = true
		i++
	}
	for first := true; ; first = false {
		if i >= len(s) {
			return e, 0, because(ErrDelegation, "path pattern %q has a bracket that does not close", s)
		}
		if s[i] == ']' && !first {
			return e, i, nil
		}
		if s[i] == '[' && i+1 < len(s) && strings.IndexByte(":=.", s[i+1]) >= 0 {
			return e, 0, because(ErrDelegation, "path pattern %q: character classes such as [:alpha:] depend on the device's locale; write the range out", s[start:])
		}
		low := s[i]
		if low == '\\' && i+1 < len(s) {
			i++
			low = s[i]
		}
		high := low
		i++
		if i+1 < len(s) && s[i] == '-' && s[i+1] != ']' {
			i++
			high = s[i]
			if high == '\\' && i+1 < len(s) {
				i++
				high = s[i]
			}
			i++
		}
		if high < low {
			return e, 0, because(ErrDelegation, "path pattern %q has an empty range", s)
		}
		e.ranges = append(e.ranges, [2]byte{low, high})
	}
}

func (e element) matches(c byte) bool {
	if len(e.ranges) == 0 {
		return true
	}
	in := slices.ContainsFunc(e.ranges, func(r [2]byte) bool { return r[0] <= c && c <= r[1] })
	return in != e.negated
}

// match needs time proportional to the product of the lengths at most.
func (p pattern) match(s string) bool {
	pi, si, star, mark := 0, 0, -1, 0
	for si < len(s) {
		switch {
		case pi < len(p) && p[pi].star:
			star, mark = pi, si
			pi++
		case pi < len(p) && p[pi].matches(s[si]):
			pi++
			si++
		case star >= 0:
			mark++
			pi, si = star+1, mark
		default:
			return false
		}
	}
	for pi < len(p) && p[pi].star {
		pi++
	}
	return pi == len(p)
}

// checkDelegations checks a document's delegations together.
func checkDelegations(list []Delegation) error {
	if len(list) > MaxDelegations {
		return because(ErrTooLarge, "%d delegations are more than %d", len(list), MaxDelegations)
	}
	seen := map[string]bool{}
	for _, d := range list {
		if err := d.check(); err != nil {
			return err
		}
		if seen[d.Name] {
			return because(ErrDelegation, "delegation %s is listed twice", d.Name)
		}
		seen[d.Name] = true
	}
	return nil
}

func writeDelegations(w *writer, list []Delegation) {
	keys := map[string]Key{}
	for _, d := range list {
		for _, k := range d.Keys {
			keys[k.id] = k
		}
	}
	w.open()
	w.key("keys")
	writeKeys(w, keys)
	w.key("roles")
	w.raw("[")
	for i, d := range list {
		if i > 0 {
			w.raw(",")
		}
		w.open()
		w.key("keyids")
		w.texts(d.ids())
		w.key("name")
		w.text(d.Name)
		w.key("paths")
		w.texts(d.Paths)
		w.key("terminating")
		w.raw(strconv.FormatBool(d.Terminating))
		w.key("threshold")
		w.raw(strconv.Itoa(d.Threshold))
		w.close()
	}
	w.raw("]")
	w.close()
}

func delegationsOf(v *value) ([]Delegation, error) {
	r := reader{where: "delegations"}
	o := r.object(v)
	r.only(o, "keys", "roles")
	keys := readKeys(&r, o)
	roles := r.member(o, "roles")
	if roles.kind != array {
		r.fail(ErrMalformed, "%q must be an array, not %s", "roles", roles.kind)
	}
	if r.err != nil {
		return nil, r.err
	}
	list := make([]Delegation, 0, len(roles.items))
	for i := range roles.items {
		d := reader{where: "delegation " + strconv.Itoa(i+1)}
		b := d.object(&roles.items[i])
		d.only(b, "keyids", "name", "paths", "terminating", "threshold")
		one := Delegation{Name: d.text(b, "name"), Paths: d.texts(b, "paths"), Terminating: d.boolean(b, "terminating")}
		one.Keys = pick(&d, keys, d.texts(b, "keyids"))
		one.Threshold = int(d.integer(b, "threshold", 1, MaxThreshold))
		if d.err != nil {
			return nil, d.err
		}
		list = append(list, one)
	}
	return list, checkDelegations(list)
}
