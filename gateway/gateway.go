package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Gateway serves devices. NewGateway makes one; Serve runs it.
type Gateway struct {
	settings *Settings
	registry Registry
	log      *slog.Logger
	now      func() time.Time
	rules    Rules

	keys     *keyPair
	judge    atomic.Pointer[cachedJudge]
	trustMu  sync.Mutex
	sessions sessions
	flights  flights
	vitals   vitals
	figures  *figures
	refusals *refusalLog
	forward  http.Handler
	// upstreamKeys is what the upstream is shown; nil for none.
	upstreamKeys *keyPair
	// renewal is nil where devices' certificates are not renewed.
	renewal *renewal
}

// NewGateway reads the files that s names (TLS identity, upstream CA) and opens nothing else. The registry stays the
// caller's to close. now is the clock, time.Now if nil.
func NewGateway(s *Settings, registry Registry, logger *slog.Logger, now func() time.Time) (*Gateway, error) {
	if now == nil {
		now = time.Now
	}
	if err := s.checkDescriptors(); err != nil {
		return nil, err
	}
	g := &Gateway{settings: s, registry: registry, log: logger, now: now, rules: s.Rules(),
		figures: newFigures(now()), refusals: newRefusalLog(logger)}
	g.flights = flights{of: map[string]int{}, most: s.limits.Requests, ofOne: s.limits.OfOneRequests}
	g.sessions.open, g.sessions.perDevice = map[net.Conn]*session{}, map[string]int{}
	var err error
	if g.keys, err = loadKeyPair("tls", s.tls); err != nil {
		return nil, err
	}
	if err := g.keys.expired(now()); err != nil {
		return nil, err
	}
	if g.forward, err = g.newForwarder(); err != nil {
		return nil, err
	}
	if g.renewal, err = g.newRenewal(); err != nil {
		return nil, err
	}
	return g, nil
}

// CheckFiles says whether the files that s names would do, apart from the trust source; it writes nothing.
func (s *Settings) CheckFiles(now time.Time) error {
	if _, err := s.Pin(); err != nil {
		return err
	}
	_, err := NewGateway(s, nil, slog.New(slog.DiscardHandler), func() time.Time { return now })
	return err
}

// SetTrust puts view in force: handshakes and requests from now on are judged by it, and open connections whose device it
// does not admit are closed before SetTrust returns. A view of another environment is refused.
func (g *Gateway) SetTrust(view View) error {
	if view.Environment() != g.settings.environment {
		return advice.New(advice.Refused, "follow the repository of this gateway's own environment",
			"the trust view is of the environment %q, not %q", view.Environment(), g.settings.environment)
	}
	g.trustMu.Lock()
	before := g.judge.Load()
	after := newCachedJudge(view, g.rules, before)
	g.judge.Store(after)
	if before == nil || !before.judge.view.Expires().Equal(view.Expires()) {
		g.vitals.renewed(g.now())
	}
	g.trustMu.Unlock()
	if before == nil || before.judge.cas != after.judge.cas {
		print := view.Fingerprint()
		g.log.Info("trust in force", "environment", view.Environment(), "fingerprint", fmt.Sprintf("%x", print[:8]),
			"anchors", len(view.Anchors()), "intermediates", len(view.Intermediates()), "expires", view.Expires().UTC().Format(time.RFC3339))
		for _, list := range after.judge.cas.bySubject {
			for _, a := range list {
				if a.fault != "" {
					g.log.Warn("a CA in the trust view is unfit: its devices are refused", "subject", a.cert.Subject.String(), "why", a.fault)
				}
			}
		}
	}
	if err := view.Valid(g.now()); err != nil {
		g.log.Error("the trust view has expired: every device is refused", "why", err)
	}
	g.sweep()
	return nil
}

// pairs are the gateway's own certificates and keys.
func (g *Gateway) pairs() []*keyPair {
	list := []*keyPair{g.keys}
	if g.upstreamKeys != nil {
		list = append(list, g.upstreamKeys)
	}
	if g.renewal != nil {
		list = append(list, g.renewal.keys)
	}
	return list
}

