package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hanaper/hanaper/gateway/route"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

func wrong(key, hint, format string, args ...any) error {
	return advice.New(advice.Usage, hint, "%s %w", show.Line(key), fmt.Errorf(format, args...))
}

func (s *Settings) checkPresent() error {
	return present([]required{
		{"listen", s.listen, "the address that devices connect to, such as 0.0.0.0:8443"},
	})
}

func (s *Settings) checkRegistry() error {
	r := s.registry
	switch {
	case r.Path == "" && r.Postgres == "":
		return wrong("registry.path", "a file for the devices met, such as devices.db; or registry.postgres, a database that several gateways share", "is missing")
	case r.Path != "" && r.Postgres != "":
		return wrong("registry", "name one of path and postgres", "has both path and postgres")
	case r.Postgres == "" && (r.PasswordFile != "" || r.Connections != 0):
		return wrong("registry", "they go with postgres", "has password_file or connections without postgres")
	case r.Connections < 0 || r.Connections > 1000:
		return wrong("registry.connections", "0 or absent is 16", "is %d", r.Connections)
	case r.Blind < 0 || r.Blind > maxBlind:
		return wrong("registry.blind", "up to 24h; 0 or absent is 15s", "is %s", r.Blind)
	case s.control.Group != "" && s.control.Socket == "":
		return wrong("control.group", "name control.socket too", "goes with a socket")
	}
	return nil
}

// maxBlind bounds for how long a gateway may go on without its registry: what others block meanwhile is not seen.
const maxBlind = 24 * time.Hour

func (e *EnvironmentSettings) checkPresent(nameKey string) error {
	if err := present([]required{
		{nameKey, e.name, "the environment's name in the signed trust metadata"},
		{"tls.certificate", e.tls.Certificate, "the gateway's certificate, PEM, leaf first"},
		{"tls.key", e.tls.Key, "the gateway's private key, PEM, mode 0600"},
		{"trust.source", e.trust.Source, "a folder or an https URL"},
		{"trust.root", e.trust.Root, "the environment's first root.json, or its SHA-256"},
		{"trust.state", e.trust.State, "a folder of the gateway's own"},
	}); err != nil {
		return err
	}
	return trust.CheckEnvironment(e.name)
}

// required is a key that must have a value.
type required struct{ key, value, hint string }

func present(list []required) error {
	for _, r := range list {
		if r.value == "" {
			return wrong(r.key, r.hint, "is missing")
		}
	}
	return nil
}

func (s *Settings) checkListen() error {
	if err := address.CheckListen(s.listen, true); err != nil {
		return wrong("listen", "write host:port", "%w", err)
	}
	if s.admin == "" {
		return nil
	}
	if err := address.CheckListen(s.admin, false); errors.Is(err, address.ErrReachable) {
		return wrong("admin", "it has no authentication: use 127.0.0.1 or [::1]", "%w", err)
	} else if err != nil {
		return wrong("admin", "write host:port", "%w", err)
	}
	return nil
}

func (s *EnvironmentSettings) checkTLS() error {
	switch s.tls.MinVersion {
	case "", "1.3":
	case "1.2":
		s.tls12 = true
	default:
		return wrong("tls.min_version", `write "1.3" or "1.2"`, "%q is unknown", s.tls.MinVersion)
	}
	return nil
}

func (s *EnvironmentSettings) checkTrust(abs func(string) string) error {
	t := &s.trust
	if _, err := trust.ParsePin(t.Root); err == nil {
		s.pin = t.Root
	} else {
		t.Root = abs(t.Root)
	}
	if strings.Contains(t.Source, "://") {
		if _, err := address.ParseURL(t.Source); errors.Is(err, address.ErrClear) {
			return wrong("trust.source", "use https; http is for loopback addresses only", "%w", err)
		} else if err != nil {
			return wrong("trust.source", "write https://host/path, or a folder", "%w", err)
		}
	}
	if t.Interval < 0 || t.Interval > 24*time.Hour {
		return wrong("trust.interval", "such as 30s", "%s is not between 0 and 24h", t.Interval)
	}
	switch t.CRL {
	case "", "required":
		s.requireCRL = true
	case "policy":
	default:
		return wrong("trust.crl", `write "required" or "policy"`, "%q is unknown", t.CRL)
	}
	return nil
}

