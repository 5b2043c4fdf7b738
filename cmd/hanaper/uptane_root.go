package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneRootCommand() *cli.Command {
	role := &cli.StringFlag{Name: "role", Value: "root", Usage: "the `ROLE`: root, targets, snapshot or timestamp"}
	keys := &cli.StringSliceFlag{Name: "key", Required: true, Usage: "public `KEY`: a .pub or PEM file, or the pkcs11: URI of a key, which must prove that it can sign; may be repeated"}
	transcript := &cli.StringFlag{Name: "transcript", Usage: "the log `FILE` to add to, or to begin, which nobody signs; needed for a key in a token"}
	return &cli.Command{
		Name: "root", Usage: "draft the next root",
		Subcommands: []*cli.Command{
			{
				Name: "new-version", Usage: "begin a draft of the version after ROOT",
				Description: "Example:\n  hanaper uptane root new-version --expire-after 1Y --out root.draft.json 1.root.json", ArgsUsage: "ROOT",
				Flags:  append(expiryFlags(), outFlag("write the draft to `FILE`")),
				Action: newRootVersion,
			},
			{
				Name: "add-key", Usage: "let keys sign for a role",
				Description: "Example:\n  hanaper uptane root add-key --role targets --key grace-targets.pub root.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{role, keys, transcript, answersFlag},
				Action: func(c *cli.Context) error {
					more, err := keysFor(c)
					if err != nil {
						return err
					}
					return editRole(c, func(rk *uptane.RoleKeys) error { rk.Keys = addKeys(rk.Keys, more); return nil })
				},
			},
			{
				Name: "remove-key", Usage: "take keys away from a role",
				Description: "Example:\n  hanaper uptane root remove-key --role targets --key-id 4f0a1b2c... root.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{role, &cli.StringSliceFlag{Name: "key-id", Required: true, Usage: "`ID` of the key; may be repeated"}},
				Action: func(c *cli.Context) error {
					return editRole(c, func(rk *uptane.RoleKeys) error { return removeKeys(rk, c.StringSlice("key-id")) })
				},
			},
			{
				Name: "replace-key", Usage: "put keys in the place of one",
				Description: "Example:\n  hanaper uptane root replace-key --role root --key-id 4f0a1b2c... --key new-root.pub root.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{role, keys, transcript, answersFlag, &cli.StringSliceFlag{Name: "key-id", Required: true, Usage: "`ID` of the key that goes"}},
				Action: func(c *cli.Context) error {
					more, err := keysFor(c)
					if err != nil {
						return err
					}
					return editRole(c, func(rk *uptane.RoleKeys) error {
						if err := removeKeys(rk, c.StringSlice("key-id")); err != nil {
							return err
						}
						rk.Keys = addKeys(rk.Keys, more)
						return nil
					})
				},
			},
			{
				Name: "set-threshold", Usage: "say how many different keys must sign for a role",
				Description: "Example:\n  hanaper uptane root set-threshold --role targets --threshold 2 root.draft.json", ArgsUsage: "DRAFT",
				Flags: []cli.Flag{role, &cli.IntFlag{Name: "threshold", Required: true, Usage: "`NUMBER` of keys"}},
				Action: func(c *cli.Context) error {
					n := c.Int("threshold")
					if n < 1 || n > uptane.MaxThreshold {
						return advice.New(advice.Usage, "", "threshold %d is not from 1 to %d", n, uptane.MaxThreshold)
					}
					return editRole(c, func(rk *uptane.RoleKeys) error { rk.Threshold = n; return nil })
				},
			},
		},
	}
}

func outFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "out", Required: true, Usage: usage}
}

// keysFor checks the draft before a token is touched for its sake.
func keysFor(c *cli.Context) ([]uptane.Key, error) {
	if _, _, err := rootDraft(c); err != nil {
		return nil, err
	}
	return newKeys(c, c.StringSlice("key"))
}

func newRootVersion(c *cli.Context) error {
	args, err := shell.Args(c, "ROOT")
	if err != nil {
		return err
	}
	root, err := readRoot(args[0])
	if err != nil {
		return err
	}
	if err := uptane.VerifyRoot(root); err != nil {
		return err
	}
	expires, err := expiryOf(c, uptane.Period{Years: 1})
	if err != nil {
		return err
	}
	config := root.Config()
	config.Version, config.Expires = root.Version()+1, expires
	draft, err := uptane.WriteRootDraft(config)
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), indent(draft)); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "draft of root version %d: %s\n", config.Version, c.String("out"))
	return nil
}

func rootDraft(c *cli.Context) (path string, config uptane.RootConfig, err error) {
	args, err := shell.Args(c, "DRAFT")
	if err != nil {
		return "", config, err
	}
	data, err := readBounded(args[0])
	if err != nil {
		return "", config, err
	}
	if config, err = uptane.ReadRootDraft(data); err != nil {
		return "", config, fmt.Errorf("%s: %w", args[0], err)
	}
	if _, ok := config.Roles[uptane.Role(c.String("role"))]; !ok {
		return "", config, advice.New(advice.Usage, "one of root, targets, snapshot, timestamp", "the draft has no role %q", c.String("role"))
	}
	return args[0], config, nil
}

// editRole changes one role of a draft. A threshold that the keys cannot meet is told, but it is a draft.
func editRole(c *cli.Context, change func(*uptane.RoleKeys) error) error {
	path, config, err := rootDraft(c)
	if err != nil {
		return err
	}
	role := uptane.Role(c.String("role"))
	rk := config.Roles[role]
	rk.Keys = slices.Clone(rk.Keys)
	if err := change(&rk); err != nil {
		return err
	}
	config.Roles[role] = rk
	draft, err := uptane.WriteRootDraft(config)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, indent(draft), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%s: %d of %d keys must sign\n", role, rk.Threshold, len(rk.Keys))
	if rk.Threshold > len(rk.Keys) {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s cannot be signed yet: its threshold is %d and it has %d keys\n", role, rk.Threshold, len(rk.Keys))
	}
	return nil
}

func removeKeys(rk *uptane.RoleKeys, ids []string) error {
	for _, id := range ids {
		at := slices.IndexFunc(rk.Keys, func(k uptane.Key) bool { return k.ID() == id })
		if at < 0 {
			return advice.New(advice.Usage, "see 'hanaper uptane show'", "the role has no key %s", id)
		}
		rk.Keys = slices.Delete(rk.Keys, at, at+1)
	}
	return nil
}

// createFile writes a new file and never replaces one.
func createFile(path string, data []byte) error {
	err := durable.Create(path, data, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return advice.Wrap(advice.Refused, err, "name a file that does not exist")
	}
	return err
}

func indent(data []byte) []byte {
	var b bytes.Buffer
	if json.Indent(&b, data, "", "  ") != nil {
		return data
	}
	return append(b.Bytes(), '\n')
}
