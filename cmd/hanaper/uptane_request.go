package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneRequestCommand() *cli.Command {
	return &cli.Command{
		Name: "request", Usage: "pack a document, and all that officers need to judge it, into a signing request", ArgsUsage: "DOCUMENT",
		Description: "DOCUMENT is a draft, or a document with some signatures. The request holds no secret; what makes it safe is that officers compare its digest and read its diff.\n\n" +
			"Example:\n  hanaper uptane request --root root.json --previous targets.json --next --expire-after 1M --out request.json targets.draft.json",
		Flags: append([]cli.Flag{
			repositoryFlag,
			&cli.StringFlag{Name: "root", Required: true, Usage: "the root.json `FILE` in force; of a new root, the one before it"},
			&cli.StringFlag{Name: "previous", Usage: "the `FILE` that the document replaces"},
			&cli.StringFlag{Name: "parent", Usage: "for a delegation's document: the targets `FILE` that delegate to it"},
			&cli.StringFlag{Name: "delegation", Usage: "for a delegation's document: its `NAME`"},
			&cli.BoolFlag{Name: "next", Usage: "give the draft the version after the one that it replaces, and a new expiry"},
			outFlag("write the request to `FILE`"),
		}, expiryFlags()...),
		Action: makeRequest,
	}
}

func makeRequest(c *cli.Context) error {
	args, err := shell.Args(c, "DOCUMENT")
	if err != nil {
		return err
	}
	if !c.Bool("next") && (c.IsSet("expires") || c.IsSet("expire-after")) {
		return advice.New(advice.Usage, "add --next, which gives the draft its version and its date", "--expires and --expire-after change nothing without --next")
	}
	config := uptane.RequestConfig{Delegation: c.String("delegation")}
	if config.Repository, err = repositoryOf(c); err != nil {
		return err
	}
	if config.Root, err = readRoot(c.String("root")); err != nil {
		return err
	}
	if err := uptane.VerifyRoot(config.Root); err != nil {
		return fmt.Errorf("%s: %w", c.String("root"), err)
	}
	if path := c.String("parent"); path != "" {
		if config.Parent, err = readTargets(uptane.Image, path); err != nil {
			return err
		}
	}
	doc, signed, err := readDocument(config.Repository, args[0])
	if err != nil {
		return err
	}
	if path := c.String("previous"); path != "" {
		if config.Previous, _, err = readDocument(config.Repository, path); err != nil {
			return err
		}
	} else if doc.Role() == uptane.RoleRoot {
		config.Previous = config.Root
	}
	if c.Bool("next") {
		if signed {
			return advice.New(advice.Usage, "leave --next out", "%s is signed: a new version of it would lose its signatures", args[0])
		}
		if doc, err = nextVersion(c, doc, config.Previous); err != nil {
			return err
		}
	}
	config.Document = doc
	r, err := uptane.NewRequest(config)
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), r.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "request for %s: %s\ndigest %s\n", r.Title(), c.String("out"), r.Digest())
	return nil
}

// nextVersion gives a draft, such as one in roles/unsigned, the version after the document that it replaces.
func nextVersion(c *cli.Context, doc, previous uptane.Document) (uptane.Document, error) {
	after := doc
	if previous != nil {
		after = previous
	}
	switch d := doc.(type) {
	case *uptane.Root:
		expires, err := nextExpiry(c, d.Expires(), uptane.Period{Years: 1})
		if err != nil {
			return nil, err
		}
		config := d.Config()
		config.Version, config.Expires = after.Version()+1, expires
		next, err := uptane.NewRoot(config)
		return next, err
	case *uptane.Targets:
		expires, err := nextExpiry(c, d.Expires(), uptane.Period{Days: 31})
		if err != nil {
			return nil, err
		}
		config := d.Config()
		config.Version, config.Expires = after.Version()+1, expires
		next, err := uptane.NewTargets(config)
		return next, err
	}
	return nil, advice.New(advice.Usage, "", "officers sign roots and targets, not a %s", doc.Role())
}

// nextExpiry keeps a date that is later than the default.
func nextExpiry(c *cli.Context, have time.Time, otherwise uptane.Period) (time.Time, error) {
	t, err := expiryOf(c, otherwise)
	if err == nil && !c.IsSet("expires") && !c.IsSet("expire-after") && have.After(t) {
		return have, nil
	}
	return t, err
}
