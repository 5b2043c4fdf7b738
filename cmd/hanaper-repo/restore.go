package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

func restoreTrustCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "put a copy of what was published in its place, where the folder or the high-water mark is lost; needs no token", ArgsUsage: "COPY",
		Description: "Stop the server first. COPY is a copy of the published folder, a mirror's, or a gateway's folder trust.state: all of it is public. It is\n" +
			"verified in full from the root in the configuration, and must not be older than the high-water mark (high_water), than what is left of\n" +
			"the folder, and than what gateways hold: 'hanaper-gateway check --kept' says that on each, and --seen takes it. Where the mark is lost,\n" +
			"--seen is needed. What was in the folder is moved aside; then folder and mark are written. 'serve' goes on from there.\n\n" +
			"Example:\n  hanaper-repo restore --config hanaper-repo.yaml --seen 4711 --seen 4710 gateway-1/trust",
		Flags: []cli.Flag{configFlag,
			&cli.Int64SliceFlag{Name: "seen", Usage: "timestamp `VERSION` that a gateway or mirror holds (repeatable)"},
			&cli.BoolFlag{Name: "nobody-saw", Usage: "no gateway ever took anything from here"},
			&cli.BoolFlag{Name: "json", Usage: "for programs"}},
		Action: restoreTrust,
	}
}

func restoreTrust(c *cli.Context) error {
	args, err := shell.Args(c, "COPY")
	if err != nil {
		return err
	}
	seen := c.Int64Slice("seen")
	for _, v := range seen {
		if v < 1 {
			return advice.New(advice.Usage, "'hanaper-gateway check --kept' says the version of the timestamp", "--seen %d is no version", v)
		}
	}
	if len(seen) > 0 && c.Bool("nobody-saw") {
		return advice.New(advice.Usage, "", "--seen and --nobody-saw contradict each other")
	}
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return err
	}
	pin, err := cfg.pin()
	if err != nil {
		return err
	}
	if _, err := os.Stat(args[0]); err != nil {
		return advice.Wrap(advice.Usage, err, "name the folder of a copy")
	}
	files, err := copyOf(args[0])
	if err != nil {
		return err
	}
	done, err := trust.Restore(files, trust.Restoration{Dir: cfg.path(cfg.Publish), HighWater: cfg.path(cfg.HighWater), Pin: pin, Environment: cfg.Environment,
		Seen: seen, NobodySaw: c.Bool("nobody-saw"), Now: now})
	if err != nil {
		return err
	}
	v := done.View.Versions()
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, map[string]any{"restored": describe(done.View), "aside": done.Aside, "held_to_mark": done.Marked, "next_timestamp": v.Timestamp + 1})
	}
	w := c.App.Writer
	fmt.Fprintf(w, "restored %s: timestamp %d, snapshot %d, crl %d, targets %d, root %d\n", show.Text(cfg.Environment), v.Timestamp, v.Snapshot, v.CRL, v.Targets, v.Root)
	if done.Aside != "" {
		fmt.Fprintf(w, "what was there is now %s\n", show.Text(done.Aside))
	}
	held := "held against the high-water mark"
	switch {
	case !done.Marked && len(seen) > 0:
		held = "the high-water mark was lost: held against what gateways hold, and begun anew"
	case !done.Marked:
		held = "the high-water mark was lost, and nobody saw anything: begun anew"
	}
	fmt.Fprintln(w, held)
	if err := done.View.Valid(now()); err != nil {
		fmt.Fprintf(w, "gateways admit nobody on it: %v\n", err)
	}
	fmt.Fprintf(w, "'hanaper-repo serve' goes on with timestamp %d, and takes the CRLs of its sources up again; what was published after this copy, and no source has, is lost\n", v.Timestamp+1)
	return nil
}

// copyOf reads a folder as it is published, or as a gateway keeps it.
func copyOf(dir string) (fs.FS, error) {
	files, behind, err := feed.Kept(dir)
	switch {
	case err == nil && behind:
		return nil, advice.New(advice.Refused, "take another gateway's", "%s is older than what was in force at its gateway, which could not keep it", show.Text(dir))
	case err == nil:
		return files, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return input.Dir(dir), nil
}
