package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// uptaneConfig is the section uptane of the file; absent: no Uptane repositories.
type uptaneConfig struct {
	Folder   string     `yaml:"folder"`
	Director *bool      `yaml:"director"`
	Keys     uptaneKeys `yaml:"keys"`
	Life     struct {
		Root      time.Duration `yaml:"root"`
		Targets   time.Duration `yaml:"targets"`
		Snapshot  time.Duration `yaml:"snapshot"`
		Timestamp time.Duration `yaml:"timestamp"`
		Director  time.Duration `yaml:"director"`
	} `yaml:"lifetimes"`
	Admin struct {
		Listen  string         `yaml:"listen"`
		TLS     *mutualConfig  `yaml:"tls"`
		Clients []uptaneClient `yaml:"clients"`
		Open    bool           `yaml:"open"`
	} `yaml:"admin"`
	Devices struct {
		Listen string        `yaml:"listen"`
		TLS    *mutualConfig `yaml:"tls"`
	} `yaml:"devices"`
	Uploads struct {
		Folder   string `yaml:"folder"`
		MaxFile  int64  `yaml:"max_file"`
		PartSize int64  `yaml:"part_size"`
	} `yaml:"uploads"`
}

type uptaneKeys struct {
	Token     string `yaml:"token"`
	Folder    string `yaml:"folder"`
	Algorithm string `yaml:"algorithm"`
}

type mutualConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	Clients     string `yaml:"clients"`
}

type uptaneClient struct {
	ID     string `yaml:"id"`
	Secret string `yaml:"secret"`
}

// check is called by loadConfig; what it refuses stands there in one message with the file's name.
func (u *uptaneConfig) check() error {
	if u.Folder == "" {
		u.Folder = "uptane"
	}
	if u.Keys.Algorithm == "" {
		u.Keys.Algorithm = string(hsm.RSA3072)
	}
	switch hsm.Algorithm(u.Keys.Algorithm) {
	case hsm.Ed25519, hsm.RSA2048, hsm.RSA3072, hsm.RSA4096:
	default:
		return fmt.Errorf("keys.algorithm %q: devices accept Ed25519, RSA-2048, RSA-3072 and RSA-4096", u.Keys.Algorithm)
	}
	if u.Keys.Folder != "" && u.Keys.Token != "" {
		return errors.New("keys: either token or folder")
	}
	if u.Admin.Listen == "" {
		u.Admin.Listen = "127.0.0.1:8461"
	}
	if u.Devices.Listen == "" {
		u.Devices.Listen = "127.0.0.1:8462"
	}
	a, d := u.Admin, u.Devices
	if err := checkListen("admin", a.Listen, a.TLS != nil); err != nil {
		return err
	}
	if err := checkListen("devices", d.Listen, d.TLS != nil && d.TLS.Clients != ""); err != nil {
		return fmt.Errorf("%w with clients: whoever reaches it says which device it is", err)
	}
	if err := checkListen("admin", a.Listen, false); a.Open && err != nil {
		return errors.New("admin.open is for a loopback address on a developer's desk")
	}
	if !a.Open && len(a.Clients) == 0 && (a.TLS == nil || a.TLS.Clients == "") {
		return errors.New("admin: name clients, or a CA of client certificates in tls.clients")
	}
	for _, c := range a.Clients {
		if c.ID == "" || c.Secret == "" {
			return errors.New("admin.clients: id and secret (a file) are needed")
		}
	}
	for _, t := range []*mutualConfig{a.TLS, d.TLS} {
		if t != nil && (t.Certificate == "" || t.Key == "") {
			return errors.New("tls: certificate and key are needed")
		}
	}
	return nil
}

// checkListen refuses an address that others can reach, unless TLS stands before it.
func checkListen(what, address string, secure bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s.listen: %w", what, err)
	}
	if ip := net.ParseIP(host); !secure && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s.listen %s is not a loopback address: that needs %s.tls", what, address, what)
	}
	return nil
}

// director is true unless the file says otherwise.
func (u *uptaneConfig) director() bool { return u.Director == nil || *u.Director }

// uptaneDesk is what every verb over the Uptane repositories begins with.
type uptaneDesk struct {
	config *config
	keys   reposerver.KeyStore
	token  hsm.Token // nil for a folder of keys
}

