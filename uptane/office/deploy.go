package office

import (
	"context"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

// DeployConfig says which target to copy from another environment, and what it is called here.
type DeployConfig struct {
	// Commit is the hash that the source must have signed: 64 hex digits, of an OSTree commit or of a binary.
	Commit string
	// Name is the image's name here; it also selects among several targets of the source. Empty: the source's name.
	Name string
	// HardwareIDs are those here; empty: the source's.
	HardwareIDs []string
	// Carry lets Send copy the image from the source's server if the server here does not have it.
	Carry bool
	// Unchecked leaves open whether the server here has the image.
	Unchecked bool
}

// Draft is a target of another environment that stands in the unsigned targets here.
type Draft struct {
	// Diff is what would be signed.
	Diff *uptane.Diff
	// Carried is the file that Send copies first; empty: the image is here.
	Carried string

	from   *Office
	there  string // the file's name at the source
	target uptane.Target
}

// check returns the hash in lower case.
func (c DeployConfig) check() (commit string, err error) {
	commit = strings.ToLower(c.Commit)
	if len(commit) != 64 || strings.Trim(commit, "0123456789abcdef") != "" {
		return "", badOptions("--commit wants 64 hex digits")
	}
	return commit, nil
}

// Check refuses what no environment could deploy, before anything is opened.
func (c DeployConfig) Check() error {
	_, err := c.check()
	return err
}

// DraftFrom adds one target of another environment to the unsigned targets here. The source's metadata must verify under
// the root of the source's repository, and must not have expired; the server here must have the image, or get it (Carry).
// The caller named a hash: an attacker who signs at the source chooses what else stands in the target, but not the bytes,
// and takes no name here that other bytes have already.
func (o *Office) DraftFrom(ctx context.Context, from *Office, c DeployConfig) (*Draft, error) {
	commit, err := c.check()
	if err != nil {
		return nil, err
	}
	there, target, err := from.find(ctx, commit, c.Name)
	if err != nil {
		return nil, advice.New(advice.KindOf(err), advice.Hint(err), "source: %w", err)
	}
	name, target, err := o.adapt(there, target, c)
	if err != nil {
		return nil, err
	}
	o.say("%s goes from %s to %s", show.Text(there), show.Text(from.r.Config().Reposerver), show.Text(o.r.Config().Reposerver))
	old, err := o.FetchTargets(ctx)
	if err != nil {
		return nil, advice.New(advice.KindOf(err), advice.Hint(err), "destination: %w", err)
	}
	if have, ok := old.Target(name); ok && have.SHA256 != target.SHA256 {
		return nil, advice.New(advice.Refused, "give the image another name or version; if it is to take the old one's place, have that taken away first, with targets delete",
			"destination: the targets have other bytes under the name %s, SHA-256 %s", show.Text(name), show.Text(have.SHA256))
	}
	if err := o.remarkSharedKeys(from); err != nil {
		return nil, err
	}
	out := &Draft{from: from, there: there, target: target}
	if !c.Unchecked {
		if out.Carried, err = o.imageFor(ctx, name, target, c.Carry); err != nil {
			return nil, advice.New(advice.KindOf(err), advice.Hint(err), "destination: %w", err)
		}
	}
	if _, err := o.r.EditTargets(func(t *uptane.TargetsConfig) error {
		t.Targets[name] = target
		return nil
	}); err != nil {
		return nil, err
	}
	next, err := o.r.UnsignedTargets()
	if err != nil {
		return nil, err
	}
	out.Diff = uptane.DiffDocuments(old, next)
	return out, nil
}

// Sign signs the unsigned targets. The options name the keys, and ask for confirmation.
func (o *Office) Sign(ctx context.Context, s repo.SignOptions) error {
	s.Context, s.Now, s.Lifetime = ctx, o.now(), Lifetime(uptane.RoleTargets)
	signed, err := o.r.SignTargets(s)
	if err == nil {
		o.tellStanding(signed.Standing)
	}
	return err
}

// EnoughKeys refuses to begin what so few keys cannot end.
func (o *Office) EnoughKeys(n int) error {
	root, err := o.r.TrustedRoot()
	if err != nil {
		return err
	}
	if most := root.Keys(uptane.RoleTargets).Threshold; n < most {
		return advice.New(advice.Refused, "add --draft NAME, which keeps the draft for the other officers, or name more keys with --key-name",
			"%d keys must sign the destination's targets, and %d are named", most, n)
	}
	return nil
}

// Send copies the draft's image to the server here, if it is not there. The targets are for PushTargets.
func (o *Office) Send(ctx context.Context, d *Draft) error {
	if d.Carried == "" {
		return nil
	}
	return o.carry(ctx, d)
}

// find verifies the targets of a source and finds the one with this hash.
func (o *Office) find(ctx context.Context, commit, image string) (string, uptane.Target, error) {
	t, err := o.FetchTargets(ctx)
	if err != nil {
		return "", uptane.Target{}, err
	}
	if err := uptane.CheckExpiry(t, o.now()); err != nil {
		return "", uptane.Target{}, advice.Wrap(advice.Unverified, err, "have the source's targets signed anew")
	}
	var same, named []string // targets with the hash, and those among them with the name
	for _, n := range t.Names() {
		target, _ := t.Target(n)
		if target.SHA256 != commit {
			continue
		}
		same = append(same, n)
		if custom, err := target.ImageCustom(); err == nil && image != "" && custom.Name == image {
			named = append(named, n)
		}
	}
	// A name that the source does not have is the image's new name at the destination, as with garage-deploy.
	if len(named) > 0 {
		same = named
	}
	switch len(same) {
	case 0:
		return "", uptane.Target{}, advice.New(advice.Refused, "only what the source has signed is copied", "no target has the hash %s", commit)
	case 1:
		target, _ := t.Target(same[0])
		return same[0], target, nil
	}
	return "", uptane.Target{}, advice.New(advice.Usage, "name one with --name", "several targets have the hash %s: %s", commit, strings.Join(same, ", "))
}

// adapt gives the target the name and the hardware ids that it has here. A SHA-512 stays behind: nobody here named it, or
// holds the image against it, and a device that looks at it alone would install what it, and not the caller, says.
func (o *Office) adapt(name string, target uptane.Target, c DeployConfig) (string, uptane.Target, error) {
	custom, err := target.ImageCustom()
	if err != nil {
		return "", target, err
	}
	now := o.now().UTC().Truncate(time.Second)
	custom.UpdatedAt = now
	if custom.CreatedAt.IsZero() {
		custom.CreatedAt = now
	}
	if c.Name != "" {
		custom.Name = c.Name
		name = c.Name + "-" + custom.Version
	}
	if target.SHA512 != "" {
		target.SHA512 = ""
		o.warn("the source's SHA-512 of %s is left out: the image is held against the hash that was named, and no other", show.Text(name))
	}
	if len(c.HardwareIDs) > 0 {
		custom.HardwareIDs = c.HardwareIDs
	}
	target.Custom, err = custom.JSON()
	if err != nil {
		return "", target, err
	}
	return name, target, uptane.CheckTarget(name, target)
}
