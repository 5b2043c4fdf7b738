package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/fleet"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func directorCommand() *cli.Command {
	return &cli.Command{
		Name: "director", Usage: "the fleet: devices, what they are to install, and what they report",
		Description: "States: " + strings.Join(reposerver.States(), ", ") + ". A target that an ECU failed to install, or rolled back, is\n" +
			"not assigned any more until it is assigned again. Needs no token.\n\n" +
			"Example:\n  hanaper-repo director --config hanaper-repo.yaml --state failed",
		Flags: fleetFlags(), Action: showFleet,
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "the same as 'director' alone",
				Description: "Example:\n  hanaper-repo director list --config hanaper-repo.yaml --silent-for 48h",
				Flags:       fleetFlags(), Before: shell.NoArgs, Action: showFleet,
			},
			{
				Name: "show", Usage: "all that is known of a device, with what it tells of itself; needs no token",
				Description: "What a device tells of its hardware, network and packages, and its events, are not signed.\n\n" +
					"Example:\n  hanaper-repo director show --config hanaper-repo.yaml vin-0001", ArgsUsage: "DEVICE",
				Flags:  []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs, with everything as it came"}},
				Action: func(c *cli.Context) error { return oneDevice(c, false, showDevice) },
			},
			{
				Name: "assign", Usage: "tell a device to install a target of the Image repository",
				Description: "Refused for a target that devices would not find or not install: one that no signed targets list, whose image was\n" +
					"never uploaded, or that is for other hardware.\n\n" +
					"Example:\n  hanaper-repo director assign --config hanaper-repo.yaml vin-0001 firmware-2.1", ArgsUsage: "DEVICE TARGET",
				Flags: []cli.Flag{configFlag, &cli.StringSliceFlag{Name: "ecu", Usage: "`SERIAL` of an ECU (repeatable); else all that the target fits"}},
				Action: func(c *cli.Context) error {
					if c.NArg() != 2 {
						return advice.New(advice.Usage, "hanaper-repo director assign DEVICE TARGET", "a device and a target are needed")
					}
					return withDirector(c, true, func(d *reposerver.Director) error { return assignTarget(c, d) })
				},
			},
			{
				Name: "unassign", Usage: "take a device's assignments back, and forget how the last ones ended",
				Description: "Example:\n  hanaper-repo director unassign --config hanaper-repo.yaml vin-0001", ArgsUsage: "DEVICE", Flags: []cli.Flag{configFlag},
				Action: func(c *cli.Context) error {
					return oneDevice(c, true, func(c *cli.Context, d *reposerver.Director, id string) error {
						_, err := d.Unassign(c.Context, id)
						return err
					})
				},
			},
			{
				Name: "allow-replacement", Usage: "let a device register once with other ECUs or keys",
				Description: "What the device must do: with a new or another secondary ECU, restart aktualizr once the ECU stands in its secondaries'\n" +
					"configuration (it registers anew when serials or hardware ids have changed). With a new key under an old serial, or a new\n" +
					"board: put the import folder of the device's own identity in place, remove aktualizr's storage (/var/sota/sql.db), start it.\n" +
					"Versions go on; what was assigned to ECUs that are gone is forgotten. Whoever holds the device's certificate can use the\n" +
					"permission, so give it when you know who asks, and for a short time. Needs no token.\n\n" +
					"Example:\n  hanaper-repo director allow-replacement --config hanaper-repo.yaml --for 2h vin-0001", ArgsUsage: "DEVICE",
				Flags: []cli.Flag{configFlag, &cli.DurationFlag{Name: "for", Value: 24 * time.Hour, Usage: "how `LONG`, at most 720h"}},
				Action: func(c *cli.Context) error {
					return oneDevice(c, false, func(c *cli.Context, d *reposerver.Director, id string) error {
						until, err := d.AllowReplacement(c.Context, id, c.Duration("for"))
						if err == nil {
							fmt.Fprintf(c.App.Writer, "%s may register once with other ECUs or keys until %s\n", show.Text(id), until)
						}
						return err
					})
				},
			},
			{
				Name: "remove", Usage: "forget a device, so that it can register again with other keys; needs no token",
				Description: "The last versions of its metadata are kept for ever under a digest of its identity: a device that registers again remembers\n" +
					"them, and would refuse lower ones.\n\n" +
					"Example:\n  hanaper-repo director remove --config hanaper-repo.yaml vin-0001", ArgsUsage: "DEVICE", Flags: []cli.Flag{configFlag},
				Action: func(c *cli.Context) error {
					return oneDevice(c, false, func(c *cli.Context, d *reposerver.Director, id string) error { return d.Remove(c.Context, id) })
				},
			},
		},
	}
}

