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
	found := Look(m.ceremonies()...)
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
		args := []string{"ceremony", "record"}
		digest, err := m.digest("The roster's SHA-256 from your paper (Enter without one):")
		if err != nil {
			return err
		}
		if digest != "" {
			args = append(args, "--roster", digest)
		}
		return m.paper(ctx, title, "record-"+filepath.Base(dir), filepath.Dir(dir), args, dir)
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
			if s.At != "" && s.Kind != "iso9660" && s.Label != StateLabel {
				to, items = append(to, s.At), append(items, "a file on the stick "+s.String())
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
	path, err := freeFile(into, name, ".pdf")
	if err != nil {
		return err
	}
	if m.sticks != nil {
		back, err := m.sticks.writable(path)
		if err != nil {
			return err
		}
		defer back()
	}
	out, err := m.command(ctx, append(append(verb, "--out", path), what)...).CombinedOutput()
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

func freeFile(dir, name, ending string) (string, error) {
	for n := 0; n < 1000; n++ {
		path := filepath.Join(dir, name+ending)
		if n > 0 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d%s", name, n, ending))
		}
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s has too many files called %s", show.Text(dir), show.Text(name))
}

// save copies a folder to another stick, and reads it back from the stick itself.
func (m *menu) save(title, dir string) error {
	from := m.sticks.on(dir)
	var to []*Stick
	var items []string
	for i := range m.sticks.list {
		s := &m.sticks.list[i]
		if s.At == "" || s.Kind == "iso9660" || s.Label == StateLabel || from != nil && s.Device == from.Device {
			continue
		}
		to, items = append(to, s), append(items, fmt.Sprintf("%s, %d MB", s, s.MB))
	}
	if len(items) == 0 {
		return errors.New("there is no other stick to save it to: plug one in, and come back")
	}
	n, err := m.choose(title+": "+m.relative(dir)+" to which stick?", items, "")
	if err != nil {
		return err
	}
	stick := to[n]
	out := filepath.Join(stick.At, filepath.Base(dir))
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s is there already, and is not written over", m.relative(out))
	}
	back, err := m.sticks.writable(out)
	if err != nil {
		return err
	}
	files, err := copyFolder(dir, out)
	back()
	if err == nil {
		// What is compared comes from the stick, not from memory.
		err = unix.Unmount(stick.At, 0)
		if err == nil {
			err = mount(filepath.Join(m.sticks.dev, stick.Device), stick.At, stick.Kind, kinds[stick.Kind], true)
		}
	}
	if err == nil {
		err = sameFolder(dir, out)
	}
	if err != nil {
		return fmt.Errorf("the copy on %s is not to be used: %w", stick, err)
	}
	return m.pages(title, fmt.Sprintf("%d files were copied to %s, and read back: they are the same.", files, m.relative(out)))
}

// copyFolder copies a folder, file by file, each durable before the next.
func copyFolder(from, to string) (files int, err error) {
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch into := filepath.Join(to, rel); {
		case e.IsDir():
			return durable.Mkdir(into, 0o755)
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is not a file", show.Text(rel))
		default:
			data, err := input.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			return durable.Create(into, data, 0o644)
		}
	})
	return files, err
}

// sameFolder says of two folders that they hold the same.
func sameFolder(a, b string) error {
	return filepath.WalkDir(a, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(a, path)
		if err != nil {
			return err
		}
		one, err := input.ReadFile(path)
		if err != nil {
			return err
		}
		two, err := input.ReadFile(filepath.Join(b, rel))
		if err == nil && !bytes.Equal(one, two) {
			err = fmt.Errorf("%s came back otherwise than it was written", show.Text(rel))
		}
		return err
	})
}
