package route

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Config is all that a Router needs. New checks it.
type Config struct {
	Routes    []RouteConfig
	Upstreams map[string]UpstreamConfig
	// Header carries the device id to every upstream.
	Header string
	// Strip names further headers that devices may not send.
	Strip []string
	Trace TraceConfig
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// RouteConfig is one route.
type RouteConfig struct {
	// Path is what the route begins with, by whole segments; the longest route counts.
	Path string
	// To takes the place of Path on the way, "" for no change. {device} and {environment} are segments that the gateway fills in.
	To string
	// Upstream names one of the upstreams; "" for a route that the caller serves itself.
	Upstream string
}

// UpstreamConfig is one server, or several that are alike.
type UpstreamConfig struct {
	// URL is http or https, with a path if requests are to begin with one. It names the server, in its certificate too.
	URL *url.URL
	// Socket is the file of a unix socket on which URL is spoken, "" for none.
	Socket string
	// Addresses are where the server can be reached, host:port; the URL's own if there are none.
	Addresses []string
	// TLS gives the configuration for a new connection; nil with http.
	TLS func() *tls.Config
	// Wait is how long the upstream may take until its response begins, and how long a body may stand still on its side.
	Wait time.Duration
	// Connections are how many there may be.
	Connections int
	// Namespace is x-ats-namespace, the tenant as OTA Connect's services know it; "" for none.
	Namespace string
	// ClientCert sends the device's certificate, ClientCertChain also the CAs above it (RFC 9440).
	ClientCert, ClientCertChain bool
}

// namespaceHeader says to OTA Connect's services for whom they act.
const namespaceHeader = "x-ats-namespace"

// Router hands requests on. New makes one.
type Router struct {
	routes             []*Route
	upstreams          []*upstream
	filter             *headerFilter
	header             string
	keepTrace, sampled bool
	now                func() time.Time
}

// Route is where a request goes.
type Route struct {
	path     string
	to       template
	upstream *upstream
	figures  figures
}

// Path is what the route begins with.
func (t *Route) Path() string { return t.path }

// Served says that the caller serves the route itself.
func (t *Route) Served() bool { return t.upstream == nil }

// New makes a Router. It connects nowhere.
func New(c Config) (*Router, error) {
	t := &Router{filter: newHeaderFilter(append([]string{c.Header}, c.Strip...)), header: textproto.CanonicalMIMEHeaderKey(c.Header), keepTrace: c.Trace.Keep, sampled: c.Trace.Sampled, now: c.Now}
	if t.now == nil {
		t.now = time.Now
	}
	if len(c.Routes) == 0 || len(c.Routes) > maxRoutes {
		return nil, fmt.Errorf("there are %d routes, not 1 to %d", len(c.Routes), maxRoutes)
	}
	byName := map[string]*upstream{}
	for _, r := range c.Routes {
		if err := CheckPath(r.Path); err != nil {
			return nil, fmt.Errorf("path %w", err)
		}
		if slices.ContainsFunc(t.routes, func(o *Route) bool { return o.path == r.Path }) {
			return nil, fmt.Errorf("path %q is there twice", r.Path)
		}
		to, err := parseTemplate(r.To)
		if err != nil {
			return nil, fmt.Errorf("route %q: to: %w", r.Path, err)
		}
		one := &Route{path: r.Path, to: to}
		if r.Upstream != "" {
			if one.upstream = byName[r.Upstream]; one.upstream == nil {
				u, ok := c.Upstreams[r.Upstream]
				if !ok {
					return nil, fmt.Errorf("route %q: there is no upstream %q", r.Path, r.Upstream)
				}
				if one.upstream, err = newUpstream(r.Upstream, u, t.now); err != nil {
					return nil, fmt.Errorf("upstream %s: %w", show.Text(r.Upstream), err)
				}
				byName[r.Upstream] = one.upstream
				t.upstreams = append(t.upstreams, one.upstream)
			}
		}
		t.routes = append(t.routes, one)
	}
	slices.SortStableFunc(t.routes, func(a, b *Route) int { return len(b.path) - len(a.path) })
	return t, nil
}

// Call is one request on its way.
type Call struct {
	Identity *Identity
	// Trace is the traceparent that went with the request, set by Forward before anything else happens.
	Trace string
}

// Forward hands a request on and gives its response to w. An error means that nothing was written to w. Where an upstream breaks off in its answer
// it panics with http.ErrAbortHandler, so that the device sees a broken answer and no short one.
func (t *Router) Forward(w http.ResponseWriter, r *http.Request, to *Route, c *Call) (err error) {
	ctx := t.trace(r.Header)
	c.Trace = ctx.parent
	status := 0
	defer func() { to.figures.answered[min(max(status/100, 0), 5)].Add(1) }()
	if !c.Identity.fit() {
		return fmt.Errorf("the identity of the device is not fit for a header")
	}
	x := exchange{router: t, upstream: to.upstream, w: w, r: r, id: c.Identity, trace: ctx, target: to.target(r.URL, c.Identity), status: &status}
	return x.run()
}

// WantsChain says whether an upstream is told of the CAs above devices' certificates.
func (t *Router) WantsChain() bool {
	return slices.ContainsFunc(t.upstreams, func(u *upstream) bool { return u.clientCertChain })
}

// CloseIdle closes the connections that nobody uses, so that the next ones are made with the TLS configuration of now.
func (t *Router) CloseIdle() {
	for _, u := range t.upstreams {
		u.closeIdle()
	}
}

// Notes say which upstreams cannot be reached.
func (t *Router) Notes() (notes []string) {
	for _, u := range t.upstreams {
		for _, a := range u.addresses {
			if since := a.since(); !since.IsZero() {
				notes = append(notes, fmt.Sprintf("upstream %s: %s cannot be reached since %s", u.name, a.text, since.UTC().Format(time.RFC3339)))
			}
		}
	}
	return notes
}

// writeHead writes the head of the request: the line, and the header as it is to reach the upstream.
func (x *exchange) writeHead(c *conn) {
	w, r := c.w, x.r
	w.WriteString(r.Method)
	w.WriteByte(' ')
	w.WriteString(x.target)
	w.WriteString(" HTTP/1.1\r\nHost: ")
	w.WriteString(x.upstream.host)
	w.WriteString("\r\n")
	field := func(name, value string) {
		w.WriteString(name)
		w.WriteString(": ")
		w.WriteString(value)
		w.WriteString("\r\n")
	}
	own := listed(r.Header)
	for name, values := range r.Header {
		if own[name] || x.router.filter.refuses(name) {
			continue
		}
		for _, v := range values {
			field(name, v)
		}
	}
	field(x.router.header, x.id.Device)
	if n := x.upstream.namespace; n != "" {
		field(namespaceHeader, n)
	}
	if x.upstream.clientCert && x.id.Leaf != nil {
		field("Client-Cert", clientCert(x.id))
		if x.upstream.clientCertChain && len(x.id.Chain) > 0 {
			field("Client-Cert-Chain", clientCertChain(x.id))
		}
	}
	field("Traceparent", x.trace.parent)
	if x.trace.state != "" {
		field("Tracestate", x.trace.state)
	}
	switch {
	case x.body() && r.ContentLength > 0:
		field("Content-Length", fmt.Sprint(r.ContentLength))
	case x.body():
		field("Transfer-Encoding", "chunked")
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		field("Content-Length", "0") // RFC 9110, section 8.6
	}
	w.WriteString("\r\n")
}
