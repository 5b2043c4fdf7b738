package menu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

func (m *menu) verify(ctx context.Context) error {
	const title = "Verify the folder of a ceremony"
	found := m.search(m.ceremonies())
	dir, err := m.pick(title, "No folder of a ceremony that has ended was found. Plug in the stick that it is on.", of(found, Finished, Rehearsed))
	if err != nil {
		return err
	}
	if of := releaseOf(dir); of != "" {
		n, err := m.choose("This ceremony signed a release of Hanaper, in whose folder it lies", []string{"the release, with each of its files", "the ceremony alone"}, "")
		if err != nil {
			return err
		}
		if n == 0 {
			return m.verifyRelease(ctx, of)
		}
	}
	args, err := m.numbers(title, dir)
	if err != nil {
		return err
	}
	if args == nil {
		answer, err := m.ask("\nWithout a number it can only say that the folder agrees with itself.\nType Yes to see that: ")
		if err != nil || answer != "Yes" {
			return errors.Join(err, errBack)
		}
	}
	if values := of(found, Values); len(values) > 0 {
		n, err := m.choose("Hold what the machine said to a release's published image?", append(m.named(values), "no"), "Only a file that you brought yourself, from the release, says anything.")
		if err != nil {
			return err
		}
		if n < len(values) {
			args = append(args, "--image", values[n])
		}
	}
	return m.shows(ctx, title, append(append([]string{"ceremony", "verify"}, args...), dir)...)
}

// numbers asks for what people have on paper, and gives the flags that name it; none where they have nothing.
func (m *menu) numbers(title, dir string) (flags []string, err error) {
	m.page(title, short(m.relative(dir)), "", "Type the numbers from YOUR paper. One that came with the folder proves nothing.", "")
	return m.digests([2]string{"--roster", "The roster's SHA-256 (Enter without one):"}, [2]string{"--checkpoint", "The checkpoint's SHA-256 (Enter without one):"})
}

// named are paths as they are shown.
func (m *menu) named(paths []string) (items []string) {
	for _, p := range paths {
		items = append(items, m.relative(p))
	}
	return items
}

func (m *menu) script(title string) (string, []Found, error) {
	found := m.search(m.folders())
	path, err := m.pick(title, "No script was found. Plug in the stick that it is on: a file that ends in .yaml.", of(found, Script))
	return path, found, err
}

func (m *menu) rehearse(ctx context.Context) error {
	const title = "Rehearse a script"
	script, _, err := m.script(title)
	if err != nil {
		return err
	}
	if err := m.shows(ctx, title+": what it will do", "ceremony", "check", script); err != nil {
		return err
	}
	dir := filepath.Dir(script)
	if m.sticks != nil {
		dir = os.TempDir() // it is gone when the machine is switched off
	}
	out, err := free(dir, func(n int) string { return fmt.Sprintf("rehearsal-%d", n) })
	if err != nil {
		return err
	}
	return m.talks(ctx, title, nil, "ceremony", "rehearse", "--out", out, script)
}

func (m *menu) perform(ctx context.Context) error {
	const title = "Perform a ceremony"
	script, found, err := m.script(title)
	if err != nil {
		return err
	}
	if err := m.shows(ctx, title+": what it will do", "ceremony", "check", script); err != nil {
		return err
	}
	approvals := beside(found, Approval, script)
	if err := m.remind(title, script); err != nil {
		return err
	}
	out, err := free(filepath.Dir(script), func(n int) string { return fmt.Sprintf("ceremony-%d", n) })
	if err != nil {
		return err
	}
	answer, err := m.asks(title, fmt.Sprintf("The result goes into the new folder %s.\nEnter takes it; or type another name for it, or q to go back: ", short(m.relative(out))),
		append([]string{fmt.Sprintf("%d approvals lie beside the script, and will be given:", len(approvals))}, indented(m.named(approvals))...)...)
	switch {
	case err != nil:
		return err
	case answer == "q":
		return errBack
	case answer != "":
		if answer != filepath.Base(answer) || strings.HasPrefix(answer, ".") {
			return fmt.Errorf("%s is not a name of a folder", show.Text(answer))
		}
		out = filepath.Join(filepath.Dir(script), answer)
	}
	args := []string{"ceremony", "run", "--out", out}
	for _, a := range approvals {
		args = append(args, "--approval", a)
	}
	return m.withPeople(ctx, title, found, out, args, script)
}

func indented(items []string) (list []string) {
	for _, i := range items {
		list = append(list, "  "+i)
	}
	if list == nil {
		list = []string{"  none: the program will say how many are missing"}
	}
	return list
}

func (m *menu) resume(ctx context.Context) error {
	const title = "Go on, or abort"
	found := m.search(m.folders())
	dir, err := m.pick(title, "No folder of a ceremony that was cut short was found. Plug in the stick that it is on.", of(found, Interrupted))
	if err != nil {
		return err
	}
	if err := m.memory(title, dir); err != nil {
		return err
	}
	n, err := m.choose(title+": "+short(m.relative(dir)), []string{"Go on where its journal ends (resume)", "End it without a result: remove the keys that it made (abort)"},
		"It will be held against: "+m.memoryWords()+".")
	if err != nil {
		return err
	}
	args := []string{"ceremony", "resume"}
	if n == 1 {
		m.page(title+": abort", "The reason goes into the transcript, and stays there.")
		reason, err := m.ask("\nWhy is it aborted? ")
		if err != nil || reason == "" {
			return errors.Join(err, errBack)
		}
		args = []string{"ceremony", "abort", "--reason", reason}
	}
	if m.sticks != nil && m.sticks.state() == nil {
		m.page(title, "No stick is plugged in on which this machine remembers the ceremony. If there is one, go back and plug it in.", "",
			"Without it the folder is held against what M officers, who must be present, have on paper.", "")
		anchor, err := m.digests([2]string{"--roster", "The roster's SHA-256 (Enter without one):"}, [2]string{"--transcript", "The transcript's SHA-256, as shown at the last stop (Enter: none):"})
		if err != nil {
			return err
		}
		args = append(args, anchor...)
	}
	return m.withPeople(ctx, title, found, dir, args, dir)
}
