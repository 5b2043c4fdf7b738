package menu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

// Lines of a screen that a page may fill, so that the prompt has one, too.
const screenLines = 23

const line = "------------------------------------------------------------------------------"

// screen draws pages and reads answers, a line each. It needs nothing of a terminal but that it clears, and does without that.
type screen struct {
	w     io.Writer
	in    *bufio.Reader
	clear string
	// head gives the lines at the top of each page.
	head func() []string
}

func newScreen(in io.Reader, w io.Writer, terminal string) *screen {
	s := &screen{w: w, in: bufio.NewReaderSize(in, 4096), clear: "\x1b[H\x1b[2J"}
	if terminal == "" || terminal == "dumb" {
		s.clear = "\n"
	}
	return s
}

// page shows a page: what it is, and text whose lines are fitted.
func (s *screen) page(title string, body ...string) {
	var b strings.Builder
	b.WriteString(s.clear)
	if s.head != nil {
		for _, l := range s.head() {
			b.WriteString(cut(l) + "\n")
		}
		b.WriteString(line + "\n")
	}
	b.WriteString(term.Fit(show.Lines(title)) + "\n\n")
	for _, t := range body {
		b.WriteString(term.Fit(show.Lines(t)) + "\n")
	}
	_, _ = io.WriteString(s.w, b.String())
}

// cut keeps a line of a page's head on one line of the screen.
func cut(l string) string {
	r := []rune(show.Line(l))
	if len(r) > term.Width-1 {
		r = append(r[:term.Width-4], []rune("...")...)
	}
	return string(r)
}

// errEnded: nobody can answer any more.
var errEnded = errors.New("the terminal is gone")

// ask shows a question and gives the line that is typed, without blanks around it.
func (s *screen) ask(question string) (string, error) {
	_, _ = io.WriteString(s.w, term.Fit(show.Lines(question)))
	text, err := s.in.ReadString('\n')
	if err != nil && text == "" {
		return "", errEnded
	}
	return strings.TrimSpace(text), nil
}

// wait waits for Enter.
func (s *screen) wait() error {
	_, err := s.ask("\nPress Enter to go on. ")
	return err
}

// errBack: people want to go back to the page before.
var errBack = errors.New("back")

// choose shows numbered things and asks for one; errBack for an empty line.
func (s *screen) choose(title string, items []string, hint string) (int, error) {
	for first := 0; ; {
		last := min(first+12, len(items))
		var body []string
		lines := 0
		for i := first; i < last; i++ {
			body = append(body, fmt.Sprintf("%4d  %s", i+1, short(items[i])))
			if lines += strings.Count(term.Fit(body[len(body)-1]), "\n") + 1; lines > 11 {
				last = i + 1
			}
		}
		if hint != "" {
			body = append(body, "", hint)
		}
		s.page(title, body...)
		question := "\nType a number and Enter; Enter alone goes back: "
		if last < len(items) {
			question = "\nType a number and Enter, m for more; Enter alone goes back: "
		}
		text, err := s.ask(question)
		if err != nil {
			return 0, err
		}
		switch n := number(text, len(items)); {
		case text == "", text == "q":
			return 0, errBack
		case text == "m" && last < len(items):
			first = last
		case n > 0:
			return n - 1, nil
		default:
			first = 0
		}
	}
}

// short keeps an item that a stick's maker made long to three lines of the screen: its beginning and its end.
func short(item string) string {
	if r := []rune(item); len(r) > 140 {
		return string(r[:60]) + " ... " + string(r[len(r)-60:])
	}
	return item
}

// number reads a number from 1 to most; 0 if it is none.
func number(text string, most int) int {
	for n := 1; n <= most; n++ {
		if text == fmt.Sprint(n) {
			return n
		}
	}
	return 0
}

// pages shows a text that may be longer than the screen, page by page.
func (s *screen) pages(title, text string) error {
	lines := strings.Split(strings.TrimRight(term.Fit(show.Lines(text)), "\n"), "\n")
	room := screenLines - 4
	if s.head != nil {
		room -= len(s.head()) + 1
	}
	for at := 0; ; {
		end := min(at+room, len(lines))
		t := title
		if len(lines) > room {
			t = fmt.Sprintf("%s (lines %d to %d of %d)", title, at+1, end, len(lines))
		}
		s.page(t, lines[at:end]...)
		question := "\nPress Enter to go on. "
		switch {
		case end < len(lines) && at > 0:
			question = "\nEnter shows the next page, b the one before, q leaves: "
		case end < len(lines):
			question = "\nEnter shows the next page, q leaves: "
		case at > 0:
			question = "\nThat was the last page. Enter leaves, b shows the one before: "
		}
		answer, err := s.ask(question)
		switch {
		case err != nil:
			return err
		case answer == "b" && at > 0:
			at = max(0, at-room)
		case answer == "q" || end == len(lines):
			return nil
		default:
			at = end
		}
	}
}

// digest asks for a SHA-256 from paper; nil for an empty line.
func (s *screen) digest(what string) (string, error) {
	for {
		text, err := s.ask(what + "\n  ")
		if err != nil || text == "" {
			return "", err
		}
		text = strings.ToLower(strings.Join(strings.Fields(text), ""))
		if len(text) == 64 && strings.Trim(text, "0123456789abcdef") == "" {
			return text, nil
		}
		_, _ = fmt.Fprintf(s.w, "These are %d signs; a SHA-256 has 64, from 0 to 9 and a to f.\nBlanks between them do no harm.\n", len(text))
	}
}