// Reload reads the TLS files again; on an error the identity in force stays.
func (g *Gateway) Reload() error {
	for _, k := range g.pairs() {
		if err := k.reload(); err != nil {
			return err
		}
	}
	leaf := g.keys.current.Load().Leaf
	g.log.Info("tls identity in force", "subject", leaf.Subject.String(), "not_after", leaf.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

// tlsConfig asks for a certificate, any: who may come in is decided by VerifyConnection, which, unlike
// VerifyPeerCertificate, also runs when a session is resumed. Each connection has a copy, for the peer's address; session
// ticket keys stay those of the first.
func (g *Gateway) tlsConfig() *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAnyClientCert,
		GetCertificate: g.keys.get,
		NextProtos:     []string{"h2", "http/1.1"},
	}
	if g.settings.tls12 {
		c.MinVersion = tls.VersionTLS12
	}
	// For a connection that had no copy, should there ever be one.
	c.VerifyConnection = func(cs tls.ConnectionState) error { return g.verify(cs, "") }
	shared := c.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		own := shared.Clone()
		own.VerifyConnection = func(cs tls.ConnectionState) error { return g.verify(cs, hello.Conn.RemoteAddr().String()) }
		return own, nil
	}
	return c
}

// verify refuses in the handshake. The peer has not proven its key yet, so that nothing is registered here.
func (g *Gateway) verify(cs tls.ConnectionState, peer string) error {
	d := g.judge.Load().admit(cs.PeerCertificates, g.now())
	if d = g.unlessBarred(d); d.Admitted() {
		return nil
	}
	g.refuseHandshake(d, cs.PeerCertificates, peer)
	return errRefused
}

// unlessBarred asks the registry's memory about an admitted device.
func (g *Gateway) unlessBarred(d Decision) Decision {
	if !d.Admitted() {
		return d
	}
	if err := g.registry.Err(); err != nil {
		return Decision{Reason: RegistryDown, Detail: err.Error(), Device: d.Device}
	}
	if g.registry.Deleted(d.Device) {
		return Decision{Reason: Deleted, Device: d.Device}
	}
	return d
}

func (g *Gateway) refuseHandshake(d Decision, chain []*x509.Certificate, peer string) {
	g.figures.refusedHandshake[d.Reason].Add(1)
	g.refusals.tell(d, chain, peer, false)
}

var errRefused = errors.New("the device is refused")

// Serve takes devices on listener until ctx ends, then lets requests under way finish for some seconds. admin may be nil.
func (g *Gateway) Serve(ctx context.Context, listener, admin net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	server := g.server()
	run := func(s *http.Server, serve func() error) {
		group.Go(func() error {
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if s.Shutdown(stop) != nil {
				s.Close()
			}
			return nil
		})
	}
	door := newDoorway(listener, g)
	group.Go(func() error {
		if err := door.run(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	run(server, func() error { return server.Serve(door) })
	if admin != nil {
		a := &http.Server{Handler: g.adminHandler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		run(a, func() error { return a.Serve(admin) })
	}
	group.Go(func() error { g.watch(ctx); return nil })
	if g.renewal != nil {
		group.Go(func() error { g.renewal.tell(ctx); return nil })
	}
	return group.Wait()
}

func (g *Gateway) server() *http.Server {
	l := g.settings.limits
	return &http.Server{
		Handler:           g,
		TLSConfig:         g.tlsConfig(),
		ReadHeaderTimeout: l.Header,
		IdleTimeout:       l.Idle,
		MaxHeaderBytes:    l.HeaderBytes,
		// "OPTIONS *" is refused as other targets are that are no path.
		DisableGeneralOptionsHandler: true,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 100, SendPingTimeout: l.Idle / 2, PingTimeout: 15 * time.Second, WriteByteTimeout: l.Stall},
		ConnState:                    g.connState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, sessionKey{}, g.sessions.get(c))
		},
		ErrorLog: log.New(serverLog{g}, "", 0),
	}
}

// watch does what comes with time: new TLS files, deletions by operators, expiry on open connections.
func (g *Gateway) watch(ctx context.Context) {
	keys, sweep := time.NewTicker(keyPoll), time.NewTicker(sweepEvery)
	defer keys.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-keys.C:
			if slices.ContainsFunc(g.pairs(), (*keyPair).changed) {
				if err := g.Reload(); err != nil {
					g.log.Error("the new tls identity is not usable, the old one stays", "why", err)
				}
			}
		case <-g.registry.Changed():
			g.sweep()
		case <-sweep.C:
			g.sweep()
			g.logHealth()
			g.refusals.summarise()
		}
	}
}

// NewLogger is the logger that c asks for, to standard error.
func (s *Settings) NewLogger() *slog.Logger {
	var level slog.Level
	if s.log.Level != "" {
		_ = level.UnmarshalText([]byte(s.log.Level)) // checked by NewSettings
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: show.Attr}
	if s.log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
