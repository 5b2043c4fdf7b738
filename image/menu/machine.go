package menu

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/advice"
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
	note := filepath.Join(m.Machine, mediumNote)
	if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	media, err := m.media()
	if err != nil {
		return err
	}
	switch len(media) {
	case 0:
		fmt.Fprintln(&b, "Not read: the medium of the image is not plugged in (an ISO with the label HANAPER, or a stick with EFI/BOOT/BOOTX64.EFI). Plug it in, and come back.")
	case 1:
		fmt.Fprintln(&b, "One medium that starts an image is plugged in. That this machine was started from this one, you know: nothing on it tells. Compare its SHA-256 with the release, read aloud.")
		if err := os.WriteFile(note, []byte(fmt.Sprintf("%x\n", media[0].digest)), 0o600); err != nil {
			return err
		}
	default:
		fmt.Fprintf(&b, "%d MEDIA that start an image are plugged in, and nothing tells from which of them this machine was started. Transcripts will name none of them. "+
			"Take out all but the one that was in it when it was switched on, and come back.\n", len(media))
	}
	for _, medium := range media {
		fmt.Fprintf(&b, "\n%s, SHA-256\n  %x\n%s\n", medium.name, medium.digest, m.Words(medium.digest))
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
	name   string
	digest [32]byte
}

// errNoISO: what is called an ISO is none.
var errNoISO = errors.New("it is no ISO")

