package ceremony

import (
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
)

// Change is one thing in which a script differs from an earlier one.
type Change struct {
	// In is head, token, input or step.
	In string `json:"in"`
	// What is "added", "removed", "changed" or "moved".
	What string `json:"what"`
	// Name of what differs: a key of the head, a token, an input, or a step by kind and name.
	Name string `json:"name"`
	// Field that differs, for what was changed.
	Field string `json:"field,omitempty"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
	// OldStep and NewStep are the step's numbers, 0 where it is not.
	OldStep int `json:"old_step,omitempty"`
	NewStep int `json:"new_step,omitempty"`
}

// OpenScript reads a script, or the copy of one that the folder of a ceremony keeps. That the folder is genuine, Verify
// says.
func OpenScript(file string) (*Script, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a script, or the folder of a ceremony")
	}
	if !st.IsDir() {
		return LoadScript(file)
	}
	files := map[string][]byte{}
	if err := readBelow(files, input.Dir(file)); err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a script, or the folder of a ceremony")
	}
	if files[scriptFile] == nil {
		return nil, advice.New(advice.Usage, "name a script, or the folder of a ceremony", "%s holds no %s", file, scriptFile)
	}
	return loadCopy(files)
}

// readBelow reads the files of a folder.
func readBelow(files map[string][]byte, folder fs.FS) error {
	return fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if len(files) > 20000 {
			return damaged(name, "the folder holds more files than a ceremony makes")
		}
		files[name], err = readBounded(folder, name)
		return err
	})
}

// Compare lists all in which a script differs from an earlier one, in the order of the new one.
func Compare(old, now *Script) []Change {
	var list []Change
	add := func(c Change) { list = append(list, c) }
	head := func(name, was, is string) {
		if was != is {
			add(Change{In: "head", What: "changed", Name: name, Old: was, New: is})
		}
	}
	head("ceremony", old.config.Ceremony, now.config.Ceremony)
	head("environment", old.config.Environment, now.config.Environment)
	head("title", old.config.Title, now.config.Title)
	head("window.from", formatTime(old.from), formatTime(now.from))
	head("window.until", formatTime(old.until), formatTime(now.until))
	head("roster", hexSHA256(old.roster), hexSHA256(now.roster))
	head("roster.approvals", digestsOf(old.config.Roster.Approvals), digestsOf(now.config.Roster.Approvals))
	head("earlier", checkpointOf(old), checkpointOf(now))
	compareNamed("token", old.tokenTexts(), now.tokenTexts(), add)
	digests := func(s *Script) map[string]string {
		m := map[string]string{}
		for n, data := range s.inputs {
			m[n] = hexSHA256(data)
		}
		return m
	}
	compareNamed("input", digests(old), digests(now), add)
	compareSteps(old.steps, now.steps, add)
	return list
}

func checkpointOf(s *Script) string {
	if s.earlier == nil {
		return ""
	}
	return fmt.Sprintf("%x", s.earlier.checkpoint)
}

func digestsOf(files []FileConfig) string {
	var list []string
	for _, f := range files {
		list = append(list, strings.TrimPrefix(f.SHA256, "sha256:"))
	}
	return strings.Join(list, ", ")
}

// tokenTexts are all that the script says of each token.
func (s *Script) tokenTexts() map[string]string {
	texts := map[string]string{}
	for n, u := range s.tokens {
		texts[n] = u.String()
		if c := s.config.Tokens[n]; c.UserShares != "" || c.SOShares != "" {
			texts[n] += " " + s.pins(n)
		}
	}
	return texts
}

func compareNamed(in string, old, now map[string]string, add func(Change)) {
	all := map[string]bool{}
	for n := range old {
		all[n] = true
	}
	for n := range now {
		all[n] = true
	}
	for _, n := range sortedKeys(all) {
		was, before := old[n]
		is, after := now[n]
		switch {
		case !before:
			add(Change{In: in, What: "added", Name: n, New: is})
		case !after:
			add(Change{In: in, What: "removed", Name: n, Old: was})
		case was != is:
			add(Change{In: in, What: "changed", Name: n, Old: was, New: is})
		}
	}
}

// identity names a step by its kind and what it is about; the same again gets a number.
func identities(steps []scriptStep) []string {
	seen := map[string]int{}
	ids := make([]string, len(steps))
	for i, st := range steps {
		all, id := fields(st.step), st.kind
		for _, f := range []string{"name", "key", "certificate", "crl", "repository", "token"} {
			if v := get(all, f); v != "" {
				id += " " + v
				break
			}
		}
		seen[id]++
		if ids[i] = id; seen[id] > 1 {
			ids[i] = fmt.Sprintf("%s (%d)", id, seen[id])
		}
	}
	return ids
}

func compareSteps(old, now []scriptStep, add func(Change)) {
	before, after := identities(old), identities(now)
	var common []int // places in old, in the order of now
	for _, id := range after {
		if j := slices.Index(before, id); j >= 0 {
			common = append(common, j)
		}
	}
	stays := rising(common)
	for i, id := range after {
		j := slices.Index(before, id)
		if j < 0 {
			add(Change{In: "step", What: "added", Name: id, NewStep: i + 1, New: brief(now[i])})
			continue
		}
		c := Change{In: "step", Name: id, OldStep: j + 1, NewStep: i + 1}
		if !stays[j] {
			c.What = "moved"
			add(c)
		}
		if reflect.DeepEqual(old[j].step, now[i].step) {
			continue
		}
		c.What = "changed"
		was, is := fields(old[j].step), fields(now[i].step)
		for _, f := range mergePaths(was, is) {
			if c.Field, c.Old, c.New = f, get(was, f), get(is, f); c.Old != c.New {
				add(c)
			}
		}
	}
	for j, id := range before {
		if !slices.Contains(after, id) {
			add(Change{In: "step", What: "removed", Name: id, OldStep: j + 1, Old: brief(old[j])})
		}
	}
}

// brief is all that a step says, in a line.
func brief(st scriptStep) string {
	var parts []string
	for _, f := range fields(st.step) {
		parts = append(parts, f.path+": "+f.value)
	}
	return strings.Join(parts, ", ")
}

// mergePaths lists the paths of both, those of now in their order and after them those that are gone.
func mergePaths(old, now []field) []string {
	var paths []string
	for _, f := range append(slices.Clone(now), old...) {
		if !slices.Contains(paths, f.path) {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// rising gives the members of a longest rising run of list, not of neighbours: what did not move.
func rising(list []int) map[int]bool {
	length, previous, best := make([]int, len(list)), make([]int, len(list)), -1
	for i := range list {
		length[i], previous[i] = 1, -1
		for j := range i {
			if list[j] < list[i] && length[j]+1 > length[i] {
				length[i], previous[i] = length[j]+1, j
			}
		}
		if best < 0 || length[i] > length[best] {
			best = i
		}
	}
	stays := map[int]bool{}
	for ; best >= 0; best = previous[best] {
		stays[list[best]] = true
	}
	return stays
}
