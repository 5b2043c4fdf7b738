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

// releaseMemory is the newest release that a machine verified, in its state (--state). In an older one everything verifies, too; who can change
// the file can make the machine forget.
type releaseMemory struct {
	// Format is 1.
	Format   int    `json:"format"`
	Version  string `json:"version"`
	Manifest string `json:"manifest_sha256"`
	// Key is the SHA-256 of the public half of the key that signed it.
	Key string `json:"spki_sha256"`
}

func releaseMemoryPath(state string) string { return filepath.Join(state, "release.json") }

// recallRelease reads what is remembered; nil if that is nothing.
func recallRelease(state string) (*releaseMemory, error) {
	path := releaseMemoryPath(state)
	data, err := input.Read(path, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &releaseMemory{}
	if err := strict.JSON(path, data, m); err != nil {
		return nil, err
	}
	version, err := release.ParseVersion(m.Version)
	if _, derr := ceremony.ParseDigest(m.Manifest); m.Format != 1 || err != nil || version != m.Version || derr != nil {
		return nil, advice.New(advice.Usage, "use the release that wrote it, or a newer one; or find out what became of the file, and move it away", "%s is of format %d, or damaged", show.Text(path), m.Format)
	}
	return m, nil
}

func (m releaseMemory) keep(state string) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := durable.Mkdir(state, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(releaseMemoryPath(state), append(data, '\n'), 0o600)
}

// weigh holds a release to what is remembered.
func (r *releaseReport) weigh(was *releaseMemory, older bool) error {
	switch {
	case was == nil:
		r.Notes = append(r.Notes, "this machine remembers no release: make sure that "+show.Text(r.Version)+" is the newest, or say what you take with --not-below")
	case was.Version == r.Version && was.Manifest != r.Manifest:
		return advice.New(advice.Refused, "one version has one content: find out which of both the officers signed", "another release %s was verified on this machine, with the manifest %s", show.Text(r.Version), show.Text(was.Manifest))
	case release.Older(r.Version, was.Version) && !older:
		return advice.New(advice.Refused, "somebody shows you an older release; if you go back on purpose, add --older", "it is release %s, and release %s was verified on this machine", show.Text(r.Version), show.Text(was.Version))
	}
	if was != nil && was.Key != r.Key {
		r.Notes = append(r.Notes, fmt.Sprintf("it is signed by another key than release %s, which this machine remembers: %s then", show.Text(was.Version), show.Text(was.Key)))
	}
	return nil
}