func fleetFlags() []cli.Flag {
	return []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs"},
		&cli.StringFlag{Name: "state", Usage: "only devices in this `STATE`"},
		&cli.StringFlag{Name: "target", Usage: "only devices to which `TARGET` is assigned, or that report it"},
		&cli.StringFlag{Name: "hardware", Usage: "only devices with an ECU of hardware `ID`"},
		&cli.StringFlag{Name: "prefix", Usage: "only devices whose identity begins with `TEXT`"},
		&cli.DurationFlag{Name: "silent-for", Usage: "only devices that have not been heard of for so `LONG`"},
	}
}

func oneDevice(c *cli.Context, signs bool, do func(c *cli.Context, d *reposerver.Director, id string) error) error {
	if c.NArg() != 1 {
		return advice.New(advice.Usage, "", "exactly one device is needed")
	}
	return withDirector(c, signs, func(d *reposerver.Director) error { return do(c, d, c.Args().First()) })
}

// withDirector opens the Director; the token only for what signs.
func withDirector(c *cli.Context, signs bool, do func(*reposerver.Director) error) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	if !cfg.Uptane.director() {
		return advice.New(advice.Usage, "", "the configuration has no Director")
	}
	open := func() (*uptaneDesk, error) { return lookDesk(cfg) }
	if signs {
		open = func() (*uptaneDesk, error) { return openUptane(c.Context, cfg) }
	}
	desk, err := open()
	if err != nil {
		return err
	}
	defer desk.Close()
	image, director, err := desk.open(c.Context)
	if err != nil {
		return err
	}
	if signs {
		if err := image.Marked(c.Context, director); err != nil {
			return err
		}
	}
	if err := do(director); err != nil {
		return err
	}
	// A server that is running has seen the change when this program ends.
	time.Sleep(fleet.LookEvery)
	return nil
}

func assignTarget(c *cli.Context, d *reposerver.Director) error {
	dev, err := d.Assign(c.Context, c.Args().Get(0), c.Args().Get(1), c.StringSlice("ecu")...)
	if err != nil {
		return err
	}
	for _, s := range slices.Sorted(maps.Keys(dev.Assigned)) {
		fmt.Fprintf(c.App.Writer, "%s: ECU %s: %s\n", show.Text(dev.ID), show.Text(s), show.Text(dev.Assigned[s].Target))
	}
	return nil
}

func showFleet(c *cli.Context) error {
	if err := shell.NoArgs(c); err != nil {
		return err
	}
	f := reposerver.Filter{State: c.String("state"), Target: c.String("target"), Hardware: c.String("hardware"), Prefix: c.String("prefix")}
	if f.State != "" && !slices.Contains(reposerver.States(), f.State) {
		return advice.New(advice.Usage, "one of: "+strings.Join(reposerver.States(), ", "), "there is no state %q", f.State)
	}
	if c.IsSet("silent-for") {
		f.SilentSince = now().Add(-c.Duration("silent-for"))
	}
	return withDirector(c, false, func(d *reposerver.Director) error {
		list, err := d.Devices(c.Context, f)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			out := []reposerver.View{}
			for _, dev := range list {
				out = append(out, reposerver.ViewOf(dev))
			}
			return shell.JSON(c.App.Writer, out)
		}
		var rows [][]string
		count := map[string]int{}
		for _, dev := range list {
			count[dev.State()]++
			rows = append(rows, []string{dev.ID, dev.State(), fmt.Sprintf("%d/%d", dev.Root, dev.Versions.Targets), strings.Join(assignedTo(dev), ", "), strings.Join(outcomes(dev), "; "), heard(dev)})
		}
		shell.Table(c.App.Writer, []string{"device", "state", "root/targets", "assigned", "outcome", "last heard of"}, rows)
		var parts []string
		for _, s := range reposerver.States() {
			if count[s] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", count[s], s))
			}
		}
		switch len(list) {
		case 0:
			fmt.Fprintln(c.App.Writer, "no device")
		case 1:
			fmt.Fprintf(c.App.Writer, "1 device: %s\n", list[0].State())
		default:
			fmt.Fprintf(c.App.Writer, "%d devices: %s\n", len(list), strings.Join(parts, ", "))
		}
		return nil
	})
}

