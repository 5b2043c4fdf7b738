package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/office"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func delegationsCommand() *cli.Command {
	name := &cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "`NAME` of the delegation"}
	return &cli.Command{
		Name: "delegations", Usage: "metadata that others sign: files, without or with a repository",
		Subcommands: []*cli.Command{
			{
				Name: "init", Usage: "print an empty delegation document",
				Action: func(c *cli.Context) error {
					b, err := repo.NewDelegation(office.RootLifetime.After(time.Now()))
					if err == nil {
						_, err = show.Raw(c.App.Writer, b)
					}
					return err
				},
			},
			{
				Name: "sign", Usage: "sign a delegation document; signatures that it has stay",
				Flags: []cli.Flag{keyNamesFlag(true), keysPathFlag(), inputFlag("the `FILE` to sign"), inPlaceFlag()},
				Action: func(c *cli.Context) error {
					b, err := readInput(c.String("input"))
					if err != nil {
						return err
					}
					signed, err := repo.SignDelegation(c.Context, userKeys(c), b, c.StringSlice("key-name")...)
					if err != nil {
						return err
					}
					return output(c, signed)
				},
			},
			{
				Name: "renew", Usage: "raise version and expiry of a document, signed or not, for its next release (not in garage-sign); then sign it",
				Flags: append([]cli.Flag{
					inputFlag("the `FILE` to change"), inPlaceFlag(),
					&cli.StringFlag{Name: "version", Usage: "`VERSION` in place of the next one"},
				}, expiryFlags()...),
				Action: renewDelegation,
			},
			{
				Name: "push", Usage: "give a signed delegation document to the server",
				Flags: []cli.Flag{repoFlag(), name, inputFlag("the signed `FILE`")}, Action: pushDelegation,
			},
			{
				Name: "pull", Usage: "fetch a delegation document from the server",
				Flags: []cli.Flag{repoFlag(), name, &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write it to `FILE` instead of printing it"}}, Action: pullDelegation,
			},
			{
				Name: "add-target", Usage: "add a target to a delegation document, which must be signed anew",
				Flags: append(targetFlags(true), inputFlag("the `FILE` to change"), inPlaceFlag()),
				Action: func(c *cli.Context) error {
					b, err := delegationTarget(c)
					if err != nil {
						return err
					}
					return output(c, b)
				},
			},
		},
	}
}

func renewDelegation(c *cli.Context) error {
	o, err := expiry(c)
	if err != nil {
		return err
	}
	number, err := version(c)
	if err != nil {
		return err
	}
	now, life := time.Now(), office.RootLifetime
	if o.ExpireAfter != nil {
		life = *o.ExpireAfter
	}
	expires := life.After(now)
	if o.Expires != nil {
		expires = *o.Expires
	}
	if expires.Before(now) && !c.Bool("force") {
		return advice.New(advice.Refused, "give another date, or --force", "the expiry %s is in the past", expires.Format(time.RFC3339))
	}
	b, err := readInput(c.String("input"))
	if err != nil {
		return err
	}
	next, out, err := repo.RenewDelegation(b, number, expires)
	if err != nil {
		return err
	}
	if err := output(c, out); err != nil {
		return err
	}
	say(c, "unsigned, version %d, expires %s", next.Version(), next.Expires().Format(time.RFC3339))
	return nil
}

// output prints a result, or puts it in place of the input.
func output(c *cli.Context, b []byte) error {
	if c.Bool("inplace") {
		return durable.WriteFile(c.String("input"), b, 0o600)
	}
	_, err := show.Raw(c.App.Writer, b)
	return err
}

func targetsDelegationsCommand() *cli.Command {
	return &cli.Command{
		Name: "delegations", Usage: "what the targets delegate to others",
		Subcommands: []*cli.Command{{
			Name: "add", Usage: "let other keys sign for targets whose names match a pattern",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "`NAME` of the delegation"},
				&cli.StringSliceFlag{Name: "prefix", Aliases: []string{"p"}, Required: true, Usage: "`PATTERN` of target names, such as 'supplier01*'; may be repeated"},
				&cli.StringSliceFlag{Name: "key", Aliases: []string{"k"}, Required: true, Usage: "public key `FILE` of who signs; may be repeated"},
				&cli.IntFlag{Name: "threshold", Aliases: []string{"t"}, Value: 1, Usage: "`NUMBER` of keys that must sign (not in garage-sign)"},
				&cli.BoolFlag{Name: "terminating", Usage: "end the search for a matching target here (not in garage-sign)"},
			},
			Action: addDelegation,
		}, {
			Name: "list", Usage: "show the delegations of the unsigned targets.json, in the order in which they are searched (not in garage-sign)",
			Action: listDelegations,
		}, {
			Name: "remove", Usage: "take a delegation away: devices cannot install its targets any more (not in garage-sign)",
			Flags: []cli.Flag{&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "`NAME` of the delegation"}},
			Action: func(c *cli.Context) error {
				r, err := openRepo(c)
				if err != nil {
					return err
				}
				path, err := r.RemoveDelegation(c.String("name"))
				if err == nil {
					say(c, "removed delegation %s from %s; sign the targets and push them", show.Text(c.String("name")), show.Text(path))
				}
				return err
			},
		}},
	}
}

