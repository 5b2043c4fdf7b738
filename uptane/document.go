package uptane

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/format"
)

// Role is the name of a metadata role, as a root's "roles" writes it.
type Role string

// The roles. The last three are the server's own, for devices that are updated from a medium; clients that do not
// know them skip them.
const (
	RoleRoot      Role = "root"
	RoleTargets   Role = "targets"
	RoleSnapshot  Role = "snapshot"
	RoleTimestamp Role = "timestamp"

	RoleOfflineUpdates  Role = "offline-updates"
	RoleOfflineSnapshot Role = "offline-snapshot"
	RoleRemoteSessions  Role = "remote-sessions"
)

// Roles lists the four roles that every root carries, in the order in which messages list them.
func Roles() []Role { return []Role{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} }

func knownRole(r Role) bool {
	return slices.Contains(Roles(), r) || r == RoleOfflineUpdates || r == RoleOfflineSnapshot || r == RoleRemoteSessions
}

// Repository is which of a vehicle's two repositories a document belongs to.
type Repository string

// The two repositories.
const (
	Image    Repository = "image"
	Director Repository = "director"
)

// Document is a Root, Targets, Snapshot or Timestamp. It is immutable; its signatures need not be complete.
type Document interface {
	// Role is the document's role; a delegation's is targets.
	Role() Role
	// Version counts up by one with each change.
	Version() int
	// Expires is in UTC, whole seconds.
	Expires() time.Time
	// Signed is the canonical form of the signed part: the bytes that signatures cover.
	Signed() []byte
	// Digest is the SHA-256 of Signed.
	Digest() [32]byte
	// Signatures are those present, by key id; none is known to be valid.
	Signatures() []Signature
	// Bytes is the canonical form of the whole file, which snapshots hash and servers serve.
	Bytes() []byte
	// Raw is what Parse was given, and Bytes for a document that was built here.
	Raw() []byte

	limit() int
	size() int
	content() []byte
	with([]Signature) Document
}

// envelope is what all documents share.
type envelope struct {
	raw        string // empty: what Bytes gives
	signed     []byte
	signatures []Signature
	version    int
	expires    time.Time
	max        int
}

func (e *envelope) Version() int            { return e.version }
func (e *envelope) Expires() time.Time      { return e.expires }
func (e *envelope) Signed() []byte          { return slices.Clone(e.signed) }
func (e *envelope) Digest() [32]byte        { return sha256.Sum256(e.signed) }
func (e *envelope) Signatures() []Signature { return slices.Clone(e.signatures) }
func (e *envelope) limit() int              { return e.max }

func (e *envelope) Raw() []byte {
	if e.raw == "" {
		return e.Bytes()
	}
	return []byte(e.raw)
}

func (e *envelope) Bytes() []byte { return encode(e.signed, e.signatures) }

// content is Signed without a copy: for readers in this package.
func (e *envelope) content() []byte { return e.signed }

// size is the length of Bytes.
func (e *envelope) size() int { return len(e.signed) + len(encode(nil, e.signatures)) }

func encode(signed []byte, signatures []Signature) []byte {
	w := writer{b: make([]byte, 0, len(signed)+1024*len(signatures)+64)}
	w.open()
	w.key("signatures")
	w.raw("[")
	for i, s := range signatures {
		if i > 0 {
			w.raw(",")
		}
		s.write(&w)
	}
	w.raw("]")
	w.key("signed")
	w.b = append(w.b, signed...)
	w.close()
	return w.b
}

// isEncoded reports whether a file is what encode gives: then nobody has to keep both.
func isEncoded(file string, signed []byte, signatures []Signature) bool {
	frame := encode(nil, signatures)
	head := len(frame) - 1 // up to the closing brace
	return len(file) == len(frame)+len(signed) && file[:head] == string(frame[:head]) && file[head:len(file)-1] == string(signed) && file[len(file)-1] == '}'
}

// sorted orders signatures by key id, so that the order of signing does not show.
func sorted(list []Signature) []Signature {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Signature) int { return cmp.Compare(a.KeyID, b.KeyID) })
	return list
}

func (e envelope) withSignatures(list []Signature) envelope {
	e.signatures, e.raw = sorted(list), ""
	return e
}

// opened is a document's file before its role is known.
type opened struct {
	envelope
	asOf format.Version
	body value
	typ  string
}

// open reads {"signatures":[...],"signed":{...}}.
func open(data []byte, what string, limit func(Limits) int, opts []Option) (*opened, error) {
	o := optionsOf(opts)
	max := limit(o.limits)
	if err := checkRaw(data, what, max, o.local); err != nil {
		return nil, err
	}
	out, err := openFile(data, what, max)
	if err != nil {
		return nil, err
	}
	out.asOf = o.asOf
	if o.local && out.size() > max {
		return nil, because(ErrTooLarge, "%s has %d bytes in canonical form, and devices stop reading after %d", what, out.size(), max)
	}
	return out, nil
}

func checkRaw(data []byte, what string, max int, local bool) error {
	if local {
		max *= rawFactor
	}
	if len(data) > max {
		return because(ErrTooLarge, "%s has %d bytes, and devices stop reading after %d", what, len(data), max)
	}
	return nil
}

func openFile(data []byte, what string, max int) (*opened, error) {
	p := parser{s: string(data), entries: &entries{}, body: 1}
	v, err := p.parse()
	if err != nil {
		return nil, inside(what, err)
	}
	r := reader{where: what}
	o := r.object(&v)
	sigs, body := r.member(o, "signatures"), r.member(o, "signed")
	r.only(o, "signatures", "signed")
	if r.err != nil {
		return nil, r.err
	}
	list, err := signaturesOf(sigs)
	if err != nil {
		return nil, inside(what, err)
	}
	out, err := openBody(body, what, max)
	if err != nil {
		return nil, err
	}
	out.signatures = list
	if !isEncoded(p.s, out.signed, list) {
		out.raw = p.s
	}
	return out, nil
}

