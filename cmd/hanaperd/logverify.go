package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/journal"
)

var noArgs = shell.NoArgs

var sinceFlag = &cli.StringSliceFlag{Name: "since", Usage: "checkpoint `FILE` that somebody kept (a station, a trust publication, a witness); repeat for more", TakesFile: true}

func logVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "check the whole issuance log against its checkpoint, the record, and checkpoints that others kept; or an archive, or a proof",
		Description: "Needs no token; hanaperd may be running. With --archive and --verifier it needs no configuration: for an auditor, elsewhere.\nExit code 4 if anything does not agree.\n\n" +
			"Example:\n  hanaperd log verify --config hanaperd.yaml --since station.checkpoint\n  hanaperd log verify --archive audit-2026 --verifier \"$VKEY\" --since last-year.checkpoint\n" +
			"  hanaperd log verify --proof vin-0001.json --verifier \"$VKEY\"",
		Flags: []cli.Flag{configFlag, sinceFlag,
			&cli.StringFlag{Name: "archive", Usage: "archive `FOLDER` to check in place of the configuration's log", TakesFile: true},
			&cli.StringFlag{Name: "verifier", Usage: "the log's verifier `KEY`, from elsewhere than the archive"},
			&cli.StringFlag{Name: "proof", Usage: "`FILE` of 'hanaperd log prove' to check instead of a log", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Before: noArgs,
		Action: verifyLog,
	}
}

func verifyLog(c *cli.Context) error {
	if c.String("proof") != "" {
		return verifyProof(c)
	}
	conf := logbook.AuditConfig{}
	progress := term.Stderr()
	conf.Step = func(done, of int64) { progress.Step("entry %d of %d", done, of) }
	var files logbook.Files
	against := "its checkpoint"
	switch {
	case c.String("archive") != "":
		policy, err := givenPolicy(c)
		if err != nil {
			return err
		}
		conf.Policy, files = policy, logbook.Folder(c.String("archive"))
	default:
		fc, policy, err := configuredPolicy(c)
		if err != nil {
			return err
		}
		store, err := readRecord(c.Context, fc)
		if err != nil {
			return err
		}
		defer store.Close()
		leaf, err := issuancelog.Compare(c.Context, issuancelog.Of(store))
		if err != nil {
			return err
		}
		conf.Policy, conf.Leaf, files = policy, leaf, logbook.Folder(fc.Log.Folder)
		against = "its checkpoint and the record"
	}
	var err error
	if conf.Since, err = readSince(c); err != nil {
		return err
	}
	a, err := logbook.Check(c.Context, files, conf)
	if err != nil {
		return advice.Wrap(advice.Unverified, err, advice.Hint(err))
	}
	progress.Done("%d entries agree with %s, and with %d other checkpoints", a.Checkpoint.Size, against, len(conf.Since))
	return printAudit(c, a)
}

func printAudit(c *cli.Context, a *logbook.Audit) error {
	counts := map[string]int64{}
	var rows [][]string
	for _, k := range logbook.Kinds() {
		if n := a.Counts[k]; n > 0 {
			counts[k.String()] = n
			rows = append(rows, []string{k.String(), strconv.FormatInt(n, 10)})
		}
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]any{"origin": a.Checkpoint.Origin, "size": a.Checkpoint.Size, "root": a.Checkpoint.Root.String(), "cosigned": a.Checkpoint.Cosigned, "entries": counts})
	}
	shell.Table(c.App.Writer, []string{"log", "size", "root"}, [][]string{{a.Checkpoint.Origin, strconv.FormatInt(a.Checkpoint.Size, 10), a.Checkpoint.Root.String()}})
	shell.Table(c.App.Writer, []string{"kind", "entries"}, rows)
	return nil
}

// givenPolicy is the policy of the command line: the verifier key must come from elsewhere than what it verifies.
func givenPolicy(c *cli.Context) (*logbook.Policy, error) {
	if c.String("verifier") == "" {
		hint := "give --verifier; it comes from the factory or the ceremony's paper"
		if dir := c.String("archive"); dir != "" {
			if key, err := logbook.ReadVerifier(dir); err == nil {
				hint = "compare the key that the archive names with one that you have from elsewhere, and give it: --verifier '" + show.Text(key) + "'"
			}
		}
		return nil, advice.New(advice.Usage, hint, "no verifier key is given")
	}
	return logbook.NewPolicy(logbook.PolicyConfig{Key: c.String("verifier")})
}

func configuredPolicy(c *cli.Context) (*factory.Config, *logbook.Policy, error) {
	conf, err := factory.LoadConfig(c.String("config"))
	if err != nil {
		return nil, nil, err
	}
	policy, err := logPolicy(conf)
	return conf, policy, err
}

func readSince(c *cli.Context) (list [][]byte, err error) {
	for _, at := range c.StringSlice("since") {
		data, err := input.Read(at, journal.MaxCheckpoint)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		list = append(list, data)
	}
	return list, nil
}

// readRecord opens the record to be read only, also while a hanaperd uses it.
func readRecord(ctx context.Context, c *factory.Config) (record.Store, error) {
	if c.Store.Postgres != "" {
		return openStore(ctx, c)
	}
	return sqlite.Read(ctx, c.State)
}

