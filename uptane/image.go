package uptane

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

// ImageFiles is what a device fetches from the Image repository, as the server sent it.
type ImageFiles struct {
	// Roots are the roots after the trusted one, in order.
	Roots                        [][]byte
	Timestamp, Snapshot, Targets []byte
	// Delegations by role name.
	Delegations map[string][]byte
}

// VerifiedImage is an Image repository's metadata that verified against a trusted root.
type VerifiedImage struct {
	root        *Root
	timestamp   *Timestamp
	snapshot    *Snapshot
	targets     *Targets
	delegations map[string]*Targets
}

// Targets is the verified top-level targets document.
func (v *VerifiedImage) Targets() *Targets { return v.targets }

// VerifyImage does what a device does with the Image repository: the root chain, then timestamp, snapshot, targets
// and delegations, each with its threshold of different keys, its version, expiry, length and hashes. previous is
// what the device verified last, nil at first: nothing may be older.
func VerifyImage(trusted *Root, f ImageFiles, previous *VerifiedImage, now time.Time, opts ...Option) (*VerifiedImage, error) {
	v := &VerifiedImage{delegations: map[string]*Targets{}}
	var err error
	if v.root, err = VerifyRootChain(trusted, f.Roots, now, opts...); err != nil {
		return nil, err
	}
	if v.timestamp, err = ParseTimestamp(f.Timestamp, opts...); err != nil {
		return nil, err
	}
	if err = verifyRole(v.root, v.timestamp, now); err != nil {
		return nil, err
	}
	item, _ := v.timestamp.Meta("snapshot.json")
	if v.snapshot, err = ParseSnapshot(f.Snapshot, opts...); err != nil {
		return nil, err
	}
	if err = verifyListed(v.snapshot, "snapshot.json", item); err != nil {
		return nil, err
	}
	if err = verifyRole(v.root, v.snapshot, now); err != nil {
		return nil, err
	}
	if root, _ := v.snapshot.Meta("root.json"); root.Version > v.root.version {
		return nil, unverified(because(ErrVersion, "the snapshot lists root version %d, the newest root is %d: a root is withheld", root.Version, v.root.version))
	} else if root.Version == v.root.version {
		if err = verifyListed(v.root, "root.json", root); err != nil {
			return nil, err
		}
	}
	item, _ = v.snapshot.Meta("targets.json")
	if v.targets, err = ParseTargets(Image, f.Targets, opts...); err != nil {
		return nil, err
	}
	if err = verifyListed(v.targets, "targets.json", item); err != nil {
		return nil, err
	}
	if err = verifyRole(v.root, v.targets, now); err != nil {
		return nil, err
	}
	if err = v.verifyDelegations(v.targets, f.Delegations, map[string]bool{}, 0, now, opts); err != nil {
		return nil, err
	}
	if err := v.notOlderThan(previous); err != nil {
		return nil, err
	}
	return v, nil
}

func verifyRole(root *Root, doc Document, now time.Time) error {
	if err := RoleAuthority(root, doc.Role()).Verify(doc); err != nil {
		return err
	}
	return CheckExpiry(doc, now)
}

// verifyListed checks a document against what a snapshot or timestamp says of it.
func verifyListed(doc Document, name string, item MetaItem) error {
	b := doc.Bytes()
	// The client stops reading the file as it is served after the listed length.
	if int64(len(doc.Raw())) > item.Length {
		return unverified(hinted(ErrHash, "serve the canonical form, which has no white space",
			"%s has %d bytes as served, and clients stop reading after the %d that are listed", name, len(doc.Raw()), item.Length))
	}
	digest, long := sha256.Sum256(b), sha512.Sum512(b)
	if hex.EncodeToString(digest[:]) != item.SHA256 || item.SHA512 != "" && hex.EncodeToString(long[:]) != item.SHA512 {
		return unverified(because(ErrHash, "%s is not the file whose hash is listed", name))
	}
	if doc.Version() != item.Version {
		return unverified(because(ErrVersion, "%s has version %d, and version %d is listed", name, doc.Version(), item.Version))
	}
	return nil
}

func (v *VerifiedImage) verifyDelegations(parent *Targets, files map[string][]byte, seen map[string]bool, depth int, now time.Time, opts []Option) error {
	if depth >= MaxDelegationDepth {
		return nil // the client looks no deeper
	}
	for _, d := range parent.delegations {
		data, ok := files[d.Name]
		if !ok || seen[d.Name] {
			continue
		}
		seen[d.Name] = true
		doc, err := ParseTargets(Image, data, opts...)
		if err != nil {
			return inside("delegation "+d.Name, err)
		}
		item, ok := v.snapshot.Meta(d.Name + ".json")
		if !ok {
			return unverified(because(ErrVersion, "delegation %s is not listed in the snapshot", d.Name))
		}
		if err := verifyListed(doc, d.Name+".json", item); err != nil {
			return err
		}
		a := Authority{[]Rule{{"delegation " + d.Name, d.RoleKeys}}}
		if err := a.Verify(doc); err != nil {
			return err
		}
		if err := CheckExpiry(doc, now); err != nil {
			return inside("delegation "+d.Name, err)
		}
		v.delegations[d.Name] = doc
		if err := v.verifyDelegations(doc, files, seen, depth+1, now, opts); err != nil {
			return err
		}
	}
	return nil
}

func (v *VerifiedImage) notOlderThan(p *VerifiedImage) error {
	if p == nil {
		return nil
	}
	pairs := []struct{ old, new Document }{{p.timestamp, v.timestamp}, {p.snapshot, v.snapshot}, {p.targets, v.targets}}
	if v.root.version < p.root.version {
		pairs = append(pairs, struct{ old, new Document }{p.root, v.root})
	}
	for _, name := range slices.Sorted(maps.Keys(p.delegations)) {
		if d := v.delegations[name]; d != nil {
			pairs = append(pairs, struct{ old, new Document }{p.delegations[name], d})
		}
	}
	for _, pair := range pairs {
		if err := verifyNotOlder(pair.old, pair.new); err != nil {
			return err
		}
	}
	return nil
}

func verifyNotOlder(old, new Document) error {
	if new.Version() < old.Version() {
		return unverified(because(ErrRollback, "%s version %d is older than version %d, which was seen before", new.Role(), new.Version(), old.Version()))
	}
	return nil
}

// Find looks for a target as the client does: in the targets, then in the delegations whose patterns match, in order.
func (v *VerifiedImage) Find(name string) (Target, error) {
	t, found, _ := v.find(v.targets, name, map[string]bool{}, 0)
	if !found {
		return Target{}, unverified(because(ErrNoTarget, "the image repository has no target %q", name))
	}
	return t, nil
}

func (v *VerifiedImage) find(doc *Targets, name string, seen map[string]bool, depth int) (t Target, found, stop bool) {
	if t, ok := doc.targets[name]; ok {
		return t, true, true
	}
	if depth >= MaxDelegationDepth {
		return Target{}, false, false
	}
	for _, d := range doc.delegations {
		if seen[d.Name] || !d.Matches(name) {
			continue
		}
		seen[d.Name] = true
		if child := v.delegations[d.Name]; child != nil {
			if t, found, stop := v.find(child, name, seen, depth+1); found || stop {
				return t, found, stop
			}
		}
		if d.Terminating {
			return Target{}, false, true
		}
	}
	return Target{}, false, false
}
