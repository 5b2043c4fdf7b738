package gateway

import (
	_ "embed"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/strict"
)

// Config is the YAML file of hanaper-gateway, as written; docs/examples/hanaper-gateway.yaml explains every key.
// Relative paths are looked up from the folder of the file.
type Config struct {
	Listen         string         `yaml:"listen"`
	Admin          string         `yaml:"admin"`
	Environment    string         `yaml:"environment"`
	TLS            TLSConfig      `yaml:"tls"`
	Trust          TrustConfig    `yaml:"trust"`
	Registry       RegistryConfig `yaml:"registry"`
	Upstream       UpstreamConfig `yaml:"upstream"`
	IdentityHeader string         `yaml:"identity_header"`
	StripHeaders   []string       `yaml:"strip_headers"`
	Renewal        RenewalConfig  `yaml:"renewal"`
	Limits         LimitsConfig   `yaml:"limits"`
	Log            LogConfig      `yaml:"log"`
}

// TLSConfig is the gateway's own identity.
type TLSConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	MinVersion  string `yaml:"min_version"`
}

// TrustConfig says which trust repository to follow, and from which root.
type TrustConfig struct {
	Source   string        `yaml:"source"`
	Root     string        `yaml:"root"`
	State    string        `yaml:"state"`
	Interval time.Duration `yaml:"interval"`
	CA       string        `yaml:"ca"`
	CRL      string        `yaml:"crl"`
}

// RegistryConfig says where the devices met are kept.
type RegistryConfig struct {
	Path string `yaml:"path"`
}

// UpstreamConfig says where requests go.
type UpstreamConfig struct {
	URL string `yaml:"url"`
	CA  string `yaml:"ca"`
	// Certificate and Key are the gateway's own, for an https upstream that asks for one.
	Certificate string        `yaml:"certificate"`
	Key         string        `yaml:"key"`
	Timeout     time.Duration `yaml:"timeout"`
}

// RenewalConfig names the hanaperd that renews devices' certificates; without a URL there is none, and paths of EST are like all others.
type RenewalConfig struct {
	URL string `yaml:"url"`
	// CA is the root of hanaperd's TLS certificate; Certificate and Key are the gateway's own as a caller, with the role gateway.
	CA          string        `yaml:"ca"`
	Certificate string        `yaml:"certificate"`
	Key         string        `yaml:"key"`
	Timeout     time.Duration `yaml:"timeout"`
}

// LimitsConfig bounds what devices may ask; 0 is the default of each.
type LimitsConfig struct {
	Connections int `yaml:"connections"`
	OfOneDevice int `yaml:"device_connections"`
	// Handshakes are those under way from one address.
	Handshakes int `yaml:"address_handshakes"`
	// Requests are those under way, OfOneRequests those of one device.
	Requests      int `yaml:"requests"`
	OfOneRequests int `yaml:"device_requests"`
	// Upstream are the connections to the upstream.
	Upstream    int           `yaml:"upstream_connections"`
	HeaderBytes int           `yaml:"header_bytes"`
	BodyBytes   int64         `yaml:"body_bytes"`
	Header      time.Duration `yaml:"header"`
	Idle        time.Duration `yaml:"idle"`
	Stall       time.Duration `yaml:"stall"`
}

// LogConfig says how to log.
type LogConfig struct {
	Format   string `yaml:"format"`
	Level    string `yaml:"level"`
	Requests bool   `yaml:"requests"`
}

// Settings is a Config that passed every check that needs no file but itself: defaults filled in, paths absolute.
type Settings struct {
	listen, admin string
	environment   string
	tls           TLSConfig
	tls12         bool
	trust         TrustConfig
	pin           string
	requireCRL    bool
	registry      string
	upstream      *url.URL
	upstreamCA    string
	// upstreamSocket is the socket file of a unix: upstream, whose URL is then only a form.
	upstreamSocket string
	upstreamTLS    TLSConfig
	upstreamWait   time.Duration
	renewal        RenewalConfig
	renewalURL     *url.URL
	header         string
	strip          []string
	limits         LimitsConfig
	// connectionsByDefault: the configuration says nothing of them.
	connectionsByDefault bool
	log                  LogConfig
}

// DefaultIdentityHeader carries the device id upstream, as OTA Connect's services expect it.
const DefaultIdentityHeader = "x-ats-device-uuid"

// Example is a config file that explains every key.
//
//go:embed hanaper-gateway.yaml
var Example []byte

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
	s := &Settings{
		listen: c.Listen, admin: c.Admin, environment: c.Environment,
		tls:      TLSConfig{Certificate: abs(c.TLS.Certificate), Key: abs(c.TLS.Key), MinVersion: c.TLS.MinVersion},
		trust:    c.Trust,
		registry: abs(c.Registry.Path), upstreamCA: abs(c.Upstream.CA), upstreamTLS: TLSConfig{Certificate: abs(c.Upstream.Certificate), Key: abs(c.Upstream.Key)}, upstreamWait: c.Upstream.Timeout,
		header: c.IdentityHeader, strip: c.StripHeaders, limits: c.Limits, log: c.Log,
	}
	s.renewal = RenewalConfig{URL: c.Renewal.URL, CA: abs(c.Renewal.CA), Certificate: abs(c.Renewal.Certificate), Key: abs(c.Renewal.Key), Timeout: c.Renewal.Timeout}
	s.trust.State, s.trust.CA = abs(c.Trust.State), abs(c.Trust.CA)
	if !strings.Contains(c.Trust.Source, "://") {
		s.trust.Source = abs(c.Trust.Source)
	}
	for _, check := range []func() error{s.checkPresent, s.checkListen, s.checkTLS, func() error { return s.checkTrust(abs) },
		func() error { return s.checkUpstream(c.Upstream.URL, abs) }, s.checkRenewal, s.checkHeaders, s.checkLimits, s.checkLog} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Registry is the path of the registry file.
func (s *Settings) Registry() string { return s.registry }

// Listen is the address for devices.
func (s *Settings) Listen() string { return s.listen }

// Environment is the environment whose devices are admitted.
func (s *Settings) Environment() string { return s.environment }

// Admin is the address for health and figures, "" for none.
func (s *Settings) Admin() string { return s.admin }

// Rules are what this gateway asks beyond the officers' policy.
func (s *Settings) Rules() Rules { return Rules{CRLByPolicy: !s.requireCRL} }
