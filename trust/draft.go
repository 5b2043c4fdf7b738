package trust

import (
	"bytes"
	"crypto"
	"io/fs"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
)

// Draft is the officers' next part, under the root that is there, with the signatures that it has so far: officers sign it one after the other, each at
// a machine of their own. It exists only if it says what Prepare would lay out from its content now, and if each of its signatures is good. An
// attacker who can change a draft on its way can take signatures from it, or have officers see another one; what a threshold of them did not
// sign, no gateway believes.
type Draft struct {
	prev     *Repository
	next     *Repository
	prepared *Prepared
	signed   *targetsMetadata
}

// Standing says who has signed a draft, by the TUF ids of keys.
type Standing struct {
	Threshold       int
	Signed, Missing []string
}

// Met says whether as many have signed as must.
func (s Standing) Met() bool { return len(s.Signed) >= s.Threshold }

// NewDraft lays out the part after prev with this content, good until expires, unsigned. Keys and root stay as they are: a ceremony changes those.
func NewDraft(prev *Repository, c Content, expires, now time.Time) (*Draft, error) {
	p, err := Prepare(prev, c, prev.Keys(), Validity{RootExpires: prev.roots.head.expires, TargetsExpires: expires}, now)
	if err != nil {
		return nil, err
	}
	p.root = nil
	m := *p.targets
	m.Signatures = []metadata.Signature{}
	files := maps.Clone(p.files)
	if files[metadataPath(metadata.TARGETS, m.Signed.Version)], err = m.ToBytes(false); err != nil {
		return nil, err
	}
	return OpenDraft(files, prev, now)
}

// OpenDraft reads a draft that follows prev. What it says is laid out anew, with every check of Prepare, and compared.
func OpenDraft(files fs.FS, prev *Repository, now time.Time) (*Draft, error) {
	version, err := newestTargets(files)
	if err != nil {
		return nil, err
	}
	path := metadataPath(metadata.TARGETS, version)
	if version <= prev.TargetsVersion() {
		return nil, refuse(ErrRollback, path, "version %d is in force", prev.TargetsVersion())
	}
	if version > prev.TargetsVersion()+MaxVersionsAhead {
		return nil, refuseHint(ErrMalformed, "somebody changed it: make the draft anew", path, "version %d is in force, and a draft is at most %d above", prev.TargetsVersion(), MaxVersionsAhead)
	}
	r := newReader(files)
	raw, err := r.read(path, MaxTargetsSize)
	if err != nil {
		return nil, unreadable(path, err)
	}
	m, head, err := parseMetadata[metadata.TargetsType](path, raw)
	if err == nil {
		if err = head.onlyFormat(); err == nil {
			err = checkTargetsShape(m)
		}
		if err != nil {
			err = refuse(ErrMalformed, path, "%v", err)
		}
	}
	if err != nil {
		return nil, err
	}
	if head.environment != prev.Environment() {
		return nil, refuse(ErrEnvironment, path, "%s, not %s", head.environment, prev.Environment())
	}
	next := &Repository{roots: prev.roots, targets: m, targetsRaw: raw, head: head, crls: map[ID]*crl{}}
	if next.delegated, err = checkDelegation(knownAt{}, prev.roots.last, m); err != nil {
		return nil, refuse(ErrMalformed, path, "%v", err)
	}
	if err := next.readTargets(r, nil); err != nil {
		return nil, err
	}
	content, err := next.Content(files)
	if err != nil {
		return nil, err
	}
	content.UsedTargets = version - 1
	d := &Draft{prev: prev, next: next, signed: m}
	if d.prepared, err = Prepare(prev, content, prev.Keys(), Validity{RootExpires: prev.roots.head.expires, TargetsExpires: head.expires}, now); err != nil {
		return nil, err
	}
	d.prepared.root = nil
	want, err := cjson.EncodeCanonical(d.prepared.targets.Signed)
	if err != nil {
		return nil, err
	}
	is, err := d.payload()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(is, want) {
		return nil, refuseHint(ErrMalformed, "make the draft anew, with the release that the officers use", path, "it is not what its content makes")
	}
	return d, d.checkSignatures(path, is)
}

// checkSignatures refuses a signature that is not good, not by a key of the role, or there twice.
func (d *Draft) checkSignatures(path string, payload []byte) error {
	by := d.prev.roots.signers(metadata.TARGETS)
	seen := map[string]bool{}
	for _, s := range d.signed.Signatures {
		if !slices.Contains(by.ids, s.KeyID) || seen[s.KeyID] || !verifyBytes(by.keys[s.KeyID], payload, s.Signature) {
			return refuse(ErrSignature, path, "the signature of key %.16s is not good", s.KeyID)
		}
		seen[s.KeyID] = true
	}
	return nil
}

func (d *Draft) payload() ([]byte, error) { return cjson.EncodeCanonical(d.signed.Signed) }

// Content is what the officers' part says, as Prepare takes it; files are those it was opened from.
func (rep *Repository) Content(files fs.FS) (Content, error) {
	c := Content{Environment: rep.Environment(), Anchors: rep.Anchors(), Intermediates: rep.Intermediates(), Policy: rep.Policy(), Uptane: rep.uptane}
	r := newReader(files)
	for _, name := range slices.Sorted(maps.Keys(rep.targets.Signed.Targets)) {
		if !strings.HasPrefix(name, officersCRLPrefix) {
			continue
		}
		der, err := readTarget(r, rep.targets, name, MaxCRLSize)
		if err != nil {
			return c, err
		}
		c.CRLs = append(c.CRLs, der)
	}
	c.Releases = rep.Releases()
	return c, nil
}

