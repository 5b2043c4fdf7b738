package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/postgres"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

// openStore opens the record that the configuration names.
func openStore(ctx context.Context, c *factory.Config) (record.Store, error) {
	if c.Store.Postgres == "" {
		s, err := sqlite.Open(ctx, c.State)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := openPostgres(ctx, c)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openPostgres(ctx context.Context, c *factory.Config) (*postgres.Store, error) {
	conf := postgres.Config{Database: c.Store.Postgres}
	if path := c.Store.PasswordFile; path != "" {
		st, err := os.Stat(path)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		if input.LetsOthersIn(path, st) {
			return nil, advice.New(advice.Refused, "run: chmod 600 "+path, "password file %s: mode %04o lets group or others in", show.Text(path), st.Mode().Perm())
		}
		b, err := input.Read(path, 4<<10)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		defer clear(b)
		conf.Password = strings.TrimRight(string(b), "\r\n")
	}
	return postgres.Open(ctx, conf)
}

// storeName says in words where the record is.
func storeName(c *factory.Config) string {
	if c.Store.Postgres != "" {
		return "PostgreSQL, " + show.Text(c.Store.Postgres)
	}
	return "SQLite, " + filepath.Join(c.State, sqlite.File)
}

func backupCommand() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "write the factory's record into a file, while hanaperd goes on serving",
		Description: "The file is whole, as the record was at one moment, and was read through once. It holds device ids, which are personal data.\n\n" +
			"Example:\n  hanaperd backup --config hanaperd.yaml --out factory-monday.db",
		Flags:  []cli.Flag{configFlag, &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "backup `FILE`, which must not exist", TakesFile: true}},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			conf, err := factory.LoadConfig(c.String("config"))
			if err != nil {
				return err
			}
			out := c.String("out")
			if err := backup(c.Context, conf, out); err != nil {
				return err
			}
			info, err := sqlite.Inspect(c.Context, out)
			if err != nil {
				return err
			}
			last := "none yet"
			if !info.At.IsZero() {
				last = info.At.Format(time.RFC3339)
			}
			shell.Wrote(c, "backup", out)
			shell.Table(c.App.Writer, []string{"backup", "devices", "events", "last"}, [][]string{{out, fmt.Sprint(info.Devices), fmt.Sprint(info.Sequence), last}})
			return nil
		},
	}
}

func backup(ctx context.Context, conf *factory.Config, out string) error {
	if conf.Store.Postgres == "" {
		s, err := sqlite.Read(ctx, conf.State)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Backup(ctx, out)
	}
	s, err := openPostgres(ctx, conf)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Each(ctx, func(each func(string, func([]any) error) error) error { return sqlite.Export(ctx, out, each) })
}

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:  "restore",
		Usage: "put a backup in the place of the factory's record, while no hanaperd runs",
		Description: "What was there is moved aside (SQLite), or must be empty (PostgreSQL). The restored record enrols no device until an operator\n" +
			"has accepted it: 'hanaperd store accept'. See the runbook, \"Restoring the store\".\n\n" +
			"Example:\n  hanaperd restore --config hanaperd.yaml --from factory-monday.db",
		Flags:  []cli.Flag{configFlag, &cli.StringFlag{Name: "from", Required: true, Usage: "backup `FILE`", TakesFile: true}},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			conf, err := factory.LoadConfig(c.String("config"))
			if err != nil {
				return err
			}
			from := c.String("from")
			reason := "it was restored from " + filepath.Base(from)
			if conf.Store.Postgres == "" {
				aside, err := sqlite.Restore(c.Context, conf.State, from, reason)
				if err != nil {
					return err
				}
				if aside != "" {
					fmt.Fprintf(c.App.Writer, "what was there is now %s\n", show.Text(aside))
				}
			} else if err := restorePostgres(c.Context, conf, from, reason); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "restored %s; start hanaperd, have the stations report, then accept it: 'hanaperd store accept'\n", show.Text(from))
			return nil
		},
	}
}

