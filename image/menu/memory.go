package menu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// memoryWords say against what a ceremony that was cut short would be held now.
func (m *menu) memoryWords() string {
	if m.sticks == nil {
		dir := os.Getenv("HANAPER_STATE")
		if dir == "" {
			return "hanaper's folder of this account"
		}
		return show.Text(dir)
	}
	list := m.sticks.memories()
	switch used := m.sticks.state(); {
	case used != nil && m.sticks.chosen != nil: // a UUID fits on the line just so
		return "the memory you chose: " + used.Device + ", UUID " + show.Text(used.UUID)
	case used != nil:
		return "this machine's memory, on the stick " + used.Device
	case m.sticks.unfinishedState() != nil:
		return "NONE YET: the stick " + m.sticks.unfinishedState().Device + " was CUT OFF; see page 3"
	case m.sticks.chosen != nil:
		return "NO MEMORY: the stick that you chose is gone; see page 3"
	case len(list) > 1:
		return fmt.Sprintf("NONE YET: %d STICKS of memory are plugged in; choose one on page 3", len(list))
	}
	return "NO MEMORY: the roster's digest, the transcript's, M officers"
}

// state is the folder in which verbs remember; a stick's, or one that is gone when the machine is switched off.
func (m *menu) state() string {
	if m.sticks != nil {
		if s := m.sticks.state(); s != nil {
			return filepath.Join(s.At, "hanaper")
		}
	}
	return ""
}

// memoryPaths are what a verb that remembers writes to, beside its results.
func (m *menu) memoryPaths() []string {
	if s := m.state(); s != "" {
		return []string{s}
	}
	return nil
}

// memory sees to it that the stick of memory is known where one is plugged in, and that it is not the disk which brings what is to be held against it, at path,
// unless people say that it is theirs; without a stick of memory it does nothing.
func (m *menu) memory(title, path string) error {
	if m.sticks == nil {
		return nil
	}
	if s := m.sticks.unfinishedState(); s != nil && m.sticks.state() == nil {
		m.page(title, "The stick of this machine's memory was CUT OFF while it was written: "+s.named()+".", "", "Page 3 (sticks), 4 finishes what was being written: do that first, and come back.")
		return errors.Join(m.wait(), errBack)
	}
	if m.sticks.state() == nil && len(m.sticks.memories()) > 0 {
		if err := m.chooseMemory(title); err != nil {
			return err
		}
	}
	used, brings := m.sticks.state(), m.sticks.on(path)
	if used == nil || brings == nil || disk(used.Device) != disk(brings.Device) {
		return nil
	}
	answer, err := m.asks(title, "Type it is ours to go on; Enter alone goes back: ", "What is to be done lies on the same disk as this machine's memory: "+used.named()+".", "",
		"The memory stays in the bag of the token, and never travels. Of a disk that came with the rest, who wrote the one wrote the other: it can make any folder look like one that this machine "+
			"wrote, used approvals like new ones, and an old release like the newest.", "", "Go back, and take it out, or plug in the one from the bag; without any, M officers give the digests from their paper.")
	if err != nil {
		return err
	}
	if answer != "it is ours" {
		return errBack
	}
	return nil
}

// chooseMemory has people choose the stick of memory.
func (m *menu) chooseMemory(title string) error {
	list := m.sticks.memories()
	if len(list) == 0 {
		m.page(title, "No stick with the label "+StateLabel+" is plugged in and mounted.")
		return m.wait()
	}
	items := make([]string, len(list))
	for i, s := range list {
		items[i] = s.named()
	}
	n, err := m.choose(title+": which stick is this machine's memory?", items, "Take the one from the bag of the token. Another one does not know what was done with that token.")
	if err != nil {
		return err
	}
	chosen := *list[n]
	m.sticks.chosen = &chosen
	return nil
}

// remind says what the ceremony could be held against, before it begins, where that is not much.
func (m *menu) remind(title, path string) error {
	if err := m.memory(title, path); err != nil || m.sticks == nil || m.sticks.state() != nil {
		return err
	}
	answer, err := m.asks(title, "Type without to go on without it; Enter alone goes back: ", "No stick is plugged in on which this machine remembers what it does.", "",
		"If the power fails, the ceremony can be gone on with only by M officers who type the roster's SHA-256 and the transcript's from their paper, "+
			"which the program shows at every stop. And nothing here knows whether these approvals were used before.", "",
		"Page 3 (sticks) makes such a stick. It is sealed into the bag of the token, and never travels with the folder.")
	if err != nil {
		return err
	}
	if answer != "without" {
		return errBack
	}
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
		kind := "no file system"
		if is.Kind != "" {
			kind = show.Text(is.Kind)
		}
		devices, items = append(devices, n.Name()), append(items, fmt.Sprintf("%s, %s, %s%s", is.named(), kind, show.Text(m.sticks.model(n.Name())), holds))
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
