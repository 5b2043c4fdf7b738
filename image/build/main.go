// Command build makes the ceremony image from the packages in packages.lock, this repository's program and the files beside it, and
// nothing else: the same source and the same packages give the same bytes, on any day and in any folder.
//
// An attacker who can change a package on its way is stopped by its SHA-256 in packages.lock. Who can change that file, or one beside it,
// decides what the ceremony machine runs, and is stopped by those who build the image anew from a source that they have read.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	folder := &cli.StringFlag{Name: "image", Value: "image", Usage: "the `FOLDER` with contents, modules, applets, cmdline and root/"}
	packages := &cli.StringFlag{Name: "packages", Value: "image/packages", Usage: "the `FOLDER` of .deb files"}
	lock := &cli.StringFlag{Name: "lock", Value: "image/packages.lock", Usage: "the `FILE` that says which packages"}
	sources := &cli.StringFlag{Name: "sources", Value: "image/sources.lock", Usage: "the `FILE` that says which sources"}
	os.Exit(shell.Run(&cli.App{
		Name:  "build",
		Usage: "make the ceremony image",
		Commands: []*cli.Command{
			{
				Name: "lock", Usage: "write packages.lock anew: what apt, which verifies its indices, would install today",
				Flags:  []cli.Flag{folder, lock},
				Action: func(c *cli.Context) error { return writeLock(c.App.Writer, c.String("image"), c.String("lock")) },
			},
			{
				Name: "fetch", Usage: "bring the locked packages into a folder; what is there already is only looked at",
				Flags: []cli.Flag{folder, lock, packages,
					&cli.StringFlag{Name: "anew", Usage: "where the archive no longer has a locked package, write a lock of today's into `FILE` and bring those: never for a release"}},
				Action: func(c *cli.Context) error {
					return fetchOrAnew(c.App.Writer, c.String("image"), c.String("lock"), c.String("packages"), c.String("anew"))
				},
			},
			{
				Name: "sources-lock", Usage: "write sources.lock anew: the sources of the locked packages, which must be in the folder, and their files, as apt's verified indices have them",
				Flags: []cli.Flag{lock, packages, sources},
				Action: func(c *cli.Context) error {
					return writeSources(c.App.Writer, c.String("lock"), c.String("packages"), c.String("sources"))
				},
			},
			{
				Name: "sources", Usage: "bring the files of all sources into a folder; run again, it goes on",
				Flags: []cli.Flag{lock, sources, &cli.StringFlag{Name: "out", Value: "image/sources", Usage: "the `FOLDER` for the files"},
					&cli.StringSliceFlag{Name: "only", Usage: "only the source `NAME` (repeatable)"}},
				Action: func(c *cli.Context) error {
					return fetchSources(c.App.Writer, c.String("lock"), c.String("sources"), c.String("out"), c.StringSlice("only"))
				},
			},
			{
				Name: "make", Usage: "make the image",
				Flags: []cli.Flag{folder, lock, packages,
					&cli.StringFlag{Name: "out", Value: "image/out", Usage: "the `FOLDER` for the image"},
					&cli.StringFlag{Name: "version", Required: true, Usage: "`VERSION` of the source"},
					&cli.Int64Flag{Name: "epoch", Required: true, EnvVars: []string{"SOURCE_DATE_EPOCH"}, Usage: "time of the source, in `SECONDS` since 1970"},
					&cli.StringFlag{Name: "program", Required: true, Usage: "the `FILE` that is hanaper"},
					&cli.BoolFlag{Name: "any-compiler", Usage: "take a program that other compilers made than those in the file toolchain: never for a release"},
				},
				Action: func(c *cli.Context) error {
					return build(c.App.Writer, config{image: c.String("image"), lock: c.String("lock"), packages: c.String("packages"), out: c.String("out"),
						version: c.String("version"), epoch: c.Int64("epoch"), program: c.String("program"), anyCompiler: c.Bool("any-compiler")})
				},
			},
			{
				Name: "compare", Usage: "say which file differs between two images, by their manifests", ArgsUsage: "FOLDER FOLDER",
				Action: func(c *cli.Context) error {
					folders, err := shell.Args(c, "FOLDER", "FOLDER")
					if err != nil {
						return err
					}
					return compare(c.App.Writer, folders[0], folders[1])
				},
			},
		},
	}, os.Args))
}
