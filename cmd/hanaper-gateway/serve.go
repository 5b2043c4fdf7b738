package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
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
	// Whatever can be known to be wrong is told before a file is made.
	if err := settings.CheckFiles(time.Now()); err != nil {
		return err
	}
	log := settings.NewLogger()
	feed, err := settings.NewFeed(nil)
	if err != nil {
		return err
	}
	defer feed.Close()
	view, err := gateway.FirstLook(ctx, feed, log)
	if err != nil {
		return err
	}
	known, err := settings.KnownRegistry()
	if err != nil {
		return err
	}
	devices, err := registry.Open(settings.Registry())
	if err != nil {
		return err
	}
	defer func() {
		if e := devices.Close(); err == nil {
			err = e
		}
	}()
	if err := settings.HoldRegistry(known, devices.ID()); err != nil {
		return err
	}
	g, err := gateway.NewGateway(settings, devices, log, nil)
	if err != nil {
		return err
	}
	if err := g.SetTrust(view); err != nil {
		return err
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
	followed := make(chan struct{})
	go func() { g.Follow(ctx, feed); close(followed) }()
	go reloadOnHangup(ctx, g, log.Error)
	log.Info("listening", "addr", listener.Addr().String(), "admin", adminAddr, "environment", settings.Environment())
	err = g.Serve(ctx, listener, admin)
	stop()
	<-followed
	return err
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