func (d *uptaneDesk) Close() {
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

func openUptane(ctx context.Context, cfg *config) (*uptaneDesk, error) {
	d := &uptaneDesk{config: cfg}
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
	token, err := pkcs11.Open(ctx, pkcs11.Config{URI: uri.TokenURI(), PIN: hsm.PINFromURI(uri, hsm.PINPrompt(term.TTY().Secret))})
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
	v, err := trust.Recall(os.DirFS(dir), pin.Digest())
	if err != nil {
		return err
	}
	return checkApart(ctx, d.config, d.token, slices.Concat(v.Anchors(), v.Intermediates()), warn)
}

// repository is the configuration of one of the two repositories.
func (d *uptaneDesk) repository(kind uptane.Repository) reposerver.Config {
	l := d.config.Uptane.Life
	return reposerver.Config{Dir: d.config.path(d.config.Uptane.Folder), Kind: kind, Keys: d.keys, Now: now,
		Lifetimes: reposerver.Lifetimes{Root: l.Root, Targets: l.Targets, Snapshot: l.Snapshot, Timestamp: l.Timestamp, Director: l.Director}}
}

func (d *uptaneDesk) open() (*reposerver.Image, *reposerver.Director, error) {
	image, err := reposerver.OpenImage(d.repository(uptane.Image))
	if err != nil || !d.config.Uptane.director() {
		return image, nil, err
	}
	director, err := reposerver.OpenDirector(d.repository(uptane.Director), image)
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

func uptaneCommand() *cli.Command {
	start := []cli.Flag{configFlag,
		&cli.StringSliceFlag{Name: "image-root", Usage: "root.json `FILE` of the ceremony, and those that followed it, in order", TakesFile: true},
		&cli.StringFlag{Name: "image-targets", Usage: "targets.json `FILE` of the ceremony", TakesFile: true},
		&cli.StringSliceFlag{Name: "director-root", Usage: "the Director's root.json `FILE`, and those that followed it, in order", TakesFile: true},
	}
	return &cli.Command{
		Name: "uptane", Usage: "the Uptane repositories: Image and Director",
		Subcommands: []*cli.Command{
			{
				Name: "keys", Usage: "make the keys of the online roles in the token, and export their public halves for a ceremony",
				Flags:  []cli.Flag{configFlag, &cli.StringFlag{Name: "out", Value: ".", Usage: "`FOLDER` for REPOSITORY-ROLE.pub.pem"}},
				Before: shell.NoArgs, Action: uptaneKeysOut,
			},
			{
				Name: "init", Usage: "make the repositories: with keys of the server's own, or as a ceremony made them",
				Description: "Without files the server makes root, targets, snapshot and timestamp keys in its token, so that\n" +
					"'hanaper-sign move-offline' has something to move.",
				Flags: start, Before: shell.NoArgs, Action: uptaneInit,
			},
			{
				Name: "status", Usage: "versions, expiry, and which keys the server holds",
				Flags: []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs"}}, Before: shell.NoArgs, Action: uptaneStatus,
			},
			{
				Name: "serve", Usage: "serve the Uptane repositories alone, until SIGINT or SIGTERM",
				Flags: []cli.Flag{configFlag}, Before: shell.NoArgs, Action: uptaneServeAlone,
			},
		},
	}
}

func uptaneKeysOut(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	out := c.String("out")
	if err := durable.Mkdir(out, 0o755); err != nil {
		return err
	}
	d, err := openUptane(c.Context, cfg)
	if err != nil {
		return err
	}
	defer d.Close()
	for _, kind := range d.kinds() {
		keys, err := reposerver.GenerateKeys(c.Context, d.repository(kind), reposerver.OnlineRoles(kind)...)
		if err != nil {
			return err
		}
		for _, role := range reposerver.OnlineRoles(kind) {
			data, err := publicPEM(keys[role])
			if err != nil {
				return err
			}
			at := filepath.Join(out, string(kind)+"-"+string(role)+".pub.pem")
			if err := durable.WriteFile(at, data, 0o644); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, at)
		}
	}
	return nil
}

func (d *uptaneDesk) kinds() []uptane.Repository {
	if d.config.Uptane.director() {
		return []uptane.Repository{uptane.Image, uptane.Director}
	}
	return []uptane.Repository{uptane.Image}
}

func uptaneInit(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	starts := map[uptane.Repository]reposerver.Start{}
	for kind, flag := range map[uptane.Repository]string{uptane.Image: "image-root", uptane.Director: "director-root"} {
		var s reposerver.Start
		for _, name := range c.StringSlice(flag) {
			data, err := readMetadata(name)
			if err != nil {
				return err
			}
			s.Roots = append(s.Roots, data)
		}
		if name := c.String("image-targets"); name != "" && kind == uptane.Image {
			if s.Targets, err = readMetadata(name); err != nil {
				return err
			}
		}
		starts[kind] = s
	}
	if len(starts[uptane.Director].Roots) > 0 && !cfg.Uptane.director() {
		return advice.New(advice.Usage, "", "--director-root is given, and the configuration has no Director")
	}
	d, err := openUptane(c.Context, cfg)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.checkApart(c.Context, c.App.ErrWriter); err != nil {
		return err
	}
	for _, kind := range d.kinds() {
		if err := reposerver.Create(c.Context, d.repository(kind), starts[kind]); err != nil {
			return fmt.Errorf("%s repository: %w", kind, err)
		}
		fmt.Fprintf(c.App.Writer, "made the %s repository in %s\n", kind, filepath.Join(cfg.path(cfg.Uptane.Folder), string(kind)))
	}
	return nil
}

// readMetadata reads a file no larger than any metadata is.
func readMetadata(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "")
	}
	if info.Size() > int64(uptane.DefaultLimits().ImageTargets) {
		return nil, advice.New(advice.Usage, "", "%s has %d bytes, more than metadata has", name, info.Size())
	}
	return os.ReadFile(name)
}

