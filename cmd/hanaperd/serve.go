package main

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/supervisor"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "enrol and revoke until SIGINT or SIGTERM, which lets the requests in work finish",
		Description: "The log goes to standard error. It names device ids, which are personal data: keep it as long as operation needs it, no longer.\n\n" +
			"Example:\n  hanaperd serve --config /etc/hanaper/hanaperd.yaml",
		Flags:  []cli.Flag{configFlag, &cli.StringFlag{Name: "log", Value: "text", Usage: "form of the log: text or json"}},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			log, err := logger(c.String("log"))
			if err != nil {
				return err
			}
			return hsm.Unattended(serve(c.Context, c.String("config"), log))
		},
	}
}

func logger(form string) (*slog.Logger, error) {
	if form != "text" && form != "json" {
		return nil, advice.New(advice.Usage, "", "--log is text or json, not %q", form)
	}
	return slog.New(supervisor.Handler(slog.LevelInfo, form == "json")), nil
}

// garbage is how far the heap grows beside what is in use before the collector runs, in per cent: a service of a few MB spends a twentieth of
// its processor time on collecting with Go's 100.
const garbage = 400

func serve(ctx context.Context, path string, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	// Before the library's process is started, which is to know nothing of it.
	starter := supervisor.FromEnvironment()
	tell := func(said string) { log.Warn("token library", "event", said) }
	p, err := assemble(ctx, path, tell)
	if err != nil {
		return err
	}
	defer p.close()
	db, err := openStore(ctx, p.config)
	if err != nil {
		return err
	}
	defer db.Close()
	// Its key for challenges is made at the first start.
	if p.attestation, err = p.config.LoadAttestation(true); err != nil {
		return err
	}
	issuances, err := p.theLog(ctx, db, log, tell)
	if err != nil {
		return err
	}
	var shared *leave
	if p.shared != nil {
		if shared, err = openLeave(ctx, p.config.Shared, p.config.Shared.Trust.State); err != nil {
			return err
		}
		defer shared.feed.Close()
		p.shared.Allowed = shared.allowed
		log.Warn("SHARED CREDENTIALS are configured: whoever has one can have test benches certified; never in production", "environment", p.config.Shared.Environment)
	}
	s, err := p.service(db, issuances, log)
	if err != nil {
		return err
	}
	// Nothing is served before it is known whether the record is behind what others had of it.
	if err := s.Compare(ctx); err != nil {
		return err
	}
	if issuances != nil {
		if err := issuances.Check(ctx); err != nil {
			return err
		}
	}
	servers, err := p.listen(s, log)
	if err != nil {
		return err
	}
	var knocker supervisor.Knocker
	var background sync.WaitGroup
	inner, stop := context.WithCancel(ctx)
	defer background.Wait()
	defer stop()
	background.Go(func() { s.Run(inner) })
	if issuances != nil {
		background.Go(func() { issuances.Run(inner) })
	}
	background.Go(func() { followCRL(inner, p, log) })
	if shared != nil {
		background.Go(func() { shared.run(inner, log) })
	}
	log.Info("serving", "address", servers[0].listener.Addr().String(), "issuer", p.issuers[0].chain[0].Subject.String(), "token", p.tokens[0].Info().Name(), "store", storeName(p.config))
	starter.Ready("serving at " + servers[0].listener.Addr().String())
	context.AfterFunc(ctx, starter.Stopping)
	background.Go(func() {
		starter.Watch(inner, log, func(ctx context.Context) (string, error) { return alive(ctx, s, servers, &knocker) })
	})
	if err := serveAll(ctx, servers, p.callers.TLS(p.server), slog.New(knocker.Hush(log.Handler()))); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// alive asks the store, whose words are the health, and every listener whether it answers at all.
func alive(ctx context.Context, s *factory.Service, servers []server, k *supervisor.Knocker) (string, error) {
	words := s.Health(ctx).Words()
	for _, one := range servers {
		if err := k.Answers(ctx, one.listener.Addr()); err != nil {
			return words, err
		}
	}
	return words, nil
}

// followCRL takes up a new list of revoked stations and operators whenever its file changes.
func followCRL(ctx context.Context, p *parts, log *slog.Logger) {
	path := p.config.Operations.CRL
	if path == "" {
		return
	}
	last := ""
	var seen os.FileInfo
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		st, err := os.Stat(path)
		if err == nil {
			if seen != nil && os.SameFile(st, seen) && st.ModTime().Equal(seen.ModTime()) && st.Size() == seen.Size() {
				continue
			}
			var list *x509.RevocationList
			if list, err = factory.LoadCRL(path); err == nil {
				err = p.callers.UseCRL(list)
			}
		}
		// A file that was read while it was being written is read again, whether or not its time changes once more.
		text := ""
		if err == nil {
			seen = st
		} else if text = err.Error(); text != last {
			log.Error("the Operations Root's CRL is not taken up; the last good one stays", "file", path, "error", err)
		}
		last = text
	}
}
