package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func devicesCommand() *cli.Command {
	flags := []cli.Flag{configFlag(), &cli.StringFlag{Name: "registry", Usage: "the registry `FILE`, in the place of --config", TakesFile: true}, jsonFlag()}
	with := func(more ...cli.Flag) []cli.Flag { return append(append([]cli.Flag{}, flags...), more...) }
	return &cli.Command{
		Name:  "devices",
		Usage: "the devices met; may be used while the gateway runs",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list devices, in order of id",
				Description: "Example:\n  hanaper-gateway devices list --config gateway.yaml", Before: shell.NoArgs, Flags: with(
					&cli.StringFlag{Name: "after", Usage: "begin after this device `ID`"},
					&cli.IntFlag{Name: "limit", Value: 1000, Usage: "list at most `N`"}), Action: onRegistry(listDevices)},
			{Name: "show", Usage: "show a device and its certificates",
				Description: "Example:\n  hanaper-gateway devices show --config gateway.yaml vin-0001", ArgsUsage: "ID", Flags: with(), Action: onRegistry(showDevice)},
			{Name: "delete", Usage: "bar a device, met or not, until it is released",
				Description: "Example:\n  hanaper-gateway devices delete --config gateway.yaml --why \"stolen, ticket 4711\" vin-0001", ArgsUsage: "ID",
				Flags: with(&cli.StringFlag{Name: "why", Usage: "a `TEXT` for those who come after"}), Action: onRegistry(deleteDevice)},
			{Name: "allow-rekey", Usage: "let a device's next other key take the place of its key, once",
				Description: "For a device that was set back to an earlier key, or whose reissued certificate begins no later than the one before.\n\n" +
					"Example:\n  hanaper-gateway devices allow-rekey --config gateway.yaml vin-0001", ArgsUsage: "ID", Flags: with(), Action: onRegistry(allowRekey)},
			{Name: "release", Usage: "lift a deletion; the device is met anew",
				Description: "Example:\n  hanaper-gateway devices release --config gateway.yaml vin-0001", ArgsUsage: "ID", Flags: with(), Action: onRegistry(releaseDevice)},
		},
	}
}

func onRegistry(do func(*cli.Context, gateway.Registry) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		path := c.String("registry")
		if config := c.String("config"); config != "" && path == "" {
			settings, err := gateway.LoadSettings(config)
			if err != nil {
				return err
			}
			path = settings.Registry()
		} else if (config == "") == (path == "") {
			return advice.New(advice.Usage, "--config FILE or --registry FILE", "name the registry, once")
		}
		if _, err := os.Stat(path); err != nil {
			return advice.New(advice.Usage, "the gateway makes it when it is started first", "registry: %w", err)
		}
		r, err := registry.Open(path)
		if err != nil {
			return err
		}
		defer func() {
			if e := r.Close(); err == nil {
				err = e
			}
		}()
		return do(c, r)
	}
}

func listDevices(c *cli.Context, r gateway.Registry) error {
	list, err := r.Devices(c.Context, c.String("after"), c.Int("limit"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if list == nil {
			list = []gateway.Device{}
		}
		return shell.JSON(c.App.Writer, map[string]any{"devices": list})
	}
	var rows [][]string
	for _, d := range list {
		rows = append(rows, []string{d.Name, d.State, when(d.FirstSeen), when(d.LastSeen), strconv.Itoa(d.LiveKeys), strings.Join(d.Flags, " ")})
	}
	shell.Table(c.App.Writer, []string{"device", "state", "first seen", "last seen", "live keys", "flags"}, rows)
	return nil
}

func showDevice(c *cli.Context, r gateway.Registry) error {
	name, err := deviceArg(c)
	if err != nil {
		return err
	}
	d, err := r.Device(c.Context, name)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, d)
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %s, first seen %s, last seen %s\n", show.Text(d.Name), show.Text(d.State), when(d.FirstSeen), when(d.LastSeen))
	if d.State == "deleted" {
		fmt.Fprintf(w, "deleted %s %s\n", when(d.Deleted), show.Text(d.Why))
	}
	for _, f := range d.Flags {
		fmt.Fprintf(w, "look at: %s\n", show.Text(f))
	}
	var rows [][]string
	for _, one := range d.Certificates {
		rows = append(rows, []string{one.Serial, one.Issuer, when(one.NotAfter), when(one.FirstSeen), when(one.LastSeen), one.Key[:16]})
	}
	shell.Table(w, []string{"serial", "issuer", "not after", "first seen", "last seen", "key"}, rows)
	return nil
}

func deleteDevice(c *cli.Context, r gateway.Registry) error {
	name, err := deviceArg(c)
	if err != nil {
		return err
	}
	if err := r.Delete(c.Context, name, c.String("why"), time.Now()); err != nil {
		return err
	}
	return said(c, name, "deleted")
}

func releaseDevice(c *cli.Context, r gateway.Registry) error {
	name, err := deviceArg(c)
	if err != nil {
		return err
	}
	if err := r.Release(c.Context, name, time.Now()); err != nil {
		return err
	}
	return said(c, name, "released")
}

func allowRekey(c *cli.Context, r gateway.Registry) error {
	name, err := deviceArg(c)
	if err != nil {
		return err
	}
	if err := r.AllowRekey(c.Context, name); err != nil {
		return err
	}
	return said(c, name, "allowed another key, once")
}

func said(c *cli.Context, name, what string) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]string{"device_id": name, "state": what})
	}
	fmt.Fprintf(c.App.Writer, "%s is %s\n", name, what)
	return nil
}

func deviceArg(c *cli.Context) (string, error) {
	args, err := shell.Args(c, "ID")
	if err != nil {
		return "", err
	}
	if err := gateway.CheckName(args[0]); err != nil {
		return "", advice.Wrap(advice.Usage, err, "a device id is the CN of its certificate")
	}
	return args[0], nil
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
