package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/control"
	"github.com/hanaper/hanaper/gateway/registry/sqlite"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func devicesCommand() *cli.Command {
	flags := []cli.Flag{configFlag(), &cli.StringFlag{Name: "registry", Usage: "the registry `FILE`, in the place of --config", TakesFile: true},
		&cli.StringFlag{Name: "environment", Aliases: []string{"e"}, Usage: "the `NAME` of the environment; may be left out where there is one"}, jsonFlag()}
	with := func(more ...cli.Flag) []cli.Flag { return append(append([]cli.Flag{}, flags...), more...) }
	why := &cli.StringFlag{Name: "why", Usage: "a `TEXT` for those who come after; it stays in the log"}
	act := func(verb gateway.Verb, name, usage, more, done string, aliases ...string) *cli.Command {
		if more != "" {
			more += "\n\n"
		}
		return &cli.Command{Name: name, Aliases: aliases, Usage: usage, ArgsUsage: "ID", Flags: with(why),
			Description: more + "Example:\n  hanaper-gateway devices " + name + " --config gateway.yaml --why \"ticket 4711\" vin-0001", Action: onRecords(actOn(verb, done))}
	}
	return &cli.Command{
		Name:  "devices",
		Usage: "the devices known; may be used while the gateway runs",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list devices, in order of environment and id",
				Description: "Example:\n  hanaper-gateway devices list --config gateway.yaml --state blocked", Before: shell.NoArgs, Flags: with(
					&cli.StringFlag{Name: "state", Usage: "only those in this `STATE`: pending, active, blocked or retired"},
					&cli.StringFlag{Name: "flag", Usage: "only those with this `FLAG`: old-key-returned, other-key-refused, or any"},
					&cli.StringFlag{Name: "prefix", Usage: "only ids that begin with `TEXT`"},
					&cli.StringFlag{Name: "after", Usage: "begin after this device `ID`"},
					&cli.IntFlag{Name: "limit", Value: 1000, Usage: "list at most `N`"}), Action: onRecords(listDevices)},
			{Name: "show", Usage: "show a device, its certificates and the acts on it",
				Description: "Example:\n  hanaper-gateway devices show --config gateway.yaml vin-0001", ArgsUsage: "ID", Flags: with(), Action: onRecords(showDevice)},
			act(gateway.Block, "block", "keep a device out, met or not, until it is unblocked", "Its open connections are closed within a second, at every gateway of this registry.", "blocked", "delete"),
			act(gateway.Unblock, "unblock", "let a blocked device in again, with the key that it had", "", "unblocked"),
			act(gateway.Forget, "forget", "unblock a device and have it met anew, with whatever key it comes", "For a blocked device whose key on record must not count any more.", "released", "release"),
			act(gateway.Retire, "retire", "keep a device out for good: its life has ended", "", "retired"),
			act(gateway.Reinstate, "reinstate", "take a retirement back that was a slip", "", "reinstated"),
			act(gateway.AllowRekey, "allow-rekey", "let a device's next other key take the place of its key, once",
				"For a device that was set back to an earlier key, or whose reissued certificate begins no later than the one before.", "allowed another key, once"),
			act(gateway.Unflag, "unflag", "take a device's flags away, once somebody has looked", "", "without flags"),
			{Name: "note", Usage: "replace a device's notes", ArgsUsage: "ID TEXT", Flags: with(why),
				Description: "Example:\n  hanaper-gateway devices note --config gateway.yaml vin-0001 \"test bench 3, Olga\"", Action: onRecords(noteDevice)},
			{Name: "import", Usage: "register devices of a list before they come, all of them or none", ArgsUsage: "FILE",
				Description: "FILE is CSV. Its first line names the columns: device_id, and if you like environment, key_sha256 (of the SubjectPublicKeyInfo that the device\n" +
					"will have, in hex), generation (the least that is taken) and notes.\n\n" +
					"Example:\n  hanaper-gateway devices import --config gateway.yaml --dry-run delivery-12.csv",
				Flags: with(why, &cli.BoolFlag{Name: "dry-run", Usage: "check the list, and change nothing"}), Action: onRecords(importDevices)},
			{Name: "export", Usage: "write all devices, or those that are asked for, to standard output",
				Description: "Example:\n  hanaper-gateway devices export --config gateway.yaml --format ndjson > devices.ndjson", Before: shell.NoArgs,
				Flags: with(&cli.StringFlag{Name: "format", Value: "csv", Usage: "csv or ndjson"},
					&cli.StringFlag{Name: "state", Usage: "only those in this `STATE`"}, &cli.StringFlag{Name: "flag", Usage: "only those with this `FLAG`, or any"},
					&cli.StringFlag{Name: "prefix", Usage: "only ids that begin with `TEXT`"}), Action: onRecords(exportDevices)},
			{Name: "log", Usage: "show what was done with devices: who, when, what and why, the latest first",
				Description: "Example:\n  hanaper-gateway devices log --config gateway.yaml --limit 20", Before: shell.NoArgs,
				Flags: with(&cli.StringFlag{Name: "device", Usage: "only acts on this device `ID`"}, &cli.Int64Flag{Name: "before", Usage: "begin before act number `N`"},
					&cli.IntFlag{Name: "limit", Value: 100, Usage: "show at most `N`"}), Action: onRecords(showLog)},
		},
	}
}

