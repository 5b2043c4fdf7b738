package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/release"
)

// releaseMemory is what an account remembers of the releases that it verified, in its state (--state). In an older release everything verifies,
// too; who can change the file can make the account forget.
type releaseMemory struct {
	// Format is 1.
	Format int `json:"format"`
	// Rosters has a release by the SHA-256 of the first roster of its chain of ceremonies, Keys by that of the public half of the key that signed
	// it, where it was verified by the key alone: what another fleet's officers released, or a thief of the key, changes nothing of ours.
	Rosters map[string]knownRelease `json:"rosters,omitempty"`
	Keys    map[string]knownRelease `json:"keys,omitempty"`
}

// knownRelease is the newest release of one line, or the one to which somebody went back on purpose.
type knownRelease struct {
	Version  string `json:"version"`
	Manifest string `json:"manifest_sha256"`
	// Key is the SHA-256 of the public half of the key that signed it.
	Key string `json:"spki_sha256"`
}

// maxReleaseMemory bounds the file in bytes.
const maxReleaseMemory = 256 << 10

func releaseMemoryPath(state string) string { return filepath.Join(state, "release.json") }

// recallReleases reads what is remembered.
func recallReleases(state string) (*releaseMemory, error) {
	path := releaseMemoryPath(state)
	data, err := input.Read(path, maxReleaseMemory)
	if errors.Is(err, fs.ErrNotExist) {
		return &releaseMemory{Format: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	m := &releaseMemory{}
	if err := strict.JSON(path, data, m); err != nil {
		return nil, err
	}
	good := m.Format == 1
	for _, lines := range []map[string]knownRelease{m.Rosters, m.Keys} {
		for line, k := range lines {
			version, err := release.ParseVersion(k.Version)
			good = good && err == nil && version == k.Version
			for _, digest := range []string{line, k.Manifest, k.Key} {
				_, err := ceremony.ParseDigest(digest)
				good = good && err == nil
			}
		}
	}
	if !good {
		return nil, advice.New(advice.Usage, "use the release that wrote it, or a newer one; or find out what became of the file, and move it away", "%s is of format %d, or damaged", show.Text(path), m.Format)
	}
	return m, nil
}

func (m *releaseMemory) keep(state string) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := releaseMemoryPath(state)
	if len(data) >= maxReleaseMemory {
		return advice.New(advice.Refused, "move it away, and say with --not-below what you take", "%s would have more than %d bytes: too many lines of releases", show.Text(path), maxReleaseMemory)
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}

// line is where in the memory the release belongs: its map and its key there.
func (r *releaseReport) line(m *releaseMemory) (*map[string]knownRelease, string) {
	if len(r.HeldTo) == 1 && r.HeldTo[0] == "key" {
		return &m.Keys, r.Key
	}
	return &m.Rosters, r.firstRoster
}

// weigh holds a release to what is remembered of its line. step says that it is to be remembered in the place of that.
func (r *releaseReport) weigh(m *releaseMemory, older bool) (step bool, notes []string, err error) {
	lines, at := r.line(m)
	was, known := (*lines)[at]
	begins := !known
	if begins && lines == &m.Keys { // what officers signed with this key is newer or older, too
		for _, k := range m.Rosters {
			if k.Key == r.Key && (!known || release.Older(was.Version, k.Version)) {
				was, known = k, true
			}
		}
	}
	if !known {
		return true, []string{"this account remembers no release of " + lineName(lines == &m.Keys) + ": make sure that " + show.Text(r.Version) + " is the newest, or say what you take with --not-below"}, nil
	}
	goesBack := release.Older(r.Version, was.Version)
	switch {
	case was.Version == r.Version && was.Manifest != r.Manifest:
		return false, nil, advice.New(advice.Refused, "one version has one content: find out which of both the officers signed", "another release %s was verified by this account, with the manifest %s", show.Text(r.Version), show.Text(was.Manifest))
	case goesBack && !older && !r.heldTo("checkpoint"):
		return false, nil, advice.New(advice.Refused, "somebody shows you an older release; if you go back on purpose, add --"+r.prefix+"older", "it is release %s, and release %s was verified by this account", show.Text(r.Version), show.Text(was.Version))
	case goesBack && older:
		notes = append(notes, fmt.Sprintf("you go back from release %s", show.Text(was.Version)))
	case goesBack:
		notes = append(notes, fmt.Sprintf("it is older than release %s, which this account verified and goes on to remember: it is the one of your --%scheckpoint", show.Text(was.Version), r.prefix))
	}
	if was.Key != r.Key {
		notes = append(notes, fmt.Sprintf("it is signed by another key than release %s, which this account remembers: %s then", show.Text(was.Version), show.Text(was.Key)))
	}
	return begins || release.Older(was.Version, r.Version) || goesBack && older, notes, nil
}

func lineName(byKey bool) string {
	if byKey {
		return "this key that was verified by the key alone"
	}
	return "these officers"
}

// remember weighs a release against what is remembered, and remembers it, with no other verification between the two.
func (r *releaseReport) remember(state string, older bool) (notes []string, err error) {
	if err := durable.Mkdir(state, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.LockFolder(state, true)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	m, err := recallReleases(state)
	if err != nil {
		return nil, err
	}
	step, notes, err := r.weigh(m, older)
	if err != nil || !step {
		return notes, err
	}
	lines, at := r.line(m)
	if *lines == nil {
		*lines = map[string]knownRelease{}
	}
	(*lines)[at] = knownRelease{r.Version, r.Manifest, r.Key}
	// What officers released with a key is the least that is taken by the key alone.
	if k, ok := m.Keys[r.Key]; ok && release.Older(k.Version, r.Version) {
		m.Keys[r.Key] = (*lines)[at]
	}
	return notes, m.keep(state)
}
