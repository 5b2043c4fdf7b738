package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/gateway/route"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// RouteConfig sends the requests below a path to an upstream.
type RouteConfig struct {
	Path string `yaml:"path"`
	// To takes the place of Path, "" for no change.
	To string `yaml:"to"`
	// Upstream is a name among upstreams.
	Upstream string `yaml:"upstream"`
}

// UpstreamConfig says where requests go.
type UpstreamConfig struct {
	URL string `yaml:"url"`
	// Addresses are where the URL's server can be reached, if not by its name: host:port.
	Addresses []string `yaml:"addresses"`
	CA        string   `yaml:"ca"`
	// Certificate and Key are the gateway's own, for an https upstream that asks for one.
	Certificate string        `yaml:"certificate"`
	Key         string        `yaml:"key"`
	Timeout     time.Duration `yaml:"timeout"`
	Connections int           `yaml:"connections"`
	// Namespace is what it gets as x-ats-namespace.
	Namespace string `yaml:"namespace"`
	// ClientCert is "", "leaf" or "chain": what it gets of the device's certificates (RFC 9440).
	ClientCert string `yaml:"client_cert"`
}

// TraceConfig says what becomes of W3C trace context: see route.TraceConfig.
type TraceConfig struct {
	Device  string `yaml:"device"`
	Sampled bool   `yaml:"sampled"`
}

// soleUpstream is the name of the upstream that has a section of its own.
const soleUpstream = "upstream"

// upstreamSettings is an UpstreamConfig that was checked, with paths absolute.
type upstreamSettings struct {
	UpstreamConfig
	url    *url.URL
	socket string
}

// section is where the configuration names an upstream.
func section(name string) string {
	if name == soleUpstream {
		return soleUpstream
	}
	return "upstreams." + show.Text(name)
}

// checkRoutes fills in routes and upstreams. A section upstream of its own stands for the route "/".
func (s *EnvironmentSettings) checkRoutes(c EnvironmentConfig, abs func(string) string) error {
	s.upstreams = map[string]*upstreamSettings{}
	named := maps.Clone(c.Upstreams)
	s.routes = slices.Clone(c.Routes)
	if c.Upstream.URL != "" || len(c.Routes) == 0 {
		if _, twice := named[soleUpstream]; twice {
			return wrong("upstreams.upstream", "choose another name", "is the name of the section upstream")
		}
		if named == nil {
			named = map[string]UpstreamConfig{}
		}
		named[soleUpstream] = c.Upstream
		s.routes = append(s.routes, RouteConfig{Path: "/", Upstream: soleUpstream})
	} else if !c.Upstream.empty() {
		return wrong("upstream.url", "such as http://127.0.0.1:8080, or remove the section", "is missing")
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if name != soleUpstream && !validUpstreamName(name) {
			return wrong("upstreams", "letters, digits and hyphens", "%q is no name for an upstream", name)
		}
		u, err := checkUpstream(name, named[name], abs)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(s.routes, func(r RouteConfig) bool { return r.Upstream == name }) {
			return wrong(section(name), "name it in a route, or remove it", "is used by no route")
		}
		s.upstreams[name] = u
	}
	seen := map[string]bool{}
	for i, r := range s.routes {
		key := fmt.Sprintf("routes[%d].path", i)
		switch err := route.CheckPath(r.Path); {
		case err != nil:
			return wrong(key, "such as /director: whole segments, of letters, digits and -._~", "%w", err)
		case seen[r.Path]:
			return wrong(key, "one route a path; a section upstream is the route /", "%q is there twice", r.Path)
		case s.renewalURL != nil && isRenewal(r.Path):
			return wrong(key, "choose another path, or remove the section renewal", "%q belongs to renewal", r.Path)
		case s.upstreams[r.Upstream] == nil:
			return wrong(fmt.Sprintf("routes[%d].upstream", i), "name one of upstreams", "%q is unknown", r.Upstream)
		}
		seen[r.Path] = true
	}
	return nil
}

func (s *Settings) checkTrace() error {
	switch s.trace.Device {
	case "", "drop", "keep":
		return nil
	}
	return wrong("trace.device", `write "drop" or "keep"`, "%q is unknown", s.trace.Device)
}

// checkRouting: what route.New would refuse is refused by the check of a configuration, too.
func (s *Settings) checkRouting() error {
	for _, e := range s.environments {
		if _, err := route.New(s.routing(e, nil, nil)); err != nil {
			return wrong("routes", "docs/spec/routes.md says what may stand there", "%w", err)
		}
	}
	return nil
}

