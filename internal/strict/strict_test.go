package strict

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
)

type sample struct {
	Name string            `yaml:"name" json:"name"`
	N    int               `yaml:"n" json:"n"`
	Sub  map[string]string `yaml:"sub" json:"sub"`
}

func TestUnmarshal(t *testing.T) {
	var s sample
	if err := Unmarshal("a.yaml", []byte("name: x\nn: 3\nsub: {a: b}\n"), &s); err != nil || s.Name != "x" || s.N != 3 || s.Sub["a"] != "b" {
		t.Fatalf("got %+v, %v", s, err)
	}
	for _, c := range []struct{ in, want string }{
		{"", "a.yaml: is empty"},
		{"nmae: x\n", `a.yaml:1: unknown key "nmae"`},
		{"name: x\nname: y\n", `a.yaml:2: key "name" appears twice`},
		{"sub:\n  a: b\n  a: c\n", `a.yaml:3: key "a" appears twice`},
		{"name: &a x\n", "a.yaml:1: anchors and aliases"},
		{"name: x\n---\nname: y\n", "more than one YAML document"},
		{"n: many\n", "a.yaml:1: n: want a whole number such as 12, got many"},
		{"name: [\n", "a.yaml:"},
		{"\tname: x\n", "a.yaml:1: begins with a tab"},
		{"n: 3\nsub:\n \ta: b\n", "a.yaml:3: begins with a tab"},
		{"sub: {<<: {a: b}}\n", "merge keys"},
		{strings.Repeat(" ", MaxSize+1), "larger than"},
		{"name: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "nests deeper"},
	} {
		err := Unmarshal("a.yaml", []byte(c.in), new(sample))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: got %v, want %q", c.in, err, c.want)
		}
		if advice.KindOf(err) != advice.Usage {
			t.Errorf("%.40q: kind %v, want usage", c.in, advice.KindOf(err))
		}
	}
}

func TestJSON(t *testing.T) {
	var s sample
	if err := JSON("a.json", []byte(`{"name":"x","n":3}`), &s); err != nil || s.N != 3 {
		t.Fatalf("got %+v, %v", s, err)
	}
	for _, c := range []struct{ in, want string }{
		{``, "unexpected EOF"},
		{`{"name":"x","name":"y"}`, `"name" appears twice`},
		{`{"name":"x","NAME":"y"}`, `"NAME" appears twice`},
		{`{"sub":{},"ſub":{}}`, `"ſub" appears twice`},
		{`{"nmae":"x"}`, "unknown field"},
		{`{"name":"x"}{}`, "data follows"},
		{`{"name":`, "EOF"},
		{strings.Repeat("[", 200), "nests deeper"},
	} {
		err := JSON("a.json", []byte(c.in), new(sample))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: got %v, want %q", c.in, err, c.want)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("name: x\nn: 3\nsub: {a: b}\n"))
	f.Add([]byte("name: &a x\nsub: {<<: *a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) { _ = Unmarshal("f", data, new(sample)) })
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"name":"x","n":3,"sub":{"a":"b"}}`))
	f.Add([]byte(`[[[{"a":1}]]]`))
	f.Fuzz(func(t *testing.T, data []byte) { _ = JSON("f", data, new(sample)) })
}
