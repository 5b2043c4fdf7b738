package factory

import (
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
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
		// Clones are copies of the same key in other tokens, Others further issuing CAs that take its place.
		Clones []string `yaml:"clones"`
		Others []Other  `yaml:"others"`
	} `yaml:"issuing"`

	Store struct {
		Postgres     string `yaml:"postgres"`
		PasswordFile string `yaml:"password_file"`
		Mark         string `yaml:"mark"`
	} `yaml:"store"`

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
		MinimumDays  int    `yaml:"minimum_days"`
		IDPattern    string `yaml:"id_pattern"`
		Organization string `yaml:"organization"`
		Profile      string `yaml:"profile"`
	} `yaml:"devices"`

	// WeakKeys are files of RSA keys that get no certificate, in the form of Debian's openssl-blacklist.
	WeakKeys []string `yaml:"weak_keys"`
	// Profiles are files, each with a profile that lots and devices.profile can name.
	Profiles []string `yaml:"profiles"`

	CRL struct {
		Validity time.Duration `yaml:"validity"`
		Refresh  time.Duration `yaml:"refresh"`
		Interval time.Duration `yaml:"interval"`
		File     string        `yaml:"file"`
	} `yaml:"crl"`

	Clock struct {
		Gap time.Duration `yaml:"gap"`
	} `yaml:"clock"`

	Lots LotConfig `yaml:"lots"`
	// Stations are rules for stations by name.
	Stations []StationConfig `yaml:"stations"`

	Attestation AttestationConfig `yaml:"attestation"`
	// Renewal is nil where no certificates are renewed.
	Renewal *RenewalConfig `yaml:"renewal"`
	// Shared is nil where there are no shared credentials.
	Shared *SharedConfig `yaml:"shared_credentials"`
	// Log is nil where no issuance log is kept.
	Log *LogConfig `yaml:"log"`

	// Console is where operators' browsers find their pages.
	Console struct {
		Enabled bool   `yaml:"enabled"`
		Listen  string `yaml:"listen"`
	} `yaml:"console"`

	Limits struct {
		Concurrent int `yaml:"concurrent"`
		// StationPerMinute and StationBurst are the Rate of stations that have none of their own.
		StationPerMinute int `yaml:"station_per_minute"`
		StationBurst     int `yaml:"station_burst"`
	} `yaml:"limits"`

	key    hsm.URI
	clones []hsm.URI
	ids    *regexp.Regexp
}

// Other is an issuing CA that takes the first one's place while none of its tokens signs.
type Other struct {
	Key         string   `yaml:"key"`
	Clones      []string `yaml:"clones"`
	Certificate string   `yaml:"certificate"`
	Chain       string   `yaml:"chain"`
	CRL         string   `yaml:"crl"`

	key    hsm.URI
	clones []hsm.URI
}

// Keys are the URIs of the CA's key and of its copies.
func (o *Other) Keys() []hsm.URI { return append([]hsm.URI{o.key}, o.clones...) }

