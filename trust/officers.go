package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
)

type targetsMetadata = metadata.Metadata[metadata.TargetsType]

// Repository is a verified offline half: a root chain, the officers' targets and the files these name.
type Repository struct {
	roots         *chain
	targets       *targetsMetadata
	targetsRaw    []byte
	head          header
	delegated     map[string]crypto.PublicKey
	anchors       []*x509.Certificate
	intermediates []*x509.Certificate
	cas           []*x509.Certificate
	policy        Policy
	uptane        UptaneRoots
	released      map[ID]serials
	crls          map[ID]*crl
	// files are the target files that were read, by path, with their SHA-256.
	files map[string][32]byte
}

// OpenRepository verifies the offline half in files against pin. The officers' metadata must not have expired at now
// (the asserted time of a ceremony, when an old one is verified); their CRLs may have.
func OpenRepository(files fs.FS, pin Pin, now time.Time) (*Repository, error) {
	return openRepository(knownAt{}, files, pin, now)
}

func openRepository(v knownAt, files fs.FS, pin Pin, now time.Time) (*Repository, error) {
	r := newReader(files)
	r.asOf = v
	roots, _, err := openChain(r, pin)
	if err != nil {
		return nil, err
	}
	version, err := newestTargets(files)
	if err != nil && r.empty() {
		return nil, refuse(ErrEmpty, "the folder", "")
	}
	if err != nil {
		return nil, err
	}
	path := metadataPath(metadata.TARGETS, version)
	raw, err := r.read(path, MaxTargetsSize)
	if err != nil {
		return nil, unreadable(path, err)
	}
	rep, err := openOfficers(r, roots, raw, path, nil)
	if err != nil {
		return nil, err
	}
	if rep.head.version != version {
		return nil, refuse(ErrMixed, path, "it states version %d", rep.head.version)
	}
	return rep, rep.checkExpiry(now)
}

func newestTargets(files fs.FS) (int64, error) {
	list, err := fs.ReadDir(files, "metadata")
	if err != nil {
		return 0, unreadable("metadata", err)
	}
	var newest int64
	for _, e := range list {
		if n, ok := strings.CutSuffix(e.Name(), ".targets.json"); ok {
			if v, err := strconv.ParseInt(n, 10, 64); err == nil && v <= MaxVersion {
				newest = max(newest, v)
			}
		}
	}
	if newest == 0 {
		return 0, refuse(ErrIncomplete, "metadata/*.targets.json", "")
	}
	return newest, nil
}

func (r *Repository) checkExpiry(now time.Time) error {
	if !now.Before(r.roots.head.expires) {
		return expired(metadataPath(metadata.ROOT, r.roots.head.version), "on %s", r.roots.head.expires.Format(time.RFC3339))
	}
	if !now.Before(r.head.expires) {
		return expired(metadataPath(metadata.TARGETS, r.head.version), "on %s", r.head.expires.Format(time.RFC3339))
	}
	return nil
}

