// Package strict reads YAML and JSON written by people and refuses all that a reader could misread: unknown and
// repeated keys, aliases, several documents, trailing data.
//
// An attacker who can change a file read here can change what it says, never make two readers see two things in it.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/hanaper/hanaper/internal/advice"
)

// MaxSize bounds a file, in bytes.
const MaxSize = 1 << 20

// maxDepth bounds the nesting of a document.
const maxDepth = 64

// ReadFile reads the YAML file at path into v.
func ReadFile(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return advice.New(advice.Usage, "", "reading %s: %w", path, err)
	}
	return Unmarshal(path, data, v)
}

// Unmarshal decodes the YAML document in data into v; name stands for it in errors ("name:line: what").
func Unmarshal(name string, data []byte, v any) error {
	if len(data) > MaxSize {
		return usage(name, 0, fmt.Sprintf("is larger than %d bytes", MaxSize))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return usage(name, 0, "is empty")
	} else if err != nil {
		return fromYAML(name, err)
	}
	if err := dec.Decode(new(yaml.Node)); err == nil {
		return usage(name, 0, "holds more than one YAML document")
	} else if !errors.Is(err, io.EOF) {
		return fromYAML(name, err)
	}
	if err := check(name, &doc, 0); err != nil {
		return err
	}
	// Decoded anew from the bytes, for a node forgets KnownFields.
	dec = yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(v); err != nil {
		return fromYAML(name, err)
	}
	return nil
}

func check(name string, n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return usage(name, n.Line, fmt.Sprintf("nests deeper than %d levels", maxDepth))
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return usage(name, n.Line, "anchors and aliases are not allowed: write the value out")
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Tag == "!!merge" {
				return usage(name, k.Line, "merge keys are not allowed: write the values out")
			}
			if seen[k.Value] {
				return usage(name, k.Line, fmt.Sprintf("key %q stands twice", k.Value))
			}
			seen[k.Value] = true
		}
	}
	for _, c := range n.Content {
		if err := check(name, c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

var (
	yamlLine    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	yamlUnknown = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	yamlType    = regexp.MustCompile("^cannot unmarshal !!(\\S+) (?:`(.*)` )?into (.*)$")
)

func fromYAML(name string, err error) error {
	var te *yaml.TypeError
	if errors.As(err, &te) && len(te.Errors) > 0 {
		err = errors.New(te.Errors[0])
	}
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		// An error of a type's own UnmarshalYAML: keep its identity for errors.Is.
		return advice.New(advice.Usage, "", "%s: %w", name, err)
	}
	line, _ := strconv.Atoi(m[1])
	what := m[2]
	if u := yamlUnknown.FindStringSubmatch(what); u != nil {
		what = fmt.Sprintf("unknown key %q", u[1])
	} else if t := yamlType.FindStringSubmatch(what); t != nil {
		what = fmt.Sprintf("a value of another kind is wanted here (got %s, want %s)", t[1], strings.TrimPrefix(t[3], "*"))
	}
	return usage(name, line, what)
}

func usage(name string, line int, what string) error {
	if line > 0 {
		return advice.New(advice.Usage, "", "%s:%d: %s", name, line, what)
	}
	return advice.New(advice.Usage, "", "%s: %s", name, what)
}

// JSON decodes exactly one JSON value in data into v and refuses unknown and repeated keys (also those that differ
// only in case from a field's name) and trailing data.
func JSON(name string, data []byte, v any) error {
	if err := uniqueKeys(data); err != nil {
		return advice.New(advice.Usage, "", "%s: %w", name, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return advice.New(advice.Usage, "", "%s: %w", name, err)
	}
	return nil
}

// uniqueKeys walks the tokens of one JSON value. Keys are compared without case, as encoding/json matches them.
func uniqueKeys(data []byte) error {
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
				return fmt.Errorf("key %q stands twice", k)
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
