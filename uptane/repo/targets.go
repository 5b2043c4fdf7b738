package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// NewTarget are the flags of targets add.
type NewTarget struct {
	Name, Version string
	Length        int64
	SHA256        string
	HardwareIDs   []string
	Format        uptane.TargetFormat // empty: BINARY
	URL           string
	// CustomMeta is a JSON object whose members are added to the target's custom object; the tool's own win.
	CustomMeta json.RawMessage
	// Uploaded is true for a target whose binary this tool uploaded.
	Uploaded bool
	// Now is the time of creation.
	Now time.Time
}

// Build makes the target and its file name, <name>-<version>.
func (n NewTarget) Build() (filename string, t uptane.Target, err error) {
	if n.Format == "" {
		n.Format = uptane.Binary
	}
	filename = n.Name + "-" + n.Version
	if err := uptane.CheckTargetName(filename); err != nil {
		return "", t, err
	}
	now := n.Now.UTC().Truncate(time.Second)
	custom := uptane.ImageCustom{
		Name: n.Name, Version: n.Version, HardwareIDs: n.HardwareIDs, Format: n.Format, URI: n.URL, CreatedAt: now, UpdatedAt: now, CLIUploaded: &n.Uploaded,
	}
	if len(n.CustomMeta) > 0 {
		// The canonical form first: it refuses what devices would not read.
		b, err := uptane.Canonical(n.CustomMeta)
		if err != nil {
			return "", t, fmt.Errorf("custom metadata: %w", err)
		}
		if err := json.Unmarshal(b, &custom.Extra); err != nil {
			return "", t, advice.New(advice.Usage, "", "custom metadata must be a JSON object")
		}
	}
	t = uptane.Target{Length: n.Length, SHA256: strings.ToLower(n.SHA256)}
	if t.Custom, err = custom.JSON(); err != nil {
		return "", t, err
	}
	return filename, t, uptane.CheckTarget(filename, t)
}

// InitTargets writes an empty roles/unsigned/targets.json.
func (r *Repository) InitTargets(version int, expires time.Time) (path string, err error) {
	if err := r.imageOnly("targets init"); err != nil {
		return "", err
	}
	doc, err := uptane.NewTargets(uptane.TargetsConfig{Version: version, Expires: expires.Truncate(time.Second)})
	if err != nil {
		return "", err
	}
	err = r.locked(func() error {
		path, err = r.writeUnsigned(uptane.RoleTargets, doc.Signed())
		return err
	})
	return path, err
}

// UnsignedTargets is roles/unsigned/targets.json as it stands, whoever wrote it.
func (r *Repository) UnsignedTargets() (*uptane.Targets, error) {
	if err := r.imageOnly("targets"); err != nil {
		return nil, err
	}
	b, p, err := r.readUnsigned(uptane.RoleTargets)
	if err != nil {
		return nil, err
	}
	t, err := uptane.ParseUnsignedTargets(uptane.Image, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show.Text(p), err)
	}
	return t, nil
}

// Targets is roles/targets.json, as last signed.
func (r *Repository) Targets() (*uptane.Targets, error) { return r.readTargets("roles/targets.json") }

// PulledTargets is the server's document as last pulled.
func (r *Repository) PulledTargets() (*uptane.Targets, error) {
	return r.readTargets("roles/pulled/targets.json")
}

// lastTargets are the targets as last signed and as last pulled; nil where there are none. After a push they are the same,
// and are read once.
func (r *Repository) lastTargets() (signed, pulled uptane.Document, err error) {
	mine, err := readFile(r.Path("roles/targets.json"), maxRole)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	theirs, err := readFile(r.Path("roles/pulled/targets.json"), maxRole)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if mine != nil {
		if signed, err = r.parseTargets("roles/targets.json", mine); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case theirs == nil:
		return signed, nil, nil
	case bytes.Equal(mine, theirs):
		return signed, signed, nil
	}
	pulled, err = r.parseTargets("roles/pulled/targets.json", theirs)
	if err != nil {
		return nil, nil, err
	}
	return signed, pulled, nil
}

func (r *Repository) readTargets(name string) (*uptane.Targets, error) {
	b, err := readFile(r.Path(name), maxRole)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("missing role targets at %s: %w", show.Text(r.Path(name)), err), "run targets sign first")
	}
	if err != nil {
		return nil, err
	}
	return r.parseTargets(name, b)
}

func (r *Repository) parseTargets(name string, b []byte) (*uptane.Targets, error) {
	t, err := uptane.ParseTargets(uptane.Image, b, uptane.Local())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show.Text(r.Path(name)), err)
	}
	return t, nil
}

