package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// Roots can be signed one after another while the server is not at hand, and then go to it one by one. Those that are
// complete and not the newest lie in roles/pending. They are not in force: only roles/N.root.json are, which came from the
// server or were accepted by it, and only those are what a chain of roots begins with.

func pending(version int) string { return fmt.Sprintf("roles/pending/%d.root.json", version) }

// keepPending keeps a root of this repository that is complete and is about to be followed by another.
func (r *Repository) keepPending(root *uptane.Root) error {
	if err := durable.Mkdir(r.Path("roles/pending"), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(r.Path(pending(root.Version())), root.Bytes(), 0o600)
}

// RootsToPush are the roots that the server may lack, the lowest version first; the last one is roles/root.json. Each is
// complete: signed to its own threshold and to that of the root before it, when that one is known.
func (r *Repository) RootsToPush() ([]*uptane.Root, error) {
	last, err := r.Root()
	if err != nil {
		return nil, err
	}
	roots := []*uptane.Root{last}
	for v := last.Version() - 1; v >= 1; v-- {
		root, err := r.readRoot(pending(v))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		roots = append([]*uptane.Root{root}, roots...)
	}
	for _, root := range roots {
		a, err := r.RootAuthority(root)
		if err != nil {
			return nil, err
		}
		if err := a.Verify(root); err != nil {
			return nil, advice.Wrap(advice.Refused, err, "have the missing keys sign, then push")
		}
	}
	return roots, nil
}

// AcceptRoot keeps a root of this repository that the server has accepted while a newer one is still to follow.
func (r *Repository) AcceptRoot(root *uptane.Root) error {
	return r.locked(func() error {
		if err := durable.WriteFile(r.Path(versioned(root)), root.Bytes(), 0o600); err != nil {
			return err
		}
		return removeIfThere(r.Path(pending(root.Version())))
	})
}

// GiveUpRoots puts aside the roots that were signed here from a version on, under names that no command reads, and returns
// those names.
func (r *Repository) GiveUpRoots(from int) (kept []string, err error) {
	err = r.locked(func() error {
		last, err := r.Root()
		if err != nil {
			return err
		}
		for v := from; v < last.Version(); v++ {
			root, err := r.readRoot(pending(v))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			p := r.Path(versioned(root) + ".unpushed")
			if err := durable.WriteFile(p, root.Bytes(), 0o600); err != nil {
				return err
			}
			kept = append(kept, p)
		}
		p := r.Path("roles/root.json.unpushed")
		kept = append(kept, p)
		return durable.WriteFile(p, last.Bytes(), 0o600)
	})
	return kept, err
}

// dropPending removes what is pending, once it was accepted or given up.
func (r *Repository) dropPending() error {
	list, err := os.ReadDir(r.Path("roles/pending"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", show.Text(r.Path("roles/pending")), err)
	}
	for _, e := range list {
		if err := removeIfThere(r.Path("roles/pending/" + e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(path string) error {
	if err := durable.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
