package gateway

import (
	_ "embed"
	"time"
)

// Config is the YAML file of hanaper-gateway, as written; docs/examples/hanaper-gateway.yaml explains every key.
// Relative paths are looked up from the folder of the file. A gateway of one environment has its keys at the top (Environment and those after it); one of
// several has Environments in their place.
type Config struct {
	Listen         string         `yaml:"listen"`
	Admin          string         `yaml:"admin"`
	Control        ControlConfig  `yaml:"control"`
	Registry       RegistryConfig `yaml:"registry"`
	IdentityHeader string         `yaml:"identity_header"`
	StripHeaders   []string       `yaml:"strip_headers"`
	SessionTickets bool           `yaml:"session_tickets"`
	Trace          TraceConfig    `yaml:"trace"`
	// ProxyProtocol names the load balancers before the gateway.
	ProxyProtocol []string     `yaml:"proxy_protocol"`
	Limits        LimitsConfig `yaml:"limits"`
	Log           LogConfig    `yaml:"log"`

	Environment    string         `yaml:"environment"`
	Names          []string       `yaml:"names"`
	WithoutSNI     string         `yaml:"without_sni"`
	RegisteredOnly bool           `yaml:"registered_only"`
	TLS            TLSConfig      `yaml:"tls"`
	Trust          TrustConfig    `yaml:"trust"`
	Upstream       UpstreamConfig `yaml:"upstream"`
	// Upstreams are by name; Routes say what goes to which.
	Upstreams map[string]UpstreamConfig `yaml:"upstreams"`
	Routes    []RouteConfig             `yaml:"routes"`
	Renewal   RenewalConfig             `yaml:"renewal"`

	Environments []EnvironmentConfig `yaml:"environments"`
}

// EnvironmentConfig is one environment of several in one gateway.
type EnvironmentConfig struct {
	Name           string         `yaml:"name"`
	Names          []string       `yaml:"names"`
	RegisteredOnly bool           `yaml:"registered_only"`
	TLS            TLSConfig      `yaml:"tls"`
	Trust          TrustConfig    `yaml:"trust"`
	Upstream       UpstreamConfig `yaml:"upstream"`
	// Upstreams are by name; Routes say what goes to which.
	Upstreams map[string]UpstreamConfig `yaml:"upstreams"`
	Routes    []RouteConfig             `yaml:"routes"`
	Renewal   RenewalConfig             `yaml:"renewal"`
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

// RegistryConfig says where the devices met are kept: in a file, or in a database that several gateways share.
type RegistryConfig struct {
	Path string `yaml:"path"`
	// Postgres is a connection string of libpq without a password, PasswordFile a file of mode 0600 that holds it.
	Postgres     string `yaml:"postgres"`
	PasswordFile string `yaml:"password_file"`
	Connections  int    `yaml:"connections"`
	// Blind is for how long the registry may not answer before nobody is admitted.
	Blind time.Duration `yaml:"blind"`
}

// ControlConfig is the socket on which operators reach the running gateway.
type ControlConfig struct {
	Socket string `yaml:"socket"`
	// Group may use it besides the gateway's own user.
	Group string `yaml:"group"`
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

// DefaultIdentityHeader carries the device id upstream, as OTA Connect's services expect it.
const DefaultIdentityHeader = "x-ats-device-uuid"

// Example is a config file that explains every key.
//
//go:embed hanaper-gateway.yaml
var Example []byte
