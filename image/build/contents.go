package main

import (
	"path"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// rule is one line of contents: which files of a package are taken, and whither.
type rule struct {
	pkg, pattern string
	to           string // empty: where the package has it
	line         int
}

// boot begins the places of what firmware starts, outside of the image's root.
const boot = "boot:"

func readContents(file string) ([]rule, error) {
	lines, err := readLines(file)
	if err != nil {
		return nil, err
	}
	var list []rule
	for _, l := range lines {
		f := strings.Fields(l.text)
		r := rule{line: l.n}
		switch {
		case len(f) == 2:
			r.pkg, r.pattern = f[0], f[1]
		case len(f) == 4 && f[2] == "->" && (strings.HasPrefix(f[3], boot) || path.IsAbs(f[3])):
			r.pkg, r.pattern, r.to = f[0], f[1], f[3]
		default:
			return nil, advice.New(advice.Usage, "", "%s:%d: want PACKAGE FILE, or PACKAGE FILE -> PLACE", show.Text(file), l.n)
		}
		if _, err := path.Match(r.pattern, ""); err != nil || !path.IsAbs(r.pattern) {
			return nil, advice.New(advice.Usage, "", "%s:%d: %s is no pattern of an absolute path", show.Text(file), l.n, show.Text(r.pattern))
		}
		list = append(list, r)
	}
	return list, nil
}

type numbered struct {
	text string
	n    int
}

// readLines reads the lines of a list that are not empty. # begins a comment.
func readLines(file string) ([]numbered, error) {
	data, err := input.ReadFile(file)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "")
	}
	var list []numbered
	for i, line := range strings.Split(string(data), "\n") {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text != "" {
			list = append(list, numbered{text, i + 1})
		}
	}
	return list, nil
}

// words reads a list of words.
func words(file string) ([]string, error) {
	lines, err := readLines(file)
	var list []string
	for _, l := range lines {
		list = append(list, strings.Fields(l.text)...)
	}
	return list, err
}

// merged is where a path lies in the image: all programs are in /usr/bin, and /lib is /usr/lib, as in Debian itself from 12 on.
func merged(name string) string {
	name = path.Clean(name)
	for _, dir := range []string{"/bin/", "/sbin/", "/usr/sbin/"} {
		if rest, ok := strings.CutPrefix(name, dir); ok {
			return "/usr/bin/" + rest
		}
	}
	if strings.HasPrefix(name, "/lib/") || strings.HasPrefix(name, "/lib64/") {
		return "/usr" + name
	}
	return name
}
