package menu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

// Config is what a menu needs.
type Config struct {
	// In and Out are the terminal, and Terminal its kind ($TERM).
	In       io.Reader
	Out      io.Writer
	Terminal string
	// Program is the file of hanaper, whose verbs are run; Version and SHA256 are what it is.
	Program, Version, SHA256 string
	// Words are the words by which a digest is read aloud, in lines.
	Words func(digest [32]byte) string
	// Folder is where people are, on a machine of their own.
	Folder string
	// Machine is the folder of the notes of a machine that was started from the ceremony image; empty on any other machine.
	Machine string
	// Extend writes a digest into the TPM's register that tells of shells; an error says that there is no TPM.
	Extend func(ctx context.Context, digest [32]byte) error
}

// Exit codes of the menu, beside 0 (switch the machine off): the image's init acts on them.
const (
	ExitRestart = 3
	ExitShell   = 10
)

// Exit asks the caller to end with this code.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("the menu ends with %d", int(e)) }

// menu is one sitting.
type menu struct {
	Config
	*screen
	sticks *sticks
	// environment is added for verbs; tokens is where they find tokens in files.
	environment []string
	tokens      string
	// missed says of folders why not all that is in them was looked at.
	missed map[string]string
}

// item is a line of the main page.
type item struct {
	key, text string
	do        func(context.Context) error
}

func newMenu(c Config) *menu {
	m := &menu{Config: c, screen: newScreen(c.In, c.Out, c.Terminal)}
	if c.Machine != "" {
		m.sticks = &sticks{block: "/sys/class/block", dev: "/dev", root: "/media"}
	}
	m.head = m.headLines
	return m
}

// Run shows the menu until people leave it. On a machine that was started from the image it gives an Exit.
func Run(ctx context.Context, c Config) error {
	m := newMenu(c)
	ctx = context.WithoutCancel(ctx)
	m.interrupts()
	unknown := ""
	for {
		m.look(ctx)
		if m.sticks != nil {
			if err := m.act(ctx, item{text: "Sticks", do: m.unfinished}); err != nil {
				return err
			}
		}
		items := m.items()
		body := make([]string, 0, len(items))
		for _, i := range items {
			body = append(body, fmt.Sprintf("  %2s  %s", i.key, i.text))
		}
		if unknown != "" {
			body = append(body, "", short("There is no "+show.Text(unknown)+" here."))
		}
		m.page(m.title(), body...)
		answer, err := m.ask("\nType a number and Enter: ")
		if err != nil {
			return err
		}
		unknown = answer
		for _, i := range items {
			if i.key != answer {
				continue
			}
			unknown = ""
			if err := m.act(ctx, i); err != nil {
				return err
			}
		}
	}
}

// interrupts says what Ctrl-C does at a question: on a machine that was started from the image it takes the line back, and elsewhere it
// ends the program.
func (m *menu) interrupts() {
	if m.Machine == "" {
		signal.Reset(os.Interrupt)
		return
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	// Ctrl-\ would end a verb in the middle of a PIN, and leave a terminal that shows nothing of what is typed.
	if t, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		t.Cc[unix.VQUIT] = 0
		_ = unix.IoctlSetTermios(0, unix.TCSETS, t)
	}
}

// act does what people chose, and tells what went wrong; an Exit, and the end of the terminal, end the menu.
func (m *menu) act(ctx context.Context, i item) error {
	err := i.do(ctx)
	var exit Exit
	switch {
	case err == nil, errors.Is(err, errBack):
		return nil
	case errors.As(err, &exit), errors.Is(err, errEnded):
		return err
	}
	body := []string{"This could not be done:", "  " + show.Line(err.Error())}
	if hint := advice.Hint(err); hint != "" {
		body = append(body, "What to do:", "  "+show.Line(hint))
	}
	return m.pages(i.text, strings.Join(body, "\n"))
}

// look looks at what is plugged in.
func (m *menu) look(ctx context.Context) {
	if m.sticks != nil {
		m.sticks.scan(ctx)
	}
}

func (m *menu) title() string {
	if m.Machine != "" {
		return "What do you want to do?"
	}
	return "What do you want to do in " + show.Text(m.Folder) + "?"
}

