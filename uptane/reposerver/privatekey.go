package reposerver

import (
	"context"
	"errors"

	"github.com/hanaper/hanaper/uptane"
)

// listed says whether any root of the repository ever listed the key, and whether the current one does.
func (r *Repository) listed(t *change, keyid string) (ever, now bool, err error) {
	for i, d := range t.Roots {
		data, err := t.get(d)
		if err != nil {
			return false, false, err
		}
		root, err := uptane.ParseRoot(data)
		if err != nil {
			return false, false, err
		}
		for _, role := range uptane.Roles() {
			for _, k := range root.Keys(role).Keys {
				if k.ID() == keyid {
					ever, now = true, now || i == len(t.Roots)-1
				}
			}
		}
	}
	return ever, now, nil
}

// PrivateKey gives a key out where the key store can; a token refuses with ErrKeySealed. That it was given out is
// recorded first.
func (r *Repository) PrivateKey(ctx context.Context, keyid string) ([]byte, error) {
	var out []byte
	err := r.files.update(ctx, func(t *change) error {
		if err := r.mine(ctx, t, keyid); err != nil {
			return err
		}
		exporter, ok := r.keys.(Exporter)
		if !ok {
			return refuseHint(409, codeKeySealed, "POST root/cosign: the server signs the next root itself", "key %s is in a token that never gives it out", keyid)
		}
		key, err := exporter.Export(ctx, keyid)
		if err != nil {
			return err
		}
		if out, err = keyPairJSON(key); err != nil {
			return err
		}
		for _, id := range t.Given {
			if id == keyid {
				return nil
			}
		}
		t.Given = append(t.Given, keyid)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// mine refuses a key that is not this repository's, or not in the key store any more.
func (r *Repository) mine(ctx context.Context, t *change, keyid string) error {
	ever, _, err := r.listed(t, keyid)
	if err != nil {
		return err
	}
	if ever {
		_, err := r.keys.Find(ctx, keyid)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrNoKey) {
			return err
		}
	}
	return refuse(404, codeNotFound, "the server holds no key %s of this repository", keyid)
}

// DeleteKey destroys a key that the server holds. One that the current root lists is refused, for the repository must
// never be without a root that somebody can sign with; where the key was given out, somebody can, and it is destroyed.
func (r *Repository) DeleteKey(ctx context.Context, keyid string) error {
	return r.files.update(ctx, func(t *change) error {
		if err := r.mine(ctx, t, keyid); err != nil {
			return err
		}
		_, now, err := r.listed(t, keyid)
		if err != nil {
			return err
		}
		given := false
		for _, id := range t.Given {
			given = given || id == keyid
		}
		if now && !given {
			return refuseHint(409, codeKeyInUse, "push a root without it first", "key %s is listed in the current root and only the server holds it", keyid)
		}
		if current, err := r.current(t); err != nil {
			return err
		} else if now {
			for _, role := range OnlineRoles(r.kind) {
				for _, k := range current.Keys(role).Keys {
					if k.ID() == keyid {
						return refuseHint(409, codeKeyInUse, "push a root without it first", "the server signs %s with key %s", role, keyid)
					}
				}
			}
		}
		r.signers.Clear()
		return r.keys.Destroy(ctx, keyid)
	})
}
