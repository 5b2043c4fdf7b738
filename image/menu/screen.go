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

// fitted gives a text as lines of the screen, of which none is wider than it.
func fitted(text string) (list []string) {
	for l := range strings.SplitSeq(strings.TrimRight(term.Fit(show.Lines(text)), "\n"), "\n") {
		for term.Columns(l) > term.Width {
			var head strings.Builder
			for _, r := range l {
				if term.Columns(head.String()+string(r)) > term.Width {
					break
				}
				head.WriteRune(r)
			}
			list, l = append(list, head.String()), l[head.Len():]
		}
		list = append(list, l)
	}
	return list
}

// room is how many lines a page has beside its head, its title and what stands below.
func (s *screen) room(title string, below ...string) int {
	room := screenLines - 3 - len(fitted(title))
	if s.head != nil {
		room -= len(s.head())
	}
	for _, b := range below {
		room -= len(fitted(b))
	}
	return max(room, 3)
}

// choose shows numbered things and asks for one; errBack for an empty line.
func (s *screen) choose(title string, items []string, hint string) (int, error) {
	lines := make([]string, len(items))
	for i, item := range items {
		lines[i] = fmt.Sprintf("%4d  %s", i+1, short(item))
	}
	for {
		text, err := s.listed(title, "Type a number and Enter%s; Enter alone goes back: ", lines, hint)
		if err != nil {
			return 0, err
		}
		if text == "" || text == "q" {
			return 0, errBack
		}
		if n := number(text, len(items)); n > 0 {
			return n - 1, nil
		}
	}
}

// listed shows lines, as many as a page has room for, with a text below each page, and asks; "m" shows the next page. %s in the question
// is where that is said.
func (s *screen) listed(title, question string, lines []string, below string) (string, error) {
	for at := 0; ; {
		var body []string
		end := at
		for left := s.room(title+" (9999 to 9999 of 9999)", question, below) - 1; end < len(lines); end++ {
			if left -= len(fitted(lines[end])); left < 0 && end > at {
				break
			}
			body = append(body, fitted(lines[end])...)
		}
		t, more := title, ""
		if end-at < len(lines) {
			t, more = fmt.Sprintf("%s (%d to %d of %d)", title, at+1, end, len(lines)), ", m for more"
		}
		if below != "" {
			body = append(body, "", below)
		}
		s.page(t, body...)
		text, err := s.ask("\n" + fmt.Sprintf(question, more))
		if err != nil || text != "m" || more == "" {
			return text, err
		}
		if at = end; at == len(lines) {
			at = 0
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
	_, err := s.asks(title, "Press Enter to go on. ", text)
	if errors.Is(err, errBack) {
		return nil
	}
	return err
}

// asks shows a text that may be longer than the screen, page by page, and asks below the last page: nobody answers what they were not shown.
// It is errBack for who left before.
func (s *screen) asks(title, question string, body ...string) (string, error) {
	lines := fitted(strings.Join(body, "\n"))
	room := s.room(title, question)
	if len(lines) > room {
		room = s.room(title+" (lines 9999 to 9999 of 9999)", "Enter shows the next page, b the one before, q leaves: ", question)
	}
	for at := 0; ; {
		end := pageEnd(lines, at, room)
		t, last := title, end == len(lines)
		if len(lines) > room {
			t = fmt.Sprintf("%s (lines %d to %d of %d)", title, at+1, end, len(lines))
		}
		s.page(t, lines[at:end]...)
		q := question
		switch {
		case !last && at > 0:
			q = "Enter shows the next page, b the one before, q leaves: "
		case !last:
			q = "Enter shows the next page, q leaves: "
		case at > 0:
			q = "That was the last page; b shows the one before.\n" + question
		}
		answer, err := s.ask("\n" + q)
		switch {
		case err != nil:
			return "", err
		case answer == "b" && at > 0:
			at = max(0, at-room)
		case last:
			return answer, nil
		case answer == "q":
			return "", errBack
		default:
			at = end
		}
	}
}

// pageEnd is where the page that begins at this line ends: a line that is indented, such as a number, is not parted from the one above that names it, where
// that costs a few lines.
func pageEnd(lines []string, at, room int) int {
	end := min(at+room, len(lines))
	for cut := end; cut < len(lines) && cut > at && cut > end-4; cut-- {
		if !strings.HasPrefix(lines[cut], "  ") {
			return cut
		}
	}
	return end
}

// digests asks for what people have on paper, a flag and a question each, and gives the flags with what was typed; none where they have nothing.
func (s *screen) digests(asked ...[2]string) (flags []string, err error) {
	for _, a := range asked {
		text, err := s.digest(a[1])
		if err != nil {
			return nil, err
		}
		if text != "" {
			flags = append(flags, a[0], text)
		}
	}
	return flags, nil
}

// digest asks for a SHA-256 from paper, and gives its 64 lower-case digits; "" for an empty line.
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
