package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// fetchRoot fetches the server's newest root and verifies each step to it from the root that the repository trusts.
// It stores nothing. An expired root is returned with a warning, for it is there to be renewed.
func fetchRoot(c *cli.Context, r *repo.Repository, server *reposerver.Client, force bool) (*uptane.Root, error) {
	data, err := server.Root(c.Context)
	if err != nil {
		return nil, err
	}
	newest, err := uptane.ParseRoot(data)
	if err != nil {
		return nil, err
	}
	trusted, err := r.TrustedRoot()
	switch {
	case force || errors.Is(err, fs.ErrNotExist):
		if !force {
			warn(c, "there is no local root.json: the server's is trusted as it comes; compare key ids with what you were told")
		}
		if err := uptane.VerifyRoot(newest); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if newest, err = follow(c, trusted, newest, data, server); err != nil {
			return nil, advice.Wrap(advice.Unverified, err, "could not validate the chain of roots from the local root.json: ask who rotated keys, and for new credentials")
		}
	}
	if uptane.CheckExpiry(newest, time.Now()) != nil {
		warn(c, "root.json version %d expired on %s", newest.Version(), newest.Expires().Format(time.RFC3339))
	}
	return newest, nil
}

func follow(c *cli.Context, trusted, newest *uptane.Root, data []byte, server *reposerver.Client) (*uptane.Root, error) {
	if newest.Version() < trusted.Version() {
		return nil, fmt.Errorf("the server's root has version %d, the local one %d", newest.Version(), trusted.Version())
	}
	if newest.Version()-trusted.Version() > uptane.MaxRotations {
		return nil, fmt.Errorf("the server's root is %d versions ahead", newest.Version()-trusted.Version())
	}
	var chain [][]byte
	for v := trusted.Version() + 1; v < newest.Version(); v++ {
		b, err := server.RootVersion(c.Context, v)
		if err != nil {
			return nil, err
		}
		chain = append(chain, b)
	}
	// Expiry is the caller's affair: the clock at which nothing has expired.
	return uptane.VerifyRootChain(trusted, append(chain, data), time.Time{})
}

// ahead is the root that is being signed here and that the server does not have yet; nil if there is none.
func ahead(r *repo.Repository, server *uptane.Root) (*uptane.Root, error) {
	have, err := r.Root()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || have.Version() <= server.Version() {
		return nil, err
	}
	return have, nil
}

func pullRoot(c *cli.Context) error {
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	server, err := openServer(c, r)
	if err != nil {
		return err
	}
	root, err := fetchRoot(c, r, server, c.Bool("force"))
	if err != nil {
		return err
	}
	mine, err := ahead(r, root)
	if err != nil {
		return err
	}
	if mine != nil {
		kept := r.Path("roles/root.json.unpushed")
		if err := durable.WriteFile(kept, mine.Bytes(), 0o600); err != nil {
			return err
		}
		warn(c, "root.json version %d was not pushed; it is kept as %s", mine.Version(), kept)
	}
	if err := r.StoreRoot(root); err != nil {
		return err
	}
	say(c, "Pulled root.json, version %d", root.Version())
	return nil
}

func pushRoot(c *cli.Context) error {
	r, err := openRepo(c)
	if err != nil {
		return err
	}
	root, err := r.RootToPush()
	if err != nil {
		return err
	}
	server, err := openServer(c, r)
	if err != nil {
		return err
	}
	if err := sendRoot(c, r, server, root); err != nil {
		return err
	}
	say(c, "Pushed root.json, version %d", root.Version())
	return nil
}

// sendRoot pushes a complete root and keeps it as the one in force.
func sendRoot(c *cli.Context, r *repo.Repository, server *reposerver.Client, root *uptane.Root) error {
	prev, err := previousRoot(c, r, server, root)
	if err != nil {
		return err
	}
	data, err := uptane.Emit(root, uptane.RootAuthority(prev, root))
	if err != nil {
		return err
	}
	if err := server.PushRoot(c.Context, data); err != nil {
		return advice.Wrap(advice.Failed, err, "the server could not validate the root: pull it, and sign again what it has not")
	}
	return r.StoreRoot(root)
}

// previousRoot is the root before one: the repository's, or else the server's, whose own check then decides.
func previousRoot(c *cli.Context, r *repo.Repository, server *reposerver.Client, root *uptane.Root) (*uptane.Root, error) {
	prev, err := r.PreviousRoot(root)
	if prev != nil || err != nil || root.Version() <= 1 {
		return prev, err
	}
	b, err := server.RootVersion(c.Context, root.Version()-1)
	if err != nil {
		return nil, err
	}
	if prev, err = uptane.ParseRoot(b); err != nil {
		return nil, err
	}
	return prev, uptane.VerifyRoot(prev)
}