type uptaneStatusDocument struct {
	Repository string            `json:"repository"`
	Role       string            `json:"role"`
	Version    int               `json:"version"`
	Expires    string            `json:"expires"`
	Expired    bool              `json:"expired"`
	Threshold  int               `json:"threshold"`
	Keys       []uptaneStatusKey `json:"keys"`
}

type uptaneStatusKey struct {
	KeyID     string `json:"keyid"`
	Algorithm string `json:"algorithm"`
	Held      bool   `json:"held_by_server"`
}

func uptaneStatus(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	d, err := openUptane(c.Context, cfg)
	if err != nil {
		return err
	}
	defer d.Close()
	image, director, err := d.open()
	if err != nil {
		return err
	}
	list, err := d.describe(c.Context, uptane.Image, image.Repository, image)
	if err != nil {
		return err
	}
	if director != nil {
		more, err := d.describe(c.Context, uptane.Director, director.Repository, nil)
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, list)
	}
	var rows [][]string
	for _, s := range list {
		held, version := 0, "-"
		for _, k := range s.Keys {
			if k.Held {
				held++
			}
		}
		if s.Version > 0 {
			version = strconv.Itoa(s.Version)
		}
		expires := s.Expires
		if s.Expired {
			expires += " (expired)"
		}
		rows = append(rows, []string{s.Repository, s.Role, version, expires, fmt.Sprintf("%d of %d", s.Threshold, len(s.Keys)), strconv.Itoa(held)})
	}
	shell.Table(c.App.Writer, []string{"repository", "role", "version", "good until", "keys", "held by the server"}, rows)
	return nil
}

func (d *uptaneDesk) describe(ctx context.Context, kind uptane.Repository, repo *reposerver.Repository, image *reposerver.Image) ([]uptaneStatusDocument, error) {
	data, _, err := repo.Root(0)
	if err != nil {
		return nil, err
	}
	root, err := uptane.ParseRoot(data)
	if err != nil {
		return nil, err
	}
	docs := map[uptane.Role]uptane.Document{uptane.RoleRoot: root}
	if image != nil {
		for role, get := range map[uptane.Role]func() ([]byte, error){
			uptane.RoleTargets:  func() ([]byte, error) { data, _, err := image.Targets(); return data, err },
			uptane.RoleSnapshot: image.Snapshot, uptane.RoleTimestamp: image.Timestamp,
		} {
			data, err := get()
			if err != nil {
				return nil, err
			}
			if docs[role], err = uptane.ParseDocument(uptane.Image, role, data); err != nil {
				return nil, err
			}
		}
	}
	var out []uptaneStatusDocument
	for _, role := range uptane.Roles() {
		rk := root.Keys(role)
		s := uptaneStatusDocument{Repository: string(kind), Role: string(role), Threshold: rk.Threshold}
		if doc := docs[role]; doc != nil {
			s.Version, s.Expires, s.Expired = doc.Version(), stamp(doc.Expires()), uptane.CheckExpiry(doc, now()) != nil
		}
		for _, k := range rk.Keys {
			_, err := d.keys.Find(ctx, k.ID())
			if err != nil && !errors.Is(err, reposerver.ErrNoKey) {
				return nil, err
			}
			s.Keys = append(s.Keys, uptaneStatusKey{k.ID(), k.Algorithm(), err == nil})
		}
		out = append(out, s)
	}
	return out, nil
}
