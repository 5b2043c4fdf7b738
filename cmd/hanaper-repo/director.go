package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func directorCommand() *cli.Command {
	return &cli.Command{
		Name: "director", Usage: "the Director's devices, and what they are to install",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the devices",
				Description: "Example:\n  hanaper-repo director list --config hanaper-repo.yaml",
				Flags:       []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs"}}, Before: shell.NoArgs,
				Action: func(c *cli.Context) error {
					return withDirector(c, func(d *reposerver.Director) error { return listDevices(c, d) })
				},
			},
			{
				Name: "assign", Usage: "tell a device to install a target of the Image repository",
				Description: "Example:\n  hanaper-repo director assign --config hanaper-repo.yaml vin-0001 firmware-2.1", ArgsUsage: "DEVICE TARGET",
				Flags: []cli.Flag{configFlag, &cli.StringSliceFlag{Name: "ecu", Usage: "`SERIAL` of an ECU (repeatable); else all that the target fits"}},
				Action: func(c *cli.Context) error {
					if c.NArg() != 2 {
						return advice.New(advice.Usage, "hanaper-repo director assign DEVICE TARGET", "a device and a target are needed")
					}
					return withDirector(c, func(d *reposerver.Director) error {
						dev, err := d.Assign(c.Context, c.Args().Get(0), c.Args().Get(1), c.StringSlice("ecu")...)
						if err != nil {
							return err
						}
						for _, s := range slices.Sorted(maps.Keys(dev.Assigned)) {
							fmt.Fprintf(c.App.Writer, "%s: ECU %s: %s\n", show.Text(dev.ID), show.Text(s), show.Text(dev.Assigned[s].Target))
						}
						return nil
					})
				},
			},
			{
				Name: "unassign", Usage: "take a device's assignments back",
				Description: "Example:\n  hanaper-repo director unassign --config hanaper-repo.yaml vin-0001", ArgsUsage: "DEVICE", Flags: []cli.Flag{configFlag},
				Action: func(c *cli.Context) error {
					return oneDevice(c, func(d *reposerver.Director, id string) error {
						_, err := d.Unassign(c.Context, id)
						return err
					})
				},
			},
			{
				Name: "remove", Usage: "forget a device, so that it can register again with other keys",
				Description: "Example:\n  hanaper-repo director remove --config hanaper-repo.yaml vin-0001", ArgsUsage: "DEVICE", Flags: []cli.Flag{configFlag},
				Action: func(c *cli.Context) error {
					return oneDevice(c, func(d *reposerver.Director, id string) error { return d.Remove(c.Context, id) })
				},
			},
		},
	}
}

func oneDevice(c *cli.Context, do func(d *reposerver.Director, id string) error) error {
	if c.NArg() != 1 {
		return advice.New(advice.Usage, "", "exactly one device is needed")
	}
	return withDirector(c, func(d *reposerver.Director) error { return do(d, c.Args().First()) })
}

func withDirector(c *cli.Context, do func(*reposerver.Director) error) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	if !cfg.Uptane.director() {
		return advice.New(advice.Usage, "", "the configuration has no Director")
	}
	desk, err := openUptane(c.Context, cfg)
	if err != nil {
		return err
	}
	defer desk.Close()
	_, director, err := desk.open()
	if err != nil {
		return err
	}
	return do(director)
}

func listDevices(c *cli.Context, d *reposerver.Director) error {
	list, err := d.Devices()
	if err != nil {
		return err
	}
	type row struct {
		Device     string   `json:"device"`
		State      string   `json:"state"`
		ECUs       []string `json:"ecus"`
		Assigned   []string `json:"assigned"`
		Registered string   `json:"registered"`
		Seen       string   `json:"seen"`
	}
	out := []row{}
	for _, dev := range list {
		r := row{dev.ID, dev.State(), slices.Sorted(maps.Keys(dev.ECUs)), []string{}, dev.Registered, dev.Seen}
		for _, a := range dev.Assigned {
			if !slices.Contains(r.Assigned, a.Target) {
				r.Assigned = append(r.Assigned, a.Target)
			}
		}
		slices.Sort(r.Assigned)
		out = append(out, r)
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, out)
	}
	var rows [][]string
	for _, r := range out {
		rows = append(rows, []string{r.Device, r.State, strings.Join(r.ECUs, ", "), strings.Join(r.Assigned, ", "), r.Seen})
	}
	shell.Table(c.App.Writer, []string{"device", "state", "ecus", "assigned", "last manifest"}, rows)
	return nil
}
