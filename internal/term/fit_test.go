package term

import (
	"io"
	"strings"
	"testing"
)

// TestFit: lines that are too wide are broken between words, and nothing else is changed.
func TestFit(t *testing.T) {
	path := "/" + strings.Repeat("x", 90)
	for _, c := range [][2]string{
		{"", ""},
		{"short\n", "short\n"},
		{"two  blanks   stay\n\nas they are", "two  blanks   stay\n\nas they are"},
		{strings.Repeat("a", 80), strings.Repeat("a", 80)},
		{strings.Repeat("word ", 17) + "end", strings.TrimSuffix(strings.Repeat("word ", 16), " ") + "\n  word end"},
		{"    - " + strings.Repeat("word ", 17), "    - " + strings.TrimSuffix(strings.Repeat("word ", 15), " ") + "\n      word word "},
		{"the file " + path + " is damaged", "the file\n  " + path + "\n  is damaged"},
		{path, path},
		{"  " + path, "  " + path},
		{strings.Repeat("word ", 15) + "Type Yes: ", strings.Repeat("word ", 15) + "Type\n  Yes: "},
		{strings.Repeat("字", 39) + " 字字", strings.Repeat("字", 39) + "\n  字字"},
	} {
		if got := Fit(c[0]); got != c[1] {
			t.Errorf("%q\ngives %q\nwant  %q", c[0], got, c[1])
		}
		if strings.Join(strings.Fields(Fit(c[0])), " ") != strings.Join(strings.Fields(c[0]), " ") {
			t.Errorf("%q: the words are others", c[0])
		}
	}
	var b strings.Builder
	if Fitted(&b) != io.Writer(&b) {
		t.Error("what goes into a pipe is broken")
	}
}
