package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// newForwarder makes the reverse proxy. Its Rewrite runs after hop-by-hop headers, and what Connection lists, have been
// removed: the identity header that it sets cannot be taken away by the device.
func (e *environment) newForwarder() (http.Handler, error) {
	s, g := e.EnvironmentSettings, e.gateway
	transport := &http.Transport{
		Proxy:                 nil, // never by way of an environment variable
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: s.upstreamWait,
		MaxConnsPerHost:       g.settings.limits.Upstream,
		MaxIdleConns:          g.settings.limits.Upstream,
		MaxIdleConnsPerHost:   g.settings.limits.Upstream,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if s.upstreamCA != "" {
		data, err := input.ReadFile(s.upstreamCA)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "upstream.ca names a PEM file")
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(data) {
			return nil, wrong("upstream.ca", "PEM, one or more certificates", "%s holds no certificate", show.Text(s.upstreamCA))
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if t := s.upstreamTLS; t.Certificate != "" {
		own, err := loadKeyPair("upstream", t)
		if err != nil {
			return nil, err
		}
		if err := own.expired(g.now()); err != nil {
			return nil, err
		}
		e.upstreamKeys = own
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.get(nil) }
	}
	if s.upstreamSocket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", s.upstreamSocket)
		}
	}
	filter, identity := newHeaderFilter(g.settings.header, g.settings.strip), http.CanonicalHeaderKey(g.settings.header)
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(s.upstream)
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.Trailer = nil
			filter.strip(p.Out.Header)
			p.Out.Header[identity] = []string{p.In.Context().Value(deviceKey{}).(string)}
			if _, ok := p.In.Header["User-Agent"]; !ok {
				p.Out.Header["User-Agent"] = nil // or the transport would make one up
			}
		},
		Transport:    transport,
		ErrorHandler: e.upstreamError,
		ErrorLog:     log.New(serverLog{g}, "", 0),
		BufferPool:   buffers{},
	}, nil
}

type deviceKey struct{}

var bufferPool = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

type buffers struct{}

func (buffers) Get() []byte  { return *bufferPool.Get().(*[]byte) }
func (buffers) Put(b []byte) { bufferPool.Put(&b) }

// ServeHTTP takes one request of a device that has proven its key.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := r.Context().Value(sessionKey{}).(*session)
	if !ok || s == nil || r.TLS == nil {
		answer(w, http.StatusForbidden, string(NoCertificate), NoCertificate.Text())
		return
	}
	// First of all, for the deadline of this connection's last response may have passed.
	flow := newFlow(w, r, g.settings.limits)
	defer flow.end()
	// As a rule connState has bound it. No request is judged without; binding again changes nothing.
	s.bind(g, s.conn)
	d := s.check(g)
	if d.Admitted() && !g.served.Load().hosts(s.env, s.sni, r.Host) {
		g.misdirected(w, s, r, d.Device)
		return
	}
	if d.Admitted() && s.crowded.Load() {
		g.busy(w, s, d.Device, DeviceBusy, "the device has too many connections")
		return
	}
	if d.Admitted() && d.Mark == SharedCredential {
		// It is no device, and is not met as one.
		g.serveShared(flow, r, s, d.Device)
		g.tellRequest(r, d.Device, flow.status, g.now())
		return
	}
	if d.Admitted() {
		d = g.meet(r.Context(), s, d)
	}
	if !d.Admitted() {
		g.turnAway(w, s, d)
		return
	}
	if status, why := unfit(r); status != 0 {
		answer(w, status, "request", why)
		return
	}
	if r.ContentLength > g.settings.limits.BodyBytes {
		answer(w, http.StatusRequestEntityTooLarge, "request", "the body is too large")
		return
	}
	switch ok, all := g.flights.enter(s.key); {
	case all:
		g.busy(w, s, d.Device, GatewayBusy, GatewayBusy.Text())
		return
	case !ok:
		g.busy(w, s, d.Device, DeviceBusy, "the device has too many requests under way")
		return
	}
	defer g.flights.leave(s.key)
	g.figures.requests.Add(1)
	now := g.now()
	g.registry.Seen(s.env.name, d.Device, now)
	if s.env.renewal != nil && isRenewal(r.URL.Path) {
		s.env.renewal.serve(flow, r, s, d.Device)
		g.tellRequest(r, d.Device, flow.status, now)
		return
	}
	r.Header.Del("Upgrade") // no protocol but HTTP passes: it would escape the checks of each request
	s.env.forward.ServeHTTP(flow, r.WithContext(context.WithValue(r.Context(), deviceKey{}, d.Device)))
	g.tellRequest(r, d.Device, flow.status, now)
}

