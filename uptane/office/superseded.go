package office

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// After a rotation of the targets keys the server still has targets that the old keys signed. If one of them was stolen,
// and until the root changed, the thief could add to them. Nothing unattended may take them over: a build machine that
// pulls, adds and signs would sign the thief's targets with the new key. And nothing may stand in the way of those who
// replace them, or the thief keeps them there.

const supersededHint = "look through them with targets pull --superseded, which keeps them as a draft and shows what differs; or sign the local ones and push: that replaces them"

// notInForce says why targets do not verify under the root in force.
func (o *Office) notInForce(ctx context.Context, root *uptane.Root, t *uptane.Targets, cause error) error {
	by, err := o.vouchedBefore(ctx, root, t)
	if err != nil || by == nil {
		return advice.Wrap(advice.Unverified, fmt.Errorf("could not pull targets: %w", cause), "no root that is known vouches for them; sign the local ones and push: that replaces them")
	}
	return advice.New(advice.Unverified, supersededHint, "could not pull targets: version %d on the server is signed with keys of root version %d, which version %d replaced: %w",
		t.Version(), by.Version(), root.Version(), cause)
}

// vouchedBefore is the newest earlier root that vouches for targets; nil if none does.
func (o *Office) vouchedBefore(ctx context.Context, root *uptane.Root, t *uptane.Targets) (*uptane.Root, error) {
	earlier, err := o.r.EarlierRoots(root.Version())
	if err != nil {
		return nil, err
	}
	if len(earlier) == 0 && root.Version() > 1 {
		b, err := o.server.RootVersion(ctx, root.Version()-1)
		if err != nil {
			return nil, err
		}
		prev, err := uptane.ParseRoot(b)
		if err != nil {
			return nil, err
		}
		// It came from the server: it counts if it signed itself, and the root in force.
		if err := errors.Join(uptane.VerifyRoot(prev), uptane.VerifyNextRoot(prev, root)); err != nil {
			return nil, err
		}
		earlier = append(earlier, prev)
	}
	for _, r := range earlier {
		if uptane.RoleAuthority(r, uptane.RoleTargets).Verify(t) == nil {
			return r, nil
		}
	}
	return nil, nil
}

// Superseded is what FetchSuperseded found.
type Superseded struct {
	Targets *uptane.Targets
	// Root is the earlier root that vouches for them.
	Root *uptane.Root
	// Diff is what differs from the targets that were last pulled and verified; from nothing, if there are none.
	Diff *uptane.Diff
}

// FetchSuperseded fetches targets that only an earlier root vouches for, and keeps them as a draft, marked. A person has to
// look through the difference, for whoever stole a key could have added to them.
func (o *Office) FetchSuperseded(ctx context.Context) (*Superseded, error) {
	root, err := o.FetchRoot(ctx, false)
	if err != nil {
		return nil, err
	}
	t, checksum, err := o.serverTargets(ctx)
	if err != nil {
		return nil, err
	}
	if uptane.RoleAuthority(root, uptane.RoleTargets).Verify(t) == nil {
		return nil, advice.New(advice.Usage, "leave --superseded out", "the targets on the server, version %d, verify under the root in force", t.Version())
	}
	by, err := o.vouchedBefore(ctx, root, t)
	if err != nil {
		return nil, err
	}
	if by == nil {
		return nil, advice.New(advice.Unverified, "sign the local targets and push: that replaces them", "no root that is known vouches for the targets on the server, version %d", t.Version())
	}
	out := &Superseded{Targets: t, Root: by}
	seen, err := o.r.PulledTargets()
	switch {
	case err == nil:
		out.Diff = uptane.DiffDocuments(seen, t)
	case errors.Is(err, fs.ErrNotExist):
		out.Diff = uptane.DiffDocuments(nil, t)
	default:
		return nil, err
	}
	if mine, err := o.unpushed(root); err != nil {
		return nil, err
	} else if mine == nil {
		if err := o.r.StoreRoot(root); err != nil {
			return nil, err
		}
	}
	return out, o.r.StoreSuperseded(t, checksum)
}

func (o *Office) serverTargets(ctx context.Context) (*uptane.Targets, string, error) {
	data, checksum, err := o.server.Targets(ctx)
	if err != nil {
		return nil, "", err
	}
	t, err := uptane.ParseTargets(uptane.Image, data)
	if err != nil {
		return nil, "", err
	}
	if checksum != uptane.FileDigest(t) {
		return nil, "", advice.New(advice.Unverified, "the server, or something before it, is at fault", "did not receive a valid role checksum for the targets")
	}
	return t, checksum, nil
}

// replaceSuperseded pushes over targets that do not verify under the root in force: no device takes them, and whoever put
// them there held a key that counts no more. Targets that do verify are somebody's work, and the conflict stays one.
func (o *Office) replaceSuperseded(ctx context.Context, root *uptane.Root, t *uptane.Targets, data []byte, conflict error) error {
	theirs, checksum, err := o.serverTargets(ctx)
	if err != nil {
		return errors.Join(conflict, err)
	}
	if uptane.RoleAuthority(root, uptane.RoleTargets).Verify(theirs) == nil {
		return conflict
	}
	if !uptane.MayFollow(root, theirs, t.Version()) {
		return advice.New(advice.Refused, fmt.Sprintf("targets sign --version %d, then push again", theirs.Version()+1),
			"the targets on the server do not verify under root version %d and would be replaced, but have version %d: devices may have seen it, and these have version %d", root.Version(), theirs.Version(), t.Version())
	}
	o.warn("the targets on the server, version %d, do not verify under root version %d: they are replaced", theirs.Version(), root.Version())
	return o.server.PushTargets(ctx, data, checksum)
}
