package menu

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// The notes of the machine, in Config.Machine, that are written here. hanaper reads them and writes them into transcripts.
const (
	imageNote, bootNote, mediumNote = "image", "boot", "medium"
	shellNote, clockNote            = "shell", "clock"
)

// notes gives the lines of a note; nil where it is not there.
func notes(dir, name string) []string {
	data, err := input.Read(filepath.Join(dir, name), 16<<10)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// noteDown adds a line to a note.
func (m *menu) noteDown(name, text string) error {
	f, err := os.OpenFile(filepath.Join(m.Machine, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}

// clockWords say whether somebody set the clock.
func (m *menu) clockWords() string {
	if notes(m.Machine, clockNote) != nil {
		return ", set by hand"
	}
	return ""
}

// timeForm is that in which people type a time.
const timeForm = "2006-01-02T15:04:05Z"

func (m *menu) setTime(context.Context) error {
	const title = "Set the time, aloud"
	m.page(title, "One of you reads the time, in UTC, from a clock that all of you trust. It is for the dates of files and of what is shown here; "+
		"a ceremony asks for the time once more, and writes it down. That the clock was set is written down, too.", "",
		"The machine's clock says "+time.Now().UTC().Format(timeForm))
	for {
		text, err := m.ask("\nThe time, as 2026-11-21T09:00:00Z; Enter alone goes back: ")
		if err != nil || text == "" {
			return errors.Join(err, errBack)
		}
		t, err := time.Parse(timeForm, text)
		if err != nil {
			_, _ = fmt.Fprintln(m.Out, show.Text(text)+" is not a time.")
			continue
		}
		answer, err := m.ask(fmt.Sprintf("\nThat is %s, %s UTC.\nIs this what the clock shows? Type Yes when it does: ", t.Format("Monday, 2 January 2006"), t.Format("15:04:05")))
		if err != nil {
			return err
		}
		if answer != "Yes" {
			continue
		}
		before := time.Now().UTC()
		tv := unix.NsecToTimeval(t.UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			return fmt.Errorf("the clock cannot be set: %w", err)
		}
		// The clock of the board keeps it while the machine is off; one that cannot be set is no harm.
		_ = exec.Command("hwclock", "-w", "-u").Run()
		return m.noteDown(clockNote, before.Format(time.RFC3339)+" "+t.Format(time.RFC3339))
	}
}

func (m *menu) keyboard(ctx context.Context) error {
	const title = "Keyboard of another country"
	m.page(title, "Type the name of a layout, such as de, fr, uk, es, it, us.", "Passphrases are typed unseen: try y, z and the signs before you rely on it.")
	name, err := m.ask("\nLayout; Enter alone goes back: ")
	if err != nil || name == "" {
		return errors.Join(err, errBack)
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("%s is not the name of a layout", show.Text(name))
	}
	if out, err := exec.CommandContext(ctx, "loadkeys", "-q", name).CombinedOutput(); err != nil {
		return fmt.Errorf("the layout %s could not be loaded: %w: %s", name, err, show.Line(strings.TrimSpace(string(out))))
	}
	text, err := m.ask("Try it (what you type is shown): ")
	if err == nil {
		_, err = fmt.Fprintln(m.Out, "You typed "+show.Text(text))
	}
	return errors.Join(err, m.wait())
}

// shellMeasured is what register 15 is extended with before a shell is opened.
var shellMeasured = sha256.Sum256([]byte("hanaper shell"))

func (m *menu) shell(ctx context.Context) error {
	const title = "A shell"
	m.page(title, "In a shell the machine does whatever is typed. Every transcript from now on, until the machine is started anew, says that one was opened; "+
		"where there is a TPM its registers say so, too, and nothing takes that back.", "",
		"Nothing in this menu needs one. Is there another way?")
	for _, q := range [][2]string{{"\nSay aloud that a shell is to be opened, and type shell: ", "shell"}, {"All of you agree, and the paper says so? Type yes, open a shell: ", "yes, open a shell"}} {
		answer, err := m.ask(q[0])
		if err != nil {
			return err
		}
		if answer != q[1] {
			return errBack
		}
	}
	// The note first: without it no shell is opened.
	if err := m.noteDown(shellNote, time.Now().UTC().Format(time.RFC3339)); err != nil {
		return err
	}
	said := "The TPM's register 15 tells of it."
	if err := m.Extend(ctx, shellMeasured); err != nil {
		said = "No TPM tells of it: " + show.Line(err.Error())
	}
	_, _ = fmt.Fprintln(m.Out, "\nThe transcripts will say so. "+said+"\nexit goes back to the menu.")
	return Exit(ExitShell)
}

func (m *menu) powerOff(context.Context) error {
	body := []string{"Sticks are let go of. Then: each officer takes their own card or stick, and nobody takes two."}
	for _, s := range m.sticks.memories() {
		body = append(body, "The stick "+s.named()+" goes into the bag of the token, and is sealed with it.")
	}
	m.page("Switch the machine off", body...)
	answer, err := m.ask("\nType off and Enter; Enter alone goes back: ")
	if err != nil || answer != "off" {
		return errors.Join(err, errBack)
	}
	if err := m.sticks.release(); err != nil {
		return err
	}
	return Exit(0)
}