func verifyProof(c *cli.Context) error {
	policy, err := givenPolicy(c)
	if c.String("verifier") == "" && c.IsSet("config") {
		_, policy, err = configuredPolicy(c)
	}
	if err != nil {
		return err
	}
	data, err := input.Read(c.String("proof"), logbook.MaxProof)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	list, err := logbook.ParseOpenings(c.String("proof"), data)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, o := range list {
		d, cp, err := o.Check(policy)
		if err != nil {
			return advice.Wrap(advice.Unverified, fmt.Errorf("%s: %w", show.Text(c.String("proof")), err), "")
		}
		rows = append(rows, []string{strconv.FormatUint(d.Index, 10), d.Kind.String(), o.DeviceID, hex.EncodeToString(d.Serial), d.Time.UTC().Format(time.RFC3339), strconv.FormatInt(cp.Size, 10)})
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, rows)
	}
	shell.Table(c.App.Writer, []string{"entry", "kind", "device", "serial", "time", "in a log of"}, rows)
	return nil
}

func logProveCommand() *cli.Command {
	return &cli.Command{
		Name:  "prove",
		Usage: "write a file that proves what the issuance log says about a device",
		Description: "The file names the device, which is personal data. Needs no token; hanaperd may be running. An entry that the last checkpoint does not cover yet is left out.\n\n" +
			"Example:\n  hanaperd log prove --config hanaperd.yaml --out vin-0001.json vin-0001",
		ArgsUsage: "ID",
		Flags:     []cli.Flag{configFlag, &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "`FILE`, which must not exist", TakesFile: true}},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "ID")
			if err != nil {
				return err
			}
			conf, policy, err := configuredPolicy(c)
			if err != nil {
				return err
			}
			if err := mustNotExist(c.String("out")); err != nil {
				return err
			}
			store, err := readRecord(c.Context, conf)
			if err != nil {
				return err
			}
			defer store.Close()
			list, err := issuancelog.Prove(c.Context, issuancelog.ProveConfig{Files: logbook.Folder(conf.Log.Folder), Policy: policy, Record: issuancelog.Of(store),
				Same: func(id string) bool { return record.Fold(id) == record.Fold(args[0]) }})
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return advice.New(advice.Refused, "is the id right? an entry is covered by a checkpoint about a second after it was made", "the issuance log has no entry about %s", show.Text(args[0]))
			}
			data, err := logbook.MarshalOpenings(list)
			if err != nil {
				return err
			}
			if err := durable.Create(c.String("out"), data, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(c.App.ErrWriter, "hanaperd: %d entries about %s; %s names the device\n", len(list), show.Text(args[0]), show.Text(c.String("out")))
			return nil
		},
	}
}

func logArchiveCommand() *cli.Command {
	return &cli.Command{
		Name:        "archive",
		Usage:       "check the issuance log and copy it, up to its last checkpoint, into a folder for an auditor; it names no device",
		Description: "Needs no token; hanaperd may be running.\n\nExample:\n  hanaperd log archive --config hanaperd.yaml --out audit-2026",
		Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "`FOLDER`, which must not exist", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Before: noArgs,
		Action: func(c *cli.Context) error {
			conf, policy, err := configuredPolicy(c)
			if err != nil {
				return err
			}
			a, err := logbook.Copy(c.Context, logbook.Folder(conf.Log.Folder), policy, c.String("out"))
			if err != nil {
				return advice.Wrap(advice.Unverified, err, advice.Hint(err))
			}
			return printAudit(c, a)
		},
	}
}

func logRebuildCommand() *cli.Command {
	return &cli.Command{
		Name:  "rebuild",
		Usage: "make the issuance log's folder anew from the record, when it was deleted or damaged; the old folder is kept",
		Description: "hanaperd must not be running. Nothing is signed: the new log must have the root of the record's last checkpoint, and of those given with --since, or nothing is changed.\n\n" +
			"Example:\n  hanaperd log rebuild --config hanaperd.yaml --since station.checkpoint",
		Flags:  []cli.Flag{configFlag, sinceFlag},
		Before: noArgs,
		Action: rebuildLog,
	}
}

func rebuildLog(c *cli.Context) error {
	conf, policy, err := configuredPolicy(c)
	if err != nil {
		return err
	}
	since, err := readSince(c)
	if err != nil {
		return err
	}
	store, err := openStore(c.Context, conf)
	if err != nil {
		return err
	}
	defer store.Close()
	progress := term.Stderr()
	size, kept, err := issuancelog.Rebuild(c.Context, issuancelog.RebuildConfig{Folder: conf.Log.Folder, Policy: policy, Record: issuancelog.Of(store), Since: since, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: show.Attr, Level: slog.LevelError})), Step: func(done, of uint64) { progress.Step("entry %d of %d", done, of) }})
	if err != nil {
		return err
	}
	progress.Done("%s has %d entries", show.Text(conf.Log.Folder), size)
	if kept != "" {
		progress.Done("the old one is %s", show.Text(kept))
	}
	return nil
}
