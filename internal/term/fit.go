package term

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Fit breaks the lines of a text that are wider than Width between their words, and leaves all others as they are. What is
// broken off is indented by two more than its line. A word that is wider, such as a path, has a line to itself.
func Fit(text string) string { return (&fitter{}).fit(text) }

// Fitted gives a writer whose lines fit on the screen, if w is a terminal; otherwise w itself, for programs read what goes
// into a pipe. It is the one place where what a program says is broken into lines.
func Fitted(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return w
	}
	return &fitter{w: w}
}

type fitter struct {
	w io.Writer
	// column is where the last text ended.
	column int
}

func (f *fitter) Write(p []byte) (int, error) {
	unfinished.end(f.w) // the live line of a step that was at work
	if _, err := io.WriteString(f.w, f.fit(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *fitter) fit(text string) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			out.WriteByte('\n')
			f.column = 0
		}
		f.line(&out, line)
	}
	return out.String()
}

func (f *fitter) line(out *strings.Builder, line string) {
	if n := f.column + Columns(line); n <= Width {
		out.WriteString(line)
		f.column = n
		return
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
	if f.column == 0 {
		out.WriteString(indent)
		f.column = len(indent)
		line = line[len(indent):]
	}
	indent += "  "
	for begin := true; line != ""; begin = false {
		blanks := line[:len(line)-len(strings.TrimLeft(line, " "))]
		word, _, _ := strings.Cut(line[len(blanks):], " ")
		line = line[len(blanks)+len(word):]
		if n := len(blanks) + Columns(word); f.column+n <= Width || word == "" || begin && f.column < len(indent) {
			out.WriteString(blanks + word)
			f.column += n
			continue
		}
		out.WriteString("\n" + indent + word)
		f.column = len(indent) + Columns(word)
	}
}

// Columns is how many columns of a terminal a text takes: two for a character of East Asian writing.
func Columns(text string) (n int) {
	for _, r := range text {
		switch {
		case unicode.Is(unicode.M, r):
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) || r >= 0xff01 && r <= 0xff60:
			n += 2
		default:
			n++
		}
	}
	return n
}
