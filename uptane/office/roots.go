package office

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// FetchRoot fetches the server's newest root and verifies each step to it from the root that the repository trusts.
// It stores nothing. An expired root is returned with a warning, for it is there to be renewed.
//
// force leaves the local root out: the server's is then believed as it comes, as long as its own keys signed it.
func (o *Office) FetchRoot(ctx context.Context, force bool) (*uptane.Root, error) {
	data, err := o.server.Root(ctx)
	if err != nil {
		return nil, err
	}
	newest, err := uptane.ParseRoot(data)
	if err != nil {
		return nil, err
	}
	trusted, err := o.r.TrustedRoot()
	switch {
	case force || errors.Is(err, fs.ErrNotExist):
		if !force {
			o.warn("there is no local root.json: the server's is trusted as it comes; compare key ids with what you were told")
		}
		if err := uptane.VerifyRoot(newest); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if newest, err = o.follow(ctx, trusted, newest, data); err != nil {
			return nil, advice.Wrap(advice.Unverified, err, "could not validate the chain of roots from the local root.json: ask who rotated keys, and for new credentials")
		}
	}
	if uptane.CheckExpiry(newest, o.now()) != nil {
		o.warn("root.json version %d expired on %s", newest.Version(), newest.Expires().Format(time.RFC3339))
	}
	return newest, nil
}

// follow verifies the chain of roots from the trusted one to the newest.
func (o *Office) follow(ctx context.Context, trusted, newest *uptane.Root, data []byte) (*uptane.Root, error) {
	if newest.Version() < trusted.Version() {
		return nil, fmt.Errorf("the server's root has version %d, the local one %d", newest.Version(), trusted.Version())
	}
	if newest.Version()-trusted.Version() > uptane.MaxRotations {
		return nil, fmt.Errorf("the server's root is %d versions ahead", newest.Version()-trusted.Version())
	}
	var chain [][]byte
	for v := trusted.Version() + 1; v < newest.Version(); v++ {
		b, err := o.server.RootVersion(ctx, v)
		if err != nil {
			return nil, err
		}
		chain = append(chain, b)
	}
	// Expiry is the caller's affair: the clock at which nothing has expired.
	return uptane.VerifyRootChain(trusted, append(chain, data), time.Time{})
}

// PullRoot fetches the server's root and keeps it. Roots that were being signed here are kept beside it.
func (o *Office) PullRoot(ctx context.Context, force bool) (*uptane.Root, error) {
	root, err := o.FetchRoot(ctx, force)
	if err != nil {
		return nil, err
	}
	if err := o.giveUp(root); err != nil {
		return nil, err
	}
	return root, o.r.StoreRoot(root)
}

// giveUp keeps what was signed here and never pushed, where the server's root is about to take its place.
func (o *Office) giveUp(root *uptane.Root) error {
	have, err := o.r.Root()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	inForce, err := o.r.TrustedRoot()
	if err != nil || have.Version() <= inForce.Version() || uptane.SameContent(have, root) {
		return err
	}
	kept, err := o.r.GiveUpRoots(inForce.Version() + 1)
	if err != nil {
		return err
	}
	for _, p := range kept {
		o.warn("a root that was signed here and not pushed is kept as %s", show.Text(p))
	}
	return nil
}

// PushRoots sends the roots that were signed here and that the server lacks, one by one, and returns those. Several stand in
// line where the next root was signed before the last one could be pushed.
func (o *Office) PushRoots(ctx context.Context) (pushed []*uptane.Root, err error) {
	roots, err := o.r.RootsToPush()
	if err != nil {
		return nil, err
	}
	data, err := o.server.Root(ctx)
	if err != nil {
		return nil, err
	}
	server, err := uptane.ParseRoot(data)
	if err != nil {
		return nil, err
	}
	for len(roots) > 1 && roots[0].Version() <= server.Version() {
		if err := o.accepted(ctx, roots[0]); err != nil {
			return nil, err
		}
		roots = roots[1:]
	}
	if first := roots[0].Version(); first > server.Version()+1 {
		return nil, advice.New(advice.Refused, "pull the root, and sign again what follows it",
			"the server's root has version %d, and version %d, which must be pushed before version %d, is not here", server.Version(), first-1, first)
	}
	for i, root := range roots {
		if i == len(roots)-1 {
			err = o.PushRoot(ctx, root)
		} else {
			err = o.pushEarlier(ctx, root)
		}
		if err != nil {
			return pushed, err
		}
		pushed = append(pushed, root)
	}
	return pushed, nil
}

// accepted makes sure that a root which another one is to follow is the server's of that version: an earlier run may have
// ended after the server accepted it.
func (o *Office) accepted(ctx context.Context, root *uptane.Root) error {
	data, err := o.server.RootVersion(ctx, root.Version())
	if err != nil {
		return err
	}
	theirs, err := uptane.ParseRoot(data)
	if err != nil {
		return err
	}
	if !uptane.SameContent(theirs, root) {
		return advice.New(advice.Refused, "pull the root, which keeps yours beside it, and sign again what follows", "the server has another root of version %d", root.Version())
	}
	return o.r.AcceptRoot(root)
}

// pushEarlier sends a root that is not the newest one here.
func (o *Office) pushEarlier(ctx context.Context, root *uptane.Root) error {
	if err := o.send(ctx, root); err != nil {
		return err
	}
	o.reached("pushed an earlier root")
	return o.r.AcceptRoot(root)
}

// PushRoot sends a root, which the repository found complete (repo.RootsToPush), and keeps it as the one in force.
func (o *Office) PushRoot(ctx context.Context, root *uptane.Root) error {
	if err := o.send(ctx, root); err != nil {
		return err
	}
	return o.r.StoreRoot(root)
}

func (o *Office) send(ctx context.Context, root *uptane.Root) error {
	prev, err := o.previousRoot(ctx, root)
	if err != nil {
		return err
	}
	data, err := uptane.Emit(root, uptane.RootAuthority(prev, root))
	if err != nil {
		return err
	}
	return advice.Wrap(advice.Failed, o.server.PushRoot(ctx, data), "the server could not validate the root: pull it, and sign again what it has not")
}

// previousRoot is the root before one: the repository's, or else the server's, whose own check then decides.
func (o *Office) previousRoot(ctx context.Context, root *uptane.Root) (*uptane.Root, error) {
	prev, err := o.r.PreviousRoot(root)
	if prev != nil || err != nil || root.Version() <= 1 {
		return prev, err
	}
	b, err := o.server.RootVersion(ctx, root.Version()-1)
	if err != nil {
		return nil, err
	}
	if prev, err = uptane.ParseRoot(b); err != nil {
		return nil, err
	}
	return prev, uptane.VerifyRoot(prev)
}