func (g *Gateway) tellRequest(r *http.Request, device string, status int, since time.Time) {
	if g.settings.log.Requests {
		g.log.Info("request", "device", device, "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "took", g.now().Sub(since))
	}
}

// meet registers the device at a connection's first request: the handshake is done, the key is proven.
func (g *Gateway) meet(ctx context.Context, s *session, d Decision) Decision {
	s.meetMu.Lock()
	defer s.meetMu.Unlock()
	if s.met {
		return d
	}
	// The lock is held over the registry's answer: of a connection's simultaneous first requests one registers, and the others
	// wait for what it learns.
	// A device that goes away meanwhile says nothing of the registry, and is met all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), registryWait)
	defer cancel()
	met, err := g.registry.Meet(ctx, s.meeting(d.Device, g.now()))
	if reason := RegistryReason(err); reason != "" {
		return Decision{Reason: reason, Device: d.Device}
	}
	if err != nil {
		g.log.Error("registry", "device", d.Device, "why", err)
		return Decision{Reason: RegistryDown, Device: d.Device}
	}
	s.met = true
	s.mu.Lock()
	s.metKey = s.keySum
	s.mu.Unlock()
	leaf := s.chain[0]
	what := []any{"environment", s.env.name, "device", d.Device, "serial", serialText(leaf), "issuer", leaf.Issuer.String()}
	switch {
	case met.New:
		g.figures.firstContacts.Add(1)
		if d.Mark == TestBench {
			g.log.Warn("a TEST BENCH that came by a shared credential: not for production", what...)
		}
		g.log.Info("first contact", what...)
	case met.Renewed:
		g.log.Info("certificate renewed", what...)
	}
	if s.env.renewal != nil && (met.New || met.Renewed) {
		s.env.renewal.seen.add(leaf)
	}
	if met.Rekeyed {
		g.log.Warn("the device has a new key: the one before is refused from now on", what...)
		g.dismissOthers(s.key, d.Device, leaf.RawSubjectPublicKeyInfo)
	}
	return d
}

// turnAway answers a request that may not pass and ends the connection.
func (g *Gateway) turnAway(w http.ResponseWriter, s *session, d Decision) {
	g.figures.refusedRequest[d.Reason].Add(1)
	g.refusals.tell(d, s.chain, s.conn.RemoteAddr().String(), true)
	w.Header().Set("Connection", "close")
	// 503 where the fault is here, and the device may try again later; 403 where it is the device's.
	status := http.StatusForbidden
	if d.Reason == RegistryDown || d.Reason == NoTrust || d.Reason == TrustExpired {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, string(d.Reason), d.Reason.Text())
}

// misdirected answers a request for a host that is not this connection's: a client that has found that two names lead to one address may send
// requests for both on one connection (RFC 9113, section 9.1.1), and begins another one when told so.
func (g *Gateway) misdirected(w http.ResponseWriter, s *session, r *http.Request, device string) {
	d := Decision{Reason: OtherHost, Detail: show.Text(clip(r.Host)), Device: device}
	g.figures.refusedRequest[d.Reason].Add(1)
	g.refusals.tell(d, s.chain, s.conn.RemoteAddr().String(), true)
	answer(w, http.StatusMisdirectedRequest, string(d.Reason), d.Reason.Text())
}

// busy answers a request beyond a bound, and ends the connection where there is one of its own.
func (g *Gateway) busy(w http.ResponseWriter, s *session, device string, r Reason, text string) {
	d := Decision{Reason: r, Detail: text, Device: device}
	g.figures.refusedRequest[r].Add(1)
	g.refusals.tell(d, s.chain, s.conn.RemoteAddr().String(), true)
	w.Header().Set("Connection", "close")
	w.Header().Set("Retry-After", "5")
	status := http.StatusTooManyRequests
	if r == GatewayBusy {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, string(r), text)
}

// unfit says why a request is not forwarded: what proxies and upstreams are known to read differently.
func unfit(r *http.Request) (status int, why string) {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return http.StatusMethodNotAllowed, "this method is not forwarded"
	case r.URL.Scheme != "" || r.URL.Host != "" || !strings.HasPrefix(r.URL.Path, "/"):
		return http.StatusBadRequest, "the request target is not a path"
	case strings.ContainsFunc(r.URL.Path, unicode.IsControl):
		return http.StatusBadRequest, "the path has control characters"
	case dotSegments(r.URL):
		return http.StatusBadRequest, "the path has dot segments"
	}
	return 0, ""
}

// dotSegments in the decoded path, so that %2e counts as well.
func dotSegments(u *url.URL) bool {
	if !strings.Contains(u.Path, ".") {
		return false
	}
	for part := range strings.FieldsFuncSeq(u.Path, func(r rune) bool { return r == '/' || r == '\\' || r == ';' }) {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// upstreamError answers where the upstream did not.
func (e *environment) upstreamError(w http.ResponseWriter, r *http.Request, err error) {
	g := e.gateway
	device, _ := r.Context().Value(deviceKey{}).(string)
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &tooLarge):
		w.Header().Set("Connection", "close")
		answer(w, http.StatusRequestEntityTooLarge, "request", "the body is too large")
	case r.Context().Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		// Without an answer the server would make it 200, which a device that is there still must not read.
		g.log.Debug("the device went away, or stood still", "device", device, "path", r.URL.Path, "why", err)
		w.Header().Set("Connection", "close")
		answer(w, http.StatusRequestTimeout, "request", "the body stood still for too long")
	case brokenBody(w):
		// The device's fault, which must not look like the upstream's to those who watch.
		g.log.Debug("the body cannot be read", "device", device, "path", r.URL.Path, "why", err)
		w.Header().Set("Connection", "close")
		answer(w, http.StatusBadRequest, "request", "the body cannot be read")
	default:
		g.figures.upstreamErrors.Add(1)
		status := http.StatusBadGateway
		if errors.As(err, &timeout) && timeout.Timeout() {
			status = http.StatusGatewayTimeout
		}
		g.log.Error("the upstream did not answer", "device", device, "method", r.Method, "path", r.URL.Path, "upstream", e.upstream.String(), "why", err)
		answer(w, status, "upstream", "the upstream did not answer")
	}
}

func brokenBody(w http.ResponseWriter) bool {
	f, ok := w.(*flow)
	return ok && f.body != nil && f.body.broken.Load()
}

// answer is the gateway's own word, as JSON.
func answer(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "error": text})
}
