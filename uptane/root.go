package uptane

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// RoleKeys are the keys of a role and how many of them must sign.
type RoleKeys struct {
	Keys      []Key
	Threshold int
}

func (rk RoleKeys) ids() []string {
	ids := make([]string, len(rk.Keys))
	for i, k := range rk.Keys {
		ids[i] = k.id
	}
	return ids
}

// check refuses a rule that cannot be met, or that one key could meet alone under several names.
func (rk RoleKeys) check(what string, draft bool) error {
	seen := map[string]bool{}
	for _, k := range rk.Keys {
		if k.IsZero() {
			return because(ErrKeyType, "%s: a key is empty", what)
		}
		if seen[k.spki] {
			return because(ErrRepeatedKey, "%s: key %s is listed twice", what, k.id)
		}
		seen[k.spki] = true
	}
	if rk.Threshold < 1 || rk.Threshold > MaxThreshold {
		return because(ErrBadRule, "%s: threshold %d is outside 1 to %d", what, rk.Threshold, MaxThreshold)
	}
	if !draft && rk.Threshold > len(rk.Keys) {
		return hinted(ErrBadRule, "add keys first, or lower the threshold",
			"%s: threshold %d can never be met by %d keys", what, rk.Threshold, len(rk.Keys))
	}
	return nil
}

// RootConfig is the content of a root to be built.
type RootConfig struct {
	// Version is 1 for a repository's first root, and exactly one more than the last after that.
	Version int
	// Expires is truncated to nothing: it must be in whole seconds.
	Expires time.Time
	// Roles holds the four roles of Roles(), each with its keys and threshold. The server's own roles may stand
	// beside them.
	Roles map[Role]RoleKeys
	// Limits default to the client's.
	Limits *Limits
}

// Root is a root.json: which keys, and how many of them, sign for each role.
type Root struct {
	envelope
	roles map[Role]RoleKeys
}

// NewRoot builds a root without signatures. It refuses one that a device or the server would refuse.
func NewRoot(c RootConfig) (*Root, error) {
	limits := DefaultLimits()
	if c.Limits != nil {
		limits = *c.Limits
	}
	r := &Root{envelope: envelope{version: c.Version, expires: c.Expires.UTC(), max: limits.Root}, roles: cloneRoles(c.Roles)}
	if c.Version < 1 || c.Version > MaxVersion {
		return nil, refused(because(ErrVersion, "root version %d is outside 1 to %d", c.Version, MaxVersion))
	}
	if err := checkRoles(r.roles, false); err != nil {
		return nil, refused(err)
	}
	signed, err := r.encode()
	if err != nil {
		return nil, refused(err)
	}
	r.signed = signed
	if err := checkSize("root.json", r); err != nil {
		return nil, refused(err)
	}
	return r, nil
}

func cloneRoles(roles map[Role]RoleKeys) map[Role]RoleKeys {
	out := make(map[Role]RoleKeys, len(roles))
	for name, rk := range roles {
		out[name] = RoleKeys{slices.Clone(rk.Keys), rk.Threshold}
	}
	return out
}

