package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func imagesCommand() *cli.Command {
	return &cli.Command{
		Name: "images", Usage: "list what was uploaded and what names it, or remove what nothing names; needs no token",
		Description: "What the current targets, a delegation or an assignment names is never removed. uploads.keep_unused has the server do the\n" +
			"rest by itself.\n\n" +
			"Example:\n  hanaper-repo uptane images --config hanaper-repo.yaml --remove-unused 720h",
		Flags: []cli.Flag{configFlag, &cli.BoolFlag{Name: "json", Usage: "for programs"},
			&cli.DurationFlag{Name: "remove-unused", Usage: "remove what nothing names and was uploaded so `LONG` ago, at least 24h"}},
		Before: shell.NoArgs, Action: images,
	}
}

func images(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	desk, err := lookDesk(cfg)
	if err != nil {
		return err
	}
	defer desk.Close()
	image, director, err := desk.open(c.Context)
	if err != nil {
		return err
	}
	var list []reposerver.Uploaded
	if c.IsSet("remove-unused") {
		list, err = reposerver.RemoveUnused(c.Context, cfg.storage(), image, director, c.Duration("remove-unused"))
	} else {
		list, err = reposerver.Uploads(c.Context, cfg.storage(), image, director)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, append([]reposerver.Uploaded{}, list...)) // [], not null
	}
	var rows [][]string
	for _, u := range list {
		rows = append(rows, []string{u.Name, strconv.FormatInt(u.Size, 10), u.At.Format(time.RFC3339), strings.Join(u.Used, ", ")})
	}
	shell.Table(c.App.Writer, []string{"file", "bytes", "uploaded", "named by"}, rows)
	return nil
}

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Usage: "make a folder that was put back from a backup fit to be served",
		Description: "Stop the server, put the folder back, and run this before the next start. What the server signs is raised above the versions\n" +
			"that devices have seen, as the high-water mark (uptane.high_water) has them. What officers signed after the backup must be given:\n" +
			"roots, targets.json and delegations, from their local repositories. Devices that registered after the backup must register\n" +
			"anew ('director allow-replacement' says how), and what was assigned after it must be assigned again.\n\n" +
			"Example:\n  hanaper-repo uptane restore --config hanaper-repo.yaml --image-targets tuf/repo/roles/targets.json",
		Flags: []cli.Flag{configFlag,
			&cli.StringSliceFlag{Name: "image-root", Usage: "root.json `FILE` that the backup lacks (repeatable, in order)", TakesFile: true},
			&cli.StringFlag{Name: "image-targets", Usage: "the newest signed targets.json `FILE`", TakesFile: true},
			&cli.StringSliceFlag{Name: "delegation", Usage: "`NAME=FILE` of a delegation's newest signed metadata (repeatable)"},
			&cli.StringSliceFlag{Name: "director-root", Usage: "the Director's root.json `FILE` that the backup lacks (repeatable, in order)", TakesFile: true},
			&cli.BoolFlag{Name: "high-water-lost", Usage: "the high-water mark is lost too: raise versions by a million"}},
		Before: shell.NoArgs, Action: restore,
	}
}

func restore(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	res := reposerver.Restored{MarkLost: c.Bool("high-water-lost"), Delegations: map[string][]byte{}}
	for flag, to := range map[string]*[][]byte{"image-root": &res.ImageRoots, "director-root": &res.DirectorRoots} {
		for _, name := range c.StringSlice(flag) {
			data, err := readMetadata(name)
			if err != nil {
				return err
			}
			*to = append(*to, data)
		}
	}
	if name := c.String("image-targets"); name != "" {
		if res.Targets, err = readMetadata(name); err != nil {
			return err
		}
	}
	for _, pair := range c.StringSlice("delegation") {
		name, file, ok := strings.Cut(pair, "=")
		if !ok {
			return advice.New(advice.Usage, "", "--delegation is NAME=FILE, not %q", pair)
		}
		if res.Delegations[name], err = readMetadata(file); err != nil {
			return err
		}
	}
	desk, err := openUptane(c.Context, cfg)
	if err != nil {
		return err
	}
	defer desk.Close()
	image, director, err := desk.open(c.Context)
	if err != nil {
		return err
	}
	release, err := reposerver.ServingLock(cfg.path(cfg.Uptane.Folder))
	if err != nil {
		return err
	}
	defer release()
	report, err := reposerver.Restore(c.Context, image, director, res)
	for _, line := range report {
		fmt.Fprintln(c.App.Writer, show.Line(line))
	}
	return err
}
