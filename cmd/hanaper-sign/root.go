package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

func rootCommand() *cli.Command {
	return &cli.Command{
		Name: "root", Usage: "the root metadata of a repository",
		Flags: []cli.Flag{repoFlag()},
		Subcommands: []*cli.Command{
			{
				Name: "pull", Usage: "fetch root.json from the server and verify it from the root that is here",
				Flags:  []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "do not verify it against the local root.json"}},
				Action: pullRoot,
			},
			{Name: "push", Usage: "give root.json to the server, after the roots before it that it lacks", Action: pushRoot},
			{
				Name: "get-unsigned", Usage: "print the unsigned root.json in canonical form: the bytes to sign elsewhere",
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					b, err := r.UnsignedRoot()
					if err == nil {
						_, err = show.Raw(c.App.Writer, b)
					}
					return err
				},
			},
			{
				Name: "increment-version", Usage: "raise the version of the unsigned root.json",
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					path, err := r.IncrementRootVersion()
					if err == nil {
						say(c, "Version incremented for unsigned root.json saved to %s", path)
					}
					return err
				},
			},
			keysOfRoleCommand("key", "keys that may sign the root", uptane.RoleRoot),
			keysOfRoleCommand("targets-key", "keys that may sign the targets", uptane.RoleTargets),
			{
				Name: "sign", Usage: "sign the unsigned root.json as the next version; signatures over the same content stay",
				Flags: append([]cli.Flag{
					keyNamesFlag(false),
					&cli.StringFlag{Name: "old-root-alias", Usage: "`NAME` of the old root's key, to sign with as well"},
					signaturesFlag(),
				}, expiryFlags()...),
				Action: func(c *cli.Context) error { return sign(c, uptane.RoleRoot) },
			},
			setThresholdCommand(uptane.RoleRoot),
		},
	}
}

func signaturesFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "signatures", Usage: "signatures made elsewhere, `NAME=BASE64`, separated by commas; they are verified, and the version is not raised"}
}

func keysOfRoleCommand(name, usage string, role uptane.Role) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage,
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add keys to the unsigned root.json",
				Flags: []cli.Flag{keyNamesFlag(true)},
				Action: func(c *cli.Context) error {
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					path, err := r.AddKeys(role, c.StringSlice("key-name")...)
					if err == nil {
						say(c, "%s keys added to unsigned root.json saved to %s", role, path)
					}
					return err
				},
			},
			{
				Name: "remove", Usage: "remove keys from the unsigned root.json, by name or by id",
				Flags: []cli.Flag{keyNamesFlag(false), &cli.StringSliceFlag{Name: "key-id", Usage: "`ID` of a key to remove; may be repeated"}},
				Action: func(c *cli.Context) error {
					ids, names := c.StringSlice("key-id"), c.StringSlice("key-name")
					if len(ids)+len(names) == 0 {
						return usagef("to remove a key, give at least one key id or key name")
					}
					r, err := openRepo(c)
					if err != nil {
						return err
					}
					path, n, err := r.RemoveKeys(role, ids, names)
					if err == nil {
						say(c, "%d keys removed from unsigned root.json saved to %s", n, show.Text(path))
					}
					return err
				},
			},
		},
	}
}

func setThresholdCommand(role uptane.Role) *cli.Command {
	return &cli.Command{
		Name: "set-threshold", Usage: "set how many keys must sign the " + string(role) + ", in the unsigned root.json",
		Flags: []cli.Flag{&cli.IntFlag{Name: "threshold", Aliases: []string{"t"}, Required: true, Usage: "`NUMBER` of different keys"}},
		Action: func(c *cli.Context) error {
			if n := c.Int("threshold"); n < 1 || n > uptane.MaxThreshold {
				return usagef("threshold %d is not from 1 to %d", n, uptane.MaxThreshold)
			}
			r, err := openRepo(c)
			if err != nil {
				return err
			}
			path, err := r.SetThreshold(role, c.Int("threshold"))
			if err == nil {
				say(c, "threshold of %s is %d in unsigned root.json saved to %s", role, c.Int("threshold"), path)
			}
			return err
		},
	}
}

func verifyRootCommand() *cli.Command {
	return &cli.Command{
		Name: "verify-root", Usage: "verify that a root.json is signed by its own keys", Hidden: true,
		Flags: []cli.Flag{&cli.StringFlag{Name: "repo", Aliases: []string{"r"}, Usage: "not used"}, inputFlag("the `FILE`")},
		Action: func(c *cli.Context) error {
			b, err := readInput(c.String("input"))
			if err != nil {
				return err
			}
			root, err := uptane.ParseRoot(b, uptane.Local())
			if err != nil {
				return err
			}
			if err := uptane.VerifyRoot(root); err != nil {
				return err
			}
			say(c, "root.json version %d is signed by its own keys", root.Version())
			return nil
		},
	}
}

func getTargetsCommand() *cli.Command {
	return &cli.Command{
		Name: "get-targets", Usage: "print the server's targets.json", Hidden: true,
		Flags: []cli.Flag{repoFlag()},
		Action: func(c *cli.Context) error {
			r, err := openRepo(c)
			if err != nil {
				return err
			}
			server, err := openServer(c, r)
			if err != nil {
				return err
			}
			b, _, err := server.Targets(c.Context)
			if err == nil {
				_, err = io.WriteString(c.App.Writer, string(b)+"\n")
			}
			return err
		},
	}
}
