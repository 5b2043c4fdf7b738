package factory

import (
	_ "embed"
	"path/filepath"
	"regexp"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// Example is a complete, commented configuration file.
//
//go:embed hanaperd.yaml
var Example []byte

// Config is hanaperd's configuration file; Example documents every key. Paths are as written until LoadConfig has made
// them absolute.
type Config struct {
	Listen string `yaml:"listen"`
	State  string `yaml:"state"`

	Issuing struct {
		Key         string `yaml:"key"`
		Certificate string `yaml:"certificate"`
		Chain       string `yaml:"chain"`
		FleetRoot   string `yaml:"fleet_root"`
		Sessions    int    `yaml:"sessions"`
		// Apart, Deadline and Environment are those of package apart, for a PKCS#11 library.
		Apart       bool          `yaml:"apart"`
		Deadline    time.Duration `yaml:"deadline"`
		Environment []string      `yaml:"environment"`
	} `yaml:"issuing"`

	TLS struct {
		Certificate string `yaml:"certificate"`
		Key         string `yaml:"key"`
	} `yaml:"tls"`

	Operations struct {
		Root string `yaml:"root"`
		CRL  string `yaml:"crl"`
	} `yaml:"operations"`

	Devices struct {
		Days         int    `yaml:"days"`
		IDPattern    string `yaml:"id_pattern"`
		Organization string `yaml:"organization"`
	} `yaml:"devices"`

	CRL struct {
		Validity time.Duration `yaml:"validity"`
		Refresh  time.Duration `yaml:"refresh"`
		Interval time.Duration `yaml:"interval"`
		File     string        `yaml:"file"`
	} `yaml:"crl"`

	Attestation AttestationConfig `yaml:"attestation"`

	Limits struct {
		Concurrent int `yaml:"concurrent"`
	} `yaml:"limits"`

	key hsm.URI
	ids *regexp.Regexp
}

// DefaultConfig has every value that can be known without being told.
func DefaultConfig() Config {
	var c Config
	c.Listen = "127.0.0.1:8443"
	c.State = "state"
	c.Issuing.Apart = true
	c.Issuing.Deadline = 10 * time.Second
	c.Devices.Days = 3650
	c.Devices.IDPattern = `[A-Za-z0-9][A-Za-z0-9._:-]{0,63}`
	c.CRL.Validity = 7 * 24 * time.Hour
	c.CRL.Refresh = 24 * time.Hour
	c.CRL.Interval = 2 * time.Second
	c.Attestation.ChallengeLifetime = 5 * time.Minute
	c.Limits.Concurrent = 256
	return c
}

// LoadConfig reads the file and checks all that can be checked without opening another file.
func LoadConfig(path string) (*Config, error) {
	c := DefaultConfig()
	if err := strict.ReadFile(path, &c); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := c.check(path); err != nil {
		return nil, err
	}
	for _, p := range append(c.Attestation.paths(), &c.State, &c.Issuing.Certificate, &c.Issuing.Chain, &c.Issuing.FleetRoot, &c.TLS.Certificate,
		&c.TLS.Key, &c.Operations.Root, &c.Operations.CRL, &c.CRL.File) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.Attestation.ChallengeKey == "" {
		c.Attestation.ChallengeKey = filepath.Join(c.State, "challenge.key")
	}
	return &c, nil
}

// Key is the URI of the issuing key.
func (c *Config) Key() hsm.URI { return c.key }

func (c *Config) check(path string) error {
	bad := func(hint, format string, args ...any) error {
		return advice.New(advice.Usage, hint, path+": "+format, args...)
	}
	const seeExample = "see `hanaperd config`"
	for _, f := range []struct{ key, value string }{
		{"listen", c.Listen}, {"state", c.State}, {"issuing.key", c.Issuing.Key}, {"issuing.certificate", c.Issuing.Certificate},
		{"issuing.fleet_root", c.Issuing.FleetRoot}, {"tls.certificate", c.TLS.Certificate}, {"tls.key", c.TLS.Key},
		{"operations.root", c.Operations.Root}, {"devices.id_pattern", c.Devices.IDPattern},
	} {
		if f.value == "" {
			return bad(seeExample, "%s is missing", f.key)
		}
	}
	// Mutual TLS stands before it, so that others may reach it.
	if err := address.CheckListen(c.Listen, true); err != nil {
		return bad("write host:port", "listen: %w", err)
	}
	var err error
	if c.key, err = hsm.ParseURI(c.Issuing.Key); err != nil {
		return bad(advice.Hint(err), "issuing.key: %w", err)
	}
	if c.key.Token == "" && c.key.Serial == "" || c.key.Object == "" && len(c.key.ID) == 0 {
		return bad("write it as pkcs11:token=LABEL;object=NAME?module-path=...&pin-source=...", "issuing.key names no token, or no object in it")
	}
	if c.ids, err = regexp.Compile(`^(?:` + c.Devices.IDPattern + `)$`); err != nil {
		return bad(seeExample, "devices.id_pattern: %w", err)
	}
	if err := c.Attestation.check(); err != nil {
		return bad(advice.Hint(err), "%w", err)
	}
	switch {
	case c.Devices.Days < 1 || c.Devices.Days > 36500:
		return bad("give 1 to 36500 days", "devices.days is %d", c.Devices.Days)
	case c.CRL.Validity < time.Minute:
		return bad("a week (168h) is usual", "crl.validity is shorter than a minute")
	case c.CRL.Refresh < time.Second || c.CRL.Refresh > c.CRL.Validity/2:
		return bad("leave gateways time to fetch a fresh list", "crl.refresh must lie between 1s and half of crl.validity")
	case c.CRL.Interval < 100*time.Millisecond || c.CRL.Interval > time.Minute:
		return bad("2s is a good value", "crl.interval must lie between 100ms and 1m")
	case c.Issuing.Sessions < 0 || c.Issuing.Sessions > 1024:
		return bad("0 means twice the number of cores", "issuing.sessions is %d", c.Issuing.Sessions)
	case c.Issuing.Deadline < time.Second || c.Issuing.Deadline > 10*time.Minute:
		return bad("10s is a good value", "issuing.deadline is not between 1s and 10m")
	case c.Limits.Concurrent < 1 || c.Limits.Concurrent > 100000:
		return bad("256 is a good value", "limits.concurrent is %d", c.Limits.Concurrent)
	}
	return nil
}

// IDs is what a whole device id must match.
func (c *Config) IDs() *regexp.Regexp { return c.ids }
