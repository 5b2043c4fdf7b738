package ceremony

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/format"
)

const schemaFile = "../docs/spec/transcript.schema.json"

// schema is the written form of all leaves: their fields in order. docs/spec/formats.md explains it.
type schema struct {
	Format string                   `json:"format"`
	Leaves map[string]schemaLeaf    `json:"leaves"`
	Types  map[string][]schemaField `json:"types"`
}

type schemaLeaf struct {
	Since  string        `json:"since"`
	Fields []schemaField `json:"fields"`
}

type schemaField struct {
	Name string `json:"name"`
	// Type is string, integer, boolean, bytes (base64), the name of a type, or one of these after "list of " or "map of ".
	Type string `json:"type"`
	// Optional fields are left out where they are empty. Prose is for people and never compared. Since is the format from
	// which the field exists, where it is not that of its leaf.
	Optional bool   `json:"optional,omitempty"`
	Prose    bool   `json:"prose,omitempty"`
	Since    string `json:"since,omitempty"`
}

// written is the schema of the structs.
func written(t *testing.T) schema {
	t.Helper()
	s := schema{Format: Format(), Leaves: map[string]schemaLeaf{}, Types: map[string][]schemaField{}}
	for kind, k := range leafKinds {
		s.Leaves[kind] = schemaLeaf{k.since.String(), s.fields(t, reflect.TypeOf(k.empty()).Elem())}
	}
	return s
}

func (s schema) fields(t *testing.T, v reflect.Type) []schemaField {
	t.Helper()
	list := []schemaField{}
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Anonymous {
			list = append(list, s.fields(t, f.Type)...)
			continue
		}
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" { // never written
			continue
		}
		if name == "" {
			t.Errorf("%s.%s has no name in JSON", v, f.Name)
		}
		field := schemaField{Name: name, Type: s.typeOf(t, f.Type), Optional: rest == "omitempty" || rest == "omitzero", Prose: f.Tag.Get(proseTag) != "", Since: f.Tag.Get(sinceTag)}
		if field.Since != "" {
			if _, err := format.Parse(field.Since); err != nil || !field.Optional {
				t.Errorf("%s.%s: a field that is added later is left out where it is empty: %v", v, f.Name, err)
			}
		}
		list = append(list, field)
	}
	return list
}

func (s schema) typeOf(t *testing.T, v reflect.Type) string {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		return s.typeOf(t, v.Elem())
	case reflect.String:
		return "string"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Bool:
		return "boolean"
	case reflect.Slice:
		if v.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "list of " + s.typeOf(t, v.Elem())
	case reflect.Map:
		return "map of " + s.typeOf(t, v.Elem())
	case reflect.Struct:
		name := strings.ToLower(v.Name())
		if _, ok := s.Types[name]; !ok {
			s.Types[name] = nil
			s.Types[name] = s.fields(t, v)
		}
		return name
	}
	t.Errorf("%s cannot stand in a leaf", v)
	return ""
}

// TestSchema: docs/spec/transcript.schema.json is the form of the structs, field by field.
func TestSchema(t *testing.T) {
	data, err := json.MarshalIndent(written(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	data = append(data, '\n')
	if *makeGolden {
		if err := os.WriteFile(schemaFile, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readFile(t, schemaFile); !bytes.Equal(data, []byte(want)) {
		t.Errorf("%s is not the form of the leaves. If a minor format added something, write it anew with -make-golden; whatever else changed must change back", schemaFile)
	}
}

// TestFrozen: what the schema of the first format says, every later one says too: nothing is taken away, renamed, moved
// or given another type.
func TestFrozen(t *testing.T) {
	var first, now schema
	if err := json.Unmarshal([]byte(readFile(t, goldenDir+"/1.0/schema.json")), &first); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(readFile(t, schemaFile)), &now); err != nil {
		t.Fatal(err)
	}
	if first.Format != "1.0" || len(first.Leaves) < 25 {
		t.Fatalf("%s, %d leaves", first.Format, len(first.Leaves))
	}
	same := func(what string, was, is []schemaField) {
		t.Helper()
		var kept []schemaField
		for _, f := range is {
			if f.Since == "" {
				kept = append(kept, f)
			}
		}
		if !reflect.DeepEqual(was, kept) {
			t.Errorf("%s is not what it was in format 1.0", what)
		}
	}
	for kind, l := range first.Leaves {
		if now.Leaves[kind].Since != "1.0" {
			t.Errorf("leaf %s is gone", kind)
		}
		same("leaf "+kind, l.Fields, now.Leaves[kind].Fields)
	}
	for name, fields := range first.Types {
		same("type "+name, fields, now.Types[name])
	}
	for kind, l := range now.Leaves {
		if _, ok := first.Leaves[kind]; !ok && l.Since == "1.0" {
			t.Errorf("leaf %s is new and says that it is of format 1.0", kind)
		}
	}
}