// checkRenewal wants mutual TLS whatever the address: hanaperd takes the gateway's word for which device has proven its key.
func (s *EnvironmentSettings) checkRenewal() error {
	r := &s.renewal
	if r.URL == "" {
		if *r != (RenewalConfig{}) {
			return wrong("renewal.url", "such as https://hanaperd.example.com:8443", "is missing")
		}
		return nil
	}
	u, err := address.ParseURL(r.URL)
	if err != nil || u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return wrong("renewal.url", "write https://host:port", "%q is not the address of a hanaperd", r.URL)
	}
	if r.CA == "" || r.Certificate == "" || r.Key == "" {
		return wrong("renewal", "name ca, certificate and key: a certificate with the role gateway, under the Operations Root", "lacks files")
	}
	if r.Timeout < 0 {
		return wrong("renewal.timeout", "such as 30s", "is negative")
	}
	r.Timeout = or(r.Timeout, defaultRenewalWait)
	s.renewalURL = u
	return nil
}

func (s *Settings) checkHeaders() error {
	if s.header == "" {
		s.header = DefaultIdentityHeader
	}
	for _, h := range append([]string{s.header}, s.strip...) {
		if !validHeaderName(h) {
			return wrong("identity_header, strip_headers:", "letters, digits and hyphens", "%q is no header name", h)
		}
		switch route.Fold(h) {
		case "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "content-type", "cookie":
			return wrong("identity_header, strip_headers:", "choose a name of your own", "%q has a meaning of its own in HTTP", h)
		}
	}
	return nil
}

func (s *Settings) checkLimits() error {
	l := &s.limits
	if l.Connections < 0 || l.OfOneDevice < 0 || l.Handshakes < 0 || l.Requests < 0 || l.OfOneRequests < 0 || l.Upstream < 0 || l.HeaderBytes < 0 || l.BodyBytes < 0 || l.Header < 0 || l.Idle < 0 || l.Stall < 0 {
		return wrong("limits", "0 or absent is the default", "may not be negative")
	}
	s.connectionsByDefault = l.Connections == 0
	l.Connections = or(l.Connections, defaultConnections)
	l.Handshakes = or(l.Handshakes, defaultHandshakes)
	l.Requests = or(l.Requests, defaultRequests)
	l.OfOneRequests = or(l.OfOneRequests, defaultOfOneRequests)
	l.Upstream = or(l.Upstream, defaultUpstream)
	l.OfOneDevice = or(l.OfOneDevice, defaultOfOneDevice)
	l.HeaderBytes = or(l.HeaderBytes, defaultHeaderBytes)
	l.BodyBytes = or(l.BodyBytes, defaultBodyBytes)
	l.Header = or(l.Header, defaultHeaderWait)
	l.Idle = or(l.Idle, defaultIdle)
	l.Stall = or(l.Stall, defaultStall)
	if l.HeaderBytes < 4096 || l.HeaderBytes > 1<<20 {
		return wrong("limits.header_bytes", "4096 to 1048576", "is %d", l.HeaderBytes)
	}
	return nil
}

func (s *Settings) checkLog() error {
	switch s.log.Format {
	case "", "text", "json":
	default:
		return wrong("log.format", `write "text" or "json"`, "%q is unknown", s.log.Format)
	}
	switch s.log.Level {
	case "", "debug", "info", "warn", "error":
		return nil
	}
	return wrong("log.level", "debug, info, warn or error", "%q is unknown", s.log.Level)
}
