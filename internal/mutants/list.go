package main

import (
	"fmt"
	"strings"
)

// mutant is one change of the program, and the test that must notice it.
type mutant struct {
	name string
	file string
	// was stands exactly once in file; now takes its place.
	was, now string
	// test are the arguments of go test: a package, and which tests.
	test []string
	// survives says why no test can notice it; empty for all others.
	survives string
}

// parse reads a list: blocks of lines "name: what is changed", "file:", "was:", "now:", "test:" and, perhaps, "survives:", with an
// empty line between them. Several lines of "was" or "now" make a text of several lines; without "now" the text is taken out.
// Lines that begin with # are comments.
func parse(path, text string) ([]mutant, error) {
	var list []mutant
	for _, block := range strings.Split(text, "\n\n") {
		var m mutant
		var was, now []string
		for _, line := range strings.Split(block, "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, value, ok := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case !ok:
				return nil, fmt.Errorf("%s: %q: want KEY: TEXT", path, line)
			case key == "name":
				m.name = value
			case key == "file":
				m.file = value
			case key == "was":
				was = append(was, value)
			case key == "now":
				now = append(now, value)
			case key == "test":
				m.test = strings.Fields(value)
			case key == "survives":
				m.survives = value
			default:
				return nil, fmt.Errorf("%s: %q is no key", path, key)
			}
		}
		if m.name == "" && m.file == "" && was == nil {
			continue
		}
		m.was, m.now = strings.Join(was, "\n"), strings.Join(now, "\n")
		if m.name == "" || m.file == "" || m.was == "" || m.was == m.now || len(m.test) == 0 {
			return nil, fmt.Errorf("%s: mutant %q is not whole", path, m.name)
		}
		list = append(list, m)
	}
	return list, nil
}
