package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/control"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func registryCommand() *cli.Command {
	config := configFlag()
	config.Required = true
	return &cli.Command{
		Name:  "registry",
		Usage: "back up and restore the registry of devices",
		Subcommands: []*cli.Command{
			{Name: "backup", Usage: "write the registry, as it is now, into a new file; may be used while the gateway runs", ArgsUsage: "FILE",
				Description: "Example:\n  hanaper-gateway registry backup --config gateway.yaml devices-backup.db", Flags: []cli.Flag{config, jsonFlag()}, Action: backupRegistry},
			{Name: "inspect", Usage: "read a whole backup and say what it holds", ArgsUsage: "FILE",
				Description: "Example:\n  hanaper-gateway registry inspect devices-backup.db", Flags: []cli.Flag{jsonFlag()}, Action: inspectRegistry},
			{Name: "restore", Usage: "put a backup in the registry's place; stop the gateway first", ArgsUsage: "FILE",
				Description: "Devices that are blocked or retired in the registry that is there now stay so, if it can be read. It is moved aside.\n\n" +
					"Example:\n  hanaper-gateway registry restore --config gateway.yaml --why \"disk died\" devices-backup.db",
				Flags: []cli.Flag{config, jsonFlag(), &cli.StringFlag{Name: "why", Usage: "a `TEXT` for those who come after; it stays in the log"},
					&cli.BoolFlag{Name: "accept-loss", Usage: "restore although acts since the backup are lost, blocks among them"}}, Action: restoreRegistry},
		},
	}
}

// fileOf is the configuration of a registry that is a file.
func fileOf(c *cli.Context) (*gateway.Settings, string, error) {
	settings, err := gateway.LoadSettings(c.String("config"))
	if err != nil {
		return nil, "", err
	}
	path := settings.Registry().Path
	if path == "" {
		return nil, "", advice.New(advice.Usage, "use pg_dump, pg_basebackup or a standby; after it was put back start every gateway anew", "the registry is a PostgreSQL database")
	}
	return settings, path, nil
}

func backupRegistry(c *cli.Context) error {
	args, err := shell.Args(c, "FILE")
	if err != nil {
		return err
	}
	settings, _, err := fileOf(c)
	if err != nil {
		return err
	}
	open, err := openExisting(c.Context, settings)
	if err != nil {
		return err
	}
	defer open.Close()
	info, err := open.(*sqlite.Registry).Backup(c.Context, args[0])
	if err != nil {
		return err
	}
	shell.Wrote(c, "backup", args[0])
	return tellInfo(c, info)
}

func inspectRegistry(c *cli.Context) error {
	args, err := shell.Args(c, "FILE")
	if err != nil {
		return err
	}
	info, err := sqlite.Inspect(c.Context, args[0])
	if err != nil {
		return err
	}
	return tellInfo(c, info)
}

func tellInfo(c *cli.Context, info sqlite.Info) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, info)
	}
	fmt.Fprintf(c.App.Writer, "registry %s: %d devices, acts up to number %d of %s\n", show.Text(info.ID), info.Devices, info.Last, when(info.At))
	return nil
}

func restoreRegistry(c *cli.Context) error {
	args, err := shell.Args(c, "FILE")
	if err != nil {
		return err
	}
	settings, path, err := fileOf(c)
	if err != nil {
		return err
	}
	if socket := settings.Control().Socket; socket != "" {
		if client, err := control.Dial(socket); err != nil || client != nil {
			return advice.New(advice.Refused, "stop it first", "a gateway is running with this registry")
		}
	}
	known, err := settings.SeenRegistry()
	if err != nil {
		return err
	}
	info, err := sqlite.Inspect(c.Context, args[0])
	if err != nil {
		return err
	}
	if known.ID != "" && known.ID != info.ID {
		return advice.New(advice.Refused, "is it this gateway's backup?", "the backup is of another registry than this gateway has used")
	}
	done, err := sqlite.Restore(c.Context, path, args[0], known.Last, c.Bool("accept-loss"), gateway.By{Who: whoAmI(), Why: c.String("why"), At: time.Now()})
	if err != nil {
		return err
	}
	if err := settings.MarkRegistry(gateway.KnownRegistry{ID: done.ID, Last: done.Last}); err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]any{"restored": done.Info, "aside": done.Aside, "kept_out": done.Kept, "acts_lost": done.Lost})
	}
	w := c.App.Writer
	fmt.Fprintf(w, "restored: %d devices\n", done.Devices)
	if done.Aside != "" {
		fmt.Fprintf(w, "what was there is now %s\n", show.Text(done.Aside))
	}
	fmt.Fprintf(w, "%d devices that were kept out since the backup stay out; %d acts are lost, changes of keys among them\n", done.Kept, done.Lost)
	return nil
}
