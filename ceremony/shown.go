package ceremony

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/hsm"
)

// shown is what the printed form and the screen say of a step beside its words: the form has a box where the screen has a
// value. Both ask the same list.
type shown struct {
	// facts are known before the step is performed.
	facts []Value
	// values are read back or made in it: the form has a box for each.
	values []Value
	// remarks are what nobody may overlook.
	remarks []string
	// signs is how many signatures each key makes.
	signs  map[string]int
	writes []string
}

// Value is a value that people compare. Label is the same on the form and on the screen.
type Value struct{ Label, Value string }

// Ends gives the part of the value that the form has room for, if that is not all of it.
func (v Value) Ends() (string, bool) {
	if !strings.HasSuffix(v.Label, ends) || len(v.Value) <= 16 {
		return "", false
	}
	return v.Value[:8] + " ... " + v.Value[len(v.Value)-8:], true
}

// ends tells people how much of a long value to write down.
const ends = ", first and last 8 digits"

// showing is a step that has more to show than its entries say. shows is asked when the step was performed, on specimens
// for the form and for real for the screen.
type showing interface{ shows(s *Session, v *shown) }

func (s *shown) box(label, value string)  { s.values = append(s.values, Value{label, value}) }
func (s *shown) fact(label, value string) { s.facts = append(s.facts, Value{label, value}) }

// remark is what nobody may overlook.
func (s *shown) remark(format string, args ...any) {
	s.remarks = append(s.remarks, fmt.Sprintf(format, args...))
}

// showLeaves asks leaves what there is to be seen of them.
func showLeaves(list []leaf) *shown {
	s := &shown{signs: map[string]int{}}
	for _, l := range list {
		l.show(s)
	}
	return s
}

// shownOf asks entries what there is to be seen of them.
func shownOf(list []entry) *shown {
	var leaves []leaf
	for _, e := range list {
		leaves = append(leaves, e.leaf)
	}
	return showLeaves(leaves)
}

// blank is s for the form: what is known before, and room for what can be known only when it is done.
func (s *shown) blank() paper.Facts {
	var facts paper.Facts
	for _, f := range s.facts {
		facts = append(facts, paper.Fact{Label: f.Label, Value: f.Value})
	}
	for _, k := range sortedKeys(s.signs) {
		facts = append(facts, paper.Fact{Label: "signed by", Value: fmt.Sprintf("key %s, signatures: %d", k, s.signs[k])})
	}
	for _, w := range s.writes {
		facts = append(facts, paper.Fact{Label: "writes at the end", Value: ofContent.ReplaceAllString(w, "(SHA-256)")})
	}
	for _, v := range s.values {
		facts = append(facts, paper.Fact{Label: v.Label})
	}
	return facts
}

// ofContent are the parts of names that are the digest of a content, which is known only when it was made.
var ofContent = regexp.MustCompile(`[0-9a-f]{64}`)

// attributeWords are a key's attributes for people.
func attributeWords(a hsm.Attributes) string {
	words := []string{string(a.Algorithm), fmt.Sprintf("label %q", a.Label), fmt.Sprintf("id %x", a.ID)}
	data, err := json.Marshal(a)
	var all map[string]any
	if err != nil || json.Unmarshal(data, &all) != nil {
		return strings.Join(words, ", ")
	}
	var yes, no []string
	for k, v := range all {
		if b, ok := v.(bool); ok && b {
			yes = append(yes, strings.ReplaceAll(k, "_", " "))
		} else if ok {
			no = append(no, strings.ReplaceAll(k, "_", " "))
		}
	}
	sort.Strings(yes)
	sort.Strings(no)
	return strings.Join(append(words, yes...), ", ") + "; not " + strings.Join(no, ", ")
}
