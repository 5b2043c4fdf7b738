package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
)

// Signed is a metadata file that the officers signed.
type Signed struct {
	// Path in the repository.
	Path string
	// Payload is what each signature is over.
	Payload []byte
	// Signatures by the key that made each.
	Signatures []KeySignature
}

// KeySignature is a signature and the key that made it.
type KeySignature struct {
	Key       crypto.PublicKey
	Signature []byte
}

// Confirm verifies a finished offline half and holds it to what Prepare would lay out from the same arguments: what it
// says, not how it is encoded, and by what was known of weak keys when a format of ceremonies was the newest. It gives the repository, and the metadata files that are new in it.
func Confirm(asOf knownAt, prev *Repository, c Content, k Keys, v Validity, files Files, now time.Time) (*Repository, []Signed, error) {
	if _, err := prepare(asOf, prev, c, k, v, now, nil); err != nil {
		return nil, nil, err
	}
	first, version := files[metadataPath(metadata.ROOT, 1)], c.version(prev)
	if prev != nil {
		first = prev.roots.raw[0]
	}
	rep, err := openRepository(asOf, files, PinRoot(first), now)
	if err != nil {
		return nil, nil, err
	}
	differs := func(what string) (*Repository, []Signed, error) {
		return nil, nil, advice.New(advice.Unverified, "", "the trust repository's %s: not what was asked for", what)
	}
	want := rootFacts{environment: c.Environment, expires: v.RootExpires.UTC().Truncate(time.Second), roles: map[string]roleFacts{}}
	for name, role := range map[string]Role{metadata.ROOT: k.Root, metadata.TARGETS: k.Targets, metadata.SNAPSHOT: k.Snapshot, metadata.TIMESTAMP: k.Timestamp} {
		if want.roles[name], err = factsOf(role); err != nil {
			return nil, nil, err
		}
	}
	known := 0
	if prev != nil {
		known = len(prev.roots.raw)
	}
	added := 1
	if prev != nil && reflect.DeepEqual(want, prev.roots.facts()) {
		added = 0 // the newest root stays as it is
	}
	if len(rep.roots.raw) != known+added || prev != nil && !slices.EqualFunc(prev.roots.raw, rep.roots.raw[:known], bytes.Equal) || !reflect.DeepEqual(rep.roots.facts(), want) {
		return differs("root")
	}
	delegated, err := factsOf(k.CRL)
	if err != nil {
		return nil, nil, err
	}
	d := rep.targets.Signed.Delegations.Roles[0]
	switch {
	case rep.head.version != version || !rep.head.expires.Equal(v.TargetsExpires.UTC().Truncate(time.Second)) || rep.head.environment != c.Environment:
		return differs("targets version, expiry or environment")
	case !reflect.DeepEqual(delegated, roleFacts{sortedCopy(d.KeyIDs), d.Threshold}):
		return differs("online role")
	}
	if what := rep.differs(c); what != "" {
		return differs(what)
	}
	paths := map[string]bool{metadataPath(metadata.TARGETS, version): true}
	for i := range rep.roots.raw {
		paths[metadataPath(metadata.ROOT, rep.roots.first+int64(i))] = true
	}
	for path := range files {
		if _, read := rep.files[path]; !read && !paths[path] {
			return differs("file " + path)
		}
	}
	var signed []Signed
	if added > 0 {
		s, err := signedOf(metadataPath(metadata.ROOT, rep.RootVersion()), rep.roots.last, rep.roots.keys, prev)
		if err != nil {
			return nil, nil, err
		}
		signed = append(signed, s)
	}
	s, err := signedOf(metadataPath(metadata.TARGETS, version), rep.targets, rep.roots.keys, nil)
	return rep, append(signed, s), err
}

// rootFacts are what a root says.
type rootFacts struct {
	environment string
	expires     time.Time
	roles       map[string]roleFacts
}

type roleFacts struct {
	ids       []string
	threshold int
}

func (c *chain) facts() rootFacts {
	f := rootFacts{c.head.environment, c.head.expires, map[string]roleFacts{}}
	for name, r := range c.last.Signed.Roles {
		f.roles[name] = roleFacts{sortedCopy(r.KeyIDs), r.Threshold}
	}
	return f
}

func factsOf(r Role) (roleFacts, error) {
	f := roleFacts{threshold: r.Threshold}
	for _, pub := range r.Keys {
		_, id, err := tufKey(knownFirst, pub)
		if err != nil {
			return f, err
		}
		f.ids = append(f.ids, id)
	}
	slices.Sort(f.ids)
	return f, nil
}

func sortedCopy(list []string) []string { return slices.Sorted(slices.Values(list)) }

// differs names the part of the content that the repository says otherwise; empty if none.
func (rep *Repository) differs(c Content) string {
	if reflect.ValueOf(c.Policy).IsZero() {
		c.Policy = DefaultPolicy(c.Environment)
	}
	released, err := releaseSets(c.Releases)
	if err != nil {
		return "list of releases"
	}
	crls := map[ID][32]byte{}
	for _, data := range c.CRLs {
		der, err := derCRL(data)
		if err != nil {
			return "list of CRLs"
		}
		own, err := parseCRL(der, rep.cas)
		if err != nil {
			return "list of CRLs"
		}
		crls[own.info.Issuer] = sha256.Sum256(der)
	}
	have := map[ID][32]byte{}
	for id, own := range rep.crls {
		have[id] = own.digest
	}
	switch {
	case !sameCertificates(rep.anchors, c.Anchors):
		return "list of anchors"
	case !sameCertificates(rep.intermediates, c.Intermediates):
		return "list of intermediates"
	case !reflect.DeepEqual(rep.policy, c.Policy):
		return "gateway policy"
	case !c.Uptane.equal(rep.uptane):
		return "Uptane roots"
	case len(released)+len(rep.released) > 0 && !reflect.DeepEqual(released, rep.released):
		return "list of releases"
	case !maps.Equal(crls, have):
		return "list of CRLs"
	}
	return ""
}

func sameCertificates(a, b []*x509.Certificate) bool {
	raw := func(list []*x509.Certificate) []string {
		var all []string
		for _, c := range list {
			all = append(all, string(c.Raw))
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(raw(a), raw(b))
}

// signedOf takes the signatures from a metadata file, each by the key that made it. A root that replaces another is
// signed by keys of both.
func signedOf[T metadata.Roles](path string, m *metadata.Metadata[T], keys map[string]crypto.PublicKey, prev *Repository) (Signed, error) {
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return Signed{}, fmt.Errorf("%s: %w", path, err)
	}
	s := Signed{Path: path, Payload: payload}
	for _, sig := range m.Signatures {
		pub := keys[sig.KeyID]
		if pub == nil && prev != nil {
			pub = prev.roots.keys[sig.KeyID]
		}
		if pub == nil || !verifyBytes(pub, payload, sig.Signature) {
			return s, refuse(ErrSignature, path, "the signature of key %.16s", sig.KeyID)
		}
		s.Signatures = append(s.Signatures, KeySignature{pub, sig.Signature})
	}
	return s, nil
}