func checkRoles(roles map[Role]RoleKeys, draft bool) error {
	for _, name := range Roles() {
		if _, ok := roles[name]; !ok {
			return because(ErrMalformed, "root: role %s is missing", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		if !knownRole(name) {
			return because(ErrUnexpected, "root: %q is not a role that the server knows", name)
		}
		if err := roles[name].check("role "+string(name), draft); err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) encode() ([]byte, error) {
	expires, err := formatTime("root expiry", r.expires)
	if err != nil {
		return nil, err
	}
	keys := map[string]Key{}
	for _, rk := range r.roles {
		for _, k := range rk.Keys {
			keys[k.id] = k
		}
	}
	return r.encodeWith(keys, expires), nil
}

func (r *Root) encodeWith(keys map[string]Key, expires string) []byte {
	var w writer
	w.open()
	w.key("_type")
	w.text("Root")
	w.key("consistent_snapshot")
	w.raw("false")
	w.key("expires")
	w.text(expires)
	w.key("keys")
	writeKeys(&w, keys)
	w.key("roles")
	w.open()
	for _, name := range slices.Sorted(maps.Keys(r.roles)) {
		w.key(string(name))
		w.open()
		w.key("keyids")
		w.texts(r.roles[name].ids())
		w.key("threshold")
		w.raw(strconv.Itoa(r.roles[name].Threshold))
		w.close()
	}
	w.close()
	w.key("version")
	w.raw(strconv.Itoa(r.version))
	w.close()
	return w.b
}

func writeKeys(w *writer, keys map[string]Key) {
	w.open()
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		w.key(id)
		keys[id].write(w)
	}
	w.close()
}

// ParseRoot reads a root.json and checks all but its signatures: ask VerifyRoot or VerifyRootChain for those.
func ParseRoot(data []byte, opts ...Option) (*Root, error) {
	o, err := open(data, "root.json", func(l Limits) int { return l.Root }, opts)
	if err != nil {
		return nil, unverified(err)
	}
	r, err := rootOf(o, false)
	return r, unverified(err)
}

// ParseUnsignedRoot reads the signed part of a root alone, as it lies in roles/unsigned/root.json.
func ParseUnsignedRoot(data []byte, opts ...Option) (*Root, error) {
	o, err := openUnsigned(data, "unsigned root.json", func(l Limits) int { return l.Root }, opts)
	if err != nil {
		return nil, unverified(err)
	}
	r, err := rootOf(o, false)
	return r, unverified(err)
}

// ReadRootDraft reads an unsigned root that someone is still working on: a threshold may for now be higher than its
// role has keys. NewRoot refuses it until that is mended.
func ReadRootDraft(data []byte, opts ...Option) (RootConfig, error) {
	o, err := openUnsigned(data, "unsigned root.json", func(l Limits) int { return l.Root }, opts)
	if err != nil {
		return RootConfig{}, unverified(err)
	}
	r, err := rootOf(o, true)
	if err != nil {
		return RootConfig{}, unverified(err)
	}
	return r.Config(), nil
}

// WriteRootDraft is the signed part of a root that someone is still working on, in canonical form.
func WriteRootDraft(c RootConfig) ([]byte, error) {
	r := &Root{envelope: envelope{version: c.Version, expires: c.Expires.UTC()}, roles: c.Roles}
	if c.Version < 1 || c.Version > MaxVersion {
		return nil, refused(because(ErrVersion, "root version %d is outside 1 to %d", c.Version, MaxVersion))
	}
	if err := checkRoles(c.Roles, true); err != nil {
		return nil, refused(err)
	}
	b, err := r.encode()
	return b, refused(err)
}

func rootOf(o *opened, draft bool) (*Root, error) {
	if err := o.mustBe("root.json", "Root"); err != nil {
		return nil, err
	}
	rd := reader{where: "root.json", asOf: o.asOf}
	rd.only(&o.body, "_type", "consistent_snapshot", "expires", "keys", "roles", "version")
	if rd.boolean(&o.body, "consistent_snapshot") {
		rd.fail(ErrMalformed, "consistent_snapshot must be false")
	}
	if o.version < 1 {
		rd.fail(ErrVersion, "version %d is below 1", o.version)
	}
	keys := readKeys(&rd, &o.body)
	r := &Root{envelope: o.envelope, roles: map[Role]RoleKeys{}}
	for _, m := range rd.object(rd.member(&o.body, "roles")).members {
		if !knownRole(Role(m.key)) {
			rd.fail(ErrUnexpected, "%q is not a role that the server knows", m.key)
		}
		inner := reader{where: "root.json: role " + m.key, err: rd.err}
		body := inner.object(&m.value)
		inner.only(body, "keyids", "threshold")
		r.roles[Role(m.key)] = RoleKeys{pick(&inner, keys, inner.texts(body, "keyids")), int(inner.integer(body, "threshold", 1, MaxThreshold))}
		rd.err = inner.err
	}
	if rd.err != nil {
		return nil, rd.err
	}
	if err := checkRoles(r.roles, draft); err != nil {
		return nil, fmt.Errorf("root.json: %w", err)
	}
	// The server decodes, encodes and compares: so do we.
	if !bytes.Equal(r.encodeWith(keys, r.expires.Format(timeFormat)), r.signed) {
		return nil, because(ErrMalformed, "root.json: not in the form that the server re-encodes to")
	}
	return r, nil
}

// readKeys reads a "keys" object, in which every id must be its key's digest.
func readKeys(r *reader, o *value) map[string]Key {
	keys := map[string]Key{}
	for _, m := range r.object(r.member(o, "keys")).members {
		k, err := keyOf(r.where+": key "+m.key, r.asOf, &m.value)
		if err != nil {
			if r.err == nil {
				r.err = err
			}
			continue
		}
		if k.id != m.key {
			r.fail(ErrKeyID, "key id %q is not the SHA-256 of its key, %s", m.key, k.id)
		}
		keys[m.key] = k
	}
	return keys
}

func pick(r *reader, keys map[string]Key, ids []string) []Key {
	list := make([]Key, 0, len(ids))
	for _, id := range ids {
		k, ok := keys[id]
		if !ok {
			r.fail(ErrMalformed, "key %s is not among the keys", id)
		}
		list = append(list, k)
	}
	return list
}

// Role is RoleRoot.
func (r *Root) Role() Role { return RoleRoot }

// Keys returns the keys and the threshold of a role; none for a role that the root does not have.
func (r *Root) Keys(role Role) RoleKeys {
	rk := r.roles[role]
	return RoleKeys{slices.Clone(rk.Keys), rk.Threshold}
}

// Config returns the root's content, to be changed and built anew.
func (r *Root) Config() RootConfig {
	limits := DefaultLimits()
	limits.Root = r.max
	return RootConfig{Version: r.version, Expires: r.expires, Roles: cloneRoles(r.roles), Limits: &limits}
}

// Next builds the root that follows r: version one higher, with the changes that change makes to a copy of r's
// content. A change of the version is refused.
func (r *Root) Next(expires time.Time, change func(*RootConfig) error) (*Root, error) {
	c := r.Config()
	c.Version, c.Expires = r.version+1, expires
	if change != nil {
		if err := change(&c); err != nil {
			return nil, err
		}
	}
	if c.Version != r.version+1 {
		return nil, refused(because(ErrVersion, "the root after version %d must have version %d, not %d", r.version, r.version+1, c.Version))
	}
	return NewRoot(c)
}

func (r *Root) with(list []Signature) Document {
	return &Root{envelope: r.withSignatures(list), roles: r.roles}
}