func (m *menu) items() []item {
	list := []item{
		{"4", "Look at tokens and cards", m.listTokens},
		{"5", "Verify the folder of a ceremony, or a release (auditors begin here)", m.verify},
		{"6", "Rehearse a script", m.rehearse},
		{"7", "Perform a ceremony", m.perform},
		{"8", "Go on with a ceremony that was cut short, or abort it", m.resume},
		{"9", "Print, or save to a stick", m.output},
	}
	if m.Machine == "" {
		return append(list, item{"0", "Leave", func(context.Context) error { return Exit(0) }})
	}
	list = append([]item{
		{"1", "Check the image: its SHA-256, and the words of its release", m.checkImage},
		{"2", "Set the time, aloud", m.setTime},
		{"3", "Sticks: what is plugged in, take them out, the machine's memory", m.stickPage},
	}, list...)
	return append(list,
		item{"k", "Keyboard of another country", m.keyboard},
		item{"s", "A shell (the transcript will say so)", m.shell},
		item{"0", "Switch the machine off", m.powerOff})
}

// headLines stand at the top of each page.
func (m *menu) headLines() []string {
	head := []string{"HANAPER " + show.Text(m.Version)}
	if m.Machine == "" {
		return append(head, "memory of this machine: "+m.memoryWords())
	}
	head[0] += "     " + time.Now().UTC().Format("2006-01-02 15:04:05") + " UTC by this machine's clock" + m.clockWords()
	plugged := "none"
	if n := len(m.sticks.list); n > 0 {
		var names []string
		for _, s := range m.sticks.list {
			name := s.String()
			if s.At == "" {
				name += " (NOT MOUNTED)"
			}
			names = append(names, name)
		}
		plugged = strings.Join(names, ", ")
		if len("sticks: "+plugged) > term.Width-1 {
			plugged = fmt.Sprintf("%d: %s", n, plugged) // what does not fit is on page 3
		}
	}
	head = append(head, "anchor: "+m.memoryWords(), "sticks: "+plugged)
	if notes(m.Machine, shellNote) != nil {
		head = append(head, "!!!! A SHELL WAS OPENED since this machine was started. Transcripts say so.")
	}
	return head
}

// folders are where things are looked for.
func (m *menu) folders() []string {
	if m.sticks != nil {
		return m.sticks.roots()
	}
	return []string{m.Folder}
}

// ceremonies are where folders of ceremonies are looked for: where everything is, and where the image puts rehearsals.
func (m *menu) ceremonies() []string {
	if m.sticks == nil {
		return m.folders()
	}
	return append(m.folders(), os.TempDir())
}

// search finds what lies in folders, and keeps where not all was looked at.
func (m *menu) search(dirs []string) (found []Found) {
	found, m.missed = Look(m.sticks != nil, dirs...)
	return found
}

// missedWords say that something may be missing in a list; "" where all was looked at.
func (m *menu) missedWords() string {
	if m.sticks == nil {
		for _, why := range m.missed {
			return "NOT ALL in this folder was looked at: " + why + "."
		}
		return ""
	}
	var names []string
	for _, s := range m.sticks.list {
		if s.At == "" || m.missed[s.At] != "" {
			names = append(names, s.Device)
		}
	}
	if names == nil {
		return ""
	}
	return "NOT ALL on " + strings.Join(names, ", ") + " was looked at, and something may be missing here: page 3 (sticks) says why."
}

// relative is how a path is shown: on a stick by the stick's device.
func (m *menu) relative(path string) string {
	base, prefix := m.Folder, ""
	if m.sticks != nil {
		stick := m.sticks.on(path)
		if stick == nil {
			return show.Text(path)
		}
		base, prefix = stick.At, stick.Device+": "
	}
	if rel, err := filepath.Rel(base, path); err == nil && !strings.HasPrefix(rel, "..") {
		return prefix + show.Text(rel)
	}
	return show.Text(path)
}

// pick has people choose one of some paths.
func (m *menu) pick(title, none string, paths []string) (string, error) {
	if len(paths) == 0 {
		m.page(title, none, "", m.missedWords())
		if err := m.wait(); err != nil {
			return "", err
		}
		return "", errBack
	}
	n, err := m.choose(title, m.named(paths), m.missedWords())
	if err != nil {
		return "", err
	}
	return paths[n], nil
}