// records is what the verbs work on, with what they need to know of it.
type records struct {
	gateway.Records
	// environment is the one meant; "" for all.
	environment string
	// known refuses the name of an environment that the configuration does not have; nil without one.
	known func(string) error
}

// onRecords runs do on the records that the flags name.
func onRecords(do func(*cli.Context, records) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		r := records{environment: c.String("environment")}
		open, err := r.open(c)
		if err != nil {
			return err
		}
		defer func() {
			if e := open.Close(); err == nil {
				err = e
			}
		}()
		return do(c, r)
	}
}

// open opens the registry: by the socket of the gateway where one runs, else itself.
func (r *records) open(c *cli.Context) (io.Closer, error) {
	path, config := c.String("registry"), c.String("config")
	if (config == "") == (path == "") {
		return nil, advice.New(advice.Usage, "--config FILE or --registry FILE", "name the registry, once")
	}
	if path != "" {
		if _, err := os.Stat(path); err != nil {
			return nil, advice.New(advice.Usage, "the gateway makes it when it is started first", "registry: %w", err)
		}
		open, err := sqlite.Open(sqlite.Config{Path: path, Environment: r.environment})
		if err != nil {
			return nil, err
		}
		r.Records = open
		return open, nil
	}
	settings, err := gateway.LoadSettings(config)
	if err != nil {
		return nil, err
	}
	r.known = hasEnvironment(settings)
	if list := settings.Environments(); r.environment == "" && len(list) == 1 {
		r.environment = list[0].Name()
	} else if r.environment != "" {
		if _, err := settings.Environment(r.environment); err != nil {
			return nil, err
		}
	}
	if socket := settings.Control().Socket; socket != "" {
		client, err := control.Dial(socket)
		if err != nil {
			return nil, advice.Wrap(advice.Refused, err, "be of the group in control.group, or the gateway's own user")
		}
		if client != nil {
			r.Records = client
			return client, nil
		}
	}
	open, err := openExisting(c.Context, settings)
	if err != nil {
		return nil, err
	}
	r.Records = open
	return open, nil
}

// one is the environment of an act or a question about one device.
func (r records) one(ctx context.Context) (string, error) {
	if r.environment != "" {
		return r.environment, nil
	}
	counts, err := r.Counts(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range counts {
		if r.environment != "" && c.Environment != r.environment {
			return "", advice.New(advice.Usage, "--environment NAME", "the registry has devices of several environments")
		}
		r.environment = c.Environment
	}
	if r.environment == "" {
		return "", advice.New(advice.Usage, "--environment NAME", "the registry is empty: name the environment")
	}
	return r.environment, nil
}

// whoAmI is who acts where no gateway is asked who it is.
func whoAmI() string {
	if u, err := user.Current(); err == nil {
		return fmt.Sprintf("uid %s (%s)", u.Uid, u.Username)
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

func actOn(verb gateway.Verb, done string) func(*cli.Context, records) error {
	return func(c *cli.Context, r records) error {
		name, err := deviceArg(c)
		if err != nil {
			return err
		}
		return r.act(c, gateway.Act{Verb: verb, Device: name}, done)
	}
}

func (r records) act(c *cli.Context, a gateway.Act, done string) (err error) {
	if a.Environment, err = r.one(c.Context); err != nil {
		return err
	}
	a.By = gateway.By{Who: whoAmI(), Why: c.String("why"), At: time.Now()}
	if err := r.Do(c.Context, a); err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]string{"environment": a.Environment, "device_id": a.Device, "done": string(a.Verb)})
	}
	fmt.Fprintf(c.App.Writer, "%s is %s\n", show.Text(a.Device), done)
	return nil
}

func noteDevice(c *cli.Context, r records) error {
	args, err := shell.Args(c, "ID", "TEXT")
	if err != nil {
		return err
	}
	if err := gateway.CheckName(args[0]); err != nil {
		return advice.Wrap(advice.Usage, err, "a device id is the CN of its certificate")
	}
	return r.act(c, gateway.Act{Verb: gateway.Note, Device: args[0], Text: args[1]}, "noted")
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