func assignedTo(dev *reposerver.Device) []string {
	var out []string
	for _, a := range dev.Assigned {
		if !slices.Contains(out, a.Target) {
			out = append(out, a.Target)
		}
	}
	slices.Sort(out)
	return out
}

// outcomes is how each ECU's last assignment ended, and what it says of attacks.
func outcomes(dev *reposerver.Device) []string {
	var out []string
	for _, s := range slices.Sorted(maps.Keys(dev.Outcomes)) {
		o := dev.Outcomes[s]
		text := s + ": " + o.Target + " " + o.Result
		if o.Code != "" {
			text += " (" + o.Code + ")"
		}
		out = append(out, text)
	}
	for _, s := range slices.Sorted(maps.Keys(dev.Attacks)) {
		out = append(out, s+" reports an attack: "+dev.Attacks[s])
	}
	return out
}

func heard(dev *reposerver.Device) string {
	if dev.Seen == "" {
		return "never"
	}
	return dev.Seen
}

func showDevice(c *cli.Context, d *reposerver.Director, id string) error {
	dev, found, err := d.Device(c.Context, id)
	if err != nil {
		return err
	}
	if !found {
		return advice.New(advice.Refused, "'hanaper-repo director' lists the devices", "device %s is not registered", show.Text(id))
	}
	told, err := d.Told(c.Context, id)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, struct {
			reposerver.View
			reposerver.ToldView
		}{reposerver.ViewOf(dev), told})
	}
	v := reposerver.ViewOf(dev)
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %s\nregistered %s, last heard of: %s, root %d, targets %d\n", show.Text(v.Device), show.Line(v.State), show.Line(v.Registered), show.Line(heard(dev)), v.Root, v.Versions.Targets)
	if v.Replace != "" {
		fmt.Fprintf(w, "may register once with other ECUs or keys until %s\n", show.Line(v.Replace))
	}
	var rows [][]string
	for _, s := range slices.Sorted(maps.Keys(v.ECUs)) {
		result := ""
		if o, ok := v.Outcomes[s]; ok {
			result = strings.TrimSpace(o.Target + " " + o.Result + " " + o.Code + " " + o.Description)
		}
		rows = append(rows, []string{s, v.ECUs[s].HardwareID, v.Reported[s].Target, v.Assigned[s].Target, result, v.Attacks[s]})
	}
	shell.Table(w, []string{"ecu", "hardware", "installed", "assigned", "outcome", "attacks"}, rows)
	rows = nil
	for _, kind := range slices.Sorted(maps.Keys(told.Told)) {
		t := told.Told[kind]
		rows = append(rows, []string{kind, t.At, fmt.Sprint(len(t.JSON) + len(t.Text))})
	}
	if len(rows) > 0 {
		shell.Table(w, []string{"told", "at", "bytes"}, rows)
	}
	rows = nil
	for _, e := range told.Events {
		rows = append(rows, []string{e.At, e.Kind, string(e.Event)})
	}
	if len(rows) > 0 {
		shell.Table(w, []string{"event at", "kind", "event"}, rows)
	}
	return nil
}
