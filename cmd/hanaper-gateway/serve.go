package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/supervisor"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

func serveCommand() *cli.Command {
	config := configFlag()
	config.Required = true
	return &cli.Command{
		Name:  "serve",
		Usage: "admit devices until told to stop",
		Description: "SIGHUP reads the TLS files again. New trust and new TLS files take effect by themselves.\n\n" +
			"Example:\n  hanaper-gateway serve --config gateway.yaml",
		Flags:  []cli.Flag{config},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			settings, err := gateway.LoadSettings(c.String("config"))
			if err != nil {
				return err
			}
			return serve(c.Context, settings)
		},
	}
}

func serve(ctx context.Context, settings *gateway.Settings) (err error) {
	if _, set := os.LookupEnv("GOGC"); !set {
		paceHeap(ctx)
	}
	// Whatever can be known to be wrong is told before a file is made.
	if err := settings.CheckFiles(time.Now()); err != nil {
		return err
	}
	log, starter := settings.NewLogger(), supervisor.FromEnvironment()
	feeds, err := openFeeds(ctx, settings, log)
	defer feeds.close()
	if err != nil {
		return err
	}
	known, err := settings.KnownRegistry()
	if err != nil {
		return err
	}
	devices, err := openRegistry(ctx, settings)
	if err != nil {
		return err
	}
	defer func() {
		if e := devices.Close(); err == nil {
			err = e
		}
	}()
	last, err := devices.Last(ctx)
	if err != nil {
		return err
	}
	if err := settings.HoldRegistry(known, devices.ID(), last); err != nil {
		return err
	}
	g, err := gateway.NewGateway(settings, devices, log, nil)
	if err != nil {
		return err
	}
	for _, f := range feeds {
		if err := g.SetTrust(f.view); err != nil {
			return err
		}
	}
	listener, err := listen("listen", settings.Listen())
	if err != nil {
		return err
	}
	var admin net.Listener
	adminAddr := ""
	if a := settings.Admin(); a != "" {
		if admin, err = listen("admin", a); err != nil {
			listener.Close()
			return err
		}
		adminAddr = admin.Addr().String()
	}
	ctx, stop := context.WithCancel(ctx)
	controlled, err := serveControl(ctx, settings, g, devices, log)
	if err != nil {
		stop()
		return err
	}
	var followed sync.WaitGroup
	for _, f := range feeds {
		followed.Go(func() { g.Follow(ctx, f.environment, f.feed) })
	}
	go reloadOnHangup(ctx, g, log.Error)
	log.Info("listening", "addr", listener.Addr().String(), "admin", adminAddr, "environment", strings.Join(feeds.names(), " "))
	starter.Ready("listening at " + listener.Addr().String())
	context.AfterFunc(ctx, starter.Stopping)
	go starter.Watch(ctx, log, func(context.Context) (string, error) { return g.Health().Words(), g.Accepting(acceptPatience) })
	err = g.Serve(ctx, listener, admin)
	stop()
	followed.Wait()
	err = errors.Join(err, <-controlled)
	// Acts of the last moment, too: a registry that is lost now is restored from a backup that may lack them, which must be said then.
	last, unkept := devices.Last(context.WithoutCancel(ctx))
	if unkept == nil {
		unkept = settings.KeepActs(last)
	}
	if unkept != nil {
		log.Error("how far the registry has come is not kept", "why", unkept)
	}
	return err
}

// acceptPatience is how long the loop that takes connections may be about something else.
const acceptPatience = 10 * time.Second

// feeds are the trust sources of the environments.
type feeds []followedFeed

type followedFeed struct {
	environment string
	feed        *feed.Feed
	// view is what to begin with.
	view *trust.View
}

// openFeeds looks at all sources. What it has opened it gives back with an error too, to be closed.
func openFeeds(ctx context.Context, settings *gateway.Settings, log *slog.Logger) (list feeds, err error) {
	several := len(settings.Environments()) > 1
	for _, e := range settings.Environments() {
		f, err := e.NewFeed(nil)
		if err == nil {
			list = append(list, followedFeed{environment: e.Name(), feed: f})
			list[len(list)-1].view, err = gateway.FirstLook(ctx, f, log.With("environment", e.Name()))
		}
		if err != nil && several {
			return list, fmt.Errorf("%s: %w", show.Text(e.Name()), err)
		} else if err != nil {
			return list, err
		}
	}
	return list, nil
}

func (l feeds) close() {
	for _, f := range l {
		f.feed.Close()
	}
}

func (l feeds) names() (names []string) {
	for _, f := range l {
		names = append(names, f.environment)
	}
	return names
}

func listen(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("%s: %w", key, err), "is another program there already?")
	}
	return l, nil
}

func reloadOnHangup(ctx context.Context, g *gateway.Gateway, complain func(string, ...any)) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if err := g.Reload(); err != nil {
				complain("the tls files are not usable, the old identity stays", "why", err)
			}
		}
	}
}