// Releases are the serials that CRLs may leave out, sorted.
func (rep *Repository) Releases() (list []Release) {
	for _, id := range sortedIDs(rep.released) {
		for _, s := range rep.released[id] {
			list = append(list, Release{Issuer: id, Serial: new(big.Int).SetBytes(s[:])})
		}
	}
	return list
}

// Next is what the draft says, which nobody need have signed.
func (d *Draft) Next() *Repository { return d.next }

// Previous is the part that it follows.
func (d *Draft) Previous() *Repository { return d.prev }

// Version is that of the draft.
func (d *Draft) Version() int64 { return d.next.head.version }

// Expires is when the part is no longer good.
func (d *Draft) Expires() time.Time { return d.next.head.expires }

// Digest is the SHA-256 of what each signature is over.
func (d *Draft) Digest() [32]byte { return d.next.Digest() }

// Standing says who has signed.
func (d *Draft) Standing() Standing {
	by := d.prev.roots.signers(metadata.TARGETS)
	s := Standing{Threshold: by.threshold}
	for _, id := range by.ids {
		if slices.ContainsFunc(d.signed.Signatures, func(g metadata.Signature) bool { return g.KeyID == id }) {
			s.Signed = append(s.Signed, id)
		} else {
			s.Missing = append(s.Missing, id)
		}
	}
	return s
}

// KeyID is the TUF id of a key; an error for one that can be none.
func KeyID(pub crypto.PublicKey) (string, error) {
	_, id, err := tufKey(knownAt{}, pub)
	return id, err
}

// MaySign refuses a key that the draft needs no signature of, before it is used.
func (d *Draft) MaySign(pub crypto.PublicKey) error {
	id, err := KeyID(pub)
	if err != nil {
		return err
	}
	s := d.Standing()
	if slices.Contains(s.Signed, id) {
		return advice.New(advice.Refused, "one signature of each key counts", "key %.16s has signed this draft already", id)
	}
	if !slices.Contains(s.Missing, id) {
		return advice.New(advice.Refused, "sign with a key that root names for targets", "the root does not name key %.16s for targets", id)
	}
	return nil
}

// Sign adds a signature of each signer, and verifies it.
func (d *Draft) Sign(signers ...crypto.Signer) error {
	ids := map[string]bool{}
	for _, s := range signers {
		if err := d.MaySign(s.Public()); err != nil {
			return err
		}
		id, _ := KeyID(s.Public())
		ids[id] = true
	}
	path := metadataPath(metadata.TARGETS, d.Version())
	m := *d.signed
	m.Signatures = slices.Clone(m.Signatures)
	if err := sign(&m, path, ids, signers); err != nil {
		return err
	}
	return d.resigned(path, &m)
}

// resigned takes over m, which has more signatures.
func (d *Draft) resigned(path string, m *targetsMetadata) error {
	slices.SortFunc(m.Signatures, func(a, b metadata.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	was := d.signed
	d.signed = m
	payload, err := d.payload()
	if err == nil {
		err = d.checkSignatures(path, payload)
	}
	if err != nil {
		d.signed = was
	}
	return err
}

// Merge adds the signatures of other, which must be the same draft. It says how many were new.
func (d *Draft) Merge(other *Draft) (int, error) {
	if d.Digest() != other.Digest() {
		return 0, advice.New(advice.Refused, "ask who changed it: the signatures of one do not fit the other", "the two drafts say different things: versions %d and %d", d.Version(), other.Version())
	}
	m := *d.signed
	m.Signatures = slices.Clone(m.Signatures)
	added := 0
	for _, s := range other.signed.Signatures {
		if !slices.ContainsFunc(m.Signatures, func(have metadata.Signature) bool { return have.KeyID == s.KeyID }) {
			m.Signatures = append(m.Signatures, s)
			added++
		}
	}
	return added, d.resigned(metadataPath(metadata.TARGETS, d.Version()), &m)
}

// Files are those of the officers' part: once enough have signed, `hanaper-repo import` publishes them.
func (d *Draft) Files() (Files, error) {
	files := maps.Clone(d.prepared.files)
	for i, raw := range d.prev.roots.raw {
		files[metadataPath(metadata.ROOT, d.prev.roots.first+int64(i))] = raw
	}
	data, err := d.signed.ToBytes(false)
	files[metadataPath(metadata.TARGETS, d.Version())] = data
	return files, err
}

// Verify opens the part as a publisher would: it must have enough signatures, and follow the root that pin names.
func (d *Draft) Verify(pin Pin, now time.Time) error {
	files, err := d.Files()
	if err == nil {
		_, err = OpenRepository(files, pin, now)
	}
	return err
}

// Part is a copy of the officers' part in files, and nothing besides.
func (rep *Repository) Part(files fs.FS) (Files, error) {
	part := Files{metadataPath(metadata.TARGETS, rep.head.version): rep.targetsRaw}
	for i, raw := range rep.roots.raw {
		part[metadataPath(metadata.ROOT, rep.roots.first+int64(i))] = raw
	}
	r := newReader(files)
	var err error
	for path, hash := range rep.files {
		if part[path], err = r.read(path, MaxCRLSize); err != nil {
			return nil, unreadable(path, err)
		}
		if r.seen[path] != hash {
			return nil, refuse(ErrMixed, path, "it changed while it was read")
		}
	}
	return part, nil
}
