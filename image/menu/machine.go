package menu

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

func (m *menu) checkImage(ctx context.Context) error {
	const title = "Check the image"
	var b strings.Builder
	version, manifest, _ := strings.Cut(first(notes(m.Machine, imageNote)), " ")
	fmt.Fprintf(&b, "What the running image says of itself. A changed one could say the same: check the medium on another machine, too.\n\n")
	fmt.Fprintf(&b, "image %s; started: %s\nmanifest of its files, SHA-256\n  %s\n", show.Text(version), show.Text(first(notes(m.Machine, bootNote))), show.Text(manifest))
	fmt.Fprintf(&b, "hanaper, SHA-256 (an approval names it)\n  %s\n", show.Text(m.SHA256))
	m.page(title, b.String(), "The medium is read now; this takes a minute ...")
	medium, err := m.medium()
	switch {
	case errors.Is(err, errNoMedium):
		fmt.Fprintln(&b, "Not read: "+err.Error()+" (an ISO with the label HANAPER, or a stick with EFI/BOOT/BOOTX64.EFI). Plug it in, and come back.")
	case err != nil:
		return err
	default:
		fmt.Fprintf(&b, "medium %s, SHA-256: compare it with the release, read aloud\n  %x\n%s\n", medium.device, medium.digest, m.Words(medium.digest))
		if err := os.WriteFile(filepath.Join(m.Machine, mediumNote), []byte(fmt.Sprintf("%x\n", medium.digest)), 0o600); err != nil {
			return err
		}
	}
	return m.pages(title, b.String())
}

func first(list []string) string {
	if len(list) == 0 {
		return "unknown"
	}
	return list[0]
}

type medium struct {
	device string
	digest [32]byte
}

var errNoMedium = errors.New("the medium of the image is not plugged in")

// medium reads the medium of the image: as much of an ISO as its volume descriptor says (ECMA-119, 8.4.8 and 8.4.12), or the
// unified image in its place on an EFI system partition.
func (m *menu) medium() (medium, error) {
	for _, s := range m.sticks.list {
		switch {
		case s.Kind == "iso9660" && s.Label == "HANAPER":
			return wholeISO(filepath.Join(m.sticks.dev, s.Device))
		case s.Kind == "vfat" && s.At != "":
			for _, path := range []string{"EFI/BOOT/BOOTX64.EFI", "efi/boot/bootx64.efi"} {
				if f, err := input.Open(filepath.Join(s.At, path)); err == nil {
					defer f.Close()
					return digestOf(s.Device+": "+path, f)
				}
			}
		}
	}
	return medium{}, errNoMedium
}

func wholeISO(path string) (medium, error) {
	f, err := os.Open(path)
	if err != nil {
		return medium{}, err
	}
	defer f.Close()
	const block = 2048
	descriptor := make([]byte, block)
	if _, err := f.ReadAt(descriptor, 16*block); err != nil {
		return medium{}, err
	}
	if string(descriptor[1:6]) != "CD001" || binary.LittleEndian.Uint16(descriptor[128:]) != block {
		return medium{}, errNoMedium
	}
	return digestOf(filepath.Base(path), io.LimitReader(f, int64(binary.LittleEndian.Uint32(descriptor[80:]))*block))
}

func digestOf(device string, r io.Reader) (medium, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return medium{}, err
	}
	return medium{device, [32]byte(h.Sum(nil))}, nil
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

func (m *menu) stickPage(ctx context.Context) error {
	const title = "Sticks"
	for {
		m.sticks.scan(ctx)
		var body []string
		for _, s := range m.sticks.list {
			how := "read-only"
			if s.At == "" {
				how = "not mounted: " + show.Line(s.Why)
			}
			if s.Label == StateLabel {
				how += "; what this machine remembers"
			}
			body = append(body, fmt.Sprintf("  %-6s %s %s, %d MB, %s", s.Device, show.Text(s.Kind), show.Text(s.Label), s.MB, how))
		}
		if body == nil {
			body = []string{"  None is plugged in."}
		}
		body = append(body, "",
			"A stick with the label "+StateLabel+" holds what this machine remembers, and what a ceremony that was cut short is held against. "+
				"It goes into the bag of the token. Without one: the roster's digest, the transcript's, and M officers.", "",
			"   1  Look again", "   2  Take out: let go of all of them", "   3  Make a stick for this machine's memory (it is ERASED)")
		m.page(title, body...)
		answer, err := m.ask("\nType a number and Enter; Enter alone goes back: ")
		if err != nil {
			return err
		}
		switch answer {
		case "":
			return errBack
		case "2":
			if err := m.sticks.release(); err != nil {
				return err
			}
			m.page(title, "They can be taken out now. Enter looks for them again.")
			if err := m.wait(); err != nil {
				return err
			}
		case "3":
			if err := m.makeState(ctx); err != nil && !errors.Is(err, errBack) {
				return err
			}
		}
	}
}

var deviceForm = regexp.MustCompile(`^sd[a-z]+[0-9]*$`)

// makeState makes a file system with the label StateLabel.
func (m *menu) makeState(ctx context.Context) error {
	const title = "Make a stick for this machine's memory"
	names, err := os.ReadDir(m.sticks.block)
	if err != nil {
		return err
	}
	var devices, items []string
	for _, n := range names {
		if !deviceForm.MatchString(n.Name()) || slices.ContainsFunc(m.sticks.list, func(s Stick) bool {
			return s.Kind == "iso9660" && (s.Device == n.Name() || partOf(n.Name(), s.Device)) // what the machine was started from
		}) {
			continue
		}
		is := Stick{Device: n.Name()}
		for _, s := range m.sticks.list {
			if s.Device == is.Device {
				is = s
			}
		}
		model, _ := os.ReadFile(filepath.Join(m.sticks.block, n.Name(), "device", "model"))
		devices, items = append(devices, n.Name()), append(items, fmt.Sprintf("%s %s %s", is, show.Text(is.Kind), show.Text(strings.TrimSpace(string(model)))))
	}
	if len(items) == 0 {
		return errors.New("there is no stick to make it of: plug one in, and come back")
	}
	n, err := m.choose(title, items, "Everything on it is LOST.")
	if err != nil {
		return err
	}
	answer, err := m.ask(fmt.Sprintf("\nType ERASE %s to lose what is on it: ", devices[n]))
	if err != nil || answer != "ERASE "+devices[n] {
		return errors.Join(err, errBack)
	}
	if err := m.sticks.release(); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", StateLabel, filepath.Join(m.sticks.dev, devices[n])).CombinedOutput()
	unix.Sync()
	if err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, show.Line(strings.TrimSpace(string(out))))
	}
	return nil
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
	if s := m.sticks.state(); s != nil {
		body = append(body, "The stick "+s.Device+" ("+StateLabel+") goes into the bag of the token, and is sealed with it.")
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
