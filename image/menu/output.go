package menu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// printer is where a USB printer takes what it prints.
const printer = "/dev/usb/lp0"

func (m *menu) output(ctx context.Context) error {
	const title = "Print, or save to a stick"
	items := []string{"Print a script: the form with its boxes (PDF)", "Print the record of a ceremony (PDF)"}
	if m.sticks != nil {
		items = append(items, "Save the folder of a ceremony to another stick")
	}
	n, err := m.choose(title, items, "")
	if err != nil {
		return err
	}
	found := m.search(m.ceremonies())
	switch n {
	case 0:
		script, err := m.pick(title, "No script was found.", of(found, Script))
		if err != nil {
			return err
		}
		return m.paper(ctx, title, strings.TrimSuffix(filepath.Base(script), filepath.Ext(script)), filepath.Dir(script), []string{"ceremony", "print"}, script)
	case 1:
		dir, err := m.pick(title, "No folder of a ceremony that has ended was found.", of(found, Finished, Rehearsed))
		if err != nil {
			return err
		}
		m.page(title, "A record of a folder that nobody vouches for says so on every page.", "")
		roster, err := m.digests([2]string{"--roster", "The roster's SHA-256 from your paper (Enter without one):"})
		if err != nil {
			return err
		}
		return m.paper(ctx, title, "record-"+filepath.Base(dir), filepath.Dir(dir), append([]string{"ceremony", "record"}, roster...), dir)
	}
	dir, err := m.pick(title, "No folder of a ceremony was found.", of(found, Finished, Interrupted, Rehearsed))
	if err != nil {
		return err
	}
	return m.save(title, dir)
}

// paper has a verb write a PDF, to the printer or into a folder.
func (m *menu) paper(ctx context.Context, title, name, beside string, verb []string, what string) error {
	var to, items []string
	if _, err := os.Stat(printer); err == nil && m.Machine != "" {
		to, items = append(to, ""), append(items, "the printer at "+printer+" (it must know PDF)")
	}
	if m.sticks == nil {
		to, items = append(to, beside), append(items, "a file in "+m.relative(beside))
	} else {
		for _, s := range m.sticks.list {
			if s.takes() {
				to, items = append(to, s.At), append(items, "a file on the stick "+s.named())
			}
		}
	}
	if len(items) == 0 {
		return errors.New("there is no stick to write to: plug one in, and come back")
	}
	n, err := m.choose(title+": where to?", items, "")
	if err != nil {
		return err
	}
	into, sticky := to[n], to[n] != ""
	if !sticky {
		into = os.TempDir()
	}
	path, err := free(into, func(n int) string {
		if n > 1 {
			return fmt.Sprintf("%s-%d.pdf", name, n-1)
		}
		return name + ".pdf"
	})
	if err != nil {
		return err
	}
	back, err := m.sticks.writable(path)
	if err != nil {
		return err
	}
	out, err := m.command(ctx, append(append(verb, "--out", path), what)...).CombinedOutput()
	if err := back(); err != nil {
		return err
	}
	text := string(out)
	if _, gone := os.Stat(path); gone != nil {
		return m.pages(title, text+"\n"+exitWords(err))
	}
	if !sticky {
		defer os.Remove(path)
		data, err := input.Read(path, 64<<20)
		if err == nil {
			err = os.WriteFile(printer, data, 0)
		}
		if err != nil {
			return err
		}
		text += "\nIt was sent to the printer."
	} else {
		text += "\nWritten: " + m.relative(path)
	}
	return m.pages(title, text+"\n"+exitWords(err))
}

// free gives the path of the first of the names name(1), name(2) and so on that is not taken in a folder.
func free(dir string, name func(n int) string) (string, error) {
	for n := 1; n < 1000; n++ {
		path := filepath.Join(dir, name(n))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s has no name left for %s", show.Text(dir), show.Text(name(1)))
}

// save copies a folder to another stick, and reads it back from the stick itself.
func (m *menu) save(title, dir string) error {
	from := m.sticks.on(dir)
	var to []*Stick
	var items []string
	for i := range m.sticks.list {
		s := &m.sticks.list[i]
		if s.takes() && (from == nil || s.Device != from.Device) {
			to, items = append(to, s), append(items, s.named())
		}
	}
	if len(items) == 0 {
		return errors.New("there is no other stick to save it to: plug one in, and come back")
	}
	n, err := m.choose(title+": "+short(m.relative(dir))+" to which stick?", items, "")
	if err != nil {
		return err
	}
	stick := to[n]
	back, err := m.sticks.writable(stick.At)
	if err != nil {
		return err
	}
	m.page(title, "Saving to the stick "+stick.named()+". Leave it in.", "")
	out, files, err := copyTo(dir, stick.At, func(n, of int) { _, _ = fmt.Fprintf(m.Out, "  file %d of %d\n", n, of) })
	if err = errors.Join(err, back()); err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("nothing was saved on %s: %w", stick, err), "save it to another stick")
	}
	// What is compared comes from the stick, not from memory.
	if err = unix.Unmount(stick.At, 0); err == nil {
		err = m.sticks.mount(stick)
	}
	if err == nil {
		err = sameFolder(dir, out)
	}
	if err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("the copy %s is not to be used: %w", m.relative(out), err), "throw the stick away, and save it to another one")
	}
	return m.pages(title, fmt.Sprintf("%d files were copied to %s, and read back: they are the same.", files, m.relative(out)))
}

// copyTo copies a folder into another one, under its own name or, where that is taken, the next with a number. It has that name once all
// of it is there; what an earlier copy left that did not come to its end is removed first, and so is what this one leaves.
func copyTo(dir, into string, progress func(n, of int)) (out string, files int, err error) {
	name := filepath.Base(dir)
	half := filepath.Join(into, name+unfinished)
	if err := os.RemoveAll(half); err != nil {
		return "", 0, fmt.Errorf("what an earlier copy left cannot be removed: %w", err)
	}
	if out, err = free(into, func(n int) string {
		if n > 1 {
			return fmt.Sprintf("%s-%d", name, n)
		}
		return name
	}); err != nil {
		return "", 0, err
	}
	if files, err = copyFolder(dir, half, progress); err == nil {
		err = durable.RenameNew(half, out)
	}
	if err != nil {
		return "", 0, errors.Join(err, os.RemoveAll(half))
	}
	return out, files, nil
}

// copyFolder copies a folder, file by file, each durable before the next.
func copyFolder(from, to string, progress func(n, of int)) (files int, err error) {
	var paths []string
	if err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return durable.Mkdir(filepath.Join(to, rel), 0o755)
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is not a file", show.Text(rel))
		}
		paths = append(paths, rel)
		return nil
	}); err != nil {
		return 0, err
	}
	for n, rel := range paths {
		progress(n+1, len(paths))
		data, err := input.ReadFile(filepath.Join(from, rel))
		if err == nil {
			err = durable.Create(filepath.Join(to, rel), data, 0o644)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(paths), nil
}

// sameFolder says of two folders that they hold the same files.
func sameFolder(a, b string) error {
	for _, both := range [][2]string{{a, b}, {b, a}} {
		if err := filepath.WalkDir(both[0], func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(both[0], path)
			if err != nil {
				return err
			}
			one, err := input.ReadFile(path)
			if err != nil {
				return err
			}
			two, err := input.ReadFile(filepath.Join(both[1], rel))
			if err == nil && !bytes.Equal(one, two) {
				err = fmt.Errorf("%s came back otherwise than it was written", show.Text(rel))
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
