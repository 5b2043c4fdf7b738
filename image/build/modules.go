package main

import (
	"bytes"
	"debug/elf"
	"path"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// loadOrder are the wanted modules and what they need, as paths in the kernel's package, each after what it needs.
func loadOrder(kernel deb, want []string) ([]string, error) {
	byName := map[string]string{}
	for name := range kernel {
		if strings.HasSuffix(name, ".ko") {
			byName[moduleName(path.Base(name))] = name
		}
	}
	var order []string
	var load func(name, who string) error
	load = func(name, who string) error {
		file, ok := byName[moduleName(name)]
		if !ok {
			return advice.New(advice.Failed, "see whether it is built in: take it off the list", "the kernel's package has no module %s, which %s needs", show.Text(name), who)
		}
		if slices.Contains(order, file) {
			return nil
		}
		needs, err := needsOf(kernel[file].data)
		if err != nil {
			return advice.New(advice.Failed, "", "module %s: %w", show.Text(name), err)
		}
		for _, n := range needs {
			if err := load(n, name); err != nil {
				return err
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range want {
		if err := load(name, "the list"); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName is a module's name as the kernel has it: it knows no -.
func moduleName(s string) string { return strings.ReplaceAll(strings.TrimSuffix(s, ".ko"), "-", "_") }

// needsOf reads which modules a module needs from its section .modinfo.
func needsOf(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, nil
	}
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
