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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/supervisor"
)

// Gateway serves devices. NewGateway makes one; Serve runs it.
type Gateway struct {
	settings *Settings
	registry Registry
	log      *slog.Logger
	now      func() time.Time

	environments []*environment
	// served is which names lead to which of them; trustMu is held by who changes it.
	served   atomic.Pointer[serverNames]
	trustMu  sync.Mutex
	sessions sessions
	door     atomic.Pointer[doorway]
	// shared bounds what shared credentials ask of hanaperd.
	shared   flights
	flights  flights
	told     told
	figures  *figures
	refusals *refusalLog
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
	g := &Gateway{settings: s, registry: registry, log: logger, now: now, figures: newFigures(now()), refusals: newRefusalLog(logger)}
	g.shared = flights{of: map[string]int{}, most: maxShared, ofOne: maxShared}
	g.flights = flights{of: map[string]int{}, most: s.limits.Requests, ofOne: s.limits.OfOneRequests}
	g.sessions.open, g.sessions.perDevice = map[net.Conn]*session{}, map[string]int{}
	for _, one := range s.environments {
		e, err := g.newEnvironment(one)
		if err != nil && len(s.environments) > 1 {
			return nil, fmt.Errorf("environments: %s: %w", show.Text(one.name), err)
		} else if err != nil {
			return nil, err
		}
		g.environments = append(g.environments, e)
	}
	g.nameServers()
	return g, nil
}

// CheckFiles says whether the files that s names would do, apart from the trust source; it writes nothing.
func (s *Settings) CheckFiles(now time.Time) error {
	for _, e := range s.environments {
		if _, err := e.Pin(); err != nil {
			return err
		}
	}
	_, err := NewGateway(s, nil, slog.New(slog.DiscardHandler), func() time.Time { return now })
	return err
}

// pairs are the gateway's own certificates and keys.
func (g *Gateway) pairs() (list []*keyPair) {
	for _, e := range g.environments {
		list = append(list, e.pairs()...)
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
	for _, e := range g.environments {
		if err := e.reloadUpstreams(); err != nil {
			return err
		}
	}
	for _, e := range g.environments {
		leaf := e.keys.current.Load().Leaf
		g.log.Info("tls identity in force", "environment", e.name, "subject", leaf.Subject.String(), "not_after", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

func (g *Gateway) refuseHandshake(d Decision, chain []*x509.Certificate, peer string) {
	g.figures.refusedHandshake[d.Reason].Add(1)
	g.refusals.tell(d, chain, peer, false)
}

// refusal is verify's answer to crypto/tls, which gives it back as the error of the handshake.
type refusal struct {
	decision Decision
	chain    []*x509.Certificate
}

func (r *refusal) Error() string { return "refused: " + r.decision.Words() }

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
	door := newDoorway(g.behindBalancers(listener), g)
	g.door.Store(door)
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
	for _, e := range g.environments {
		if e.renewal != nil {
			group.Go(func() error { e.renewal.tell(ctx); return nil })
		}
	}
	return group.Wait()
}

func (g *Gateway) server() *http.Server {
	l := g.settings.limits
	return &http.Server{
		Handler: g,
		// The doorway does the handshakes: this only says that HTTP/2 is spoken.
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols},
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
			if slices.ContainsFunc(g.pairs(), (*keyPair).changed) || slices.ContainsFunc(g.environments, (*environment).upstreamsChanged) {
				if err := g.Reload(); err != nil {
					g.log.Error("the new tls identity is not usable, the old one stays", "why", err)
				}
			}
		case <-g.registry.Changed():
			g.keepActs()
			g.sweepAll()
		case <-sweep.C:
			g.sweepAll()
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
	return slog.New(supervisor.Handler(level, s.log.Format == "json"))
}
