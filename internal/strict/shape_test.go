package strict

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

type shaped struct {
	Text  string             `yaml:"text"`
	N     int                `yaml:"n"`
	Small uint8              `yaml:"small"`
	P     *int               `yaml:"p"`
	Flag  bool               `yaml:"flag"`
	D     time.Duration      `yaml:"d"`
	Addr  netip.Addr         `yaml:"addr"`
	List  []string           `yaml:"list"`
	Map   map[string]int     `yaml:"map"`
	Sub   struct{ A string } `yaml:"sub"`
	Subs  []*shaped          `yaml:"subs"`
}

// TestShape: what a value looks like in the file is what it is, or it is refused in plain words.
func TestShape(t *testing.T) {
	var s shaped
	const good = "text: 010\nn: -2\nsmall: 255\np: 0\nflag: true\nd: 1h30m\naddr: 127.0.0.1\nlist: [2026-11-21T00:00:00Z, 1e3, \"~\"]\nmap: {a: 1}\nsub: {a: x}\nsubs: [{n: 3}]\n"
	if err := Unmarshal("f", []byte(good), &s); err != nil {
		t.Fatal(err)
	}
	want := shaped{Text: "010", N: -2, Small: 255, P: new(int), Flag: true, D: 90 * time.Minute, Addr: netip.MustParseAddr("127.0.0.1"),
		List: []string{"2026-11-21T00:00:00Z", "1e3", "~"}, Map: map[string]int{"a": 1}, Sub: struct{ A string }{"x"}, Subs: []*shaped{{N: 3}}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%+v", s)
	}
	for in, want := range map[string]string{
		"n: 2.9":                  "f:1: n: want a whole number such as 12, got 2.9",
		"n: 010":                  "n: want a whole number such as 12, got 010",
		"n: 0o10":                 "want a whole number",
		"n: 1e3":                  "want a whole number",
		"n: 0x10":                 "want a whole number",
		"n: 0b1":                  "want a whole number",
		"n: 1_000":                "want a whole number",
		"n: +1":                   "want a whole number",
		"n: -0":                   "want a whole number",
		"n: '2'":                  "want a whole number",
		"n: 2.0":                  "want a whole number",
		"n: 190:20:30":            "want a whole number",
		"n: .inf":                 "want a whole number",
		"n: ~":                    "n: want a whole number such as 12, got nothing",
		"n:":                      "n: want a whole number such as 12, got nothing",
		"n: 99999999999999999999": "out of range",
		"small: 256":              "out of range",
		"small: -1":               "out of range",
		"p: null":                 "p: want a whole number such as 12, got nothing",
		"p: 1.0":                  "want a whole number",
		"flag: yes":               "flag: want true or false, got yes",
		"flag: True":              "want true or false",
		"flag: 1":                 "want true or false",
		"flag: 'true'":            "want true or false",
		"text: [a]":               "text: want text, got a list",
		"text: {a: b}":            "text: want text, got keys with values",
		"text: true":              "text: want text, got true without quotes",
		"text: ~":                 "text: want text, got nothing",
		"text:":                   "text: want text, got nothing",
		"text: !!binary aGVsbG8=": "tags such as !!binary are not allowed",
		"n: !!int 2":              "tags such as !!int are not allowed",
		"n: !!str 2":              "tags such as !!str are not allowed",
		"text: !thing x":          "tags such as !thing are not allowed",
		"text: ! x":               "tags such as",
		"!!map {text: x}":         "tags such as !!map are not allowed",
		"!!str text: x":           "tags such as !!str are not allowed",
		"list: a":                 "list: want a list, got a",
		"list: [[a]]":             "list: want text, got a list",
		"list: {a: b}":            "list: want a list, got keys with values",
		"map: [a]":                "map: want keys with values, got a list",
		"map: {a: 2.9}":           "a: want a whole number such as 12, got 2.9",
		"sub: x":                  "sub: want keys with values, got x",
		"sub: {b: x}":             `unknown key "b"`,
		"subs: [{n: 010}]":        "n: want a whole number such as 12, got 010",
		"d: 90":                   "d: want a duration such as 90s or 12h, got 90",
		"? [a]\n: b":              "a key is not text",
		"~: b":                    "a key is not text",
		"- a":                     "want keys with values, got a list",
		"sub: &x {a: b}":          "anchors and aliases",
		"<<: {n: 1}":              "merge keys",
		"# nothing\n":             "f: is empty",
		"text: &a x\nlist: [*a]":  "anchors and aliases",
		"list: [\"\\e[2J\", ~]":   "list: want text, got nothing",
		"n: \"\\u202E\"":          `n: want a whole number such as 12, got "\u202e"`,
		"\ufefftext: x":           "not plain UTF-8",
		"text: \xff":              "not plain UTF-8",
		"\xff\xfet\x00":           "not plain UTF-8",
		"\"\\e[2J\": x":           `unknown key "\x1b[2J"`,
	} {
		s := shaped{}
		err := Unmarshal("f", []byte(in), &s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
			continue
		}
		if strings.Contains(err.Error(), "!!") && !strings.Contains(want, "!!") || strings.Contains(err.Error(), "unmarshal") {
			t.Errorf("%q: not in plain words: %v", in, err)
		}
		if advice.KindOf(err) != advice.Usage {
			t.Errorf("%q: kind %v", in, advice.KindOf(err))
		}
		if !reflect.DeepEqual(s, shaped{}) {
			t.Errorf("%q: refused, and read: %+v", in, s)
		}
	}
}

// TestPart: a reader of a part leaves out other keys, and holds its own to the same form.
func TestPart(t *testing.T) {
	var head struct {
		Text string `yaml:"text"`
	}
	if err := Part("f", []byte("text: a\nother: [1, {x: 2.9}]\n"), &head); err != nil || head.Text != "a" {
		t.Errorf("%+v, %v", head, err)
	}
	if err := Part("f", []byte("text: [a]\n"), &head); err == nil {
		t.Error("a list was taken for text")
	}
}

// TestJSONKinds: what is wanted is told in plain words for JSON, too.
func TestJSONKinds(t *testing.T) {
	for in, want := range map[string]string{
		`{"n": 2.9}`:           `key "n": want a whole number such as 12`,
		`{"n": "2"}`:           `key "n": want a whole number such as 12`,
		`{"name": 2}`:          `key "name": want text`,
		`{"sub": []}`:          `key "sub": want keys with values`,
		"{\"name\": \"\xff\"}": "is not UTF-8",
	} {
		if err := JSON("f", []byte(in), new(sample)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}