// unified is the file of a stick that a UEFI starts; "" where there is none.
func unified(s Stick) string {
	if s.Kind != "vfat" || s.At == "" {
		return ""
	}
	path := filepath.Join("EFI", "BOOT", "BOOTX64.EFI") // FAT knows no small letters
	if info, err := os.Lstat(filepath.Join(s.At, path)); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// starts says whether a machine can be started from a stick.
func starts(s Stick) bool { return s.Kind == "iso9660" || unified(s) != "" }

// media reads what an image is started from, as much of an ISO as its volume descriptor says (ECMA-119, 8.4.8 and 8.4.12), and the
// unified image in its place on an EFI system partition.
func (m *menu) media() (list []medium, err error) {
	for _, s := range m.sticks.list {
		var digest [32]byte
		name := s.named()
		switch path := unified(s); {
		case s.Kind == "iso9660" && s.Label == "HANAPER":
			digest, err = wholeISO(filepath.Join(m.sticks.dev, s.Device))
		case path != "":
			name += ": " + path
			var f *os.File
			if f, err = input.Open(filepath.Join(s.At, path)); err == nil {
				digest, err = digestOf(f)
				f.Close()
			}
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s could not be read: %w", s.String(), err)
		}
		list = append(list, medium{name, digest})
	}
	return list, nil
}

func wholeISO(path string) (digest [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	const block = 2048
	descriptor := make([]byte, block)
	if _, err := f.ReadAt(descriptor, 16*block); err != nil {
		return digest, err
	}
	if string(descriptor[1:6]) != "CD001" || binary.LittleEndian.Uint16(descriptor[128:]) != block {
		return digest, errNoISO
	}
	return digestOf(io.LimitReader(f, int64(binary.LittleEndian.Uint32(descriptor[80:]))*block))
}

func digestOf(r io.Reader) (digest [32]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return digest, err
	}
	return [32]byte(h.Sum(nil)), nil
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

const stickChoices = `   1  Look again
   2  Take out: let go of all of them
   3  Make a stick for this machine's memory (it is ERASED)
   4  Finish what was being written when a stick was cut off
   5  Choose the stick of this machine's memory`

func (m *menu) stickPage(ctx context.Context) error {
	const title = "Sticks"
	for {
		m.sticks.scan(ctx)
		m.search(m.folders())
		answer, err := m.listed(title, "Type a number and Enter%s; Enter alone goes back: ", m.stickLines(), stickChoices)
		if err != nil {
			return err
		}
		do := map[string]func(context.Context) error{"2": m.takeOut, "3": m.makeState, "4": m.finishAll, "5": func(context.Context) error { return m.chooseMemory(title) }}[answer]
		if answer == "" {
			return errBack
		} else if do != nil {
			if err := do(ctx); err != nil && !errors.Is(err, errBack) {
				return err
			}
		}
	}
}

// stickLines tell what is plugged in.
func (m *menu) stickLines() (lines []string) {
	for _, s := range m.sticks.list {
		how := "read-only"
		if s.At == "" {
			how = "NOT mounted: " + show.Line(s.Why)
		}
		if s.Label == StateLabel {
			how += "; what this machine remembers"
			if used := m.sticks.state(); used != nil && used.same(s) {
				how += ", IN USE"
			}
		}
		if s.Unclean {
			how += "; it was CUT OFF once while it was written: verify what is on it, and save that to a new stick"
		}
		if why := m.missed[s.At]; s.At != "" && why != "" {
			how += "; NOT ALL of it was looked at: " + why
		}
		lines = append(lines, fmt.Sprintf("  %-6s %s %s, %s", s.Device, show.Text(s.Kind), strings.TrimPrefix(s.named(), s.Device+" "), how))
	}
	if lines == nil {
		lines = []string{"  None is plugged in."}
	}
	if len(m.sticks.memories()) == 0 {
		lines = append(lines, "", "None has the label "+StateLabel+": that is the stick of what this machine remembers, against which a ceremony that was cut short is held. "+
			"It goes into the bag of the token. Without it: the roster's digest, the transcript's, and M officers.")
	}
	return lines
}

func (m *menu) takeOut(context.Context) error {
	if err := m.sticks.release(); err != nil {
		return err
	}
	m.page("Sticks", "They can be taken out now. Enter looks for them again.")
	return m.wait()
}

// finishAll asks, of each stick that was cut off while it was written, whether that is to be finished.
func (m *menu) finishAll(ctx context.Context) error {
	m.sticks.left = nil
	if !slices.ContainsFunc(m.sticks.list, func(s Stick) bool { return s.Unfinished }) {
		m.page("Sticks", "No stick that is plugged in was cut off while it was written.")
		return m.wait()
	}
	return m.unfinished(ctx)
}

// unfinished asks, of each stick that was cut off while it was written, whether that is to be finished. Who wants it left alone is not asked
// again before page 3.
func (m *menu) unfinished(ctx context.Context) error {
	for i := range m.sticks.list {
		s := &m.sticks.list[i]
		if !s.Unfinished || slices.ContainsFunc(m.sticks.left, s.same) {
			continue
		}
		answer, err := m.asks("A stick was CUT OFF while it was written", "Type finish and Enter; Enter alone leaves it alone: ", "  "+s.named(), "",
			"The power failed, or it was pulled out. What was being written stands in its journal, and not yet in its place. Until that is finished the stick is not mounted, and nothing on it is found.", "",
			"After a power cut in your own ceremony: finish it, for each stick that is named. Nothing is lost by it.",
			"A stick that is evidence, or that nobody here wrote to: leave it alone. Finishing writes to it.")
		if err != nil && !errors.Is(err, errBack) {
			return err
		}
		if answer != "finish" {
			m.sticks.left = append(m.sticks.left, *s)
			continue
		}
		if err := m.sticks.finish(s); err != nil {
			m.sticks.left = append(m.sticks.left, *s)
			return fmt.Errorf("what was being written on %s could not be finished: %w", s, err)
		}
	}
	m.look(ctx)
	return nil
}

var deviceForm = regexp.MustCompile(`^sd[a-z]+[0-9]*$`)

// makeState makes a file system with the label StateLabel.
func (m *menu) makeState(ctx context.Context) error {
	const title = "Make a stick for this machine's memory"
	names, err := os.ReadDir(m.sticks.block)
	if err != nil {
		return err
	}
	var devices, items, kept []string
	for _, n := range names {
		if !deviceForm.MatchString(n.Name()) {
			continue
		}
		is := Stick{Device: n.Name(), MB: m.sticks.size(n.Name()), Serial: m.sticks.serial(n.Name())}
		holds, erases := "", true
		for _, s := range m.sticks.list {
			switch {
			case s.Device == is.Device:
				is = s
			case partOf(s.Device, is.Device):
				holds += ", with " + s.String()
			case !partOf(is.Device, s.Device):
				continue
			}
			erases = erases && !starts(s) // what the machine was started from
		}
		if !erases {
			kept = append(kept, is.Device)
			continue
		}
		model, _ := os.ReadFile(filepath.Join(m.sticks.block, n.Name(), "device", "model"))
		kind := "no file system"
		if is.Kind != "" {
			kind = show.Text(is.Kind)
		}
		devices, items = append(devices, n.Name()), append(items, fmt.Sprintf("%s, %s, %s%s", is.named(), kind, show.Text(strings.TrimSpace(string(model))), holds))
	}
	hint := "Everything on it is LOST."
	if kept != nil {
		hint += " Not offered, since machines are started from them: " + strings.Join(kept, ", ") + "."
	}
	if len(items) == 0 {
		return advice.New(advice.Failed, "plug one in, and come back", "there is no stick to make it of. %s", hint)
	}
	n, err := m.choose(title, items, hint)
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
	if err := m.sticks.protect(devices[n], false); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", StateLabel, filepath.Join(m.sticks.dev, devices[n])).CombinedOutput()
	unix.Sync()
	m.sticks.chosen = nil
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
