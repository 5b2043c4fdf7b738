package main

import (
	"debug/buildinfo"
	"debug/elf"
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
