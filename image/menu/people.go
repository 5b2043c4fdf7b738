package menu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// withPeople asks for people's keys and for tokens, and runs a verb with them. It writes to the folder out, beside the tokens in files; on is the script or folder that it
// works on.
func (m *menu) withPeople(ctx context.Context, title string, found []Found, out string, args []string, on string) error {
	people, err := m.people(title, found)
	if err != nil {
		return err
	}
	writes := []string{out}
	if tokens, err := m.softTokens(title); err != nil {
		return err
	} else if tokens != "" {
		writes = append(writes, tokens)
	}
	return m.talks(ctx, title, writes, append(append(args, people...), on)...)
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
