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
// value.
type shown struct {
	// signs is how many signatures each key makes.
	signs  map[string]int
	writes []string
	values []shownValue
}

// shownValue is a value that people compare. Label is the same on the form and on the screen.
type shownValue struct{ Label, Value string }

// ends tells people how much of a long value to write down.
const ends = ", first and last 8 digits"

func (s *shown) box(label, value string) { s.values = append(s.values, shownValue{label, value}) }

// show asks entries what there is to be seen of them.
func show(list []entry) *shown {
	s := &shown{signs: map[string]int{}}
	for _, e := range list {
		e.leaf.show(s)
	}
	return s
}

// blank is s for the form: what is known before, and room for what can be known only when it is done.
func (s *shown) blank() paper.Facts {
	var facts paper.Facts
	for _, k := range sortedKeys(s.signs) {
		facts = append(facts, paper.Fact{Label: "signed by", Value: fmt.Sprintf("key %s, signatures: %d", k, s.signs[k])})
	}
	for _, w := range s.writes {
		facts = append(facts, paper.Fact{Label: "writes", Value: ofContent.ReplaceAllString(w, "(SHA-256)")})
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
