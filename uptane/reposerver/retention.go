package reposerver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

// Uploaded is a file that was uploaded.
type Uploaded struct {
	Name   string    `json:"name"`
	Size   int64     `json:"size"`
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"uploaded"`
	// Used says by what it is named; empty: by nothing.
	Used []string `json:"used"`
}

// minKeep is the shortest time that a file which nothing names is kept: it is uploaded before targets name it.
const minKeep = 24 * time.Hour

// Uploads lists what was uploaded, by name, and by what each is named: the current targets, delegations, and devices to which
// it is assigned.
func Uploads(ctx context.Context, c StorageConfig, i *Image, d *Director) ([]Uploaded, error) {
	s, err := newStorage(c)
	if err != nil {
		return nil, err
	}
	return uploads(ctx, s, i, d)
}

func uploads(ctx context.Context, s *storage, i *Image, d *Director) ([]Uploaded, error) {
	used, err := i.named()
	if err != nil {
		return nil, err
	}
	if d != nil {
		err := d.fleet.Each(ctx, func(dev *Device) error {
			for _, a := range dev.Assigned {
				if !slices.Contains(used[a.SHA256], "devices") {
					used[a.SHA256] = append(used[a.SHA256], "devices")
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	list, err := filepath.Glob(filepath.Join(s.dir, "names", "*.json"))
	if err != nil {
		return nil, err
	}
	var out []Uploaded
	for _, path := range list {
		st, at, err := readName(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Uploaded{st.Name, st.Size, st.SHA256, at.UTC(), used[st.SHA256]})
	}
	slices.SortFunc(out, func(a, b Uploaded) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func readName(path string) (*stored, time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	st, err := readStored(path)
	return st, info.ModTime(), err
}

// named are the digests that the current targets and delegations list, and where.
func (i *Image) named() (map[string][]string, error) {
	ix, err := i.files.index()
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	take := func(where string, pick func(*index) string) error {
		doc, err := i.document(pick)
		if err != nil || doc == nil {
			return err
		}
		for _, name := range doc.Names() {
			if t, _ := doc.Target(name); !slices.Contains(out[t.SHA256], where) {
				out[t.SHA256] = append(out[t.SHA256], where)
			}
		}
		return nil
	}
	if err := take("targets", func(ix *index) string { return ix.Targets }); err != nil {
		return nil, err
	}
	for name := range ix.Delegations {
		if err := take("delegation "+name, func(ix *index) string { return ix.Delegations[name].Digest }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// RemoveUnused removes uploads that nothing names, if they were made longer ago than keep, and returns them. No targets are
// pushed meanwhile.
func RemoveUnused(ctx context.Context, c StorageConfig, i *Image, d *Director, keep time.Duration) ([]Uploaded, error) {
	if keep < minKeep {
		return nil, advice.New(advice.Usage, "files are uploaded before targets name them", "uploads are kept for at least %v, not %v", minKeep, keep)
	}
	s, err := newStorage(c)
	if err != nil {
		return nil, err
	}
	release, err := i.files.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	free, err := s.lock.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	all, err := uploads(ctx, s, i, d)
	if err != nil {
		return nil, err
	}
	blobs := map[string]int{}
	for _, u := range all {
		blobs[u.SHA256]++
	}
	var out []Uploaded
	for _, u := range all {
		if len(u.Used) > 0 || c.now().Sub(u.At) < keep {
			continue
		}
		if err := durable.Remove(s.namePath(u.Name)); err != nil {
			return out, err
		}
		out = append(out, u)
		if blobs[u.SHA256]--; blobs[u.SHA256] == 0 {
			if err := durable.Remove(s.blobPath(u.SHA256)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return out, err
			}
		}
	}
	// Blobs that lost their name when it was uploaded again. What metadata names stays, even so.
	used, err := i.named()
	if err != nil {
		return out, err
	}
	list, err := os.ReadDir(filepath.Join(s.dir, "blobs"))
	if err != nil {
		return out, err
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || blobs[e.Name()] > 0 || len(used[e.Name()]) > 0 || strings.HasPrefix(e.Name(), ".") || c.now().Sub(info.ModTime()) < keep {
			continue
		}
		if err := durable.Remove(s.blobPath(e.Name())); err != nil {
			return out, err
		}
		out = append(out, Uploaded{Name: "", Size: info.Size(), SHA256: e.Name(), At: info.ModTime().UTC()})
	}
	return out, nil
}

func (c StorageConfig) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}
