package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func copyCommand() *cli.Command {
	return &cli.Command{
		Name:  "copy",
		Usage: "bring an import folder to a device by ssh, and read it back",
		Description: "The system's ssh does it, with the device's host key known already: it is never taken unseen, and there is no flag for that. A folder that is there and says the same is left alone; one that says something else is refused.\n\n" +
			"Example:\n  hanaper-station copy --folder devices/vin-0001 --target root@board-7.line.example --known-hosts boards.known",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "folder", Aliases: []string{"f"}, Required: true, Usage: "import `FOLDER`, as 'hanaper-station enroll' laid it out", TakesFile: true},
			&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Required: true, Usage: "the device, `USER@HOST` or a host"},
			&cli.IntFlag{Name: "port", Aliases: []string{"p"}, Value: 22, Usage: "its ssh `PORT`"},
			&cli.StringFlag{Name: "directory", Aliases: []string{"d"}, Value: "/var/sota/import", Usage: "the `FOLDER` on the device"},
			&cli.StringFlag{Name: "identity", Usage: "ssh's private key, a `FILE`; what ssh finds itself where it is not named", TakesFile: true},
			&cli.StringFlag{Name: "known-hosts", Usage: "the `FILE` of known host keys; ssh's own where it is not named", TakesFile: true},
		},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			progress := term.Stderr()
			progress.Step("%s: copying", show.Text(c.String("target")))
			err := station.Copy(c.Context, station.CopyConfig{Folder: c.String("folder"), Target: c.String("target"), Port: c.Int("port"), Directory: c.String("directory"),
				Identity: c.String("identity"), KnownHosts: c.String("known-hosts")})
			progress.Clear()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s holds %s in %s, read back\n", show.Text(c.String("target")), show.Text(c.String("folder")), show.Text(c.String("directory")))
			return err
		},
	}
}