// openUnsigned reads a signed part alone, as it lies in roles/unsigned.
func openUnsigned(data []byte, what string, limit func(Limits) int, opts []Option) (*opened, error) {
	max := limit(optionsOf(opts).limits)
	if err := checkRaw(data, what, max, true); err != nil {
		return nil, err
	}
	p := parser{s: string(data), entries: &entries{}}
	v, err := p.parse()
	if err != nil {
		return nil, inside(what, err)
	}
	out, err := openBody(&v, what, max)
	if err != nil {
		return nil, err
	}
	if err := checkRaw(out.signed, what, max, false); err != nil {
		return nil, err
	}
	return out, nil
}

func openBody(body *value, what string, max int) (*opened, error) {
	r := reader{where: what}
	o := r.object(body)
	typ := r.text(o, "_type")
	out := &opened{body: *body, typ: typ}
	out.version = int(r.integer(o, "version", 0, MaxVersion))
	out.expires = r.time(o, "expires")
	out.max = max
	if r.err != nil {
		return nil, r.err
	}
	room := 1 << 10
	if t, ok := body.get("targets"); ok && t.entries != nil {
		room += len(t.entries.text) + len(t.entries.list)
	}
	out.signed = body.append(make([]byte, 0, room))
	if t, ok := body.get("targets"); ok && t.entries != nil {
		t.entries.settle(out.signed)
	}
	return out, nil
}

func (o *opened) mustBe(what, typ string) error {
	if o.typ != typ {
		return because(ErrType, "%s: _type is %q, not %q", what, o.typ, typ)
	}
	return nil
}

func inside(what string, err error) error { return &prefixed{what, err} }

type prefixed struct {
	what string
	err  error
}

func (p *prefixed) Error() string { return p.what + ": " + p.err.Error() }
func (p *prefixed) Unwrap() error { return p.err }

// checkSize refuses what devices would not read to the end.
func checkSize(what string, doc Document) error {
	if n := doc.size(); n > doc.limit() {
		return hinted(ErrTooLarge, "delete what is no longer needed, or delegate", "%s would have %d bytes, and devices stop reading after %d", what, n, doc.limit())
	}
	return nil
}

// Sign adds signatures to those that the document has and returns the canonical bytes of the whole file. A key that
// has signed already keeps its signature when that is valid. Every new signature is verified in software first. It
// does not know whose signatures the document needs: Emit does.
func Sign(doc Document, keys ...crypto.Signer) ([]byte, error) {
	signed, err := AddSignatures(doc, keys...)
	if err != nil {
		return nil, err
	}
	return signed.Bytes(), nil
}

// AddSignatures is Sign for callers that go on with the document.
func AddSignatures[D Document](doc D, keys ...crypto.Signer) (D, error) {
	var none D
	message := doc.content()
	list := doc.Signatures()
	for _, signer := range keys {
		k, err := NewKey(signer.Public())
		if err != nil {
			return none, refused(err)
		}
		at := slices.IndexFunc(list, func(s Signature) bool { return s.KeyID == k.id })
		if at >= 0 && k.verify(message, list[at]) == nil {
			continue
		}
		_, s, err := signMessage(signer, message)
		if err != nil {
			return none, refused(err)
		}
		if at >= 0 {
			list[at] = s
		} else {
			list = append(list, s)
		}
	}
	if len(list) > MaxSignatures {
		return none, refused(because(ErrTooLarge, "%d signatures are more than %d", len(list), MaxSignatures))
	}
	out := doc.with(list).(D)
	if err := checkSize(string(doc.Role())+" metadata", out); err != nil {
		return none, refused(err)
	}
	return out, nil
}

// SameContent reports whether signatures over one document are signatures over the other.
func SameContent(a, b Document) bool { return bytes.Equal(a.content(), b.content()) }

// SameButExpiry reports whether two documents of one version say the same but for the date on which they expire.
func SameButExpiry(a, b Document) bool {
	x, y := a.content(), b.content()
	if len(x) != len(y) || a.Role() != b.Role() {
		return false
	}
	if a.Expires().Equal(b.Expires()) {
		return bytes.Equal(x, y)
	}
	// The dates stand in one place, and have one length. If nothing else differs, that is the place of the first difference.
	first := 0
	for x[first] == y[first] {
		first++
	}
	const width = len(timeFormat)
	for at := max(0, first-width+1); at <= first; at++ {
		if string(x[at:min(at+width, len(x))]) == a.Expires().Format(timeFormat) && string(y[at:min(at+width, len(y))]) == b.Expires().Format(timeFormat) {
			return bytes.Equal(x[at+width:], y[at+width:])
		}
	}
	return false
}

// FileDigest is the hex SHA-256 of the canonical form of the whole file: what snapshots list, and the server's
// x-ats-role-checksum.
func FileDigest(doc Document) string {
	digest := sha256.Sum256(doc.Bytes())
	return hex.EncodeToString(digest[:])
}

// ParseDocument reads a document of a role.
func ParseDocument(repo Repository, role Role, data []byte, opts ...Option) (doc Document, err error) {
	switch role {
	case RoleRoot:
		doc, err = ParseRoot(data, opts...)
	case RoleTargets:
		doc, err = ParseTargets(repo, data, opts...)
	case RoleSnapshot:
		doc, err = ParseSnapshot(data, opts...)
	case RoleTimestamp:
		doc, err = ParseTimestamp(data, opts...)
	default:
		err = unverified(because(ErrType, "%q is not a role with a document", role))
	}
	if err != nil {
		return nil, err
	}
	return doc, nil
}
