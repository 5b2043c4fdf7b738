package office

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// Devices that are told to install what their server does not have fail, one after another, and try again. So an image is
// looked for before its target is signed.

const uncheckedHint = "; --unchecked leaves it open"

// imageFor makes sure that devices of this environment can download a target's image. It returns the name of the file that
// must be carried here first, if it may be.
func (o *Office) imageFor(ctx context.Context, name string, t uptane.Target, carry bool) (carried string, err error) {
	custom, err := t.ImageCustom()
	if err != nil {
		return "", err
	}
	switch {
	case custom.URI != "" && carry:
		return "", advice.New(advice.Refused, "without --carry it is signed with that address; or have the source sign it without one", "devices would download %s from %q, which the source's signers chose, and nothing would be copied here", name, custom.URI)
	case custom.URI != "":
		o.warn("devices will download %s from the address that the source gave: %q", name, custom.URI)
		return "", nil
	case custom.Format == uptane.OSTree:
		return "", o.commitHere(ctx, t.SHA256)
	}
	digest, size, err := o.server.Uploaded(ctx, name)
	switch {
	case errors.Is(err, reposerver.ErrNotFound) && carry:
		return name, nil
	case errors.Is(err, reposerver.ErrNotFound):
		return "", advice.New(advice.Refused, "add --carry, which copies it from the source, or upload it first with targets upload"+uncheckedHint, "the server does not have %s", name)
	case err != nil:
		return "", err
	case digest != t.SHA256 || size != t.Length:
		return "", advice.New(advice.Refused, "give the image another name or version", "the server has other content under the name %s: %d bytes, SHA-256 %s", name, size, digest)
	}
	return "", nil
}

func (o *Office) commitHere(ctx context.Context, commit string) error {
	server := o.r.Config().Treehub.OSTreeServer()
	if server == "" {
		return advice.New(advice.Refused, "put ostree.server into treehub.json"+uncheckedHint, "the credentials name no OSTree server to ask for commit %s", show.Text(commit))
	}
	found, err := o.server.HasCommit(ctx, server, commit)
	if err != nil {
		return advice.New(advice.KindOf(err), "is the OSTree server within reach?"+uncheckedHint, "%w", err)
	}
	if !found {
		return advice.New(advice.Refused, "copy it with garage-deploy, garage-push or ostree first"+uncheckedHint, "the OSTree server does not have commit %s", show.Text(commit))
	}
	return nil
}

// carry copies a binary from the source's server to the one here. It is what the source signed, or is not sent on.
func (o *Office) carry(ctx context.Context, d *Draft) error {
	f, err := os.CreateTemp(o.r.Dir(), ".carried-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	digest, size, err := d.from.server.Download(ctx, d.there, d.target.Length, func() (io.Writer, error) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return f, f.Truncate(0)
	})
	if errors.Is(err, reposerver.ErrNotFound) {
		return advice.Wrap(advice.Refused, err, "the source does not have the image either: upload it with targets upload")
	}
	if err != nil {
		return err
	}
	if digest != d.target.SHA256 || size != d.target.Length {
		return advice.New(advice.Unverified, "ask those who run the source's server", "the source's server gives other content for %s than its targets say", d.there)
	}
	if err := o.server.Upload(ctx, reposerver.Upload{Name: d.Carried, Source: f, Size: size}); err != nil {
		return advice.New(advice.KindOf(err), advice.Hint(err), "destination: %w", err)
	}
	o.say("copied %s, %d bytes, to the destination as %s", d.there, size, d.Carried)
	return nil
}

// remarkSharedKeys warns of a key that both environments' roots list: what it signs for one, the other accepts, so that a
// build for development can be installed by the devices of customers.
func (o *Office) remarkSharedKeys(from *Office) error {
	theirs, err := from.r.TrustedRoot()
	if err != nil {
		return err
	}
	ours, err := o.r.TrustedRoot()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, role := range uptane.Roles() {
		for _, k := range ours.Keys(role).Keys {
			for _, other := range uptane.Roles() {
				if !slices.ContainsFunc(theirs.Keys(other).Keys, func(t uptane.Key) bool { return t.ID() == k.ID() }) {
					continue
				}
				o.warn("ONE KEY IN TWO ENVIRONMENTS: key %s signs the %s of the source and the %s of the destination. Whoever may sign for one can sign for the other; give each environment keys of its own", k.ID(), other, role)
			}
		}
	}
	return nil
}