// StoreTargets keeps a document that the caller has pulled and verified under TrustedRoot, and the checksum that came
// with it, as what the next change starts from.
func (r *Repository) StoreTargets(t *uptane.Targets, checksum string) error {
	if err := r.imageOnly("targets pull"); err != nil {
		return err
	}
	if len(checksum) != 64 || strings.Trim(checksum, "0123456789abcdef") != "" {
		return advice.New(advice.Unverified, "", "did not receive a valid role checksum from the server")
	}
	return r.locked(func() error {
		if err := durable.Mkdir(r.Path("roles/pulled"), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(r.Path("roles/pulled/targets.json"), t.Bytes(), 0o600); err != nil {
			return err
		}
		if err := os.Remove(r.Path(superseded)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := r.writeUnsigned(uptane.RoleTargets, t.Signed()); err != nil {
			return err
		}
		return durable.WriteFile(r.Path("roles/targets.json.checksum"), []byte(checksum), 0o600)
	})
}

// superseded is where targets are kept that only an earlier root vouches for.
const superseded = "roles/pulled/targets.superseded.json"

// StoreSuperseded makes a draft of targets that only an earlier root vouches for, and keeps them apart. What the draft is
// compared with when it is signed stays what verified last: whatever was added since then is shown as new.
func (r *Repository) StoreSuperseded(t *uptane.Targets, checksum string) error {
	if err := r.imageOnly("targets pull"); err != nil {
		return err
	}
	return r.locked(func() error {
		if err := durable.Mkdir(r.Path("roles/pulled"), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(r.Path(superseded), t.Bytes(), 0o600); err != nil {
			return err
		}
		if _, err := r.writeUnsigned(uptane.RoleTargets, t.Signed()); err != nil {
			return err
		}
		return durable.WriteFile(r.Path("roles/targets.json.checksum"), []byte(checksum), 0o600)
	})
}

// EditTargets changes roles/unsigned/targets.json, starting from whatever stands there, and returns its path.
func (r *Repository) EditTargets(change func(*uptane.TargetsConfig) error) (path string, err error) {
	err = r.locked(func() error {
		t, err := r.UnsignedTargets()
		if err != nil {
			return err
		}
		c := t.Config()
		if err := change(&c); err != nil {
			return err
		}
		next, err := uptane.NewTargets(c)
		if err != nil {
			return err
		}
		path, err = r.writeUnsigned(uptane.RoleTargets, next.Signed())
		return err
	})
	return path, err
}

// DeleteTarget removes a target by its file name.
func (r *Repository) DeleteTarget(filename string) (path string, err error) {
	return r.EditTargets(func(c *uptane.TargetsConfig) error {
		if _, ok := c.Targets[filename]; !ok {
			return advice.New(advice.Failed, "names are <name>-<version>, or <name>_<version> for OSTree", "target %s not found in unsigned targets.json", filename)
		}
		delete(c.Targets, filename)
		return nil
	})
}

// IncrementTargetsVersion raises the version of roles/unsigned/targets.json by one, for those who sign it elsewhere.
func (r *Repository) IncrementTargetsVersion() (path string, err error) {
	return r.EditTargets(func(c *uptane.TargetsConfig) error { c.Version++; return nil })
}

// AddDelegation hands target names to other keys, in place of a delegation of the same name. It is searched first.
func (r *Repository) AddDelegation(d uptane.Delegation) (path string, err error) {
	return r.EditTargets(func(c *uptane.TargetsConfig) error {
		rest := slices.DeleteFunc(c.Delegations, func(have uptane.Delegation) bool { return have.Name == d.Name })
		c.Delegations = append([]uptane.Delegation{d}, rest...)
		return nil
	})
}

// RemoveDelegation takes a delegation away. Its targets are gone for devices once the targets are signed and pushed.
func (r *Repository) RemoveDelegation(name string) (path string, err error) {
	return r.EditTargets(func(c *uptane.TargetsConfig) error {
		before := len(c.Delegations)
		c.Delegations = slices.DeleteFunc(c.Delegations, func(d uptane.Delegation) bool { return d.Name == name })
		if len(c.Delegations) == before {
			return advice.New(advice.Failed, "targets delegations list shows those that there are", "the unsigned targets.json has no delegation %s", show.Text(name))
		}
		return nil
	})
}

// SignTargets signs roles/unsigned/targets.json as the next version into roles/targets.json: see SignOptions.
// Signatures that roles/targets.json has over the same content stay.
func (r *Repository) SignTargets(o SignOptions) (result *Signed, err error) {
	err = r.locked(func() error {
		t, err := r.UnsignedTargets()
		if err != nil {
			return err
		}
		build := func(version int, expires time.Time) (uptane.Document, error) {
			c := t.Config()
			c.Version, c.Expires = version, expires
			next, err := uptane.NewTargets(c)
			return next, err
		}
		j := job{r: r, o: o, role: uptane.RoleTargets, build: build, version: t.Version(), expires: t.Expires()}
		have, previous, err := r.lastTargets()
		if err != nil {
			return err
		}
		j.have = have
		for _, d := range []uptane.Document{have, previous} {
			if d != nil {
				j.held = append(j.held, d)
			}
		}
		j.authority = func(doc uptane.Document) (uptane.Authority, uptane.Document, error) {
			root, err := r.Root()
			if errors.Is(err, fs.ErrNotExist) {
				return uptane.Authority{}, previous, nil
			}
			if err != nil {
				return uptane.Authority{}, nil, err
			}
			return uptane.RoleAuthority(root, uptane.RoleTargets), previous, nil
		}
		result, err = j.run()
		return err
	})
	return result, err
}

// TargetsToPush is roles/targets.json if it meets the threshold of the local root, with the checksum to send, which is
// empty where nothing was pulled.
func (r *Repository) TargetsToPush() (t *uptane.Targets, checksum string, err error) {
	if err := r.imageOnly("targets push"); err != nil {
		return nil, "", err
	}
	if t, err = r.Targets(); err != nil {
		return nil, "", err
	}
	root, err := r.Root()
	if err != nil {
		return nil, "", err
	}
	if err := uptane.RoleAuthority(root, uptane.RoleTargets).Verify(t); err != nil {
		return nil, "", advice.Wrap(advice.Refused, err, "have the missing keys sign, then push")
	}
	checksum, err = r.Checksum()
	if errors.Is(err, fs.ErrNotExist) {
		return t, "", nil // nothing was pulled: the server says whether that matters
	}
	return t, checksum, err
}
