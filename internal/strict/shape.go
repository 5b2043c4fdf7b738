package strict

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hanaper/hanaper/internal/show"
)

// fitter holds a document against the type that it is read into. The YAML library is generous: it takes 2.9 for the
// number 2, 010 for 8, "on" for true, and the text of a tag for what the tag says. A reader of the file would not.
type fitter struct {
	name string
	// all says that a key which the type does not have is an error.
	all bool
	// lines are the document's, for a tag that is "!" alone leaves no trace in the parsed form.
	lines []string
}

// tag gives the tag before a value, as it is written; empty without.
func (f fitter) tag(n *yaml.Node) string {
	if n.Line >= 1 && n.Line <= len(f.lines) && n.Column >= 1 {
		if line := []rune(f.lines[n.Line-1]); n.Column <= len(line) && line[n.Column-1] == '!' {
			return strings.Fields(string(line[n.Column-1:]))[0]
		}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return n.Tag
	}
	return ""
}

func (f fitter) refuse(n *yaml.Node, format string, args ...any) error {
	return usage(f.name, n.Line, fmt.Sprintf(format, args...))
}

// plain refuses what has no place in any document: tags, anchors, aliases, merge keys, repeated keys.
func (f fitter) plain(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return f.refuse(n, "nests deeper than %d levels", maxDepth)
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return f.refuse(n, "anchors and aliases are not allowed: write the value out")
	}
	if tag := f.tag(n); tag != "" {
		return f.refuse(n, "tags such as %s are not allowed: write the value alone", show.Text(tag))
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			switch {
			case k.Tag == "!!merge":
				return f.refuse(k, "merge keys are not allowed: write the values out")
			case k.Kind == yaml.MappingNode || k.Kind == yaml.SequenceNode || k.Tag == "!!null":
				return f.refuse(k, "a key is not text")
			case seen[k.Value]:
				return f.refuse(k, "key %q appears twice", k.Value)
			}
			seen[k.Value] = true
		}
	}
	for _, c := range n.Content {
		if err := f.plain(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

var (
	wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	durations   = reflect.TypeFor[time.Duration]()
	texts       = reflect.TypeFor[encoding.TextUnmarshaler]()
	decoders    = reflect.TypeFor[yaml.Unmarshaler]()
)

// fit refuses a value that is not of type t. key is what it stands under, for the error.
func (f fitter) fit(n *yaml.Node, t reflect.Type, key string) error {
	for t.Kind() == reflect.Pointer && !reflect.PointerTo(t).Implements(texts) {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(decoders) || t.Kind() == reflect.Interface {
		return nil
	}
	ok := false
	switch kind := kindOf(t); kind {
	case text:
		ok = n.Kind == yaml.ScalarNode && n.Tag != "!!null" && n.Tag != "!!bool"
	case duration:
		ok = n.Kind == yaml.ScalarNode && n.Tag == "!!str"
	case yesNo:
		ok = n.Kind == yaml.ScalarNode && n.Style == 0 && (n.Value == "true" || n.Value == "false")
	case number:
		if n.Kind != yaml.ScalarNode || n.Style != 0 || !wholeNumber.MatchString(n.Value) {
			break
		}
		if !fitsNumber(n.Value, t) {
			return f.refuse(n, "%sthe number %s is out of range", under(key), n.Value)
		}
		ok = true
	case list:
		if n.Kind != yaml.SequenceNode {
			break
		}
		for _, c := range n.Content {
			if err := f.fit(c, t.Elem(), key); err != nil {
				return err
			}
		}
		ok = true
	case keys:
		if n.Kind != yaml.MappingNode {
			break
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := f.fitKey(n.Content[i], n.Content[i+1], t); err != nil {
				return err
			}
		}
		ok = true
	}
	if !ok {
		return f.refuse(n, "%swant %s, got %s", under(key), wanted(t), got(n))
	}
	return nil
}

func (f fitter) fitKey(k, v *yaml.Node, t reflect.Type) error {
	if t.Kind() == reflect.Map {
		return f.fit(v, t.Elem(), k.Value)
	}
	field, ok := fieldOf(t, k.Value)
	switch {
	case ok:
		return f.fit(v, field, k.Value)
	case f.all:
		return f.refuse(k, "unknown key %q", k.Value)
	}
	return nil
}

// fieldOf is the type of the field that the YAML library fills from key.
func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if strings.Contains(options, "inline") {
			if found, ok := fieldOf(field.Type, key); ok {
				return found, true
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(field.Name)
		}
		if field.IsExported() && name == key {
			return field.Type, true
		}
	}
	return nil, false
}

type kind int

const (
	other kind = iota
	text
	duration
	yesNo
	number
	list
	keys
)

func kindOf(t reflect.Type) kind {
	if t == durations {
		return duration
	}
	if t.Implements(texts) || reflect.PointerTo(t).Implements(texts) {
		return text
	}
	switch t.Kind() {
	case reflect.String:
		return text
	case reflect.Bool:
		return yesNo
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return number
	case reflect.Slice, reflect.Array:
		return list
	case reflect.Struct, reflect.Map:
		return keys
	}
	return other
}

func fitsNumber(value string, t reflect.Type) bool {
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		_, err := strconv.ParseUint(value, 10, t.Bits())
		return err == nil
	}
	_, err := strconv.ParseInt(value, 10, t.Bits())
	return err == nil
}

// wanted says in plain words what a type is written as.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch kindOf(t) {
	case text:
		return "text"
	case duration:
		return "a duration such as 90s or 12h"
	case yesNo:
		return "true or false"
	case number:
		return "a whole number such as 12"
	case list:
		return "a list"
	case keys:
		return "keys with values"
	}
	return "another kind of value"
}

// got says in plain words what stands there.
func got(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!bool" && n.Style == 0:
		return n.Value + " without quotes"
	}
	return show.Text(clip(n.Value))
}

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func under(key string) string {
	if key == "" {
		return ""
	}
	return fmt.Sprintf("%s: ", show.Text(key))
}
