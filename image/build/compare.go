package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// maxMedium bounds a file of an image, in bytes.
const maxMedium = 1 << 30

// compare says which file differs between the images in two folders: first of those in the folders, then of those in the images' roots.
func compare(w io.Writer, a, b string) error {
	differ := 0
	say := func(format string, args ...any) {
		differ++
		fmt.Fprintf(w, format+"\n", args...)
	}
	for _, name := range []string{"hanaper.iso", "hanaper.efi", "vmlinuz", "initrd", "cmdline", "manifest", "image.json", "SHA256SUMS"} {
		one, err := input.Read(filepath.Join(a, name), maxMedium)
		if err != nil {
			return advice.Wrap(advice.Usage, err, "name two folders that make image wrote")
		}
		other, err := input.Read(filepath.Join(b, name), maxMedium)
		if err != nil {
			return advice.Wrap(advice.Usage, err, "name two folders that make image wrote")
		}
		if at := difference(one, other); at >= 0 {
			say("%s differs, from byte %d on (%d and %d bytes)", name, at, len(one), len(other))
			if name == "manifest" {
				sayFiles(say, string(one), string(other))
			}
		}
	}
	if differ > 0 {
		return advice.New(advice.Unverified, "docs/image.md says what to look at", "the images in %s and %s are not the same", show.Text(a), show.Text(b))
	}
	_, err := fmt.Fprintln(w, "the same, byte for byte")
	return err
}

// difference is where two files begin to differ; -1 for the same.
func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// sayFiles says which lines of two manifests are not in the other.
func sayFiles(say func(string, ...any), a, b string) {
	lines := func(text string) map[string]string {
		list := map[string]string{}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			f := strings.Fields(line)
			if len(f) >= 3 && f[0] == "link" {
				list[f[2]] = line
			} else if len(f) == 5 {
				list[f[4]] = line
			}
		}
		return list
	}
	one, other := lines(a), lines(b)
	for _, name := range slices.Sorted(maps.Keys(one)) {
		switch {
		case other[name] == "":
			say("  only in the first: %s", show.Text(one[name]))
		case other[name] != one[name]:
			say("  %s: %s in the first, %s in the second", show.Text(name), show.Text(one[name]), show.Text(other[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(other)) {
		if one[name] == "" {
			say("  only in the second: %s", show.Text(other[name]))
		}
	}
}
