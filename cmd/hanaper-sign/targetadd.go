package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

func addTargetCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add a target to the unsigned targets.json, in place of one of the same name and version",
		Flags: targetFlags(true),
		Action: func(c *cli.Context) error {
			n, err := newTarget(c)
			if err != nil {
				return err
			}
			r, err := openRepo(c)
			if err != nil {
				return err
			}
			path, err := putTarget(r, n)
			if err == nil {
				say(c, "added target to %s", path)
			}
			return err
		},
	}
}

// newTarget reads the flags that describe a target.
func newTarget(c *cli.Context) (repo.NewTarget, error) {
	n := repo.NewTarget{
		Name: c.String("name"), Version: c.String("version"), SHA256: c.String("sha256"), URL: c.String("url"),
		HardwareIDs: list(c.String("hardwareids")), CustomMeta: json.RawMessage(c.String("customMeta")), Now: time.Now(),
	}
	if c.IsSet("length") {
		length, err := strconv.ParseInt(c.String("length"), 10, 64)
		if err != nil || length < 0 {
			return n, usagef("length %q is not a number of bytes", c.String("length"))
		}
		n.Length = length
	}
	if f := c.String("format"); f != "" {
		n.Format = uptane.TargetFormat(strings.ToUpper(f))
		if n.Format != uptane.OSTree && n.Format != uptane.Binary {
			return n, usagef("format %q is neither ostree nor binary", f)
		}
	}
	if c.IsSet("sha256") && (len(n.SHA256) != 64 || strings.Trim(strings.ToLower(n.SHA256), "0123456789abcdef") != "") {
		return n, usagef("--sha256 wants 64 hex digits")
	}
	if len(n.HardwareIDs) == 0 {
		return n, usagef("--hardwareids names no hardware")
	}
	if m := n.CustomMeta; len(m) > 0 {
		var object map[string]json.RawMessage
		if json.Unmarshal(m, &object) != nil || object == nil {
			return n, usagef("--customMeta wants a JSON object")
		}
		for _, name := range uptane.ReservedCustom() {
			if _, ok := object[name]; ok {
				return n, usagef("--customMeta holds %q, which the tool sets itself", name)
			}
		}
		if _, err := uptane.Canonical(m); err != nil {
			return n, usagef("--customMeta: %w", err)
		}
	}
	return n, nil
}

// putTarget adds a target. One that replaces another keeps the time at which that one was created.
func putTarget(r *repo.Repository, n repo.NewTarget) (path string, err error) {
	name, t, err := n.Build()
	if err != nil {
		return "", err
	}
	return r.EditTargets(func(c *uptane.TargetsConfig) error {
		if old, ok := c.Targets[name]; ok {
			was, err := old.ImageCustom()
			if err == nil && !was.CreatedAt.IsZero() {
				is, err := t.ImageCustom()
				if err != nil {
					return err
				}
				is.CreatedAt = was.CreatedAt
				if t.Custom, err = is.JSON(); err != nil {
					return err
				}
			}
		}
		c.Targets[name] = t
		return nil
	})
}

func delegationTarget(c *cli.Context) ([]byte, error) {
	n, err := newTarget(c)
	if err != nil {
		return nil, err
	}
	b, err := readInput(c.String("input"))
	if err != nil {
		return nil, err
	}
	out, err := repo.AddTargetToDelegation(b, n)
	return out, advice.Wrap(advice.KindOf(err), err, "")
}
