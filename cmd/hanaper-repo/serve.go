package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/supervisor"
	"github.com/hanaper/hanaper/trust"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "sign anew in time, take up CRLs, and serve the published folder, until SIGINT or SIGTERM",
		Description: "Example:\n  hanaper-repo serve --config hanaper-repo.yaml",
		Flags:       []cli.Flag{configFlag}, Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			// Before the library's process is started, which is to know nothing of it.
			starter := supervisor.FromEnvironment()
			o, err := openOffice(c)
			if err != nil {
				return hsm.Unattended(err)
			}
			defer o.Close()
			return hsm.Unattended(serve(c.Context, o, starter, slog.New(supervisor.Handler(slog.LevelInfo, false))))
		},
	}
}

func serve(ctx context.Context, o *office, starter *supervisor.Supervisor, log *slog.Logger) error {
	if o.View() == nil {
		return advice.New(advice.Refused, "run 'hanaper-repo init' with the ceremony's trust folder", "nothing is published in %s", show.Text(o.config.path(o.config.Publish)))
	}
	sources, err := newSources(o.config)
	if err != nil {
		return err
	}
	logs, err := newLogSources(o)
	if err != nil {
		return err
	}
	if err := o.Refresh(); err != nil {
		return err
	}
	if err := o.View().Valid(now()); err != nil {
		return fmt.Errorf("refusing to serve: %w", err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	faults := newFaults(log)
	site, err := newSite(o.config.path(o.config.Publish), o.Publisher, faults.health)
	if err != nil {
		return err
	}
	defer site.Close()
	mux := http.NewServeMux()
	site.Routes(mux)
	server.Handler = mux
	server.RegisterOnShutdown(site.waiters.end)
	l, err := net.Listen("tcp", o.config.Serve.Listen)
	if err != nil {
		return advice.Wrap(advice.Failed, err, "is serve.listen an address of this machine, and free?")
	}
	url := "http://" + l.Addr().String()
	if t := o.config.Serve.TLS; t != nil {
		identity, err := tls.LoadX509KeyPair(o.config.path(t.Certificate), o.config.path(t.Key))
		if err != nil {
			l.Close()
			return advice.New(advice.Usage, "PEM files, the certificate first in its chain", "serve.tls: %w", err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{identity}, MinVersion: tls.VersionTLS12})
		url = "https://" + l.Addr().String()
	}
	failed := make(chan error, 3)
	vehicles, err := serveUptane(ctx, o.config, log, failed)
	if err != nil {
		l.Close()
		return err
	}
	defer vehicles.Close()
	log.Info("serving", "url", url, "environment", o.View().Environment(), "good_until", stamp(o.View().Expires()))
	go func() { failed <- server.Serve(l) }()
	faults.answerStatus(ctx, o.config)
	starter.Ready("serving at " + url)
	context.AfterFunc(ctx, starter.Stopping)
	go starter.Watch(ctx, log, func(ctx context.Context) (string, error) {
		words, err := askOneself(ctx, url+"/healthz")
		if list := faults.list(); len(list) > 0 {
			words = "not published since " + list[0].Since + ": " + list[0].Error
		}
		return words, errors.Join(err, vehicles.answer(ctx))
	})
	o.tend(ctx, sources, logs, faults, log, failed)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(ctx)
	if serr := <-failed; !errors.Is(serr, http.ErrServerClosed) {
		return serr
	}
	log.Info("stopped")
	return err
}

// askOneself asks this server's own health, through its listener. Whatever it answers is a sign of life, and its words are the health.
// That it is this server which answers at its own address needs no certificate, and what is asked for is no secret.
func askOneself(ctx context.Context, url string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	words, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	return strings.TrimSpace(string(words)), err
}

// tend signs anew and takes up CRLs until ctx ends or the server fails.
func (o *office) tend(ctx context.Context, sources []*source, logs []*logSource, faults *faults, log *slog.Logger, failed chan error) {
	tick := time.NewTicker(o.config.Serve.Every)
	defer tick.Stop()
	glance := time.NewTicker(glanceEvery)
	defer glance.Stop()
	add := func(s *source) func([]byte) error {
		return func(crl []byte) error { return faults.try(s.name, func() error { return o.AddCRL(crl) }) }
	}
	for {
		seen := o.glance()
		was := o.View()
		// Checkpoints first: they go with whatever is published next.
		for _, s := range logs {
			faults.note(s.name, s.take(ctx, o.OfferCheckpoint))
		}
		// Refresh also takes up what another process has published.
		faults.note("signing", faults.try("signing", o.Refresh))
		for _, s := range sources {
			faults.note(s.name, s.take(ctx, add(s)))
		}
		if v := o.View(); v.Versions().Targets != was.Versions().Targets {
			// The officers may name a CA again: its list is handed over again.
			for _, s := range sources {
				clear(s.handed)
				faults.note(s.name, s.take(ctx, add(s)))
			}
		}
		if v := o.View(); v != was {
			log.Info("published", "versions", v.Versions(), "good_until", stamp(v.Expires()))
		}
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case err := <-failed:
				failed <- err
				return
			case <-tick.C:
				due = true
			case <-glance.C:
				due = !maps.Equal(seen, o.glance())
			}
		}
	}
}

// glanceEvery is the time between two glances at the files that may bring something new: a revocation must not wait for the interval, which is
// for what is asked of other machines.
const glanceEvery = 200 * time.Millisecond

// dated is what a folder says of a file.
type dated struct {
	changed time.Time
	size    int64
}

// glance looks at the dates of what another process publishes here, and of the files and folders that CRLs come from.
func (o *office) glance() map[string]dated {
	list := []string{filepath.Join(o.config.path(o.config.Publish), filepath.FromSlash(trust.TimestampPath))}
	for _, s := range o.config.CRLs {
		if s.File != "" {
			list = append(list, o.config.path(s.File))
		}
		if s.Folder != "" {
			list = append(list, o.config.path(s.Folder))
		}
	}
	seen := map[string]dated{}
	for _, at := range list {
		if info, err := os.Stat(at); err == nil {
			seen[at] = dated{info.ModTime(), info.Size()}
		}
	}
	return seen
}
