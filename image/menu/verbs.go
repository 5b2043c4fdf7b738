package menu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// libraries are the PKCS#11 libraries that a machine may have, by what people call them.
var libraries = []struct{ words, pattern string }{
	{"cards and tokens that OpenSC knows", "/usr/lib/*-linux-gnu/opensc-pkcs11.so"},
	{"SoftHSM: keys in files, for trying and for tests", "/usr/lib/softhsm/libsofthsm2.so"},
}

// library has people choose a library that is there; the only one is taken.
func (m *menu) library(title string) (string, error) {
	var paths, items []string
	for _, l := range libraries {
		found, _ := filepath.Glob(l.pattern)
		for _, p := range found {
			paths, items = append(paths, p), append(items, l.words+" ("+p+")")
		}
	}
	if len(paths) == 1 {
		return paths[0], nil
	}
	items = append(items, "another one, by its path")
	n, err := m.choose(title+": by which library are its tokens reached?", items, "")
	if err != nil {
		return "", err
	}
	if n < len(paths) {
		return paths[n], nil
	}
	path, err := m.ask("Path of the library: ")
	if err == nil && path == "" {
		err = errBack
	}
	return path, err
}

// softTokens lets SoftHSM find tokens that lie in a folder called softhsm on a stick, and gives that folder. Of several people choose one.
func (m *menu) softTokens(title string) (string, error) {
	m.environment, m.tokens = nil, ""
	if m.sticks == nil {
		return "", nil
	}
	var dirs, items []string
	for _, s := range m.sticks.list {
		dir := filepath.Join(s.At, "softhsm")
		if info, err := os.Lstat(dir); s.At != "" && err == nil && info.IsDir() {
			dirs, items = append(dirs, dir), append(items, s.named()+": softhsm")
		}
	}
	if dirs == nil {
		return "", nil
	}
	n := 0
	if len(dirs) > 1 {
		var err error
		if n, err = m.choose(title+": which stick's tokens in files?", items, "Several sticks have a folder softhsm."); err != nil {
			return "", err
		}
	}
	conf := filepath.Join(os.TempDir(), "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dirs[n]+"\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"), 0o600); err != nil {
		return "", err
	}
	m.environment, m.tokens = []string{"SOFTHSM2_CONF=" + conf}, items[n]
	return dirs[n], nil
}

func (m *menu) listTokens(ctx context.Context) error {
	const title = "Tokens and cards"
	library, err := m.library(title)
	if err != nil {
		return err
	}
	if _, err := m.softTokens(title); err != nil {
		return err
	}
	return m.shows(ctx, title, "token", "list", "--module", library)
}

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
func (m *menu) numbers(title, dir string) (args []string, err error) {
	m.page(title, short(m.relative(dir)), "", "Type the numbers from YOUR paper. One that came with the folder proves nothing.", "")
	for _, a := range [][2]string{{"--roster", "The roster's SHA-256 (Enter without one):"}, {"--checkpoint", "The checkpoint's SHA-256 (Enter without one):"}} {
		text, err := m.digest(a[1])
		if err != nil {
			return nil, err
		}
		if text != "" {
			args = append(args, a[0], text)
		}
	}
	return args, nil
}

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
	out, err := free(dir, "rehearsal")
	if err != nil {
		return err
	}
	return m.talks(ctx, title, nil, "ceremony", "rehearse", "--out", out, script)
}

