package trust

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/show"
)

// Shape checks: what can be said of one metadata file without any other. They come before go-tuf sees the file, for it does
// not look whether a role, key or file that a map names is null.

var specVersion = regexp.MustCompile(`^1\.0\.[0-9]{1,3}$`)

// header is what every metadata file states.
type header struct {
	version     int64
	expires     time.Time
	environment string
	format      int
}

// parseMetadata reads a metadata file in the one form that this package writes: compact JSON with sorted keys.
func parseMetadata[T metadata.Roles](thing string, data []byte) (*metadata.Metadata[T], header, error) {
	fail := func(err error) (*metadata.Metadata[T], header, error) {
		return nil, header{}, refuse(ErrMalformed, thing, "%v", err)
	}
	m, err := new(metadata.Metadata[T]).FromBytes(data)
	if err != nil {
		return fail(err)
	}
	// What cannot be written back as it was says something twice, or in another form, or something unknown.
	if again, err := m.ToBytes(false); err != nil || !bytes.Equal(again, data) {
		return fail(errors.New("it is not compact JSON with sorted, unique keys and lower-case hex"))
	}
	if len(m.UnrecognizedFields) != 0 {
		return fail(errors.New("it has fields beside signed and signatures"))
	}
	if len(m.Signatures) > 2*MaxKeys {
		return fail(errors.New("it has too many signatures"))
	}
	for _, s := range m.Signatures {
		if len(s.UnrecognizedFields) != 0 {
			return fail(errors.New("a signature has unknown fields"))
		}
	}
	h, err := headerOf(any(m))
	if err != nil {
		return fail(err)
	}
	return m, h, nil
}

func headerOf(m any) (header, error) {
	var h header
	var spec string
	var own map[string]any
	switch m := m.(type) {
	case *metadata.Metadata[metadata.RootType]:
		h, spec, own = header{version: m.Signed.Version, expires: m.Signed.Expires}, m.Signed.SpecVersion, m.Signed.UnrecognizedFields
	case *metadata.Metadata[metadata.TargetsType]:
		h, spec, own = header{version: m.Signed.Version, expires: m.Signed.Expires}, m.Signed.SpecVersion, m.Signed.UnrecognizedFields
	case *metadata.Metadata[metadata.SnapshotType]:
		h, spec, own = header{version: m.Signed.Version, expires: m.Signed.Expires}, m.Signed.SpecVersion, m.Signed.UnrecognizedFields
	case *metadata.Metadata[metadata.TimestampType]:
		h, spec, own = header{version: m.Signed.Version, expires: m.Signed.Expires}, m.Signed.SpecVersion, m.Signed.UnrecognizedFields
	}
	// Every 1.0 is read alike. What go-tuf writes today is not asked for: a repository outlives the library.
	if !specVersion.MatchString(spec) {
		return h, fmt.Errorf("spec_version is %.20q, not 1.0.N", spec)
	}
	if h.version < 1 || h.version > MaxVersion {
		return h, fmt.Errorf("version %d is out of bounds", h.version)
	}
	if h.expires.Nanosecond() != 0 || h.expires.Location() != time.UTC {
		return h, errors.New("expires is not in whole seconds UTC")
	}
	var ok bool
	if h.environment, ok = own[environmentField].(string); !ok || CheckEnvironment(h.environment) != nil {
		return h, fmt.Errorf("%s is missing or not a name", environmentField)
	}
	switch own[formatField] {
	case float64(format):
		h.format = format
	case float64(formatLogs):
		h.format = formatLogs
	default:
		return h, fmt.Errorf("%s is not %d: a newer release is needed, or the file is not of this kind", formatField, format)
	}
	if len(own) != 2 {
		return h, errors.New("signed has unknown fields")
	}
	return h, nil
}

// onlyFormat refuses a file of format 2 where only the online role's metadata may have it.
func (h header) onlyFormat() error {
	if h.format != format {
		return fmt.Errorf("%s is not %d", formatField, format)
	}
	return nil
}

// ownFields are the fields that headerOf asks for.
func ownFields(environment string) map[string]any {
	return map[string]any{environmentField: environment, formatField: format}
}

// checkRole checks a role's key list against the keys at hand.
func checkRole(ids []string, threshold int, keys map[string]crypto.PublicKey) error {
	if len(ids) == 0 || len(ids) > MaxKeys || threshold < 1 || threshold > len(ids) {
		return fmt.Errorf("%d keys with a threshold of %d", len(ids), threshold)
	}
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			return fmt.Errorf("key %.16s stands twice", show.Text(id))
		}
		seen[id] = true
		if keys[id] == nil {
			return fmt.Errorf("key %.16s is not listed", show.Text(id))
		}
	}
	return nil
}

func parseKeys(v knownAt, listed map[string]*metadata.Key) (map[string]crypto.PublicKey, error) {
	if len(listed) > 4*MaxKeys {
		return nil, errors.New("too many keys")
	}
	keys := map[string]crypto.PublicKey{}
	for id, k := range listed {
		pub, err := checkTUFKey(v, id, k)
		if err != nil {
			return nil, err
		}
		keys[id] = pub
	}
	return keys, nil
}

var officersRoles = []string{metadata.ROOT, metadata.TARGETS}
var onlineRoles = []string{metadata.SNAPSHOT, metadata.TIMESTAMP}