// DefaultConfig has every value that can be known without being told.
func DefaultConfig() Config {
	var c Config
	c.Listen = "127.0.0.1:8443"
	c.State = "state"
	c.Issuing.Apart = true
	c.Issuing.Deadline = 10 * time.Second
	c.Devices.Days = 3650
	c.Clock.Gap = 7 * 24 * time.Hour
	c.Devices.IDPattern = `[A-Za-z0-9][A-Za-z0-9._:-]{0,63}`
	c.CRL.Validity = 7 * 24 * time.Hour
	c.CRL.Refresh = 24 * time.Hour
	c.CRL.Interval = 2 * time.Second
	c.Attestation.ChallengeLifetime = 5 * time.Minute
	c.Console.Enabled = true
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
	paths := append(c.Attestation.paths(), &c.State, &c.Issuing.Certificate, &c.Issuing.Chain, &c.Issuing.FleetRoot, &c.TLS.Certificate,
		&c.TLS.Key, &c.Operations.Root, &c.Operations.CRL, &c.CRL.File, &c.Store.PasswordFile, &c.Store.Mark, &c.Lots.Orders.Officers)
	if c.Log != nil {
		paths = append(paths, &c.Log.Folder)
	}
	if c.Renewal != nil {
		for i := range c.Renewal.IssuedBy {
			paths = append(paths, &c.Renewal.IssuedBy[i])
		}
	}
	if c.Shared != nil {
		paths = append(paths, c.Shared.paths()...)
	}
	for i := range c.WeakKeys {
		paths = append(paths, &c.WeakKeys[i])
	}
	for i := range c.Profiles {
		paths = append(paths, &c.Profiles[i])
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	if c.Attestation.ChallengeKey == "" {
		c.Attestation.ChallengeKey = filepath.Join(c.State, "challenge.key")
	}
	for i := range c.Issuing.Others {
		o := &c.Issuing.Others[i]
		for _, p := range []*string{&o.Certificate, &o.Chain, &o.CRL} {
			if *p != "" && !filepath.IsAbs(*p) {
				*p = filepath.Join(dir, *p)
			}
		}
	}
	// How far the record had come is kept where the CRL is published, which nobody puts back with the store.
	if c.Store.Mark == "" && c.CRL.File != "" {
		c.Store.Mark = c.CRL.File + ".mark"
	}
	stores := []string{c.State}
	if c.Log != nil {
		stores = append(stores, c.Log.Folder)
	}
	if err := durable.Own(stores...); err != nil {
		return nil, err
	}
	return &c, nil
}

// Key is the URI of the issuing key, Keys those of it and of its copies.
func (c *Config) Key() hsm.URI { return c.key }

// Keys are the URIs of the issuing key and of its copies.
func (c *Config) Keys() []hsm.URI { return append([]hsm.URI{c.key}, c.clones...) }

// parseKey reads the URI of a key that signs certificates.
func parseKey(text string) (hsm.URI, error) {
	uri, err := hsm.ParseURI(text)
	if err != nil {
		return uri, err
	}
	if uri.Opaque == "" && (uri.Token == "" && uri.Serial == "" || uri.Object == "" && len(uri.ID) == 0) {
		return uri, advice.New(advice.Usage, "write it as pkcs11:token=LABEL;object=NAME?module-path=...&pin-source=...", "it names no token, or no object in it")
	}
	return uri, nil
}

// checkIssuers reads the URIs of all keys.
func (c *Config) checkIssuers() (where string, err error) {
	if c.key, err = parseKey(c.Issuing.Key); err != nil {
		return "issuing.key", err
	}
	if c.clones, err = parseKeys(c.Issuing.Clones); err != nil {
		return "issuing.clones", err
	}
	for i := range c.Issuing.Others {
		o, name := &c.Issuing.Others[i], fmt.Sprintf("issuing.others, entry %d", i+1)
		if o.Certificate == "" {
			return name, errors.New("certificate is missing")
		}
		if o.key, err = parseKey(o.Key); err != nil {
			return name, err
		}
		if o.clones, err = parseKeys(o.Clones); err != nil {
			return name, err
		}
		if o.CRL == c.CRL.File && o.CRL != "" {
			return name, errors.New("crl is crl.file; each CA has a list of its own")
		}
	}
	return "", nil
}

func parseKeys(texts []string) (out []hsm.URI, err error) {
	for _, text := range texts {
		uri, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		out = append(out, uri)
	}
	return out, nil
}

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
	if c.Console.Listen != "" {
		if err := address.CheckListen(c.Console.Listen, true); err != nil {
			return bad("write host:port, or leave it out for /console/ on listen", "console.listen: %w", err)
		}
		if c.Console.Listen == c.Listen {
			return bad("leave console.listen out: the pages are under /console/ on listen then", "console.listen is listen")
		}
	}
	var err error
	if where, err := c.checkIssuers(); err != nil {
		return bad(advice.Hint(err), "%s: %w", where, err)
	}
	if c.Log != nil {
		if err := c.Log.check(c.key); err != nil {
			return bad(seeExample, "%w", err)
		}
	}
	if c.ids, err = regexp.Compile(`^(?:` + c.Devices.IDPattern + `)$`); err != nil {
		return bad(seeExample, "devices.id_pattern: %w", err)
	}
	if err := c.checkLots(); err != nil {
		return bad(advice.Hint(err), "%w", err)
	}
	if err := c.Attestation.check(); err != nil {
		return bad(advice.Hint(err), "%w", err)
	}
	if c.Renewal != nil {
		if err := c.Renewal.check(); err != nil {
			return bad(seeExample, "%w", err)
		}
	}
	if c.Shared != nil {
		if err := c.Shared.check(); err != nil {
			return bad(seeExample, "%w", err)
		}
	}
	switch {
	case c.Devices.Days < 1 || c.Devices.Days > 36500:
		return bad("give 1 to 36500 days", "devices.days is %d", c.Devices.Days)
	case c.Devices.MinimumDays < 0 || c.Devices.MinimumDays > c.Devices.Days:
		return bad("give fewer days than devices.days", "devices.minimum_days is %d", c.Devices.MinimumDays)
	case c.Clock.Gap < time.Hour || c.Clock.Gap > 366*24*time.Hour:
		return bad("a week (168h) is usual", "clock.gap is not 1h to 8784h")
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
