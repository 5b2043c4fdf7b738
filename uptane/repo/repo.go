package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

const (
	// maxRole bounds a role's file on disk, indentation included.
	maxRole = 64 << 20
	// maxConfig bounds config.json.
	maxConfig = 1 << 20
	// lockWait is how long a change waits for another process's to end.
	lockWait = 10 * time.Second
)

// Repository is an open local repository.
type Repository struct {
	dir    string
	config Config
	keys   *Keys
}

// InitConfig says what to make a repository of.
type InitConfig struct {
	// Credentials is the content of a credentials.zip.
	Credentials []byte
	// Kind defaults to the Image repository.
	Kind uptane.Repository
	// Server is the server's URL; empty: from the credentials.
	Server string
}

// Init makes the repository at dir out of a credentials.zip. Every file of the archive is checked by its content before
// the first one is written, and what is written is what was understood: keys, roots and the archive itself are encoded
// anew. config.json is written last, so that a repository that was cut short can be made again. The warnings name what
// the archive lacks, and what of it was left out.
func Init(dir string, c InitConfig, open Opener) (r *Repository, warnings []string, err error) {
	if c.Kind == "" {
		c.Kind = uptane.Image
	}
	if _, err := os.Lstat(filepath.Join(dir, "config.json")); err == nil {
		return nil, nil, advice.New(advice.Refused, "choose another name with --repo, or remove the folder", "the repository at %s was already initialized", dir)
	}
	cred, err := ReadCredentials(c.Credentials)
	if err != nil {
		return nil, nil, err
	}
	config := Config{Kind: c.Kind, Reposerver: c.Server}
	if config.Treehub, err = cred.Treehub(); err != nil {
		return nil, nil, err
	}
	if config.Auth, err = cred.Auth(); err != nil {
		return nil, nil, err
	}
	if c.Server == "" {
		config.Reposerver, err = cred.ServerURL(c.Kind)
	} else {
		err = CheckURL(c.Server)
	}
	if err != nil {
		return nil, nil, err
	}
	files, warnings, err := cred.unpack(c.Kind, config.Auth)
	if err != nil {
		return nil, nil, err
	}
	r = &Repository{dir: dir, config: config, keys: NewKeys(filepath.Join(dir, "keys"), open)}
	for _, d := range []string{"", "roles", "roles/unsigned", "keys"} {
		p := filepath.Join(dir, d)
		if err := durable.Mkdir(p, 0o700); err != nil {
			return nil, nil, err
		}
		if err := os.Chmod(p, 0o700); err != nil {
			return nil, nil, err
		}
	}
	for _, f := range files {
		if err := durable.WriteFile(filepath.Join(dir, f.name), f.data, 0o600); err != nil {
			return nil, nil, err
		}
	}
	return r, warnings, r.writeConfig(config)
}

func versioned(root *uptane.Root) string { return fmt.Sprintf("roles/%d.root.json", root.Version()) }

// Open opens the repository at dir.
func Open(dir string, open Opener) (*Repository, error) {
	b, err := readFile(filepath.Join(dir, "config.json"), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.New(advice.Usage, "make it with init", "%s is no repository: it has no config.json", dir)
	}
	if err != nil {
		return nil, err
	}
	r := &Repository{dir: dir, keys: NewKeys(filepath.Join(dir, "keys"), open)}
	if err := json.Unmarshal(b, &r.config); err != nil {
		return nil, advice.Wrap(advice.Usage, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err), "")
	}
	return r, nil
}

// Warnings names directories that others can read.
func (r *Repository) Warnings() []string {
	var out []string
	for _, d := range []string{"", "roles", "roles/unsigned", "keys"} {
		p := filepath.Join(r.dir, d)
		if info, err := os.Stat(p); err == nil && info.Mode().Perm()&0o077 != 0 {
			out = append(out, "permissions for "+p+" are too open: they should be 0700")
		}
	}
	return out
}

// Dir is the repository's folder.
func (r *Repository) Dir() string { return r.dir }

// Kind is image or director.
func (r *Repository) Kind() uptane.Repository { return r.config.Kind }

// Config is config.json as it was read.
func (r *Repository) Config() Config { return r.config }

// Keys is the repository's own key folder.
func (r *Repository) Keys() *Keys { return r.keys }

// Path is a file of the repository, for messages and for certificates that config.json names.
func (r *Repository) Path(name string) string { return filepath.Join(r.dir, name) }

func (r *Repository) writeConfig(c Config) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(r.Path("config.json"), append(b, '\n'), 0o600); err != nil {
		return err
	}
	r.config = c
	return nil
}

// ImportClientCertificate makes the repository log in by a PKCS#12 client certificate; server may be nil.
func (r *Repository) ImportClientCertificate(client, server []byte) error {
	if _, _, err := ReadClientCertificate("the client certificate", client); err != nil {
		return err
	}
	if server != nil {
		if _, err := ReadServerCertificates("the server's certificates", server); err != nil {
			return err
		}
	}
	return r.locked(func() error {
		c := r.config
		c.Auth = Auth{TLS: &MutualTLS{CertPath: EntryClientAuth}}
		if err := durable.WriteFile(r.Path(EntryClientAuth), client, 0o600); err != nil {
			return err
		}
		if server != nil {
			c.Auth.TLS.ServerCertPath = EntryServer
			if err := durable.WriteFile(r.Path(EntryServer), server, 0o600); err != nil {
				return err
			}
		}
		return r.writeConfig(c)
	})
}

// locked keeps two processes from changing the repository at once: build systems run several.
func (r *Repository) locked(f func() error) error {
	deadline := time.Now().Add(lockWait)
	for {
		lock, err := durable.Lock(r.Path(".lock"))
		if err == nil {
			defer lock.Close()
			return f()
		}
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pretty indents JSON for people and for build systems that edit it.
func pretty(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return nil, err
	}
	return append(out.Bytes(), '\n'), nil
}

func (r *Repository) writeUnsigned(role uptane.Role, signedPart []byte) (string, error) {
	b, err := pretty(signedPart)
	if err != nil {
		return "", err
	}
	p := r.Path("roles/unsigned/" + string(role) + ".json")
	return p, durable.WriteFile(p, b, 0o600)
}

func (r *Repository) readUnsigned(role uptane.Role) ([]byte, string, error) {
	p := r.Path("roles/unsigned/" + string(role) + ".json")
	b, err := readFile(p, maxRole)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, p, advice.New(advice.Usage, fmt.Sprintf("run %s pull first", role), "missing role %s at %s", role, show.Text(p))
	}
	return b, p, err
}

func (r *Repository) imageOnly(what string) error {
	if r.config.Kind == uptane.Director {
		return advice.New(advice.Usage, "the director's targets are made by the server, with an online key", "%s does not work on a director repository", what)
	}
	return nil
}

// Checksum is what the server said the pulled targets' digest was; it goes back with a push.
func (r *Repository) Checksum() (string, error) {
	b, err := readFile(r.Path("roles/targets.json.checksum"), 1024)
	if errors.Is(err, fs.ErrNotExist) {
		return "", advice.New(advice.Usage, "run targets pull first", "no targets checksum, which is needed to push: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if err == nil && (len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "") {
		err = advice.New(advice.Usage, "run targets pull again", "roles/targets.json.checksum holds no SHA-256")
	}
	return s, err
}