func (c UpstreamConfig) empty() bool {
	return c.URL == "" && c.CA == "" && c.Certificate == "" && c.Key == "" && c.Timeout == 0 && len(c.Addresses) == 0 && c.Connections == 0 && c.Namespace == "" && c.ClientCert == ""
}

func validUpstreamName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func checkUpstream(name string, c UpstreamConfig, abs func(string) string) (*upstreamSettings, error) {
	at := section(name)
	u := &upstreamSettings{UpstreamConfig: c}
	u.CA, u.Certificate, u.Key = abs(c.CA), abs(c.Certificate), abs(c.Key)
	raw := c.URL
	if raw == "" {
		return nil, wrong(at+".url", "such as http://127.0.0.1:8080", "is missing")
	}
	if path, ok := strings.CutPrefix(raw, "unix:"); ok {
		if path == "" {
			return nil, wrong(at+".url", "write unix:/path/to/socket", "names no socket file")
		}
		u.socket, raw = abs(path), "http://127.0.0.1"
	}
	var err error
	u.url, err = address.ParseURL(raw)
	if errors.Is(err, address.ErrClear) {
		return nil, wrong(at+".url", "use https, or a loopback address: the identity header must not cross a network in the clear", "%w", err)
	}
	if err != nil {
		return nil, wrong(at+".url", "write http://host:port or https://host:port, with a path if you like", "%w", err)
	}
	if u.url.Scheme == "http" && u.CA != "" {
		return nil, wrong(at+".ca", "remove it, or use https", "is of no use with an http upstream")
	}
	if (u.Certificate == "") != (u.Key == "") || u.url.Scheme == "http" && u.Certificate != "" {
		return nil, wrong(at+".certificate", "name both files, with an https upstream", "and key go together, and with https")
	}
	if u.socket != "" && len(u.Addresses) > 0 {
		return nil, wrong(at+".addresses", "remove them", "are of no use with a socket file")
	}
	for _, a := range u.Addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" || address.CheckListen(a, true) != nil || port == "0" {
			return nil, wrong(at+".addresses", "write host:port", "%s is no address", show.Text(a))
		}
		if u.url.Scheme == "http" && !address.Loopback(host) {
			return nil, wrong(at+".addresses", "use https: the identity header must not cross a network in the clear", "%s is another machine's, with http", show.Text(a))
		}
	}
	if u.Timeout = or(u.Timeout, defaultUpstreamWait); u.Timeout < 0 {
		return nil, wrong(at+".timeout", "such as 60s", "is negative")
	}
	if u.Connections < 0 {
		return nil, wrong(at+".connections", "0 or absent is a share of limits.upstream_connections", "is negative")
	}
	switch u.ClientCert {
	case "", "leaf", "chain":
	default:
		return nil, wrong(at+".client_cert", `write "leaf" or "chain"`, "%q is unknown", u.ClientCert)
	}
	return u, nil
}

// shareConnections gives each upstream that names no number its share of the connections that there may be: one that stands still takes none of the
// others'.
func (s *Settings) shareConnections() error {
	left, all := s.limits.Upstream, []*upstreamSettings{}
	for _, e := range s.environments {
		for _, u := range e.upstreams {
			left -= u.Connections
			if u.Connections == 0 {
				all = append(all, u)
			}
		}
	}
	if left < len(all) {
		return wrong("limits.upstream_connections", "raise it, or lower connections of the upstreams", "%d are too few for the upstreams", s.limits.Upstream)
	}
	for _, u := range all {
		u.Connections = left / len(all)
	}
	return nil
}

// routing is what route.New needs; files are the upstreams', nil for a mere check.
func (s *Settings) routing(e *EnvironmentSettings, files map[string]*upstreamFiles, now func() time.Time) route.Config {
	c := route.Config{Upstreams: map[string]route.UpstreamConfig{}, Header: s.header, Strip: s.strip, Now: now,
		Trace: route.TraceConfig{Keep: s.trace.Device == "keep", Sampled: s.trace.Sampled}}
	for _, r := range e.routes {
		c.Routes = append(c.Routes, route.RouteConfig{Path: r.Path, To: r.To, Upstream: r.Upstream})
	}
	if e.renewalURL != nil {
		c.Routes = append(c.Routes, route.RouteConfig{Path: estPrefix})
	}
	for name, u := range e.upstreams {
		one := route.UpstreamConfig{URL: u.url, Socket: u.socket, Addresses: u.Addresses, Wait: u.Timeout, Connections: max(u.Connections, 1), Namespace: u.Namespace,
			ClientCert: u.ClientCert != "", ClientCertChain: u.ClientCert == "chain"}
		if u.url.Scheme == "https" {
			one.TLS = func() *tls.Config { return files[name].config() }
		}
		c.Upstreams[name] = one
	}
	return c
}