func listDelegations(c *cli.Context) error {
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	t, err := r.UnsignedTargets()
	if err != nil {
		return err
	}
	list := t.Delegations()
	if len(list) == 0 {
		say(c, "no delegations in the unsigned targets.json")
	}
	for _, d := range list {
		line := fmt.Sprintf("%s: %d of %d keys", d.Name, d.Threshold, len(d.Keys))
		if d.Terminating {
			line += ", terminating"
		}
		line += ", for"
		for _, p := range d.Paths {
			line += " " + strconv.Quote(p)
		}
		fmt.Fprintln(c.App.Writer, line)
		for _, k := range d.Keys {
			fmt.Fprintf(c.App.Writer, "  %s %s\n", k.ID(), k.Type())
		}
	}
	return nil
}

func addDelegation(c *cli.Context) error {
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	d := uptane.Delegation{Name: c.String("name"), Paths: c.StringSlice("prefix"), Terminating: c.Bool("terminating")}
	d.Threshold = c.Int("threshold")
	for _, file := range c.StringSlice("key") {
		k, err := fileOrName(r.Keys(), file)
		if err != nil {
			return err
		}
		d.Keys = append(d.Keys, k)
	}
	path, err := r.AddDelegation(d)
	if err == nil {
		say(c, "added delegation %s to %s", d.Name, path)
	}
	return err
}

func openDelegations(c *cli.Context) (*repo.Repository, *reposerver.Client, error) {
	r, err := openRepo(c)
	if err != nil {
		return nil, nil, err
	}
	if r.Kind() == uptane.Director {
		return nil, nil, advice.New(advice.Usage, "use the image repository", "%s is a director repository and does not support delegations", r.Dir())
	}
	server, err := openServer(c, r)
	return r, server, err
}

// delegationAuthority is who must sign a delegation, as far as the repository's pulled targets say; false if it has none.
func delegationAuthority(r *repo.Repository, name string) (uptane.Authority, bool, error) {
	targets, err := r.PulledTargets()
	if errors.Is(err, fs.ErrNotExist) {
		return uptane.Authority{}, false, nil
	}
	if err != nil {
		return uptane.Authority{}, false, err
	}
	a, err := uptane.DelegationAuthority(targets, name)
	return a, true, advice.Wrap(advice.Refused, err, "add it with targets delegations add, then sign and push the targets")
}

func pushDelegation(c *cli.Context) error {
	b, err := readInput(c.String("input"))
	if err != nil {
		return err
	}
	doc, err := uptane.ParseTargets(uptane.Image, b, uptane.Local())
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("input"), err)
	}
	r, server, err := openDelegations(c)
	if err != nil {
		return err
	}
	data := doc.Bytes()
	a, known, err := delegationAuthority(r, c.String("name"))
	if err != nil {
		return err
	}
	if known {
		if data, err = uptane.Emit(doc, a); err != nil {
			return err
		}
	} else {
		warn(c, "no targets were pulled, so that the server alone judges the signatures")
	}
	if err := uptane.CheckExpiry(doc, time.Now()); err != nil {
		return err
	}
	if err := server.PushDelegation(c.Context, c.String("name"), data); err != nil {
		var answer *reposerver.ResponseError
		if !errors.As(err, &answer) || answer.Status != http.StatusBadRequest {
			return err
		}
		return advice.Wrap(advice.Refused, err, "a document that the server has already is released again with delegations renew, delegations sign, delegations push")
	}
	say(c, "Pushed delegation %s, version %d", c.String("name"), doc.Version())
	return nil
}

func pullDelegation(c *cli.Context) error {
	r, server, err := openDelegations(c)
	if err != nil {
		return err
	}
	b, err := server.Delegation(c.Context, c.String("name"))
	if err != nil {
		return err
	}
	doc, err := uptane.ParseTargets(uptane.Image, b)
	if err != nil {
		return err
	}
	a, known, err := delegationAuthority(r, c.String("name"))
	if err != nil {
		return err
	}
	if known {
		if err := a.Verify(doc); err != nil {
			return err
		}
	} else {
		warn(c, "no targets were pulled, so that the signatures are not verified")
	}
	if out := c.String("output"); out != "" {
		return durable.WriteFile(out, doc.Bytes(), 0o600)
	}
	_, err = show.Raw(c.App.Writer, append(doc.Bytes(), '\n'))
	return err
}
