package gateway

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Settings is a Config that passed every check that needs no file but itself: defaults filled in, paths absolute.
type Settings struct {
	listen, admin string
	registry      RegistryConfig
	control       ControlConfig
	// heldMark is what is kept of the registry in use, beside the trust state.
	heldMark *keptRegistry
	header   string
	strip    []string
	tickets  bool
	trace    TraceConfig
	// balancers may say in a PROXY protocol header whose connection they hand on; none: the header is not read.
	balancers []netip.Prefix
	limits    LimitsConfig
	// connectionsByDefault: the configuration says nothing of them.
	connectionsByDefault bool
	log                  LogConfig
	environments         []*EnvironmentSettings
}

// EnvironmentSettings are what Settings say of one environment.
type EnvironmentSettings struct {
	name string
	// names are those by which devices call the gateway (SNI and Host), in small letters; none: those of the officers' policy, or any.
	names []string
	// withoutSNI: connections that name no server are taken.
	withoutSNI     bool
	registeredOnly bool
	tls            TLSConfig
	tls12          bool
	trust          TrustConfig
	pin            string
	requireCRL     bool
	upstreams      map[string]*upstreamSettings
	routes         []RouteConfig
	renewal        RenewalConfig
	renewalURL     *url.URL
}

// LoadSettings reads and checks the config file at path.
func LoadSettings(path string) (*Settings, error) {
	var c Config
	if err := strict.ReadFile(path, &c); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	s, err := NewSettings(c, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// NewSettings checks c; relative paths are taken from dir.
func NewSettings(c Config, dir string) (*Settings, error) {
	abs := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	s := &Settings{listen: c.Listen, admin: c.Admin, registry: c.Registry, control: ControlConfig{Socket: abs(c.Control.Socket), Group: c.Control.Group}, header: c.IdentityHeader, strip: c.StripHeaders,
		tickets: c.SessionTickets, trace: c.Trace, limits: c.Limits, log: c.Log}
	s.registry.Path, s.registry.PasswordFile = abs(c.Registry.Path), abs(c.Registry.PasswordFile)
	for _, check := range []func() error{s.checkPresent, s.checkRegistry, s.checkListen, func() error { return s.checkBalancers(c.ProxyProtocol) }, s.checkHeaders, s.checkLimits, s.checkLog, func() error { return s.takeEnvironments(c, abs) },
		s.shareConnections, s.checkTrace, s.checkRouting} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// takeEnvironments takes the one at the top of the configuration, or those of its list.
func (s *Settings) takeEnvironments(c Config, abs func(string) string) error {
	if len(c.Environments) == 0 {
		e, err := newEnvironmentSettings(EnvironmentConfig{Name: c.Environment, Names: c.Names, RegisteredOnly: c.RegisteredOnly, TLS: c.TLS, Trust: c.Trust,
			Upstream: c.Upstream, Upstreams: c.Upstreams, Routes: c.Routes, Renewal: c.Renewal}, "environment", abs)
		if err != nil {
			return err
		}
		if e.withoutSNI, err = withoutSNI(c.WithoutSNI, len(e.names) == 0); err != nil {
			return err
		}
		s.environments = []*EnvironmentSettings{e}
		return nil
	}
	if err := c.checkListOnly(); err != nil {
		return err
	}
	for i, one := range c.Environments {
		e, err := newEnvironmentSettings(one, "name", abs)
		if err != nil {
			return fmt.Errorf("environments: %s: %w", show.Text(or(one.Name, fmt.Sprintf("number %d", i+1))), err)
		}
		s.environments = append(s.environments, e)
	}
	return s.checkApart()
}

// newEnvironmentSettings checks one environment; nameKey is the key that its name has in the file.
func newEnvironmentSettings(c EnvironmentConfig, nameKey string, abs func(string) string) (*EnvironmentSettings, error) {
	e := &EnvironmentSettings{name: c.Name, registeredOnly: c.RegisteredOnly, trust: c.Trust,
		tls:     TLSConfig{Certificate: abs(c.TLS.Certificate), Key: abs(c.TLS.Key), MinVersion: c.TLS.MinVersion},
		renewal: RenewalConfig{URL: c.Renewal.URL, CA: abs(c.Renewal.CA), Certificate: abs(c.Renewal.Certificate), Key: abs(c.Renewal.Key), Timeout: c.Renewal.Timeout}}
	e.trust.State, e.trust.CA = abs(c.Trust.State), abs(c.Trust.CA)
	if !strings.Contains(c.Trust.Source, "://") {
		e.trust.Source = abs(c.Trust.Source)
	}
	for _, check := range []func() error{func() error { return e.checkPresent(nameKey) }, func() error { return e.checkNames(c.Names) }, e.checkTLS, func() error { return e.checkTrust(abs) },
		e.checkRenewal, func() error { return e.checkRoutes(c, abs) }} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Registry says where the devices met are kept: Path or Postgres is set.
func (s *Settings) Registry() RegistryConfig { return s.registry }

// Control is the socket for operators, with an empty Socket for none.
func (s *Settings) Control() ControlConfig { return s.control }

// Listen is the address for devices.
func (s *Settings) Listen() string { return s.listen }

// Admin is the address for health and figures, "" for none.
func (s *Settings) Admin() string { return s.admin }

// Environments are those whose devices are admitted; at least one.
func (s *Settings) Environments() []*EnvironmentSettings { return s.environments }

// Environment is the one of this name; "" means the only one.
func (s *Settings) Environment(name string) (*EnvironmentSettings, error) {
	if name == "" && len(s.environments) == 1 {
		return s.environments[0], nil
	}
	for _, e := range s.environments {
		if e.name == name {
			return e, nil
		}
	}
	hint := "this gateway has " + s.environmentNames()
	if name == "" {
		return nil, advice.New(advice.Usage, hint, "name the environment")
	}
	return nil, advice.New(advice.Usage, hint, "there is no environment %s", show.Text(name))
}

func (s *Settings) environmentNames() string {
	var names []string
	for _, e := range s.environments {
		names = append(names, e.name)
	}
	return strings.Join(names, ", ")
}

// Name is the environment's, as in the signed trust metadata.
func (e *EnvironmentSettings) Name() string { return e.name }

// Rules are what this gateway asks beyond the officers' policy.
func (e *EnvironmentSettings) Rules() Rules { return Rules{CRLByPolicy: !e.requireCRL} }
