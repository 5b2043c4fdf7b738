package trust

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"maps"
	"math/big"
	"slices"
	"time"
)

// View is what a gateway believes: immutable, and in existence only because every check passed. It is safe for concurrent
// use. Expiry is the caller's duty: ask Valid at every handshake.
type View struct {
	officers *Repository
	crlMeta  *targetsMetadata
	online   map[ID]*crl
	crls     map[ID]*crl
	// logs are checkpoints of issuance logs, by their targets' names.
	logs     map[string]LogInfo
	versions Versions
	raw      rawOnline
	// onlineExpiry is when the online metadata files expire.
	onlineExpiry struct{ timestamp, snapshot, crl time.Time }
	expires      time.Time
	expiring     string
	fingerprint  [32]byte
	files        map[string][32]byte
}

// rawOnline are the bytes of the online metadata files.
type rawOnline struct{ timestamp, snapshot, crl []byte }

// held are the files that a reader who has seen v has; none for nil.
func (v *View) held() rawOnline {
	if v == nil {
		return rawOnline{}
	}
	return v.raw
}

// Versions are the versions of the metadata that a View rests on.
type Versions struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	CRL       int64 `json:"crl"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

// CRLInfo describes what the view knows of one CA's revocations.
type CRLInfo struct {
	Issuer ID
	// Number, ThisUpdate and NextUpdate are those of the CRL with the highest number.
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	// Entries is the number of revoked serials.
	Entries int
}

// Environment is the name in the signed metadata.
func (v *View) Environment() string { return v.officers.Environment() }

// Versions are those of the metadata files.
func (v *View) Versions() Versions { return v.versions }

// Fingerprint changes exactly when what the view says changes (anchors, intermediates, CRLs, policy, Uptane roots); a timestamp that is
// signed anew leaves it as it is. Caches of verified chains are keyed by it.
func (v *View) Fingerprint() [32]byte { return v.fingerprint }

// Anchors are the Fleet Roots. The slice is the caller's, the certificates are shared.
func (v *View) Anchors() []*x509.Certificate { return v.officers.Anchors() }

// Intermediates are the issuing CAs. The slice is the caller's, the certificates are shared.
func (v *View) Intermediates() []*x509.Certificate { return v.officers.Intermediates() }

// Officers is the officers' part of the view.
func (v *View) Officers() *Repository { return v.officers }

// Policy is the officers' gateway policy.
func (v *View) Policy() Policy { return v.officers.Policy() }

// Uptane are the roots that devices are provisioned with.
func (v *View) Uptane() UptaneRoots { return v.officers.Uptane() }

// Revoked says whether the CRLs of this CA list the serial; also true for a serial that no certificate may have (negative or
// more than 20 octets).
func (v *View) Revoked(issuer *x509.Certificate, number *big.Int) bool {
	s, ok := serialOf(number)
	if !ok {
		return true
	}
	c := v.crls[IssuerID(issuer)]
	return c != nil && c.serials.has(s)
}

// CRL describes the CRL of this CA; false if the view has none.
func (v *View) CRL(issuer *x509.Certificate) (CRLInfo, bool) {
	c := v.crls[IssuerID(issuer)]
	if c == nil {
		return CRLInfo{}, false
	}
	return c.info.clone(), true
}

// CRLs describes all CRLs, sorted by issuer.
func (v *View) CRLs() []CRLInfo {
	var list []CRLInfo
	for _, id := range sortedIDs(v.crls) {
		list = append(list, v.crls[id].info.clone())
	}
	return list
}

func (i CRLInfo) clone() CRLInfo {
	i.Number = new(big.Int).Set(i.Number)
	return i
}

// Expires is the earliest expiry of all metadata. A CRL that ends counts for its CA alone: see Policy.CRLUntil.
func (v *View) Expires() time.Time { return v.expires }

// Valid is nil until Expires, and then an error (kind Unverified, ErrExpired) that says what has expired. Nothing may be
// admitted on a view that is not valid.
func (v *View) Valid(now time.Time) error {
	if now.Before(v.expires) {
		return nil
	}
	return expired(v.expiring, "on %s", v.expires.Format(time.RFC3339))
}

// Files are the files of the repository that the view rests on, by path, with their SHA-256: enough to open it again.
func (v *View) Files() map[string][32]byte { return maps.Clone(v.files) }

// Digest is the SHA-256 of one of these files.
func (v *View) Digest(name string) ([32]byte, bool) {
	digest, ok := v.files[name]
	return digest, ok
}

// RootDigests are the SHA-256 of the roots that lead to the view, the pinned one first.
func (v *View) RootDigests() [][32]byte {
	var list [][32]byte
	for _, raw := range v.officers.roots.raw {
		list = append(list, sha256.Sum256(raw))
	}
	return list
}

// Roots are the bytes of those roots.
func (v *View) Roots() [][]byte { return slices.Clone(v.officers.roots.raw) }

// complete works out what follows from the parts.
func (v *View) complete(snapshot, timestamp, crlRoleHead header) {
	v.crls = map[ID]*crl{}
	for id, c := range v.officers.crls {
		v.crls[id] = c
	}
	for id, c := range v.online {
		v.crls[id] = merge(v.officers.crls[id], c)
	}
	v.versions = Versions{
		Root: v.officers.RootVersion(), Targets: v.officers.TargetsVersion(), CRL: crlRoleHead.version,
		Snapshot: snapshot.version, Timestamp: timestamp.version,
	}
	v.onlineExpiry.timestamp, v.onlineExpiry.snapshot, v.onlineExpiry.crl = timestamp.expires, snapshot.expires, crlRoleHead.expires
	v.expires, v.expiring = v.officers.roots.head.expires, expiringRoot
	earlier := func(t time.Time, what string) {
		if t.Before(v.expires) {
			v.expires, v.expiring = t, what
		}
	}
	earlier(v.officers.head.expires, expiringOfficers)
	earlier(crlRoleHead.expires, "the CRL role's metadata")
	earlier(snapshot.expires, "the snapshot")
	earlier(timestamp.expires, "the timestamp")
	v.fingerprint = v.computeFingerprint()
	for i, raw := range v.officers.roots.raw {
		v.files[metadataPath("root", v.officers.roots.first+int64(i))] = sha256.Sum256(raw)
	}
}

// What officers alone can sign anew.
const (
	expiringRoot     = "the root"
	expiringOfficers = "the officers' targets metadata"
)

// OfficersEnds are when the parts of the view expire that officers alone sign anew, by what each is called.
func (v *View) OfficersEnds() map[string]time.Time {
	return map[string]time.Time{expiringRoot: v.officers.roots.head.expires, expiringOfficers: v.officers.head.expires}
}

func (v *View) nameOf(id ID) string {
	for _, c := range v.officers.cas {
		if IssuerID(c) == id {
			return c.Subject.String()
		}
	}
	return id.String()
}

// merge is the union of what two CRLs of a CA revoke, described by the one with the higher number; officers may be nil.
func merge(officers, online *crl) *crl {
	if officers == nil {
		return online
	}
	newer := online
	if officers.info.Number.Cmp(online.info.Number) > 0 {
		newer = officers
	}
	m := &crl{info: newer.info, serials: union(online.serials, officers.serials)}
	m.info.Entries = len(m.serials)
	m.digest = sha256.Sum256(append(officers.digest[:], online.digest[:]...))
	return m
}

func (v *View) computeFingerprint() [32]byte {
	h := sha256.New()
	part := func(data []byte) {
		d := sha256.Sum256(data)
		h.Write(d[:])
	}
	part([]byte(v.Environment()))
	part(marshalBundle(v.officers.anchors))
	part(marshalBundle(v.officers.intermediates))
	policy, _ := v.officers.policy.marshal()
	part(policy)
	for _, root := range [][]byte{v.officers.uptane.Director, v.officers.uptane.Image} {
		if root != nil {
			part(root)
		}
	}
	for _, id := range sortedIDs(v.crls) {
		part(slices.Concat(id[:], v.crls[id].digest[:]))
	}
	return [32]byte(h.Sum(nil))
}

func sortedIDs[V any](m map[ID]V) []ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b ID) int { return cmp.Or(bytes.Compare(a[:], b[:])) })
}