// free gives the first name with a number that is not taken in a folder.
func free(dir, name string) (string, error) {
	for n := 1; n < 1000; n++ {
		path := filepath.Join(dir, fmt.Sprintf("%s-%d", name, n))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s has too many folders called %s", show.Text(dir), name)
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
	if err := m.remind(title); err != nil {
		return err
	}
	out, err := free(filepath.Dir(script), "ceremony")
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
	people, err := m.people(title, found)
	if err != nil {
		return err
	}
	paths, err := m.tokenPaths(title)
	if err != nil {
		return err
	}
	return m.talks(ctx, title, append(paths, out), append(append(args, people...), script)...)
}

// tokenPaths are what tokens in files write to.
func (m *menu) tokenPaths(title string) ([]string, error) {
	dir, err := m.softTokens(title)
	if err != nil || dir == "" {
		return nil, err
	}
	return []string{dir}, nil
}

// memory sees to it that the stick of memory is known where one is plugged in; without one it does nothing.
func (m *menu) memory(title string) error {
	if m.sticks == nil || m.sticks.state() != nil {
		return nil
	}
	if s := m.sticks.unfinishedState(); s != nil {
		m.page(title, "The stick of this machine's memory was CUT OFF while it was written: "+s.named()+".", "", "Page 3 (sticks), 4 finishes what was being written: do that first, and come back.")
		return errors.Join(m.wait(), errBack)
	}
	if len(m.sticks.memories()) == 0 {
		return nil
	}
	return m.chooseMemory(title)
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
func (m *menu) remind(title string) error {
	if err := m.memory(title); err != nil || m.sticks == nil || m.sticks.state() != nil {
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

func indented(items []string) (list []string) {
	for _, i := range items {
		list = append(list, "  "+i)
	}
	if list == nil {
		list = []string{"  none: the program will say how many are missing"}
	}
	return list
}

// people asks for the keys of those present, and for the library of the tokens.
func (m *menu) people(title string, found []Found) ([]string, error) {
	library, err := m.library(title)
	if err != nil {
		return nil, err
	}
	args := []string{"--module", library}
	for _, p := range []struct{ flag, words, id string }{
		{"--officer", "Keys that SIGN the transcript: of as many officers as had to approve", "%02"},
		{"--custodian", "Keys that OPEN SHARES: of holders who are present; none where no token's PIN is shared", "%03"},
	} {
		keys, err := m.keys(title, p.words, p.id, found)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			args = append(args, p.flag, k)
		}
	}
	return args, nil
}

// keys asks for keys, one after the other: files that were found, cards, or URIs.
func (m *menu) keys(title, words, id string, found []Found) ([]string, error) {
	files := of(found, Key)
	var chosen []string
	for {
		var lines []string
		for i, f := range files {
			mark := " "
			if slices.Contains(chosen, f) {
				mark = "*"
			}
			lines = append(lines, fmt.Sprintf("%4d %s%s", i+1, mark, short(m.relative(f))))
		}
		for _, c := range chosen {
			if !slices.Contains(files, c) {
				lines = append(lines, "     *"+short(m.relative(c)))
			}
		}
		if lines == nil {
			lines = []string{"     No encrypted key in a file was found."}
		}
		below := fmt.Sprintf("A number; card LABEL for a PIV card; a pkcs11: or tpm: URI; or a path.\nNamed so far: %d (marked *; naming one again takes it back)", len(chosen))
		if missed := m.missedWords(); missed != "" {
			below = missed + "\n" + below
		}
		text, err := m.listed(title+". "+words, "One more, or Enter when all are named, or q to go back%s: ", lines, below)
		if err != nil {
			return nil, err
		}
		label, isCard := strings.CutPrefix(text, "card ")
		n := number(text, len(files))
		switch {
		case text == "":
			return chosen, nil
		case text == "q":
			return nil, errBack
		case n > 0:
			text = files[n-1]
		case isCard:
			card, _ := filepath.Glob(libraries[0].pattern)
			if len(card) == 0 {
				continue
			}
			text = "pkcs11:token=" + escaped(strings.TrimSpace(label)) + ";id=" + id + "?module-path=" + card[0]
		}
		if i := slices.Index(chosen, text); i >= 0 { // a second time takes it back
			chosen = slices.Delete(chosen, i, i+1)
		} else {
			chosen = append(chosen, text)
		}
	}
}

// escaped writes a value of a URI (RFC 3986, section 2.1): all but letters, digits, and four signs by their number.
func escaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func (m *menu) resume(ctx context.Context) error {
	const title = "Go on, or abort"
	found := m.search(m.folders())
	dir, err := m.pick(title, "No folder of a ceremony that was cut short was found. Plug in the stick that it is on.", of(found, Interrupted))
	if err != nil {
		return err
	}
	if err := m.memory(title); err != nil {
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
		for _, a := range [][2]string{{"--roster", "The roster's SHA-256 (Enter without one):"}, {"--transcript", "The transcript's SHA-256, as shown at the last stop (Enter: none):"}} {
			text, err := m.digest(a[1])
			if err != nil {
				return err
			}
			if text != "" {
				args = append(args, a[0], text)
			}
		}
	}
	people, err := m.people(title, found)
	if err != nil {
		return err
	}
	paths, err := m.tokenPaths(title)
	if err != nil {
		return err
	}
	return m.talks(ctx, title, append(paths, dir), append(append(args, people...), dir)...)
}