// newRouter reads the files of the upstreams, and connects nowhere.
func (e *environment) newRouter() (*route.Router, error) {
	e.upstreamFiles = map[string]*upstreamFiles{}
	for name, u := range e.upstreams {
		f, err := loadUpstreamFiles(section(name), u)
		if err != nil {
			return nil, err
		}
		if f.own != nil {
			if err := f.own.expired(e.gateway.now()); err != nil {
				return nil, err
			}
		}
		e.upstreamFiles[name] = f
	}
	return route.New(e.gateway.settings.routing(e.EnvironmentSettings, e.upstreamFiles, e.gateway.now))
}

// upstreamFiles are what TLS with an upstream needs, from files that may be replaced while the gateway runs.
type upstreamFiles struct {
	section string
	ca      string // "" for the system's roots
	roots   atomic.Pointer[x509.CertPool]
	own     *keyPair // nil for none
	mu      sync.Mutex
	stamp   stamp
}

func loadUpstreamFiles(section string, u *upstreamSettings) (*upstreamFiles, error) {
	f := &upstreamFiles{section: section, ca: u.CA}
	if err := f.readRoots(); err != nil {
		return nil, err
	}
	if u.Certificate == "" {
		return f, nil
	}
	var err error
	f.own, err = loadKeyPair(section, TLSConfig{Certificate: u.Certificate, Key: u.Key})
	return f, err
}

// readRoots reads the roots again; on an error those in force stay.
func (f *upstreamFiles) readRoots() error {
	if f.ca == "" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.ca)
	if err != nil {
		return advice.Wrap(advice.Usage, err, f.section+".ca names a PEM file")
	}
	data, err := input.ReadFile(f.ca)
	if err != nil {
		return advice.Wrap(advice.Usage, err, f.section+".ca names a PEM file")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return wrong(f.section+".ca", "PEM, one or more certificates", "%s holds no certificate", show.Text(f.ca))
	}
	f.stamp = stamp{info.Size(), info.ModTime()}
	f.roots.Store(pool)
	return nil
}

func (f *upstreamFiles) changed() bool {
	if f.own != nil && f.own.changed() {
		return true
	}
	if f.ca == "" {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.ca)
	return err == nil && (stamp{info.Size(), info.ModTime()}) != f.stamp
}

// config is that of the next connection.
func (f *upstreamFiles) config() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.roots.Load()}
	if f.own != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.own.get(nil) }
	}
	return c
}

// upstreamsChanged says whether a file of the upstreams is another than what was read.
func (e *environment) upstreamsChanged() bool {
	for _, f := range e.upstreamFiles {
		if f.changed() {
			return true
		}
	}
	return false
}

// reloadUpstreams reads the roots of the upstreams again. Connections that nobody uses are closed: the next are made with what is in force now.
func (e *environment) reloadUpstreams() error {
	defer e.forward.CloseIdle()
	for _, name := range slices.Sorted(maps.Keys(e.upstreamFiles)) {
		if err := e.upstreamFiles[name].readRoots(); err != nil {
			return err
		}
	}
	return nil
}

// writeRoutes prints the figures of routes and upstreams in the Prometheus text format.
func (g *Gateway) writeRoutes(w io.Writer) {
	each := func(name, help, kind string, write func(r *route.Router, name, labels string)) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		for _, e := range g.environments {
			write(e.forward, name, "environment="+quoteLabel(e.name))
		}
	}
	each("hanaper_gateway_route_requests_total", "Requests handed on, by the class of the upstream's answer.", "counter", func(r *route.Router, name, labels string) { r.WriteRequests(w, name, labels) })
	each("hanaper_gateway_upstream_up", "1 unless the upstream could not be reached at this address.", "gauge", func(r *route.Router, name, labels string) { r.WriteReach(w, name, labels) })
}
