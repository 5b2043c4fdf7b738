package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
	"github.com/hanaper/hanaper/trust"
)

//go:embed hanaper-repo.yaml
var exampleConfig []byte

var configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/hanaper/hanaper-repo.yaml",
	Usage: "configuration `FILE`; 'hanaper-repo config' prints one", TakesFile: true}

// config is the file; hanaper-repo.yaml is its manual.
type config struct {
	Environment string      `yaml:"environment"`
	Root        string      `yaml:"root"`
	Publish     string      `yaml:"publish"`
	HighWater   string      `yaml:"high_water"`
	Keys        keysConfig  `yaml:"keys"`
	Lifetimes   lifetimes   `yaml:"lifetimes"`
	Serve       serveConfig `yaml:"serve"`
	CRLs        []crlConfig `yaml:"crls"`
	Logs        []logConfig `yaml:"logs"`
	// Uptane is absent unless this program serves Uptane repositories too.
	Uptane *uptaneConfig `yaml:"uptane"`

	dir string
}

type keysConfig struct {
	Token     string `yaml:"token"`
	Snapshot  string `yaml:"snapshot"`
	Timestamp string `yaml:"timestamp"`
	CRL       string `yaml:"crl"`
	Joined    bool   `yaml:"joined"`
	// Apart, Deadline and Environment are those of package apart, for a PKCS#11 library.
	Apart       bool          `yaml:"apart"`
	Deadline    time.Duration `yaml:"deadline"`
	Environment []string      `yaml:"environment"`
}

type lifetimes struct {
	Timestamp time.Duration `yaml:"timestamp"`
	Snapshot  time.Duration `yaml:"snapshot"`
	CRL       time.Duration `yaml:"crl"`
}

type serveConfig struct {
	Listen string        `yaml:"listen"`
	TLS    *tlsConfig    `yaml:"tls"`
	Every  time.Duration `yaml:"interval"`
}

type tlsConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type crlConfig struct {
	File        string `yaml:"file"`
	Folder      string `yaml:"folder"`
	URL         string `yaml:"url"`
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

func loadConfig(path string) (*config, error) {
	c := &config{
		Publish: "trust", HighWater: "trust.high-water.json",
		Keys:  keysConfig{Snapshot: "trust-snapshot", Timestamp: "trust-timestamp", CRL: "trust-crl", Apart: true, Deadline: 10 * time.Second},
		Serve: serveConfig{Listen: "127.0.0.1:8460", Every: 5 * time.Second},
	}
	if err := strict.ReadFile(path, c); err != nil {
		return nil, err
	}
	c.dir = filepath.Dir(path)
	bad := func(format string, args ...any) (*config, error) {
		return nil, advice.New(advice.Usage, "'hanaper-repo config' prints a commented example", "%s: %s", path, fmt.Sprintf(format, args...))
	}
	if err := trust.CheckEnvironment(c.Environment); err != nil {
		return bad("environment: %v", err)
	}
	if c.HighWater == "" {
		return bad("high_water is empty")
	}
	if c.Keys.Token == "" {
		return bad("keys.token is missing")
	}
	k := c.Keys
	if k.Deadline < time.Second || k.Deadline > 10*time.Minute {
		return bad("keys.deadline %v is not between 1s and 10m", k.Deadline)
	}
	if k.Snapshot == "" || k.Timestamp == "" || k.CRL == "" {
		return bad("keys: a label is empty")
	}
	if c.Serve.Every < 100*time.Millisecond || c.Serve.Every > time.Hour {
		return bad("serve.interval %v is not between 100ms and 1h", c.Serve.Every)
	}
	if err := checkListen("serve", c.Serve.Listen, c.Serve.TLS != nil); err != nil {
		return bad("%v", err)
	}
	for i, s := range c.CRLs {
		n := 0
		for _, f := range []string{s.File, s.Folder, s.URL} {
			if f != "" {
				n++
			}
		}
		if n != 1 || s.URL == "" && s.CA+s.Certificate+s.Key != "" || (s.Certificate == "") != (s.Key == "") {
			return bad("crls: entry %d needs one of file, folder and url; ca, certificate and key go with url", i+1)
		}
	}
	for i, l := range c.Logs {
		if err := l.check(); err != nil {
			return bad("logs: entry %d: %v", i+1, err)
		}
	}
	if c.Uptane != nil {
		if err := c.Uptane.check(); err != nil {
			return bad("uptane: %v", err)
		}
	}
	stores := []string{c.path(c.Publish), c.path(c.HighWater)}
	if c.Uptane != nil {
		stores = append(stores, c.path(c.Uptane.Folder), c.path(c.Uptane.HighWater))
	}
	if err := durable.Own(stores...); err != nil {
		return nil, err
	}
	return c, nil
}

// path makes a path of the file absolute or relative to the working directory.
func (c *config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// pin is the environment's first root.
func (c *config) pin() (trust.Pin, error) {
	if c.Root == "" {
		return trust.Pin{}, advice.New(advice.Usage, "name the ceremony's trust/metadata/1.root.json, or its SHA-256", "root is missing in the configuration")
	}
	if pin, err := trust.ParsePin(c.Root); err == nil {
		return pin, nil
	}
	data, err := input.ReadFile(c.path(c.Root))
	if err != nil {
		return trust.Pin{}, advice.Wrap(advice.Usage, err, "root names the ceremony's trust/metadata/1.root.json, or its SHA-256")
	}
	if len(data) > trust.MaxRootSize || !bytes.HasPrefix(data, []byte("{")) {
		return trust.Pin{}, advice.New(advice.Usage, "", "%s is not a root.json", show.Text(c.path(c.Root)))
	}
	return trust.PinRoot(data), nil
}
