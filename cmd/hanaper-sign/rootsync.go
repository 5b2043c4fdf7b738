package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/uptane/office"
	"github.com/hanaper/hanaper/uptane/repo"
)

// reached is called where a crash would leave another state behind; tests end the process there.
var reached func(state string)

// openOffice opens the repository that --repo names, and a client of its server.
func openOffice(c *cli.Context) (*office.Office, *repo.Repository, error) {
	r, err := openRepo(c)
	if err != nil {
		return nil, nil, err
	}
	o, err := newOffice(c, r)
	return o, r, err
}

func newOffice(c *cli.Context, r *repo.Repository) (*office.Office, error) {
	server, err := openServer(c, r)
	if err != nil {
		return nil, err
	}
	return office.New(office.Config{
		Repo: r, Server: server, Reached: reached,
		Say:  func(format string, args ...any) { say(c, format, args...) },
		Warn: func(format string, args ...any) { warn(c, format, args...) },
	}), nil
}

func pullRoot(c *cli.Context) error {
	o, _, err := openOffice(c)
	if err != nil {
		return err
	}
	root, err := o.PullRoot(c.Context, c.Bool("force"))
	if err == nil {
		say(c, "Pulled root.json, version %d", root.Version())
	}
	return err
}

func pushRoot(c *cli.Context) error {
	o, _, err := openOffice(c)
	if err != nil {
		return err
	}
	pushed, err := o.PushRoots(c.Context)
	for _, root := range pushed {
		say(c, "Pushed root.json, version %d", root.Version())
	}
	return err
}
