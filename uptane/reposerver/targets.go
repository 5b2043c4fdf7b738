package reposerver

import (
	"context"
	"fmt"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// checkTargets is what every targets document must pass: newer than the last, the signatures that the root asks for and
// no others, and entries that devices can use.
func (r *Repository) checkTargets(root *uptane.Root, old, doc *uptane.Targets) error {
	if old != nil && !uptane.MayFollow(root, old, doc.Version()) {
		return refuse(400, codeInvalidTargets, "targets version %d is not higher than version %d, which the server has", doc.Version(), old.Version())
	}
	if _, err := uptane.Emit(doc, uptane.RoleAuthority(root, uptane.RoleTargets)); err != nil {
		return refuseWith(400, codeBadSignature, err)
	}
	return r.checkEntries(old, doc)
}

// parseTargets demands the server's form, and that it has not expired.
func (r *Repository) parseTargets(data []byte) (*uptane.Targets, error) {
	doc, err := uptane.ParseTargets(uptane.Image, data, uptane.Local())
	if err != nil {
		return nil, refuseWith(400, codeInvalidTargets, err)
	}
	c := doc.Config()
	for name := range c.Extra {
		return nil, refuse(400, codeInvalidTargets, "member %q is none that the server knows: it decodes and encodes again, and the signatures would not fit", name)
	}
	if len(c.Custom) > 0 {
		return nil, refuse(400, codeInvalidTargets, "member \"custom\" is for the Director's targets")
	}
	if doc.Version() < 1 {
		return nil, refuse(400, codeInvalidTargets, "version %d is below 1", doc.Version())
	}
	if err := uptane.CheckExpiry(doc, r.now()); err != nil {
		return nil, refuseWith(400, codeInvalidTargets, err)
	}
	return doc, nil
}

// checkEntries demands of each new entry what the original demands: name, version and hardware ids.
func (r *Repository) checkEntries(old, doc *uptane.Targets) error {
	for _, name := range doc.Names() {
		t, _ := doc.Target(name)
		if old != nil {
			if was, ok := old.Target(name); ok && was.Equal(t) {
				continue
			}
		}
		c, err := t.ImageCustom()
		if err != nil {
			return refuse(400, codeInvalidTargets, "target item error %s: %v", name, err)
		}
		if c.Name == "" || c.Version == "" || len(c.HardwareIDs) == 0 {
			return refuse(400, codeInvalidTargets, "target item error %s: new targets need custom name, version and hardwareIds", name)
		}
	}
	return nil
}

// PushTargets replaces targets.json. checksum must be that of the targets now there. Delegations that the new
// targets do not vouch for any more are dropped.
func (i *Image) PushTargets(ctx context.Context, data []byte, checksum string) error {
	doc, err := i.parseTargets(data)
	if err != nil {
		return err
	}
	return i.files.update(ctx, func(t *change) error {
		if checksum == "" {
			return refuseHint(428, codeChecksumAbsent, "send the checksum that came with the targets", "header %s is missing", ChecksumHeader)
		}
		if checksum != t.Targets {
			return refuseHint(412, codeChecksumMismatch, "pull the targets first", "the targets on the server have checksum %s", show.Text(t.Targets))
		}
		if err := i.addTargets(t, doc); err != nil {
			return err
		}
		return i.dress(ctx, t)
	})
}

func (i *Image) addTargets(t *change, doc *uptane.Targets) error {
	root, err := i.current(t)
	if err != nil {
		return err
	}
	old, err := t.targets()
	if err != nil {
		return err
	}
	if err := i.checkTargets(root, old, doc); err != nil {
		return err
	}
	t.Targets = t.put(doc.Bytes())
	for name, d := range t.Delegations {
		if d.Digest != "" && !i.vouched(t, doc, name, d.Digest) {
			t.Delegations[name] = delegateRef{Version: d.Version}
		}
	}
	return nil
}

func (c *change) targets() (*uptane.Targets, error) {
	data, err := c.get(c.Targets)
	if err != nil {
		return nil, err
	}
	return uptane.ParseTargets(uptane.Image, data)
}

func (i *Image) vouched(t *change, parent *uptane.Targets, name, digest string) bool {
	a, err := uptane.DelegationAuthority(parent, name)
	if err != nil {
		return false
	}
	data, err := t.get(digest)
	if err != nil {
		return false
	}
	doc, err := uptane.ParseTargets(uptane.Image, data)
	return err == nil && a.Verify(doc) == nil
}

// PushDelegation replaces a delegation's metadata. The current targets must delegate to it, and to every entry's name.
func (i *Image) PushDelegation(ctx context.Context, name string, data []byte) error {
	doc, err := i.parseTargets(data)
	if err != nil {
		return err
	}
	return i.files.update(ctx, func(t *change) error {
		if err := i.addDelegation(t, name, doc); err != nil {
			return err
		}
		return i.dress(ctx, t)
	})
}

func (i *Image) addDelegation(t *change, name string, doc *uptane.Targets) error {
	parent, err := t.targets()
	if err != nil {
		return err
	}
	d, ok := parent.Delegation(name)
	if !ok {
		return refuseHint(404, codeNoDelegation, "push targets with the delegation first", "the targets do not delegate to %q", printable(name))
	}
	if was := t.Delegations[name]; doc.Version() <= was.Version {
		return refuse(400, codeInvalidTargets, "version %d of delegation %s is not higher than version %d, which the server had", doc.Version(), name, was.Version)
	}
	a, err := uptane.DelegationAuthority(parent, name)
	if err != nil {
		return err
	}
	if _, err := uptane.Emit(doc, a); err != nil {
		return refuseWith(400, codeBadSignature, err)
	}
	for _, target := range doc.Names() {
		if !d.Matches(target) {
			return refuse(400, codeInvalidTargets, "target %s does not fall under delegation %s", target, name)
		}
	}
	if err := i.checkEntries(nil, doc); err != nil {
		return err
	}
	if t.Delegations == nil {
		t.Delegations = map[string]delegateRef{}
	}
	t.Delegations[name] = delegateRef{t.put(doc.Bytes()), doc.Version()}
	return nil
}

// Find looks for a target in the current targets and the delegations, in the order of their search.
func (i *Image) Find(name string) (t uptane.Target, found bool, err error) {
	t, why, err := i.search(name, false)
	return t, err == nil && why == "", err
}

// search is Find, and says in why what keeps devices from finding the target; empty: nothing. If current, what has ended
// is a reason too.
func (i *Image) search(name string, current bool) (t uptane.Target, why string, err error) {
	doc, err := i.document(func(ix *index) string { return ix.Targets })
	if err != nil {
		return t, "", err
	}
	if err := uptane.CheckExpiry(doc, i.now()); err != nil && current {
		return t, fmt.Sprintf("the targets have ended: %v", err), nil
	}
	if t, found := doc.Target(name); found {
		return t, "", nil
	}
	why, ended := "neither the targets nor a delegation have it", false
	for _, d := range doc.Delegations() {
		child, err := i.document(func(ix *index) string { return ix.Delegations[d.Name].Digest })
		if err != nil {
			return t, "", err
		}
		found := false
		if child != nil {
			t, found = child.Target(name)
		}
		switch {
		case found && !d.Matches(name):
			why = fmt.Sprintf("delegation %s lists it, and is not for such names", show.Text(d.Name))
		case found && ended:
			return t, why + fmt.Sprintf(", and so delegation %s, which lists it, is not asked", show.Text(d.Name)), nil
		case found:
			if err := uptane.CheckExpiry(child, i.now()); err != nil && current {
				return t, fmt.Sprintf("delegation %s has ended: %v", show.Text(d.Name), err), nil
			}
			return t, "", nil
		case d.Matches(name) && d.Terminating && !ended:
			why, ended = fmt.Sprintf("delegation %s ends the search for such names, and does not list it", show.Text(d.Name)), true
		}
	}
	return t, why, nil
}

// document parses what pick chooses, once; nil where there is none.
func (i *Image) document(pick func(*index) string) (*uptane.Targets, error) {
	ix, err := i.files.index()
	if err != nil {
		return nil, err
	}
	if doc, ok := i.parsed.Load(pick(ix)); ok {
		return doc.(*uptane.Targets), nil
	}
	data, found, err := i.files.read(pick)
	if err != nil || !found {
		return nil, err
	}
	doc, err := uptane.ParseTargets(uptane.Image, data)
	if err != nil {
		return nil, err
	}
	// What is not current any more goes.
	now := ix.digests()
	i.parsed.Range(func(k, _ any) bool {
		if !now[k.(string)] {
			i.parsed.Delete(k)
		}
		return true
	})
	i.parsed.Store(digestOf(data), doc)
	return doc, nil
}
