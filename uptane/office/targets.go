package office

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// FetchTargets fetches targets, verifies them under the newest root, which it follows from the local one, and keeps both.
// It refuses targets that are older than those fetched before.
func (o *Office) FetchTargets(ctx context.Context) (*uptane.Targets, error) {
	if err := NoDirector(o.r.Kind(), "targets pull"); err != nil {
		return nil, err
	}
	root, err := o.FetchRoot(ctx, false)
	if err != nil {
		return nil, err
	}
	data, checksum, err := o.server.Targets(ctx)
	if err != nil {
		return nil, err
	}
	t, err := uptane.ParseTargets(uptane.Image, data)
	if err != nil {
		return nil, err
	}
	if err := uptane.RoleAuthority(root, uptane.RoleTargets).Verify(t); err != nil {
		return nil, o.notInForce(ctx, root, t, err)
	}
	if checksum != uptane.FileDigest(t) {
		return nil, advice.New(advice.Unverified, "the server, or something before it, is at fault", "did not receive a valid role checksum for the targets")
	}
	if seen, err := o.r.PulledTargets(); err == nil && seen.Version() > t.Version() {
		return nil, advice.New(advice.Unverified, "ask who restored the server from a backup; then remove "+o.r.Path("roles/pulled"),
			"the server's targets have version %d, older than %d, which was pulled before", t.Version(), seen.Version())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if mine, err := o.unpushed(root); err != nil {
		return nil, err
	} else if mine == nil {
		if err := o.r.StoreRoot(root); err != nil {
			return nil, err
		}
	}
	if uptane.CheckExpiry(t, o.now()) != nil {
		o.warn("the server's targets.json expired on %s", t.Expires().Format(time.RFC3339))
	}
	return t, o.r.StoreTargets(t, checksum)
}

// PushTargets sends the targets that were signed here. What was sent is then where the next change starts from.
func (o *Office) PushTargets(ctx context.Context) (*uptane.Targets, error) {
	if err := NoDirector(o.r.Kind(), "targets push"); err != nil {
		return nil, err
	}
	t, checksum, err := o.r.TargetsToPush()
	if err != nil {
		return nil, err
	}
	root, err := o.r.Root()
	if err != nil {
		return nil, err
	}
	data, err := uptane.Emit(t, uptane.RoleAuthority(root, uptane.RoleTargets))
	if err != nil {
		return nil, err
	}
	if most := uptane.DefaultLimits().ImageTargets; len(data) > most/4*3 {
		o.warn("targets.json has %d bytes; devices read no more than %d", len(data), most)
	}
	err = o.server.PushTargets(ctx, data, checksum)
	if errors.Is(err, reposerver.ErrChecksum) {
		err = o.replaceSuperseded(ctx, root, t, data, err)
	}
	if err != nil {
		return nil, err
	}
	return t, o.r.StoreTargets(t, uptane.FileDigest(t))
}
