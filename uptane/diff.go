package uptane

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
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

// Change is one entry of a Diff. Old is empty for something added, New for something removed.
type Change struct {
	What string `json:"what"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	// foreign: What is a name that others chose, and is shown in quotes.
	foreign bool
	// parts are shown, one a line, in place of Old and New.
	parts func() []Change
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

// Empty reports whether nothing but version and expiry changes.
func (d *Diff) Empty() bool {
	other := slices.ContainsFunc(d.Summary, func(c Change) bool { return c.What != "version" && c.What != "expires" && c.Old != c.New })
	return !other && len(d.Keys)+len(d.Rules)+len(d.Targets)+len(d.Files) == 0
}

// WriteTo writes the diff as lines of text, all of it: what is signed must be readable. Names and values that others
// chose stand in quotes, and long lines are broken here, so that nobody can draw a line of their own into the text.
func (d *Diff) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", show.Text(d.Role))
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
			c.write(&b)
		}
	}
	if d.Empty() {
		b.WriteString("  no other change\n")
	}
	fmt.Fprintf(&b, "sha256 of the bytes to be signed: %s\n", show.Text(d.Digest))
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (d *Diff) String() string {
	var b strings.Builder
	_, _ = d.WriteTo(&b)
	return b.String()
}

// DiffDocuments compares two documents of one role; old is nil for a first version. It verifies neither.
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
		d.Files = foreign(compare(o.meta, n.meta, describeMeta))
	case *Timestamp:
		o, _ := old.(*Timestamp)
		if o == nil {
			o = &Timestamp{}
		}
		d.Files = foreign(compare(o.meta, n.meta, describeMeta))
	}
	return d
}

// compare walks two maps together and lists what differs, in the order of the keys.
func compare[V any](old, new map[string]V, describe func(V) string) []Change {
	var out []Change
	for k, v := range old {
		n, ok := new[k]
		if !ok {
			out = append(out, Change{What: k, Old: describe(v)})
		} else if a, b := describe(v), describe(n); a != b {
			out = append(out, Change{What: k, Old: a, New: b})
		}
	}
	for k, v := range new {
		if _, ok := old[k]; !ok {
			out = append(out, Change{What: k, New: describe(v)})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.What, b.What) })
	return out
}

func foreign(list []Change) []Change {
	for i := range list {
		list[i].foreign = true
	}
	return list
}

func asIs(s string) string { return s }

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
	d.Keys, d.Rules = compare(ok, nk, asIs), compare(or, nr, asIs)
}

func (d *Diff) targets(old, new *Targets) {
	if old == nil {
		old = &Targets{}
	}
	d.Targets = compareTargets(old.targets, new.targets)
	d.delegations(old.delegations, new.delegations)
	if string(old.custom) != string(new.custom) {
		d.Summary = append(d.Summary, whole("custom", string(old.custom), string(new.custom)))
	}
	for _, c := range compare(old.extra, new.extra, func(v json.RawMessage) string { return string(v) }) {
		one := whole(c.What, c.Old, c.New)
		one.foreign = true
		d.Summary = append(d.Summary, one)
	}
}

// whole shows a value that others chose on lines of its own.
func whole(what, old, new string) Change {
	c := Change{What: what, Old: old, New: new}
	c.parts = func() []Change { return []Change{{What: "value", Old: old, New: new}} }
	return c
}

func (d *Diff) delegations(old, new []Delegation) {
	describe := func(list []Delegation) (keys, rules map[string]string, paths map[string][]string) {
		keys, rules, paths = map[string]string{}, map[string]string{}, map[string][]string{}
		for i, x := range list {
			for _, k := range x.Keys {
				keys["delegation "+x.Name+" key "+k.id] = k.Algorithm()
			}
			end := ""
			if x.Terminating {
				end = ", terminating"
			}
			name := "delegation " + x.Name
			paths[name] = x.Paths
			quoted := make([]string, len(x.Paths))
			for i, p := range x.Paths {
				quoted[i] = strconv.Quote(p)
			}
			rules[name] = fmt.Sprintf("%d of %d keys, search order %d%s, for %s", x.Threshold, len(x.Keys), i+1, end, strings.Join(quoted, ", "))
		}
		return keys, rules, paths
	}
	ok, or, op := describe(old)
	nk, nr, np := describe(new)
	d.Keys, d.Rules = compare(ok, nk, asIs), compare(or, nr, asIs)
	for i := range d.Rules {
		c := &d.Rules[i]
		c.parts = func() []Change {
			rule := func(s string) string { s, _, _ = strings.Cut(s, ", for "); return s }
			out := append([]Change{}, Change{What: "rule", Old: rule(c.Old), New: rule(c.New)})
			return append(out, items("path", op[c.What], np[c.What])...)
		}
	}
}

// items lists what goes from a list, what comes, and what stays, each by itself and in quotes.
func items(what string, old, new []string) []Change {
	var out []Change
	for _, s := range old {
		if !slices.Contains(new, s) {
			out = append(out, Change{What: what, Old: strconv.Quote(s)})
		}
	}
	for _, s := range new {
		c := Change{What: what, New: strconv.Quote(s)}
		if slices.Contains(old, s) {
			c.Old = c.New
		}
		out = append(out, c)
	}
	return out
}

// compareTargets is compare without describing what is equal: there may be many targets.
func compareTargets(old, new map[string]Target) []Change {
	var out []Change
	for name, o := range old {
		n, ok := new[name]
		switch {
		case !ok:
			out = append(out, Change{What: name, Old: describeTarget(o), parts: func() []Change { return targetParts(&o, nil) }})
		case !o.Equal(n):
			out = append(out, Change{What: name, Old: describeTarget(o), New: describeTarget(n), parts: func() []Change { return targetParts(&o, &n) }})
		}
	}
	for name, n := range new {
		if _, ok := old[name]; !ok {
			out = append(out, Change{What: name, New: describeTarget(n), parts: func() []Change { return targetParts(nil, &n) }})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.What, b.What) })
	return foreign(out)
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

// targetParts are the members of an entry that differ, each by itself.
func targetParts(old, new *Target) []Change {
	list := func(t *Target) map[string]string {
		if t == nil {
			return nil
		}
		m := map[string]string{"length": strconv.FormatInt(t.Length, 10), "sha256": t.SHA256}
		if t.SHA512 != "" {
			m["sha512"] = t.SHA512
		}
		if v, err := parseJSON(t.Custom); t.hasCustom() && err == nil && v.kind == object {
			for i := range v.members {
				m["custom "+strconv.Quote(v.members[i].key)] = string(v.members[i].value.append(nil))
			}
		} else if t.hasCustom() {
			m["custom"] = string(t.Custom)
		}
		return m
	}
	return compare(list(old), list(new), asIs)
}
