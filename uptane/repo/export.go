package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/uptane"
)

// ExportCredentials packs a credentials.zip: what the repository was made from, with the present login, server, root
// and targets key. A targets key in a token goes along as a stub with its names, without library and PIN:
// garage-deploy wants the entry to exist.
func (r *Repository) ExportCredentials(keyName, path string) error {
	pub, err := r.keys.Public(keyName)
	if err != nil {
		return err
	}
	f, _, err := r.keys.secret(keyName)
	if err != nil {
		return err
	}
	if f, err = f.portable(); err != nil {
		return err
	}
	c := NewCredentials()
	if b, err := readFile(r.Path("credentials.zip"), maxArchive); err == nil {
		if c, err = ReadCredentials(b); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	treehub := r.config.Treehub
	treehub.OAuth2, treehub.BasicAuth = r.config.Auth.OAuth2, r.config.Auth.Basic
	var failed error
	set := func(name string, v any) {
		b, err := pretty(v)
		if err == nil {
			err = c.Set(name, b)
		}
		failed = errors.Join(failed, err)
	}
	set(EntryTreehub, treehub)
	set(EntryTargetsPub, pub)
	set(EntryTargetsSec, f)
	url := EntryRepoURL
	if r.config.Kind == uptane.Director {
		url = EntryGateway
	}
	failed = errors.Join(failed, c.Set(url, []byte(r.config.Reposerver)))
	_, err = r.Root()
	switch {
	case err == nil:
		// A root that is still being signed would lock its reader out: the one in force goes along.
		root, err := r.TrustedRoot()
		if err != nil {
			return err
		}
		set(EntryRoot, json.RawMessage(root.Bytes()))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if t := r.config.Auth.TLS; t != nil {
		for _, e := range []struct{ entry, name string }{{EntryClientAuth, t.CertPath}, {EntryServer, t.ServerCertPath}} {
			if e.name == "" {
				continue
			}
			b, err := readFile(r.Path(e.name), maxEntry)
			if err != nil {
				return err
			}
			failed = errors.Join(failed, c.Set(e.entry, b))
		}
	}
	if failed != nil {
		return fmt.Errorf("exporting credentials: %w", failed)
	}
	b, err := c.Bytes()
	if err != nil {
		return err
	}
	if len(b) > maxArchive {
		return advice.New(advice.Refused, "", "the archive would be larger than %d bytes", maxArchive)
	}
	return durable.WriteFile(path, b, 0o600)
}