func restorePostgres(ctx context.Context, conf *factory.Config, from, reason string) error {
	if _, err := sqlite.Inspect(ctx, from); err != nil {
		return err
	}
	s, err := openPostgres(ctx, conf)
	if err != nil {
		return err
	}
	defer s.Close()
	backup, err := sqlite.ReadFile(ctx, from)
	if err != nil {
		return err
	}
	defer backup.Close()
	return s.Restore(ctx, reason, func(table string, put func([]any) error) error { return tables.Each(ctx, backup.DB, table, put) })
}

func storeCommand() *cli.Command {
	return &cli.Command{
		Name:  "store",
		Usage: "as an operator, look at a running hanaperd's record and accept one that was restored",
		Subcommands: []*cli.Command{{
			Name:        "show",
			Usage:       "show whether the record is held, why, and how far it is",
			Description: "Example:\n  hanaperd store show --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key",
			Flags:       callerFlags(),
			Before:      shell.NoArgs,
			Action: func(c *cli.Context) error {
				client, err := caller(c)
				if err != nil {
					return err
				}
				a, err := client.Store(c.Context)
				if err != nil {
					return err
				}
				return printStore(c, a)
			},
		}, {
			Name:  "take-in",
			Usage: "show hanaperd certificates that were got from it (PEM); those that its record lacks are taken in",
			Description: "A station does the same by itself, with 'hanaper-station report'.\n\n" +
				"Example:\n  hanaperd store take-in --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key got-by-line-3.pem",
			ArgsUsage: "FILE",
			Flags:     callerFlags(),
			Action: func(c *cli.Context) error {
				args, err := shell.Args(c, "FILE")
				if err != nil {
					return err
				}
				client, err := caller(c)
				if err != nil {
					return err
				}
				certs, err := factory.LoadCertificates(args[0])
				if err != nil {
					return err
				}
				sent, lacked, err := client.Report(c.Context, certs)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.App.Writer, "%d certificates were shown, %d of them were lacking and are taken in\n", sent, lacked)
				return nil
			},
		}, {
			Name:        "accept",
			Usage:       "have devices enrolled again, after all that can be known of what is missing was taken in",
			Description: "Example:\n  hanaperd store accept --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --note \"restored Monday's backup; all 4 stations have reported\"",
			Flags:       append(callerFlags(), &cli.StringFlag{Name: "note", Required: true, Usage: "what was found and done, in `WORDS`; kept in the record"}),
			Before:      shell.NoArgs,
			Action: func(c *cli.Context) error {
				client, err := caller(c)
				if err != nil {
					return err
				}
				a, err := client.Accept(c.Context, c.String("note"))
				if err != nil {
					return err
				}
				return printStore(c, a)
			},
		}, {
			Name:  "clock",
			Usage: "have hanaperd take its clock as right, after you compared it with another",
			Description: "hanaperd signs nothing while its clock does not fit to its record, or was set while it ran. It goes on by itself when the clock is put right; " +
				"this verb is for a clock that is right, while the record is not, as after weeks in which the line stood still, or after a clock that had been wrong for long. " +
				"A revocation list that the wrong clock dated is followed by one with the right date.\n\n" +
				"Example:\n  hanaperd store clock --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --note \"compared with my phone; the line stood still over Christmas\"",
			Flags:  append(callerFlags(), &cli.StringFlag{Name: "note", Required: true, Usage: "what the clock was compared with, in `WORDS`; kept in the record"}),
			Before: shell.NoArgs,
			Action: func(c *cli.Context) error {
				client, err := caller(c)
				if err != nil {
					return err
				}
				a, err := client.AcceptClock(c.Context, c.String("note"))
				if err != nil {
					return err
				}
				return printStore(c, a)
			},
		}},
	}
}

func printStore(c *cli.Context, a *factory.StoreAnswer) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, a)
	}
	held := "no: devices are enrolled"
	if a.Held != "" {
		held = "yes: " + a.Held
	}
	shell.Table(c.App.Writer, []string{"held", "events"}, [][]string{{held, fmt.Sprint(a.Sequence)}})
	return nil
}
