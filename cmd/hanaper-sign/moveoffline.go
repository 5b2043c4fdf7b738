package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/uptane/office"
)

func moveOfflineCommand() *cli.Command {
	return &cli.Command{
		Name: "move-offline", Usage: "replace the server's root and targets keys by your own; run it again after any failure",
		Description: "The order is: the new root is signed by the new keys; the server's old key signs it, in memory or in the server's own token; " +
			"the server accepts it; only then are the old keys deleted from the server. Whenever it ends in between, the same command carries on. " +
			"Without --new-root, the next root is the one that is being signed in the repository.",
		Flags: []cli.Flag{
			repoFlag(),
			&cli.StringSliceFlag{Name: "new-root", Usage: "`NAME` or URI of a new root key; may be repeated"},
			&cli.StringSliceFlag{Name: "new-targets", Usage: "`NAME` or URI of a new targets key (not for a director); may be repeated"},
			&cli.StringFlag{Name: "old-root-alias", Usage: "`NAME` for the old root key's public half; if NAME.sec is there, it signs"},
			&cli.StringFlag{Name: "old-keyid", Usage: "`ID` of the old root key to sign with first"},
			&cli.IntFlag{Name: "root-threshold", Value: 1, Usage: "`NUMBER` of new root keys that must sign (not in garage-sign)"},
			&cli.IntFlag{Name: "targets-threshold", Value: 1, Usage: "`NUMBER` of new targets keys that must sign (not in garage-sign)"},
		},
		Action: moveOffline,
	}
}

func moveOffline(c *cli.Context) error {
	o, _, err := openOffice(c)
	if err != nil {
		return err
	}
	return o.MoveOffline(c.Context, office.MoveConfig{
		NewRoot: c.StringSlice("new-root"), RootThreshold: c.Int("root-threshold"),
		NewTargets: c.StringSlice("new-targets"), TargetsThreshold: c.Int("targets-threshold"),
		OldRootAlias: c.String("old-root-alias"), OldKeyID: c.String("old-keyid"),
	})
}
