package main

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/office"
	"github.com/hanaper/hanaper/uptane/repo"
)

// sign is root sign and targets sign.
func sign(c *cli.Context, role uptane.Role) error {
	o, err := expiry(c)
	if err != nil {
		return err
	}
	o.Context, o.Keys, o.Force, o.Now = c.Context, c.StringSlice("key-name"), c.Bool("force"), time.Now()
	if o.Signatures, err = signatures(c); err != nil {
		return err
	}
	if role == uptane.RoleTargets {
		if o.Version, err = version(c); err != nil {
			return err
		}
	} else if alias := c.String("old-root-alias"); alias != "" {
		o.Keys = append(o.Keys, alias)
	}
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	o.Lifetime = office.Lifetime(role)
	o.Confirm = func(d *uptane.Diff, _ []uptane.Finding) error {
		if !d.Empty() || c.Bool("verbose") {
			say(c, "%s", strings.TrimRight(d.String(), "\n"))
		}
		return nil
	}
	signed, err := signRole(r, role, o)
	if errors.Is(err, fs.ErrNotExist) && advice.Hint(err) == "" {
		return advice.Wrap(advice.Usage, err, "make the key with key generate, or name one in a token with key link")
	}
	if err != nil {
		return err
	}
	say(c, "signed %s.json saved to %s, version %d, expires %s", role, show.Text(signed.Path), signed.Document.Version(), signed.Document.Expires().Format(time.RFC3339))
	for _, line := range office.Standing(signed.Standing) {
		say(c, "%s", show.Line(line))
	}
	for _, id := range signed.Discarded {
		warn(c, "the signature of key %s was over other content and is gone", show.Text(id))
	}
	for _, id := range signed.Foreign {
		warn(c, "the signature of key %s does not count: no role lists it", show.Text(id))
	}
	return nil
}

func signRole(r *repo.Repository, role uptane.Role, o repo.SignOptions) (*repo.Signed, error) {
	if role == uptane.RoleRoot {
		return r.SignRoot(o)
	}
	return r.SignTargets(o)
}
