package office

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
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

// PullRoot fetches the server's root and keeps it. A root that was being signed here is kept beside it.
func (o *Office) PullRoot(ctx context.Context, force bool) (*uptane.Root, error) {
	root, err := o.FetchRoot(ctx, force)
	if err != nil {
		return nil, err
	}
	mine, err := o.unpushed(root)
	if err != nil {
		return nil, err
	}
	if mine != nil {
		kept := o.r.Path("roles/root.json.unpushed")
		if err := durable.WriteFile(kept, mine.Bytes(), 0o600); err != nil {
			return nil, err
		}
		o.warn("root.json version %d was not pushed; it is kept as %s", mine.Version(), show.Text(kept))
	}
	return root, o.r.StoreRoot(root)
}

// PushRoot sends a root, which the repository found complete (repo.RootToPush), and keeps it as the one in force.
func (o *Office) PushRoot(ctx context.Context, root *uptane.Root) error {
	prev, err := o.previousRoot(ctx, root)
	if err != nil {
		return err
	}
	data, err := uptane.Emit(root, uptane.RootAuthority(prev, root))
	if err != nil {
		return err
	}
	if err := o.server.PushRoot(ctx, data); err != nil {
		return advice.Wrap(advice.Failed, err, "the server could not validate the root: pull it, and sign again what it has not")
	}
	return o.r.StoreRoot(root)
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
