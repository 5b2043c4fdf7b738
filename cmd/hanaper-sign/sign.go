package main

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

// Lifetimes where neither --expires nor --expire-after is given and the old date is earlier.
var (
	rootLifetime    = uptane.Period{Days: 365}
	targetsLifetime = uptane.Period{Days: 31}
)

// sign is root sign and targets sign.
func sign(c *cli.Context, role uptane.Role) error {
	if c.IsSet("expires") && c.IsSet("expire-after") {
		return usagef("the expiration date should be given with either --expires or --expire-after, not both")
	}
	o := repo.SignOptions{Context: c.Context, Keys: c.StringSlice("key-name"), Force: c.Bool("force"), Now: time.Now()}
	var err error
	if o.Expires, err = instant(c, "expires"); err != nil {
		return err
	}
	if o.ExpireAfter, err = period(c, "expire-after"); err != nil {
		return err
	}
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
	if err := defaultExpiry(r, role, &o); err != nil {
		return err
	}
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
	say(c, "signed %s.json saved to %s, version %d, expires %s", role, signed.Path, signed.Document.Version(), signed.Document.Expires().Format(time.RFC3339))
	tellStanding(c, signed.Standing)
	for _, id := range signed.Discarded {
		warn(c, "the signature of key %s was over other content and is gone", id)
	}
	for _, id := range signed.Foreign {
		warn(c, "the signature of key %s does not count: no role lists it", id)
	}
	return nil
}

func signRole(r *repo.Repository, role uptane.Role, o repo.SignOptions) (*repo.Signed, error) {
	if role == uptane.RoleRoot {
		return r.SignRoot(o)
	}
	return r.SignTargets(o)
}

// defaultExpiry sets the default lifetime where no date is given and the present one is earlier.
func defaultExpiry(r *repo.Repository, role uptane.Role, o *repo.SignOptions) error {
	if o.Expires != nil || o.ExpireAfter != nil || len(o.Signatures) > 0 {
		return nil
	}
	var now time.Time
	life := rootLifetime
	if role == uptane.RoleRoot {
		draft, err := r.RootDraft()
		if err != nil {
			return err
		}
		now = draft.Expires
	} else {
		t, err := r.UnsignedTargets()
		if err != nil {
			return err
		}
		now, life = t.Expires(), targetsLifetime
	}
	if now.Before(life.After(o.Now)) {
		o.ExpireAfter = &life
	}
	return nil
}

// tellStanding says who has signed and who is missing.
func tellStanding(c *cli.Context, standing []uptane.Standing) {
	for _, s := range standing {
		if s.Met() {
			say(c, "%s: signed by %d of the %d keys that must sign", s.Rule, len(s.Signed), s.Threshold)
			continue
		}
		var missing []string
		for _, k := range s.Missing {
			missing = append(missing, k.ID())
		}
		say(c, "%s: signed by %d of the %d keys that must sign; not yet by %s", s.Rule, len(s.Signed), s.Threshold, strings.Join(missing, ", "))
	}
}
