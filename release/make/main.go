// Command make writes manifest.json and SHA256SUMS into the folder of a release, over all files that lie there.
// It runs where a release is made (packaging/release), and nowhere else.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/release"
)

func main() {
	app := &cli.App{Name: "make", Usage: "write the manifest of a release", ArgsUsage: "DIR PROGRAM...", Action: run}
	for _, f := range [][2]string{{"release", "its version, as v1.2.3"}, {"commit", "40 digits of hex"}, {"date", "of the commit, as 2026-11-21T09:00:00Z"}, {"platform", "linux/amd64"}, {"go", "the toolchain"}, {"cc", "the C compiler"}} {
		app.Flags = append(app.Flags, &cli.StringFlag{Name: f[0], Usage: f[1], Required: true})
	}
	os.Exit(shell.Run(app, os.Args))
}

func run(c *cli.Context) error {
	m := &release.Manifest{Type: release.Type, Version: c.String("release"), Commit: c.String("commit"), Date: c.String("date"), Platform: c.String("platform"),
		Go: c.String("go"), CC: c.String("cc"), Programs: map[string]string{}}
	for _, p := range c.Args().Tail() {
		data, err := input.Read(p, 1<<30)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		m.Programs[filepath.Base(p)] = hex.EncodeToString(sum[:])
	}
	if err := m.Make(c.Args().First(), func(path string, data []byte) error { return durable.WriteFile(path, data, 0o644) }); err != nil {
		return err
	}
	data, err := input.Read(filepath.Join(c.Args().First(), release.ManifestFile), release.MaxSize)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	fmt.Fprintf(c.App.Writer, "release %s of commit %s: %d files\nSHA-256 of manifest.json, to be compared by those who make it and those who sign it:\n  %x\n  %s\n", show.Text(m.Version), show.Text(m.Commit), len(m.Files),
		sum, quorum.Words(sum[:]))
	return nil
}
