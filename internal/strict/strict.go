// Package strict reads YAML and JSON written by people and refuses all that a reader could misread: unknown and
// repeated keys, aliases, tags, values of another kind than is wanted (2.9 or 010 for a number), several documents,
// trailing data.
//
// An attacker who can change a file read here can change what it says, never make two readers see two things in it.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// MaxSize bounds a file, in bytes.
const MaxSize = 1 << 20

// maxDepth bounds the nesting of a document.
const maxDepth = 64

// ReadFile reads the YAML file at path into v.
func ReadFile(path string, v any) error {
	data, err := input.Read(path, MaxSize)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
	}
	return Unmarshal(path, data, v)
}

// Unmarshal decodes the YAML document in data into v; name stands for it in errors ("name:line: what"). The document
// must fit v's type as it is written: see shape.go.
func Unmarshal(name string, data []byte, v any) error {
	return unmarshal(name, data, v, true)
}

// Part is Unmarshal for a reader that knows only a part of the document: keys that v does not have are left out.
func Part(name string, data []byte, v any) error {
	return unmarshal(name, data, v, false)
}

func unmarshal(name string, data []byte, v any, all bool) error {
	if len(data) > MaxSize {
		return usage(name, 0, fmt.Sprintf("is larger than %d bytes", MaxSize))
	}
	// A byte order mark would let the library read UTF-16, where another reader sees something else.
	if !utf8.Valid(data) || bytes.HasPrefix(data, []byte("\ufeff")) {
		return usage(name, 0, "is not plain UTF-8: save it as UTF-8 without a byte order mark")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) || err == nil && empty(&doc) {
		return usage(name, 0, "is empty")
	} else if err != nil {
		if line := tabbed(data); line > 0 { // the library says of it that a token cannot start so, and not always where
			return usage(name, line, "begins with a tab: indent with blanks")
		}
		return fromYAML(name, err)
	}
	if err := dec.Decode(new(yaml.Node)); err == nil {
		return usage(name, 0, "holds more than one YAML document")
	} else if !errors.Is(err, io.EOF) {
		return fromYAML(name, err)
	}
	f := fitter{name: name, all: all, lines: strings.Split(string(data), "\n")}
	if err := f.plain(&doc, 0); err != nil {
		return err
	}
	if err := f.fit(doc.Content[0], reflect.TypeOf(v).Elem(), ""); err != nil {
		return err
	}
	if err := doc.Decode(v); err != nil {
		return fromYAML(name, err)
	}
	return nil
}

// tabbed gives the first line with a tab in its indentation, from 1; 0 for none.
func tabbed(data []byte) int {
	for i, l := range bytes.Split(data, []byte("\n")) {
		if bytes.HasPrefix(bytes.TrimLeft(l, " "), []byte("\t")) {
			return i + 1
		}
	}
	return 0
}

// empty is true for a document of comments alone.
func empty(doc *yaml.Node) bool {
	return len(doc.Content) == 1 && doc.Content[0].Tag == "!!null" && doc.Content[0].Value == ""
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

func fromYAML(name string, err error) error {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		// An error of a type's own UnmarshalYAML: keep its identity for errors.Is.
		return advice.New(advice.Usage, "", "%s: %w", show.Text(name), err)
	}
	line, _ := strconv.Atoi(m[1])
	return usage(name, line, m[2])
}

func usage(name string, line int, what string) error {
	if line > 0 {
		return advice.New(advice.Usage, "", "%s:%d: %s", show.Text(name), line, what)
	}
	return advice.New(advice.Usage, "", "%s: %s", show.Text(name), what)
}

// JSON decodes exactly one JSON value in data into v and refuses unknown and repeated keys (also those that differ
// only in case from a field's name) and trailing data.
func JSON(name string, data []byte, v any) error {
	if !utf8.Valid(data) {
		return advice.New(advice.Usage, "", "%s: is not UTF-8", show.Text(name))
	}
	if err := uniqueKeys(data); err != nil {
		return advice.New(advice.Usage, "", "%s: %w", show.Text(name), err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if te := (*json.UnmarshalTypeError)(nil); errors.As(err, &te) {
		return advice.New(advice.Usage, "", "%s: key %q: want %s", show.Text(name), te.Field, wanted(te.Type))
	}
	if err != nil {
		return advice.New(advice.Usage, "", "%s: %w", show.Text(name), err)
	}
	return nil
}

// uniqueKeys walks the tokens of one JSON value. Keys are compared without case, as encoding/json matches them.
func uniqueKeys(data []byte) error {
	if flat(data) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := walk(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data follows the JSON value")
	}
	return nil
}

// fold maps a key to what all keys share that encoding/json takes for the same field: the least rune of each orbit of
// simple case folding. Lower case is not enough: "\u017f" (long s) matches "s".
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for n := unicode.SimpleFold(r); n != r; n = unicode.SimpleFold(n) {
			least = min(least, n)
		}
		return least
	}, key)
}

func walk(dec *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nests deeper than %d levels", maxDepth)
	}
	t, err := dec.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	d, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if d == '{' {
			k, err := dec.Token()
			if err != nil {
				return err
			}
			key := fold(k.(string))
			if seen[key] {
				return fmt.Errorf("key %q appears twice", k)
			}
			seen[key] = true
		}
		if err := walk(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}
