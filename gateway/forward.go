package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hanaper/hanaper/gateway/route"
	"github.com/hanaper/hanaper/internal/show"
)

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
		g.tellRequest(r, d.Device, "", "", flow.status, g.now())
		return
	}
	if d.Admitted() {
		d = g.meet(r.Context(), s, d)
	}
	if !d.Admitted() {
		g.turnAway(w, s, d)
		return
	}
	to, refusal := s.env.forward.Find(r)
	if refusal != nil {
		g.figures.unrouted.Add(1)
		answer(w, refusal.Status, "request", refusal.Why)
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
	call := route.Call{Identity: g.identity(s, d.Device)}
	// Deferred, for an answer that breaks off ends by a panic.
	defer func() { g.tellRequest(r, d.Device, to.Path(), call.Trace, flow.status, now) }()
	if to.Served() {
		s.env.renewal.serve(flow, r, s, d.Device)
		return
	}
	if err := s.env.forward.Forward(flow, r, to, &call); err != nil {
		g.notForwarded(flow, r, &call, err)
	}
}

// spokenIdentity is made anew when the trust has changed along which the device was admitted.
type spokenIdentity struct {
	under *cachedJudge
	id    route.Identity
}

// identity is what upstreams are told of a device that is admitted.
func (g *Gateway) identity(s *session, device string) *route.Identity {
	current := s.env.judge.Load()
	if known := s.spoken.Load(); known != nil && known.under == current && known.id.Device == device {
		return &known.id
	}
	one := &spokenIdentity{under: current, id: route.Identity{Device: device, Environment: s.env.name, Leaf: s.chain[0]}}
	if s.env.forward.WantsChain() {
		// What a device sends beside its certificate is not looked at; the CAs are those of the trust view.
		if d := current.judge.admit(s.chain, g.now()); d.Admitted() {
			one.id.Chain = d.Path[1:]
		}
	}
	s.spoken.Store(one)
	return &one.id
}

// tellRequest is the access log; to is the route, trace the traceparent, each "" where there is none.
func (g *Gateway) tellRequest(r *http.Request, device, to, trace string, status int, since time.Time) {
	if g.settings.log.Requests {
		g.log.Info("request", "device", device, "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "took", g.now().Sub(since),
			"route", to, "trace", trace, "peer", r.RemoteAddr)
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

// notForwarded answers where the upstream did not.
func (g *Gateway) notForwarded(w *flow, r *http.Request, c *route.Call, err error) {
	var tooLarge *http.MaxBytesError
	var device *route.BodyError
	what := []any{"device", c.Identity.Device, "method", r.Method, "path", r.URL.EscapedPath(), "trace", c.Trace, "why", err}
	switch {
	case errors.As(err, &tooLarge):
		w.Header().Set("Connection", "close")
		answer(w, http.StatusRequestEntityTooLarge, "request", "the body is too large")
	case r.Context().Err() != nil, errors.As(err, &device) && errors.Is(err, os.ErrDeadlineExceeded):
		// Without an answer the server would make it 200, which a device that is there still must not read.
		g.log.Debug("the device went away, or stood still", what...)
		w.Header().Set("Connection", "close")
		answer(w, http.StatusRequestTimeout, "request", "the body stood still for too long")
	case errors.As(err, &device):
		// The device's fault, which must not look like the upstream's to those who watch.
		g.log.Debug("the body cannot be read", what...)
		w.Header().Set("Connection", "close")
		answer(w, http.StatusBadRequest, "request", "the body cannot be read")
	default:
		g.figures.upstreamErrors.Add(1)
		g.log.Error("the upstream did not answer", what...)
		var timeout net.Error
		status, text := http.StatusBadGateway, "the upstream did not answer"
		switch {
		case errors.Is(err, route.ErrBusy):
			status, text = http.StatusServiceUnavailable, "the upstream has as many requests as it takes"
			w.Header().Set("Retry-After", "5")
		case errors.As(err, &timeout) && timeout.Timeout():
			status = http.StatusGatewayTimeout
		}
		answer(w, status, "upstream", text)
	}
}

// answer is the gateway's own word, as JSON.
func answer(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "error": text})
}
