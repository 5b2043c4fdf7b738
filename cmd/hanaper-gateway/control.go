package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/control"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/socket"
)

// serveControl serves the socket for operators until ctx ends; the channel receives how that ended.
func serveControl(ctx context.Context, settings *gateway.Settings, g *gateway.Gateway, devices gateway.Records, log *slog.Logger) (<-chan error, error) {
	ended := make(chan error, 1)
	c := settings.Control()
	if c.Socket == "" {
		ended <- nil
		return ended, nil
	}
	l, err := listenControl(c)
	if err != nil {
		return nil, err
	}
	s, err := control.New(control.Config{Records: devices, Health: g.Health, Environment: hasEnvironment(settings), Log: log})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	log.Info("operators are listened to", "socket", c.Socket)
	go func() { ended <- s.Serve(ctx, l) }()
	return ended, nil
}

// hasEnvironment refuses the names of others.
func hasEnvironment(settings *gateway.Settings) func(string) error {
	return func(name string) error {
		_, err := settings.Environment(name)
		return err
	}
}

// listenControl makes the socket, which nobody may open but this user, and the group where one is named. One that is left of a gateway that ended is
// taken away; anything else at its place is not.
func listenControl(c gateway.ControlConfig) (net.Listener, error) {
	failed := func(err error) error {
		return advice.Wrap(advice.Usage, fmt.Errorf("control.socket %s: %w", show.Text(c.Socket), err), "name a file in a folder that only the gateway's user may write")
	}
	gid, mode := -1, os.FileMode(0o600)
	if c.Group != "" {
		g, err := user.LookupGroup(c.Group)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, fmt.Errorf("control.group: %w", err), "groupadd it, or leave it out")
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, err
		}
		mode = 0o660
	}
	l, err := socket.Listen(c.Socket, mode, gid)
	switch {
	case errors.Is(err, socket.ErrInUse):
		err = errors.New("another gateway listens there")
	case errors.Is(err, fs.ErrExist):
		err = errors.New("something else is there")
	}
	if err != nil {
		return nil, failed(err)
	}
	return l, nil
}
