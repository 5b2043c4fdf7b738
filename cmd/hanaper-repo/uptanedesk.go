package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/fleet"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// uptaneDesk is what every verb over the Uptane repositories begins with.
type uptaneDesk struct {
	config *config
	keys   reposerver.KeyStore
	token  hsm.Token // nil for a folder of keys
	fleet  *fleet.SQLite
	mark   *reposerver.Mark
}

func (d *uptaneDesk) Close() {
	if d.fleet != nil {
		_ = d.fleet.Close()
	}
	if d.token != nil {
		_ = d.token.Close()
	}
}

func uptaneSection(c *cli.Context) (*config, error) {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return nil, err
	}
	if cfg.Uptane == nil {
		return nil, advice.New(advice.Usage, "'hanaper-repo config' prints a commented example", "%s has no section uptane", c.String("config"))
	}
	return cfg, nil
}

// lookDesk is a desk without keys.
func lookDesk(cfg *config) (*uptaneDesk, error) {
	mark, _, err := reposerver.OpenMark(cfg.path(cfg.Uptane.HighWater))
	return &uptaneDesk{config: cfg, keys: noKeys{}, mark: mark}, err
}

func openUptane(ctx context.Context, cfg *config) (*uptaneDesk, error) {
	d, err := lookDesk(cfg)
	if err != nil {
		return nil, err
	}
	k := cfg.Uptane.Keys
	if k.Folder != "" {
		keys, err := reposerver.NewFolderKeys(cfg.path(k.Folder), k.Algorithm)
		if err != nil {
			return nil, err
		}
		d.keys = keys
		return d, nil
	}
	text := k.Token
	if text == "" {
		text = cfg.Keys.Token
	}
	uri, err := hsm.ParseURI(text)
	if err != nil {
		return nil, err
	}
	token, err := cfg.open(ctx, uri)
	if err != nil {
		return nil, err
	}
	d.token, d.keys = token, tokenKeys{token, hsm.Algorithm(k.Algorithm)}
	return d, nil
}

// checkApart refuses a token that holds the key of a CA which the published trust names.
func (d *uptaneDesk) checkApart(ctx context.Context, warn io.Writer) error {
	dir := d.config.path(d.config.Publish)
	if _, err := os.Stat(dir); d.token == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	pin, err := d.config.pin()
	if err != nil {
		return err
	}
	v, err := trust.Recall(input.Dir(dir), pin.Digest())
	if err != nil {
		return err
	}
	return checkApart(ctx, d.config, d.token, slices.Concat(v.Anchors(), v.Intermediates()), warn)
}

// repository is the configuration of one of the two repositories.
func (d *uptaneDesk) repository(kind uptane.Repository) reposerver.Config {
	l := d.config.Uptane.Life
	return reposerver.Config{Dir: d.config.path(d.config.Uptane.Folder), Kind: kind, Keys: d.keys, Now: now, Mark: d.mark,
		Lifetimes: reposerver.Lifetimes{Root: l.Root, Targets: l.Targets, Snapshot: l.Snapshot, Timestamp: l.Timestamp, Director: l.Director}}
}

func (d *uptaneDesk) open(ctx context.Context) (*reposerver.Image, *reposerver.Director, error) {
	image, err := reposerver.OpenImage(d.repository(uptane.Image))
	if err != nil || !d.config.Uptane.director() {
		return image, nil, err
	}
	dir := filepath.Join(d.config.path(d.config.Uptane.Folder), string(uptane.Director))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, advice.New(advice.Refused, "run 'hanaper-repo uptane init'", "there is no repository in %s", show.Text(dir))
	}
	if d.fleet, err = fleet.Open(ctx, dir); err != nil {
		return nil, nil, err
	}
	director, err := reposerver.OpenDirector(reposerver.DirectorConfig{Config: d.repository(uptane.Director), Image: image, Fleet: d.fleet, Storage: d.config.storage()})
	return image, director, err
}

// tokenKeys is a token as the server's key store. Keys are sealed: none is ever given out.
type tokenKeys struct {
	token     hsm.Token
	algorithm hsm.Algorithm
}

func (k tokenKeys) Generate(ctx context.Context, label string) (crypto.Signer, error) {
	return k.token.Generate(ctx, hsm.GenerateSpec{Label: label, Algorithm: k.algorithm, Class: hsm.Sealed})
}

func (k tokenKeys) Labelled(ctx context.Context, label string) (crypto.Signer, error) {
	return k.find(ctx, fmt.Sprintf("key %q", label), func(key hsm.Key) bool { return key.Attributes().Label == label })
}

func (k tokenKeys) Find(ctx context.Context, keyid string) (crypto.Signer, error) {
	return k.find(ctx, "key "+keyid, func(key hsm.Key) bool { return hasID(key, keyid) })
}

func hasID(key hsm.Key, keyid string) bool {
	pub, err := uptane.NewKey(key.Public())
	return err == nil && pub.ID() == keyid
}

func (k tokenKeys) find(ctx context.Context, what string, fits func(hsm.Key) bool) (hsm.Key, error) {
	list, err := k.token.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range list {
		if fits(key) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s in token %q: %w", what, k.token.Info().Label, reposerver.ErrNoKey)
}

// Destroy destroys exactly the key with this key id, and looks for it afterwards.
func (k tokenKeys) Destroy(ctx context.Context, keyid string) error {
	key, err := k.find(ctx, "key "+keyid, func(key hsm.Key) bool { return hasID(key, keyid) })
	if err != nil {
		return err
	}
	a := key.Attributes()
	if err := k.token.Destroy(ctx, hsm.Query{Label: a.Label, ID: a.ID}); err != nil {
		return err
	}
	if _, err := k.Find(ctx, keyid); !errors.Is(err, reposerver.ErrNoKey) {
		return advice.New(advice.Failed, "destroy it with the token's own tool", "key %s is still in token %q", keyid, k.token.Info().Label)
	}
	return nil
}

// noKeys is the key store of verbs that sign nothing.
type noKeys struct{}

var errNoKeys = errors.New("this verb opens no keys")

func (noKeys) Generate(context.Context, string) (crypto.Signer, error) { return nil, errNoKeys }
func (noKeys) Labelled(context.Context, string) (crypto.Signer, error) { return nil, errNoKeys }
func (noKeys) Find(context.Context, string) (crypto.Signer, error)     { return nil, errNoKeys }
func (noKeys) Destroy(context.Context, string) error                   { return errNoKeys }

func (d *uptaneDesk) kinds() []uptane.Repository {
	if d.config.Uptane.director() {
		return []uptane.Repository{uptane.Image, uptane.Director}
	}
	return []uptane.Repository{uptane.Image}
}
