package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

type uptaneStatusDocument struct {
	Repository string            `json:"repository"`
	Role       string            `json:"role"`
	Version    int               `json:"version"`
	Expires    string            `json:"expires"`
	Expired    bool              `json:"expired"`
	Threshold  int               `json:"threshold"`
	Keys       []uptaneStatusKey `json:"keys"`
}

type uptaneStatusKey struct {
	KeyID     string `json:"keyid"`
	Algorithm string `json:"algorithm"`
	Held      bool   `json:"held_by_server"`
}

func uptaneStatus(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	d, err := openUptane(c.Context, cfg)
	if err != nil {
		return err
	}
	defer d.Close()
	image, director, err := d.open(c.Context)
	if err != nil {
		return err
	}
	list, err := d.describe(c.Context, uptane.Image, image.Repository, image)
	if err != nil {
		return err
	}
	if director != nil {
		more, err := d.describe(c.Context, uptane.Director, director.Repository, nil)
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, list)
	}
	var rows [][]string
	for _, s := range list {
		held, version := 0, "-"
		for _, k := range s.Keys {
			if k.Held {
				held++
			}
		}
		if s.Version > 0 {
			version = strconv.Itoa(s.Version)
		}
		expires := s.Expires
		if s.Expired {
			expires += " (expired)"
		}
		rows = append(rows, []string{s.Repository, s.Role, version, expires, fmt.Sprintf("%d of %d", s.Threshold, len(s.Keys)), strconv.Itoa(held)})
	}
	shell.Table(c.App.Writer, []string{"repository", "role", "version", "good until", "keys", "held by the server"}, rows)
	return nil
}

func (d *uptaneDesk) describe(ctx context.Context, kind uptane.Repository, repo *reposerver.Repository, image *reposerver.Image) ([]uptaneStatusDocument, error) {
	data, _, err := repo.Root(0)
	if err != nil {
		return nil, err
	}
	root, err := uptane.ParseRoot(data)
	if err != nil {
		return nil, err
	}
	docs := map[uptane.Role]uptane.Document{uptane.RoleRoot: root}
	if image != nil {
		for role, get := range map[uptane.Role]func() ([]byte, error){
			uptane.RoleTargets:  func() ([]byte, error) { data, _, err := image.Targets(); return data, err },
			uptane.RoleSnapshot: image.Snapshot, uptane.RoleTimestamp: image.Timestamp,
		} {
			data, err := get()
			if err != nil {
				return nil, err
			}
			if docs[role], err = uptane.ParseDocument(uptane.Image, role, data); err != nil {
				return nil, err
			}
		}
	}
	var out []uptaneStatusDocument
	for _, role := range uptane.Roles() {
		rk := root.Keys(role)
		s := uptaneStatusDocument{Repository: string(kind), Role: string(role), Threshold: rk.Threshold}
		if doc := docs[role]; doc != nil {
			s.Version, s.Expires, s.Expired = doc.Version(), stamp(doc.Expires()), uptane.CheckExpiry(doc, now()) != nil
		}
		for _, k := range rk.Keys {
			_, err := d.keys.Find(ctx, k.ID())
			if err != nil && !errors.Is(err, reposerver.ErrNoKey) {
				return nil, err
			}
			s.Keys = append(s.Keys, uptaneStatusKey{k.ID(), k.Algorithm(), err == nil})
		}
		out = append(out, s)
	}
	return out, nil
}
