package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// uptaneConfig is the section uptane of the file; absent: no Uptane repositories.
type uptaneConfig struct {
	Folder    string     `yaml:"folder"`
	HighWater string     `yaml:"high_water"`
	Director  *bool      `yaml:"director"`
	Keys      uptaneKeys `yaml:"keys"`
	Life      struct {
		Root      time.Duration `yaml:"root"`
		Targets   time.Duration `yaml:"targets"`
		Snapshot  time.Duration `yaml:"snapshot"`
		Timestamp time.Duration `yaml:"timestamp"`
		Director  time.Duration `yaml:"director"`
	} `yaml:"lifetimes"`
	Admin   uptaneAdmin `yaml:"admin"`
	Devices struct {
		Listen string        `yaml:"listen"`
		TLS    *mutualConfig `yaml:"tls"`
		Open   bool          `yaml:"open"`
	} `yaml:"devices"`
	Uploads struct {
		Folder   string `yaml:"folder"`
		MaxFile  int64  `yaml:"max_file"`
		PartSize int64  `yaml:"part_size"`
		// Keep is for how long files that nothing names are kept; 0: for ever.
		Keep time.Duration `yaml:"keep_unused"`
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

type uptaneAdmin struct {
	Listen string        `yaml:"listen"`
	TLS    *mutualConfig `yaml:"tls"`
	// CRL is the Operations Root's list, without which no certificate is accepted; Operators are who may do what.
	CRL       string           `yaml:"crl"`
	Operators []uptaneOperator `yaml:"operators"`
	Clients   []uptaneClient   `yaml:"clients"`
	Open      bool             `yaml:"open"`
}

type uptaneOperator struct {
	Name string             `yaml:"name"`
	May  []reposerver.Right `yaml:"may"`
}

type uptaneClient struct {
	ID     string             `yaml:"id"`
	Secret string             `yaml:"secret"`
	May    []reposerver.Right `yaml:"may"`
}

// byCertificate reports whether client certificates admit.
func (a *uptaneAdmin) byCertificate() bool { return a.TLS != nil && a.TLS.Clients != "" }

func (a *uptaneAdmin) check() error {
	if err := checkListen("admin", a.Listen, a.TLS != nil); err != nil {
		return err
	}
	if err := checkListen("admin", a.Listen, false); a.Open && err != nil {
		return errors.New("admin.open is for a loopback address on a developer's desk")
	}
	if !a.Open && len(a.Clients) == 0 && !a.byCertificate() {
		return errors.New("admin: name clients, or a CA of client certificates in tls.clients")
	}
	if a.byCertificate() && a.CRL == "" {
		return errors.New("admin.crl is missing: without the Operations Root's CRL a revoked certificate would be accepted")
	}
	if a.byCertificate() != (len(a.Operators) > 0) {
		return errors.New("admin.operators and admin.tls.clients go together: the operators whose certificates are accepted, by name")
	}
	seen := map[string]bool{}
	for _, o := range a.Operators {
		if o.Name == "" || seen[o.Name] {
			return fmt.Errorf("admin.operators: the name %q is empty, or there twice", o.Name)
		}
		seen[o.Name] = true
		if err := checkRights("admin.operators: "+o.Name, o.May); err != nil {
			return err
		}
	}
	for _, c := range a.Clients {
		if c.ID == "" || c.Secret == "" {
			return errors.New("admin.clients: id and secret (a file) are needed")
		}
		if err := checkRights("admin.clients: "+c.ID, c.May); err != nil {
			return err
		}
	}
	return nil
}

func checkRights(what string, may []reposerver.Right) error {
	if len(may) == 0 {
		return fmt.Errorf("%s: may is missing: one or more of %v", show.Line(what), reposerver.Rights())
	}
	for _, r := range may {
		if !slices.Contains(reposerver.Rights(), r) {
			return fmt.Errorf("%s: %q is none of %v", show.Line(what), r, reposerver.Rights())
		}
	}
	return nil
}

// check is called by loadConfig; what it refuses stands there in one message with the file's name.
func (u *uptaneConfig) check() error {
	if u.Folder == "" {
		u.Folder = "uptane"
	}
	if u.HighWater == "" {
		u.HighWater = "uptane.high-water.json"
	}
	if k := u.Uploads.Keep; k != 0 && (k < 24*time.Hour || k > 100*365*24*time.Hour) {
		return fmt.Errorf("uploads.keep_unused %v is not between 24h and 100 years (0 keeps for ever)", k)
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
		u.Devices.Listen = "unix:devices.sock"
	}
	d := u.Devices
	if err := u.Admin.check(); err != nil {
		return err
	}
	if err := checkDevices(d.Listen, d.TLS != nil && d.TLS.Clients != "", d.Open); err != nil {
		return err
	}
	for _, t := range []*mutualConfig{u.Admin.TLS, d.TLS} {
		if t != nil && (t.Certificate == "" || t.Key == "") {
			return errors.New("tls: certificate and key are needed")
		}
	}
	return nil
}

// checkDevices demands that nobody but the gateway reaches the devices' side, for whoever does says which device it is: a
// socket file, whose folder says who may open it, or client certificates. On a loopback address any local process could.
func checkDevices(listen string, mutual, open bool) error {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		if path == "" || mutual {
			return errors.New("devices.listen: unix:PATH, without tls")
		}
		return nil
	}
	if mutual {
		return nil
	}
	if err := checkListen("devices", listen, false); err != nil {
		return fmt.Errorf("%w with clients: whoever reaches it says which device it is", err)
	}
	if !open {
		return errors.New("devices.listen: any process of this machine could be any device there; use unix:PATH, or tls with clients (devices.open allows it on a developer's desk)")
	}
	return nil
}

// checkListen refuses an address that others can reach, unless TLS stands before it.
func checkListen(what, listen string, secure bool) error {
	err := address.CheckListen(listen, secure)
	if errors.Is(err, address.ErrReachable) {
		return fmt.Errorf("%s.listen %w: that needs %s.tls", what, err, what)
	}
	if err != nil {
		return fmt.Errorf("%s.listen: %w", what, err)
	}
	return nil
}

// director is true unless the file says otherwise.
func (u *uptaneConfig) director() bool { return u.Director == nil || *u.Director }

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
				Description: "Example:\n  hanaper-repo uptane keys --config hanaper-repo.yaml --out requests",
				Flags:       []cli.Flag{configFlag, &cli.StringFlag{Name: "out", Value: ".", Usage: "`FOLDER` for REPOSITORY-ROLE.pub.pem"}},
				Before:      shell.NoArgs, Action: uptaneKeysOut,
			},
			{
				Name: "init", Usage: "make the repositories: with keys of the server's own, or as a ceremony made them",
				Description: "Without files the server makes root, targets, snapshot and timestamp keys in its token, so that\n" +
					"'hanaper-sign move-offline' has something to move.\n\n" +
					"Example:\n  hanaper-repo uptane init --config hanaper-repo.yaml --image-root ceremony-1/uptane/image/1.root.json --image-targets ceremony-1/uptane/image/targets.json --director-root ceremony-1/uptane/director/1.root.json",
				Flags: start, Before: shell.NoArgs, Action: uptaneInit,
			},
			{
				Name: "status", Usage: "versions, expiry, and which keys the server holds",
				Description: "Example:\n  hanaper-repo uptane status --config hanaper-repo.yaml",
				Flags:       []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs"}}, Before: shell.NoArgs, Action: uptaneStatus,
			},
			credentialsCommand(), imagesCommand(), restoreCommand(),
			{
				Name: "serve", Usage: "serve the Uptane repositories alone, until SIGINT or SIGTERM",
				Description: "Example:\n  hanaper-repo uptane serve --config hanaper-repo.yaml",
				Flags:       []cli.Flag{configFlag}, Before: shell.NoArgs, Action: uptaneServeAlone,
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
			shell.Wrote(c, "public key", at)
		}
	}
	return nil
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
	if _, err := cfg.readyToServe(); err != nil {
		return advice.Wrap(advice.KindOf(err), fmt.Errorf("'serve' would refuse this configuration: %w", err), advice.Hint(err))
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
		fmt.Fprintf(c.App.Writer, "made the %s repository in %s\n", kind, show.Text(filepath.Join(cfg.path(cfg.Uptane.Folder), string(kind))))
	}
	return nil
}

// readMetadata reads a file no larger than any metadata is.
func readMetadata(name string) ([]byte, error) {
	data, err := input.Read(name, int64(uptane.DefaultLimits().ImageTargets))
	return data, advice.Wrap(advice.Usage, err, "")
}
