package manual

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPagesNameWhatExists: what README and docs/ tell people to type has verbs and flags that the programs have.
func TestPagesNameWhatExists(t *testing.T) {
	all, n := verbs(t), 0
	for _, page := range pages(t) {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commands(string(data)) {
			n++
			if err := understand(all, line); err != nil {
				t.Errorf("%s: %q: %v", page, line, err)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d commands found in the pages: the test reads them wrongly", n)
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"../../README.md", "../../CONTRIBUTING.md"}
	err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var (
	inline = regexp.MustCompile("`(hanaper[a-z-]* [^`]+)`")
	typed  = regexp.MustCompile(`^hanaper[a-z-]* `)
)

// commands finds what a page tells people to type: lines of ```sh and ```console blocks, and `hanaper...` in running text.
func commands(page string) []string {
	var found []string
	for i, part := range strings.Split(page, "```") {
		if i%2 == 0 {
			for _, m := range inline.FindAllStringSubmatch(strings.ReplaceAll(part, "\n", " "), -1) {
				if !strings.HasSuffix(m[1], " v1") { // a label in a format
					found = append(found, m[1])
				}
			}
			continue
		}
		kind, body, _ := strings.Cut(part, "\n")
		if kind != "sh" && kind != "console" {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(body, "\\\n", " ")) {
			if line = strings.TrimSpace(line); typed.MatchString(line) {
				found = append(found, line)
			}
		}
	}
	return found
}

// understand says what is wrong with a command line: a verb or flag that does not exist, a verb that is missing. A word
// with a bar or bracket in it stands for several and ends the check.
func understand(all map[string]*verb, line string) error {
	words := split(line)
	v := all[words[0]]
	if v == nil {
		return fmt.Errorf("no such program: %s", words[0])
	}
	i := 1
	for ; i < len(words); i++ {
		w := words[i]
		if w == "man" || w == "completion" || strings.ContainsAny(w, "|[") || w == "VERB" {
			return nil
		}
		if strings.HasPrefix(w, "$") && len(v.flags) > 0 {
			continue // a variable that the page has filled with flags
		}
		if strings.HasPrefix(w, "-") {
			takes, known := v.flag(w)
			if name, _, given := strings.Cut(w, "="); given {
				_, known = v.flag(name)
				takes = false
			}
			if !known {
				return fmt.Errorf("%s has no flag %s", strings.Join(v.path, " "), w)
			}
			if takes {
				i++
			}
			continue
		}
		if len(v.subs) == 0 {
			break
		}
		sub := v.subs[w]
		if sub == nil && v.takes {
			break
		}
		if sub == nil {
			return fmt.Errorf("%s has no verb %s", strings.Join(v.path, " "), w)
		}
		v = sub
	}
	for ; i < len(words); i++ {
		if strings.HasPrefix(words[i], "-") {
			return fmt.Errorf("the flag %s stands after an argument", words[i])
		}
	}
	return nil
}

// split takes a command line apart as a shell does, up to a pipe, redirection or comment.
func split(line string) []string {
	var words []string
	var b strings.Builder
	quote, open, depth := rune(0), false, 0
	end := func() {
		if open {
			words = append(words, b.String())
			b.Reset()
			open = false
		}
	}
	for i, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				b.WriteRune(r)
			}
		case depth > 0: // within $( )
			if r == ')' {
				depth--
			}
		case r == '$' && strings.HasPrefix(line[i:], "$("):
			open = true
			depth++
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t':
			end()
		case strings.ContainsRune(";&>#", r), r == '|' && !open, r == '2' && strings.HasPrefix(line[i:], "2>"):
			if !open || r == ';' {
				end()
				return words
			}
			b.WriteRune(r)
		default:
			b.WriteRune(r)
			open = true
		}
	}
	end()
	return words
}

var quoted = regexp.MustCompile("`([^`]+)`")

// TestPagesQuoteRealErrors: what stands in the first column of a runbook's table of errors is in the source, word for word.
func TestPagesQuoteRealErrors(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		text := strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".html")
		if err != nil || !text {
			return err
		}
		data, err := os.ReadFile(path)
		source.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Texts of the libraries under us.
	source.WriteString("private key does not match public key")
	// Those of browsers and of TLS, where a page is not shown.
	for _, text := range []string{"ERR_BAD_SSL_CLIENT_AUTH_CERT", "ERR_SOCKET_NOT_CONNECTED", "ERR_CONNECTION_RESET", "ERR_CERT_AUTHORITY_INVALID", "certificate required"} {
		source.WriteString(text)
	}
	n := 0
	for _, page := range pages(t) {
		if filepath.Base(filepath.Dir(page)) != "runbooks" {
			continue
		}
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		errors := false
		for line := range strings.Lines(string(data)) {
			cells := strings.Split(line, "|")
			if len(cells) < 3 {
				errors = false
				continue
			}
			if first := strings.TrimSpace(cells[1]); strings.HasPrefix(first, "you see") || first == "reason" {
				errors = true
			}
			for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
				for part := range strings.SplitSeq(m[1], "...") {
					if n++; errors && part != "" && !strings.Contains(source.String(), strings.TrimSpace(part)) {
						t.Errorf("%s: no program says %q", page, part)
					}
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d errors found in the runbooks: the test reads them wrongly", n)
	}
}
