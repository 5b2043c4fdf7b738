package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/console"
	"github.com/hanaper/hanaper/internal/advice"
)

// server is a listener, and what is served there.
type server struct {
	listener net.Listener
	handler  http.Handler
}

// listen opens what the configuration names: for stations and programs, and, there or on a listener of its own, for operators' browsers.
func (p *parts) listen(s *factory.Service, log *slog.Logger) ([]server, error) {
	c := p.config
	api := factory.NewHandler(s, p.callers, c.Limits.Concurrent)
	all := []server{{handler: api}}
	addresses := []string{c.Listen}
	if c.Console.Enabled {
		pages, err := console.New(console.Config{Service: s, Callers: p.callers, Log: log})
		if err != nil {
			return nil, err
		}
		mux := http.NewServeMux()
		mux.Handle(console.Prefix, pages)
		if c.Console.Listen == "" {
			all[0].handler = beside(mux, api)
		} else {
			mux.Handle("/{$}", http.RedirectHandler(console.Prefix, http.StatusSeeOther))
			all, addresses = append(all, server{handler: mux}), append(addresses, c.Console.Listen)
		}
	}
	for i, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			for _, open := range all[:i] {
				_ = open.listener.Close()
			}
			return nil, advice.Wrap(advice.Failed, err, "is what the configuration says in "+[]string{"listen", "console.listen"}[i]+" an address of this machine, and free?")
		}
		all[i].listener = l
	}
	return all, nil
}

// beside has pages serve what is the console's, and api all else, whose paths it gets as they were sent: a multiplexer in front of it would
// resolve dots in EST's, and answer with a redirection.
func beside(pages, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path+"/", console.Prefix) {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// serveAll serves all until ctx ends, or one of them fails.
func serveAll(ctx context.Context, all []server, conf *tls.Config, log *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	failed := make([]error, len(all))
	for i, s := range all {
		group.Go(func() {
			defer stop()
			failed[i] = factory.Serve(ctx, s.listener, s.handler, conf, log)
		})
	}
	group.Wait()
	return errors.Join(failed...)
}
