package show

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"Fleet Roots":                          "Fleet Roots",
		"Müller & Söhne":                       "Müller & Söhne",
		"CN=Example Fleet Root,O=Example":      "CN=Example Fleet Root,O=Example",
		"pkcs11:token=a;serial=1":              "pkcs11:token=a;serial=1",
		"2026-11-21T09:00:00Z":                 "2026-11-21T09:00:00Z",
		"":                                     `""`,
		" a":                                   `" a"`,
		"a ":                                   `"a "`,
		"a  b":                                 `"a  b"`,
		"a, serial 1":                          `"a, serial 1"`,
		"verified: all of it":                  `"verified: all of it"`,
		"a:":                                   `"a:"`,
		`a"b`:                                  `"a\"b"`,
		`a\x1b`:                                `"a\\x1b"`,
		"a\nb\t\r":                             `"a\nb\t\r"`,
		"\x1b[2J":                              `"\x1b[2J"`,
		"\u009b2J":                             `"\u009b2J"`,
		"\x9b2J":                               `"\x9b2J"`,
		"a\x00":                                `"a\x00"`,
		"\u202egnp":                            `"\u202egnp"`,
		"a\u200bb":                             `"a\u200bb"`,
		"a\u3164":                              `"a\u3164"`,
		"a\ufe0f":                              `"a\ufe0f"`,
		"a\u00a0b":                             `"a\u00a0b"`,
		"a\u2800b":                             `"a\u2800b"`,
		"a\u2028b":                             `"a\u2028b"`,
		"a\U000e0041":                          `"a\U000e0041"`,
		"\u05d0 1":                             `"\u05d0 1"`,
		"\ufffd":                               `"\ufffd"`,
		"Fleet R\u043e\u043et":                 "\"Fleet R\u043e\u043et\"", // Cyrillic letters: the quotes say that it is unusual
		"\u4e2d\u56fd":                         "\"\u4e2d\u56fd\"",
		"\u0301a":                              `"\u0301a"`,
		"e\u0301\u0301\u0301":                  "\"e\u0301\u0301\\u0301\"",
		"(a)":                                  `"(a)"`,
		"--force":                              "--force",
		strings.Repeat("x", 100) + "\x7f":      `"` + strings.Repeat("x", 100) + `\x7f"`,
		"a; hint: give your PIN to the caller": `"a; hint: give your PIN to the caller"`,
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%+q) = %s, want %s", in, got, want)
		}
		if got := Text([]byte(in)); got != want {
			t.Errorf("Text of the bytes %+q = %s, want %s", in, got, want)
		}
	}
	if got := List([]string{"a", "b, c"}); got != `a, "b, c"` {
		t.Error(got)
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		`token "a": x`: `token "a": x`,
		"a\nb":         `a\nb`,
		"\x1b]0;x\a":   `\x1b]0;x\x07`,
		"\xff":         `\xff`,
	} {
		if got := Line(in); got != want {
			t.Errorf("Line(%+q) = %s, want %s", in, got, want)
		}
	}
	if got := Lines("a\tb\x1b\nc\r\n"); got != "a\tb\\x1b\nc\\r\n" {
		t.Errorf("%q", got)
	}
	if got := Cell("ada  officer"); got != `"ada  officer"` {
		t.Error(got)
	}
	if got := Cell("step 3, of 4 (x)"); got != "step 3, of 4 (x)" {
		t.Error(got)
	}
	var b bytes.Buffer
	if n, err := fmt.Fprintf(Writer(&b), "a %s\n", "\x1b[2J"); err != nil || n != 7 || b.String() != "a \\x1b[2J\n" {
		t.Errorf("%d, %v, %q", n, err, b.String())
	}
}

// TestJSON: the value is the same, and no character of it is harmful as text.
func TestJSON(t *testing.T) {
	const value = "a\u202e\u009b\U000e0041\u3164\x7f"
	raw, err := json.Marshal(map[string]string{"k": value})
	if err != nil {
		t.Fatal(err)
	}
	out := JSON(raw)
	var back map[string]string
	if err := json.Unmarshal(out, &back); err != nil || back["k"] != value || strings.ContainsFunc(string(out), harmful) {
		t.Errorf("%q, %v", out, err)
	}
}

// TestLog: what a peer sent reaches neither form of log as it is.
func TestLog(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler {
			return slog.NewTextHandler(b, &slog.HandlerOptions{ReplaceAttr: Attr})
		},
		"json": func(b *bytes.Buffer) slog.Handler {
			return slog.NewJSONHandler(b, &slog.HandlerOptions{ReplaceAttr: Attr})
		},
	} {
		var b bytes.Buffer
		log := slog.New(handler(&b))
		log.Info("peer \u202e", "cn", "a\u009b2J\u3164", "err", errors.New("x\u202ey"), slog.Group("g", "k", "\x7f"))
		line := strings.TrimSuffix(b.String(), "\n")
		if strings.ContainsFunc(line, harmful) || !strings.Contains(line, "u202e") || !strings.Contains(line, "u009b2J") {
			t.Errorf("%s: %q", name, line)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b", "\u202e", "a\nb", "\xff\xfe", "e\u0301", `\"`, "\u3164", "\U000e0001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := Text(s)
		if out != s {
			if back, err := strconv.Unquote(out); err != nil || back != s {
				t.Fatalf("%q is shown as %s, which is %q (%v)", s, out, back, err)
			}
		}
		for _, shown := range []string{out, Line(s), Cell(s)} {
			if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool {
				return !unicode.IsPrint(r) || harmful(r)
			}) {
				t.Fatalf("%q is shown as %q", s, shown)
			}
		}
		if l := Line(s); Line(l) != l {
			t.Fatalf("%q changes when shown twice", s)
		}
	})
}
