package ceremony

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// entry is a leaf with its place in the transcript.
type entry struct {
	index int
	head  Head
	data  []byte
	leaf  leaf
}

// entriesOf reads leaves that were checked before.
func entriesOf(leaves [][]byte) []entry {
	var list []entry
	for i, data := range leaves {
		if l, err := readLeaf(data); err == nil {
			list = append(list, entry{i, *l.head(), data, l})
		}
	}
	return list
}

// ofStep are those of a step.
func ofStep(all []entry, step int) []entry {
	var list []entry
	for _, e := range all {
		if e.head.Step == step {
			list = append(list, e)
		}
	}
	return list
}

// has says whether one of the entries is of a kind.
func has(list []entry, kind string) bool {
	for _, e := range list {
		if e.head.Kind == kind {
			return true
		}
	}
	return false
}

// describedBy gives the plain words in which a step was opened.
func describedBy(list []entry) string {
	for _, e := range list {
		if l, ok := e.leaf.(*stepLeaf); ok {
			return l.Describe
		}
	}
	return ""
}

// recorded says what an entry holds, whatever its kind.
func recorded(e entry) string {
	if text := e.leaf.record(); text != "" {
		return text
	}
	dec := json.NewDecoder(bytes.NewReader(e.data))
	dec.UseNumber()
	var all map[string]any
	if dec.Decode(&all) != nil {
		return fmt.Sprintf("%q", e.data)
	}
	for _, n := range []string{"kind", "step", "at", "rehearsal"} {
		delete(all, n)
	}
	return plain(all)
}

// plain writes JSON for people: long values by their digest.
func plain(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, k := range sortedKeys(v) {
			if text := plain(v[k]); text != "" {
				parts = append(parts, strings.ReplaceAll(k, "_", " ")+": "+text)
			}
		}
		return strings.Join(parts, "; ")
	case []any:
		var parts []string
		for _, item := range v {
			parts = append(parts, plain(item))
		}
		return strings.Join(parts, ", ")
	case string:
		if len(v) > 200 {
			return fmt.Sprintf("%.24s... (%d characters, their SHA-256 %s)", v, len(v), hexSHA256([]byte(v)))
		}
		return v
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}