// checkRootShape checks roles and keys, and that no online key is an officers' key.
func checkRootShape(v knownAt, m *metadata.Metadata[metadata.RootType]) (map[string]crypto.PublicKey, error) {
	keys, err := parseKeys(v, m.Signed.Keys)
	if err != nil {
		return nil, err
	}
	if !m.Signed.ConsistentSnapshot || len(m.Signed.Roles) != 4 {
		return nil, errors.New("it needs consistent_snapshot and exactly four roles")
	}
	for _, name := range metadata.TOP_LEVEL_ROLE_NAMES {
		r := m.Signed.Roles[name]
		if r == nil || len(r.UnrecognizedFields) != 0 {
			return nil, fmt.Errorf("role %s is missing or has unknown fields", name)
		}
		if err := checkRole(r.KeyIDs, r.Threshold, keys); err != nil {
			return nil, fmt.Errorf("role %s: %w", name, err)
		}
	}
	for _, id := range onlineKeyIDs(m) {
		if officersKey(m, id) {
			return nil, fmt.Errorf("online key %.16s is an officers' key as well", show.Text(id))
		}
	}
	return keys, nil
}

func onlineKeyIDs(m *metadata.Metadata[metadata.RootType]) []string {
	var ids []string
	for _, name := range onlineRoles {
		ids = append(ids, m.Signed.Roles[name].KeyIDs...)
	}
	return ids
}

func officersKey(m *metadata.Metadata[metadata.RootType], id string) bool {
	for _, name := range officersRoles {
		for _, k := range m.Signed.Roles[name].KeyIDs {
			if k == id {
				return true
			}
		}
	}
	return false
}

// checkFileShape asks for a length and exactly a SHA-256.
func checkFileShape(length int64, hashes metadata.Hashes, unknown map[string]any, limit int64) error {
	if len(unknown) != 0 || len(hashes) != 1 || len(hashes["sha256"]) != 32 {
		return errors.New("it needs exactly a length and a sha256")
	}
	if length < 1 || length > limit {
		return fmt.Errorf("length %d is out of bounds", length)
	}
	return nil
}

// checkMetaShape checks the files that a snapshot or timestamp names: exactly those in limits.
func checkMetaShape(meta map[string]*metadata.MetaFiles, limits map[string]int64) error {
	if len(meta) != len(limits) {
		return errors.New("it names other metadata files than it should")
	}
	for name, limit := range limits {
		f := meta[name]
		if f == nil || f.Version < 1 || f.Version > MaxVersion {
			return fmt.Errorf("%s is missing or has no version", name)
		}
		if err := checkFileShape(f.Length, f.Hashes, f.UnrecognizedFields, limit); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func checkTargetsShape(m *metadata.Metadata[metadata.TargetsType]) error {
	if len(m.Signed.Targets) > MaxTargets {
		return fmt.Errorf("it lists more than %d files", MaxTargets)
	}
	for name, f := range m.Signed.Targets {
		if f == nil || f.Custom != nil {
			return fmt.Errorf("%.80q is null or has custom data", name)
		}
		if err := checkFileShape(f.Length, f.Hashes, f.UnrecognizedFields, MaxCRLSize); err != nil {
			return fmt.Errorf("%.80q: %w", name, err)
		}
	}
	return nil
}

// checkDelegation asks for exactly the online role, with the paths that it may sign for.
func checkDelegation(v knownAt, root *metadata.Metadata[metadata.RootType], m *metadata.Metadata[metadata.TargetsType]) (map[string]crypto.PublicKey, error) {
	d := m.Signed.Delegations
	if d == nil || d.SuccinctRoles != nil || len(d.Roles) != 1 || len(d.UnrecognizedFields) != 0 {
		return nil, errors.New("it does not delegate exactly the online role")
	}
	keys, err := parseKeys(v, d.Keys)
	if err != nil {
		return nil, err
	}
	r := d.Roles[0]
	if r.Name != crlRole || !r.Terminating || len(r.Paths) != 1 || r.Paths[0] != crlRolePath || len(r.PathHashPrefixes) != 0 || len(r.UnrecognizedFields) != 0 {
		return nil, fmt.Errorf("it does not delegate %s to role %s, terminating", crlRolePath, crlRole)
	}
	if err := checkRole(r.KeyIDs, r.Threshold, keys); err != nil {
		return nil, fmt.Errorf("role %s: %w", crlRole, err)
	}
	for _, id := range r.KeyIDs {
		if officersKey(root, id) {
			return nil, fmt.Errorf("online key %.16s is an officers' key as well", show.Text(id))
		}
	}
	return keys, nil
}

// checkThreshold counts the valid signatures over signed by different keys of the role. It is stricter than go-tuf about PSS.
func checkThreshold(thing string, signed any, signatures []metadata.Signature, ids []string, threshold int, keys map[string]crypto.PublicKey) error {
	payload, err := cjson.EncodeCanonical(signed)
	if err != nil {
		return refuse(ErrMalformed, thing, "%v", err)
	}
	valid := 0
	for _, id := range ids {
		for _, s := range signatures {
			if s.KeyID == id && keys[id] != nil && verifyBytes(keys[id], payload, s.Signature) {
				valid++
				break
			}
		}
	}
	if valid < threshold {
		return refuse(ErrSignature, thing, "%d of %d", valid, threshold)
	}
	return nil
}
