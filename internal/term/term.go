// Package term speaks with the person at the terminal: prompts, and progress of long work.
//
// Prompts go to the controlling terminal, never to standard output, so that neither a pipe nor a log ever holds an
// answer. An attacker who controls the terminal controls the session.
package term

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// maxLine bounds an answer, in bytes.
const maxLine = 4096

// Prompter asks a person. Answers of Secret are the caller's to wipe.
type Prompter interface {
	Secret(prompt string) ([]byte, error)
	Line(prompt string) (string, error)
}

// TTY asks at the controlling terminal.
func TTY() Prompter { return tty{} }

// Live says whether a person answers, and not a file.
func Live(p Prompter) bool {
	_, is := p.(tty)
	return is
}

type tty struct{}

func open() (*os.File, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, advice.New(advice.Usage, "run it at a terminal; where none is, PINs can come from a file (pin-source), and answers from one (--answers, at the verbs that have it)", "no terminal to ask at: %w", err)
	}
	return f, nil
}

// Secret reads a line without echo and erases the prompt after. Echo is off before the prompt is shown: what is typed
// early stays unseen, too.
func (tty) Secret(prompt string) ([]byte, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unfinished.end(f)
	restore, err := echoOff(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("turning the terminal's echo off: %w", err)
	}
	defer restore()
	fmt.Fprint(f, Fit(show.Lines(prompt)))
	b, err := interruptible(func() ([]byte, error) { return term.ReadPassword(int(f.Fd())) })
	fmt.Fprint(f, "\r\x1b[K")
	if err != nil {
		return nil, fmt.Errorf("reading from the terminal: %w", err)
	}
	if len(b) == 0 {
		return nil, advice.New(advice.Usage, "", "nothing was entered")
	}
	return b, nil
}

// Line reads a line; the answer is returned without its end and surrounding white space.
func (tty) Line(prompt string) (string, error) {
	f, err := open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	unfinished.end(f)
	fmt.Fprint(f, Fit(show.Lines(prompt)))
	return interruptible(func() (string, error) { return readLine(f) })
}

var errInterrupted = errors.New("interrupted")

// interruptible ends at SIGINT or SIGTERM, which the programs catch: a person at a prompt can always leave. The reader is
// then left behind, and the program about to end.
func interruptible[T any](read func() (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan answer, 1)
	go func() {
		v, err := read()
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-signals:
		var none T
		return none, errInterrupted
	}
}

// liveLine knows whether a live line of progress waits for its end: a prompt begins on a line of its own.
type liveLine struct{ open atomic.Bool }

var unfinished liveLine

func (l *liveLine) end(w io.Writer) {
	if l.open.Swap(false) {
		fmt.Fprintln(w)
	}
}

// readLine reads byte by byte, so that what follows the line stays in the terminal for the next prompt.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	one := make([]byte, 1)
	for b.Len() < maxLine {
		n, err := r.Read(one)
		if n == 1 {
			if one[0] == '\n' {
				return strings.TrimSpace(b.String()), nil
			}
			b.WriteByte(one[0])
			continue
		}
		if err != nil && !(errors.Is(err, io.EOF) && b.Len() > 0) {
			return "", fmt.Errorf("reading an answer: %w", err)
		}
		if err != nil {
			return strings.TrimSpace(b.String()), nil
		}
	}
	return "", advice.New(advice.Usage, "", "the answer is longer than %d bytes", maxLine)
}

// Script answers prompts from the lines of r, for rehearsals and tests. It is safe for concurrent use.
func Script(r io.Reader) Prompter { return &script{lines: bufio.NewReaderSize(r, maxLine)} }

type script struct {
	mu    sync.Mutex
	lines *bufio.Reader
}

func (s *script) Line(prompt string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := s.lines.ReadSlice('\n')
	if err != nil && len(line) == 0 {
		return "", advice.New(advice.Usage, "add a line for it to the answers", "no answer is left for %q", strings.TrimSpace(prompt))
	}
	return strings.TrimSpace(string(line)), nil
}

func (s *script) Secret(prompt string) ([]byte, error) {
	line, err := s.Line(prompt)
	return []byte(line), err
}

// Progress tells of long work on a writer, usually standard error. On a live terminal the line of the step at work
// is written over by the next; elsewhere each step is a line of its own. A nil *Progress is silent.
type Progress struct {
	mu   sync.Mutex
	w    io.Writer
	live bool
}

// NewProgress writes to w; live says that w is a terminal.
func NewProgress(w io.Writer, live bool) *Progress { return &Progress{w: w, live: live} }

// Stderr is the progress of a program: live where standard error is a terminal.
func Stderr() *Progress { return NewProgress(os.Stderr, term.IsTerminal(int(os.Stderr.Fd()))) }

// Step says what is being done now.
func (p *Progress) Step(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live {
		// A line that the terminal wraps could not be written over. What it tells is told whole elsewhere.
		line := []rune(show.Line(fmt.Sprintf(format, args...)))
		if len(line) > Width-1 {
			line = append(line[:Width-4], []rune("...")...)
		}
		fmt.Fprint(p.w, "\r\x1b[K", string(line))
		unfinished.open.Store(true)
		return
	}
	fmt.Fprintln(p.w, Wrap(show.Line(fmt.Sprintf(format, args...)), ""))
}

// Clear takes the live line away, for text that is printed otherwise.
func (p *Progress) Clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live && unfinished.open.Swap(false) {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// Done ends the live line with a last word that stays.
func (p *Progress) Done(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live {
		fmt.Fprint(p.w, "\r\x1b[K")
		unfinished.open.Store(false)
	}
	fmt.Fprintln(p.w, Wrap(show.Line(fmt.Sprintf(format, args...)), ""))
}
