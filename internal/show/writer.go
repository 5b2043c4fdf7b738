package show

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Writer gives a writer that passes on what is written, escaped by Lines. It is the last net under a program's output: a
// value that was printed without Text can still not steer the terminal. Each call is taken for itself, as package fmt makes
// one call for one text.
func Writer(w io.Writer) io.Writer { return &writer{w: w} }

type writer struct {
	w      io.Writer
	failed error
}

func (w *writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, Lines(string(p))); err != nil {
		return 0, w.fail(err)
	}
	return len(p), nil
}

func (w *writer) fail(err error) error {
	if w.failed == nil { // a nil err leaves it nil
		w.failed = err
	}
	return err
}

// Failed is the first error of a writer that Writer gave: package fmt's callers do not look at each.
func Failed(w io.Writer) error {
	if own, ok := w.(*writer); ok {
		return own.failed
	}
	return nil
}

// Raw writes bytes that must come out exactly, such as metadata that was signed, to a writer that Writer gave. On a
// terminal, where people read them, they are escaped all the same.
func Raw(w io.Writer, p []byte) (int, error) {
	if own, ok := w.(*writer); ok {
		if f, ok := own.w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
			n, err := own.w.Write(p)
			return n, own.fail(err)
		}
	}
	return w.Write(p)
}

// JSON escapes, in a JSON text, what Line would escape, in JSON's own form: the value stays the same.
func JSON(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case r == '\n' || r == '\t' || !harmful(r) || r == '\uFFFD':
			out = append(out, string(r)...)
		case r < 0x10000:
			out = appendUnit(out, uint32(r))
		default:
			r -= 0x10000
			out = appendUnit(out, 0xd800|uint32(r)>>10)
			out = appendUnit(out, 0xdc00|uint32(r)&0x3ff)
		}
	}
	return out
}

func appendUnit(out []byte, u uint32) []byte {
	const digits = "0123456789abcdef"
	return append(out, '\\', 'u', digits[u>>12&0xf], digits[u>>8&0xf], digits[u>>4&0xf], digits[u&0xf])
}