// openOfficers verifies the officers' targets under the chain's last root and reads the files they name. CRLs that prev holds
// are not read again.
func openOfficers(r *reader, roots *chain, raw []byte, path string, prev *Repository) (*Repository, error) {
	if prev != nil && bytes.Equal(prev.targetsRaw, raw) && len(prev.roots.raw) == len(roots.raw) {
		maps.Copy(r.seen, prev.files)
		return prev, nil
	}
	rep := &Repository{roots: roots, targetsRaw: raw, crls: map[ID]*crl{}}
	var err error
	rep.targets, rep.head, err = openRole(roots, path, raw, roots.signers(metadata.TARGETS), func(m *metadata.Metadata[metadata.TargetsType]) error {
		if err := checkTargetsShape(m); err != nil {
			return err
		}
		var err error
		rep.delegated, err = checkDelegation(roots.asOf, roots.last, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := roots.last.VerifyDelegate(metadata.TARGETS, rep.targets); err != nil {
		return nil, fromTUF(path, err)
	}
	if err := rep.readTargets(r, prev); err != nil {
		return nil, err
	}
	rep.files = maps.Clone(r.seen)
	maps.DeleteFunc(rep.files, func(path string, _ [32]byte) bool { return !strings.HasPrefix(path, "targets/") })
	return rep, nil
}

func (rep *Repository) readTargets(r *reader, prev *Repository) error {
	data, err := rep.target(r, policyTarget, MaxPolicySize)
	if err != nil {
		return err
	}
	if rep.policy, err = ParsePolicy(data); err != nil {
		return refuse(ErrMalformed, policyTarget, "%v", err)
	}
	if rep.policy.Environment != rep.head.environment {
		return refuse(ErrEnvironment, policyTarget, "%s, not %s", rep.policy.Environment, rep.head.environment)
	}
	if data, err = rep.target(r, anchorsTarget, MaxBundleSize); err != nil {
		return err
	}
	if rep.anchors, err = parseBundle(data); err != nil {
		return refuse(ErrMalformed, anchorsTarget, "%v", err)
	}
	if rep.targets.Signed.Targets[intermediatesTarget] != nil {
		if data, err = rep.target(r, intermediatesTarget, MaxBundleSize); err != nil {
			return err
		}
		if rep.intermediates, err = parseBundle(data); err != nil {
			return refuse(ErrMalformed, intermediatesTarget, "%v", err)
		}
	}
	if err := checkCAs(rep.anchors, rep.intermediates, nil); err != nil {
		return refuse(ErrMalformed, anchorsTarget+" and "+intermediatesTarget, "%v", err)
	}
	rep.cas = slices.Concat(rep.anchors, rep.intermediates)
	if err := rep.checkSeparation(); err != nil {
		return err
	}
	if rep.targets.Signed.Targets[releasesTarget] != nil {
		if data, err = rep.target(r, releasesTarget, MaxReleasesSize); err != nil {
			return err
		}
		if rep.released, err = parseReleases(data); err != nil {
			return refuse(ErrMalformed, releasesTarget, "%v", err)
		}
	}
	if err := rep.readUptane(r); err != nil {
		return err
	}
	var known map[ID]*crl
	if prev != nil {
		known = prev.crls
	}
	if rep.crls, err = readCRLs(r, rep.targets, officersCRLPrefix, rep.cas, known, false); err != nil {
		return err
	}
	if err := rep.policy.checkRules(rep.names, func(id ID) bool { return rep.crls[id] != nil }); err != nil {
		return refuse(ErrMalformed, policyTarget, "%v", err)
	}
	return nil
}

// checkSeparation refuses an online key that is a CA's key.
func (rep *Repository) checkSeparation() error {
	cas := map[ID]string{}
	for _, c := range rep.cas {
		cas[IssuerID(c)] = c.Subject.String()
	}
	online := maps.Clone(rep.delegated)
	for _, id := range onlineKeyIDs(rep.roots.last) {
		online[id] = rep.roots.keys[id]
	}
	for id, pub := range online {
		spki, err := spkiID(pub)
		if err != nil {
			return refuse(ErrMalformed, "key "+id, "%v", err)
		}
		if name, ok := cas[spki]; ok {
			return refuse(ErrMalformed, "the key set", "the key of CA %q is an online trust key as well", name)
		}
	}
	return nil
}

// target reads and verifies one target file of the officers' role.
func (rep *Repository) target(r *reader, name string, limit int64) ([]byte, error) {
	return readTarget(r, rep.targets, name, limit)
}

func readTarget(r *reader, m *targetsMetadata, name string, limit int64) ([]byte, error) {
	f, err := listedTarget(m, name, limit)
	if err != nil {
		return nil, err
	}
	path := targetPath(name, f.Hashes["sha256"])
	data, err := r.read(path, f.Length)
	if err != nil {
		return nil, mismatched(path, err)
	}
	return data, r.checkTarget(path, int64(len(data)), f)
}

func listedTarget(m *targetsMetadata, name string, limit int64) (*metadata.TargetFiles, error) {
	f := m.Signed.Targets[name]
	if f == nil {
		return nil, refuse(ErrIncomplete, "target "+name, "the targets metadata does not list it")
	}
	if f.Length > limit {
		return nil, refuse(ErrMalformed, "target "+name, "it is larger than %d bytes", limit)
	}
	return f, nil
}

// checkTarget holds what was read to what the metadata says. checkFileShape asked for exactly these; the reader has the digest, which of a large CRL is not
// worked out twice.
func (r *reader) checkTarget(path string, size int64, f *metadata.TargetFiles) error {
	if digest := r.seen[path]; size != f.Length || !bytes.Equal(digest[:], f.Hashes["sha256"]) {
		return refuse(ErrMixed, path, "its length or its SHA-256 is another")
	}
	return nil
}

// readCRLTarget reads a CRL as it comes. What it says counts only where all of it is what the metadata lists.
func readCRLTarget(r *reader, m *targetsMetadata, name string, cas []*x509.Certificate) (*crl, error) {
	f, err := listedTarget(m, name, MaxCRLSize)
	if err != nil {
		return nil, err
	}
	path := targetPath(name, f.Hashes["sha256"])
	var c *crl
	var bad error
	size, err := r.stream(path, f.Length, func(in io.Reader) { c, bad = readCRL(in, f.Length, cas, false) })
	if err != nil {
		return nil, mismatched(path, err)
	}
	if err := r.checkTarget(path, size, f); err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, refuse(ErrMalformed, "target "+name, "the CRL %v", bad)
	}
	c.digest = r.seen[path]
	return c, nil
}

// readCRLs reads the CRLs under prefix that the role lists. With only set, the role may list nothing else.
func readCRLs(r *reader, m *targetsMetadata, prefix string, cas []*x509.Certificate, known map[ID]*crl, only bool) (map[ID]*crl, error) {
	crls := map[ID]*crl{}
	for _, name := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
		if !only && !strings.HasPrefix(name, prefix) || only && isLogTarget(name) {
			continue
		}
		id, ok := parseCRLTarget(prefix, name)
		if !ok {
			return nil, refuse(ErrMalformed, "target "+strconv.Quote(name), "it is not named %sISSUER%s", prefix, crlSuffix)
		}
		hash := [32]byte(m.Signed.Targets[name].Hashes["sha256"])
		if k := known[id]; k != nil && k.digest == hash && slices.ContainsFunc(cas, func(c *x509.Certificate) bool { return IssuerID(c) == id }) {
			crls[id] = k
			r.seen[targetPath(name, hash[:])] = hash
			continue
		}
		c, err := readCRLTarget(r, m, name, cas)
		if err != nil {
			return nil, err
		}
		if c.info.Issuer != id {
			return nil, refuse(ErrMalformed, "target "+name, "the CRL is by %s", c.info.Issuer)
		}
		crls[id] = c
	}
	return crls, nil
}

// Environment is the name in the signed metadata.
func (rep *Repository) Environment() string { return rep.head.environment }

// RootVersion is the version of the newest root.
func (rep *Repository) RootVersion() int64 { return rep.roots.head.version }

// TargetsVersion is the version of the officers' targets.
func (rep *Repository) TargetsVersion() int64 { return rep.head.version }

// Anchors are the Fleet Roots. The slice is the caller's, the certificates are shared.
func (rep *Repository) Anchors() []*x509.Certificate { return slices.Clone(rep.anchors) }

// Intermediates are the issuing CAs. The slice is the caller's, the certificates are shared.
func (rep *Repository) Intermediates() []*x509.Certificate { return slices.Clone(rep.intermediates) }

// Policy is the gateway policy.
func (rep *Repository) Policy() Policy { return rep.policy.clone() }

// Expires is the earliest expiry of the officers' metadata; their CRLs' nextUpdate counts only in a View.
func (rep *Repository) Expires() time.Time {
	if rep.roots.head.expires.Before(rep.head.expires) {
		return rep.roots.head.expires
	}
	return rep.head.expires
}

// KeepsRevoked asks that a CRL of a CA, which nobody need have signed yet, is not older than the one that the officers' targets hold, and
// lists all that this one lists, but for what the releases name. It may be nil only where there was none.
func (rep *Repository) KeepsRevoked(issuer *x509.Certificate, now *x509.RevocationList, releases []Release) error {
	id := IssuerID(issuer)
	was := rep.crls[id]
	if was == nil {
		return nil
	}
	const hint = "issue a newer CRL that keeps all entries, or name the serial in the releases"
	if now == nil {
		return advice.New(advice.Refused, hint, "the previous trust repository has a CRL of %q, this one has none", issuer.Subject)
	}
	if now.Number == nil || now.Number.Cmp(was.info.Number) < 0 {
		return advice.New(advice.Refused, hint, "the CRL of %q has number %v, the previous one %v", issuer.Subject, now.Number, was.info.Number)
	}
	kept := map[serial]bool{}
	for _, e := range now.RevokedCertificateEntries {
		if s, ok := serialOf(e.SerialNumber); ok {
			kept[s] = true
		}
	}
	for _, r := range releases {
		if s, ok := serialOf(r.Serial); ok && r.Issuer == id {
			kept[s] = true
		}
	}
	for _, s := range was.serials {
		if !kept[s] {
			return advice.New(advice.Refused, hint, "the CRL of %q no longer lists serial %x, which is not released", issuer.Subject, s)
		}
	}
	return nil
}

// Keys are those of all roles.
func (rep *Repository) Keys() Keys {
	role := func(name string) Role {
		by := rep.roots.signers(name)
		r := Role{Threshold: by.threshold}
		for _, id := range by.ids {
			r.Keys = append(r.Keys, by.keys[id])
		}
		return r
	}
	k := Keys{Root: role(metadata.ROOT), Targets: role(metadata.TARGETS), Snapshot: role(metadata.SNAPSHOT), Timestamp: role(metadata.TIMESTAMP)}
	d := rep.targets.Signed.Delegations.Roles[0] // checkDelegation asked for exactly this one
	k.CRL.Threshold = d.Threshold
	for _, id := range d.KeyIDs {
		k.CRL.Keys = append(k.CRL.Keys, rep.delegated[id])
	}
	return k
}

// RootChanges says whether these keys, and this date, make a new version of the root necessary after prev (nil for a new environment).
func RootChanges(prev *Repository, environment string, k Keys, expires time.Time) (bool, error) {
	m, err := layoutRoot(prev, environment, k, expires)
	return m != nil, err
}

// TargetsExpires is when the officers' targets are no longer good.
func (rep *Repository) TargetsExpires() time.Time { return rep.head.expires }

// RootExpires is that of the newest root.
func (rep *Repository) RootExpires() time.Time { return rep.roots.head.expires }

// Digest is the SHA-256 of what the signatures on the targets metadata are over.
func (rep *Repository) Digest() [32]byte {
	payload, _ := cjson.EncodeCanonical(rep.targets.Signed) // it was encoded when it was verified
	return sha256.Sum256(payload)
}
