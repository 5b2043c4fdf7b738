package main

import (
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// toolsOf is what the program was compiled with, as the compilers wrote it into the program.
func toolsOf(program string) (map[string]string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	f, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(".comment")
	if s == nil {
		return nil, advice.New(advice.Usage, "build it with CGO_ENABLED=1", "%s does not say which C compiler made it", show.Text(program))
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	var comments []string
	for c := range strings.SplitSeq(strings.Trim(string(data), "\x00"), "\x00") {
		comments = append(comments, c)
	}
	return map[string]string{"go": info.GoVersion, "cc": strings.Join(comments, "; ")}, nil
}

// compilers holds what made the program to the file toolchain.
func (c config) compilers(w io.Writer, tools map[string]string) error {
	lines, err := readLines(filepath.Join(c.image, "toolchain"))
	if err != nil {
		return err
	}
	for _, l := range lines {
		name, want, _ := strings.Cut(l.text, " ")
		if tools[name] == want {
			continue
		}
		err := advice.New(advice.Failed, "make the image on Debian 12 with its newest gcc; or, for another image, write yours into image/toolchain",
			"%s was compiled by %q, want %q: the image's bytes would be others", show.Text(c.program), tools[name], want)
		if !c.anyCompiler {
			return err
		}
		fmt.Fprintf(w, "NOT THE RELEASE'S COMPILER: %v\n", err)
	}
	return nil
}
