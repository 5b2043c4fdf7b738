package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/image/published"
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
	sayMadeOf(say, filepath.Join(a, "image.json"), filepath.Join(b, "image.json"))
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

// sayMadeOf says in which of their sources two images differ, as their image.json have it: other ones give other bytes.
func sayMadeOf(say func(string, ...any), a, b string) {
	one, err := published.Read(a)
	if err != nil {
		return // the bytes are compared all the same
	}
	other, err := published.Read(b)
	if err != nil {
		return
	}
	if one.Version != other.Version || !one.Created.Equal(other.Created) {
		say("the source: the first is %s of %s, the second %s of %s", show.Text(one.Version), one.Created.Format(time.RFC3339), show.Text(other.Version), other.Created.Format(time.RFC3339))
	}
	for _, name := range slices.Sorted(maps.Keys(one.Tools)) {
		if one.Tools[name] != other.Tools[name] {
			say("the compiler %s: %s made the first, %s the second", show.Text(name), show.Text(one.Tools[name]), show.Text(other.Tools[name]))
		}
	}
	for _, p := range one.Packages {
		if !slices.Contains(other.Packages, p) {
			say("the package %s is in the first alone", show.Text(p))
		}
	}
	for _, p := range other.Packages {
		if !slices.Contains(one.Packages, p) {
			say("the package %s is in the second alone", show.Text(p))
		}
	}
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
