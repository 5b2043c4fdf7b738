package uptane

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Diff is what changes between two versions of a document, for a person who is about to sign the second.
type Diff struct {
	Role    Role     `json:"role"`
	Summary []Change `json:"summary"` // version, expiry, other top-level content
	Keys    []Change `json:"keys,omitempty"`
	Rules   []Change `json:"rules,omitempty"` // thresholds and delegations
	Targets []Change `json:"targets,omitempty"`
	Files   []Change `json:"files,omitempty"` // of a snapshot or timestamp
	Digest  string   `json:"digest"`          // hex SHA-256 of the bytes to be signed
}

// Change is one line of a Diff. Old is empty for something added, New for something removed.
type Change struct {
	What string `json:"what"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Sign is '+' for an addition, '-' for a removal, '~' for a change and ' ' for what stays.
func (c Change) Sign() byte {
	switch {
	case c.Old == c.New:
		return ' '
	case c.Old == "":
		return '+'
	case c.New == "":
		return '-'
	}
	return '~'
}

func (c Change) String() string {
	for _, s := range []*string{&c.What, &c.Old, &c.New} {
		if strings.ContainsFunc(*s, func(r rune) bool { return r < 0x20 }) {
			*s = strconv.Quote(*s) // a name must not break the line that shows it
		}
	}
	switch c.Sign() {
	case '+':
		return fmt.Sprintf("+ %s: %s", c.What, c.New)
	case '-':
		return fmt.Sprintf("- %s: %s", c.What, c.Old)
	case '~':
		return fmt.Sprintf("~ %s: %s -> %s", c.What, c.Old, c.New)
	}
	return fmt.Sprintf("  %s: %s", c.What, c.New)
}

// Empty reports whether nothing but version and expiry changes.
func (d *Diff) Empty() bool {
	other := slices.ContainsFunc(d.Summary, func(c Change) bool { return c.What != "version" && c.What != "expires" && c.Old != c.New })
	return !other && len(d.Keys)+len(d.Rules)+len(d.Targets)+len(d.Files) == 0
}

// WriteTo writes the diff as lines of text, all of it: what is signed must be readable.
func (d *Diff) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", d.Role)
	for _, part := range []struct {
		title string
		lines []Change
	}{{"", d.Summary}, {"keys", d.Keys}, {"rules", d.Rules}, {"targets", d.Targets}, {"files", d.Files}} {
		if part.title != "" && len(part.lines) > 0 {
			var n [3]int
			for _, c := range part.lines {
				n[max(0, strings.IndexByte("+-~", c.Sign()))]++
			}
			fmt.Fprintf(&b, "%s (%d added, %d removed, %d changed)\n", part.title, n[0], n[1], n[2])
		}
		for _, c := range part.lines {
			b.WriteString("  " + c.String() + "\n")
		}
	}
	if d.Empty() {
		b.WriteString("  no other change\n")
	}
	fmt.Fprintf(&b, "sha256 of the bytes to be signed: %s\n", d.Digest)
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (d *Diff) String() string {
	var b strings.Builder
	_, _ = d.WriteTo(&b)
	return b.String()
}

// DiffDocuments compares two documents of one role; old is nil for a first version.
func DiffDocuments(old, new Document) *Diff {
	d := &Diff{Role: new.Role(), Digest: hexDigest(new)}
	version := Change{What: "version", New: fmt.Sprint(new.Version())}
	expires := Change{What: "expires", New: new.Expires().Format(timeFormat)}
	if old != nil {
		version.Old, expires.Old = fmt.Sprint(old.Version()), old.Expires().Format(timeFormat)
	}
	d.Summary = append(d.Summary, version, expires)
	switch n := new.(type) {
	case *Root:
		o, _ := old.(*Root)
		d.roots(o, n)
	case *Targets:
		o, _ := old.(*Targets)
		d.targets(o, n)
	case *Snapshot:
		o, _ := old.(*Snapshot)
		if o == nil {
			o = &Snapshot{}
		}
		d.Files = compare(o.meta, n.meta, quoteName, describeMeta)
	case *Timestamp:
		o, _ := old.(*Timestamp)
		if o == nil {
			o = &Timestamp{}
		}
		d.Files = compare(o.meta, n.meta, quoteName, describeMeta)
	}
	return d
}

// compare walks two maps together and lists what differs, in the order of the keys.
func compare[K cmp.Ordered, V any](old, new map[K]V, name func(K) string, describe func(V) string) []Change {
	var out []Change
	for k, v := range old {
		n, ok := new[k]
		if !ok {
			out = append(out, Change{What: name(k), Old: describe(v)})
		} else if a, b := describe(v), describe(n); a != b {
			out = append(out, Change{What: name(k), Old: a, New: b})
		}
	}
	for k, v := range new {
		if _, ok := old[k]; !ok {
			out = append(out, Change{What: name(k), New: describe(v)})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.What, b.What) })
	return out
}

func quoteName(s string) string { return s }

func describeMeta(m MetaItem) string {
	return fmt.Sprintf("version %d, %d bytes, sha256 %s", m.Version, m.Length, m.SHA256)
}

func (d *Diff) roots(old, new *Root) {
	list := func(r *Root) (map[string]string, map[string]string) {
		keys, rules := map[string]string{}, map[string]string{}
		if r == nil {
			return keys, rules
		}
		for name, rk := range r.roles {
			for _, k := range rk.Keys {
				keys[string(name)+" key "+k.id] = k.Algorithm()
			}
			rules[string(name)+" threshold"] = fmt.Sprintf("%d of %d", rk.Threshold, len(rk.Keys))
		}
		return keys, rules
	}
	ok, or := list(old)
	nk, nr := list(new)
	same := func(s string) string { return s }
	d.Keys, d.Rules = compare(ok, nk, same, same), compare(or, nr, same, same)
}

func (d *Diff) targets(old, new *Targets) {
	if old == nil {
		old = &Targets{}
	}
	d.Targets = compareTargets(old.targets, new.targets)
	describe := func(list []Delegation) (map[string]string, map[string]string) {
		keys, rules := map[string]string{}, map[string]string{}
		for i, x := range list {
			for _, k := range x.Keys {
				keys["delegation "+x.Name+" key "+k.id] = k.Algorithm()
			}
			end := ""
			if x.Terminating {
				end = ", terminating"
			}
			rules["delegation "+x.Name] = fmt.Sprintf("%d of %d keys for %s, search order %d%s", x.Threshold, len(x.Keys), strings.Join(x.Paths, " "), i+1, end)
		}
		return keys, rules
	}
	ok, or := describe(old.delegations)
	nk, nr := describe(new.delegations)
	same := func(s string) string { return s }
	d.Keys, d.Rules = compare(ok, nk, same, same), compare(or, nr, same, same)
	if string(old.custom) != string(new.custom) {
		d.Summary = append(d.Summary, Change{What: "custom", Old: string(old.custom), New: string(new.custom)})
	}
	d.Summary = append(d.Summary, compare(old.extra, new.extra, quoteName, func(v json.RawMessage) string { return string(v) })...)
}

// compareTargets is compare without describing what is equal: there may be many targets.
func compareTargets(old, new map[string]Target) []Change {
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(old)) {
		o := old[name]
		n, ok := new[name]
		switch {
		case !ok:
			out = append(out, Change{What: name, Old: describeTarget(o)})
		case !o.Equal(n):
			out = append(out, Change{What: name, Old: describeTarget(o), New: describeTarget(n)})
		}
	}
	for name, n := range new {
		if _, ok := old[name]; !ok {
			out = append(out, Change{What: name, New: describeTarget(n)})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.What, b.What) })
	return out
}

func describeTarget(t Target) string {
	s := fmt.Sprintf("%d bytes, sha256 %s", t.Length, t.SHA256)
	if t.SHA512 != "" {
		s += ", sha512 " + t.SHA512
	}
	if t.hasCustom() {
		s += ", " + string(t.Custom)
	}
	return s
}
