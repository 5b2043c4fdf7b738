package uptane

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MetaItem is what a snapshot or a timestamp says of another file.
type MetaItem struct {
	// SHA256 and Length cover the canonical form of the whole signed file; the client stops reading after Length.
	SHA256  string
	SHA512  string // optional
	Length  int64
	Version int
}

// MetaOf describes a document as a snapshot or timestamp lists it.
func MetaOf(doc Document) MetaItem {
	b := doc.Bytes()
	digest := sha256.Sum256(b)
	return MetaItem{SHA256: hex.EncodeToString(digest[:]), Length: int64(len(b)), Version: doc.Version()}
}

// MetaConfig is the content of a snapshot or a timestamp to be built.
type MetaConfig struct {
	Version int
	Expires time.Time
	// Meta by file name: root.json, targets.json and <delegation>.json for a snapshot, snapshot.json for a timestamp.
	Meta   map[string]MetaItem
	Limits *Limits
}

// Snapshot is a snapshot.json: the versions that belong together.
type Snapshot struct{ metaDocument }

// Timestamp is a timestamp.json: which snapshot is current.
type Timestamp struct{ metaDocument }

type metaDocument struct {
	envelope
	meta map[string]MetaItem
}

// NewSnapshot builds a snapshot without signatures.
func NewSnapshot(c MetaConfig) (*Snapshot, error) {
	m, err := newMeta(c, "Snapshot", func(l Limits) int { return l.Snapshot })
	if err == nil {
		err = checkSize("snapshot.json", &Snapshot{m})
	}
	if err != nil {
		return nil, refused(err)
	}
	return &Snapshot{m}, nil
}

// NewTimestamp builds a timestamp without signatures.
func NewTimestamp(c MetaConfig) (*Timestamp, error) {
	m, err := newMeta(c, "Timestamp", func(l Limits) int { return l.Timestamp })
	if err == nil {
		err = checkSize("timestamp.json", &Timestamp{m})
	}
	if err != nil {
		return nil, refused(err)
	}
	return &Timestamp{m}, nil
}

func newMeta(c MetaConfig, typ string, limit func(Limits) int) (metaDocument, error) {
	limits := DefaultLimits()
	if c.Limits != nil {
		limits = *c.Limits
	}
	m := metaDocument{envelope{version: c.Version, expires: c.Expires.UTC(), max: limit(limits)}, maps.Clone(c.Meta)}
	what := strings.ToLower(typ)
	if c.Version < 1 || c.Version > MaxVersion {
		return m, because(ErrVersion, "%s version %d is outside 1 to %d", what, c.Version, MaxVersion)
	}
	expires, err := formatTime(what+" expiry", m.expires)
	if err != nil {
		return m, err
	}
	if err := m.check(typ); err != nil {
		return m, err
	}
	var w writer
	w.open()
	w.key("_type")
	w.text(typ)
	w.key("expires")
	w.text(expires)
	w.key("meta")
	w.open()
	for _, name := range slices.Sorted(maps.Keys(m.meta)) {
		item := m.meta[name]
		w.key(name)
		w.open()
		w.key("hashes")
		w.open()
		w.key("sha256")
		w.text(item.SHA256)
		if item.SHA512 != "" {
			w.key("sha512")
			w.text(item.SHA512)
		}
		w.close()
		w.key("length")
		w.raw(strconv.FormatInt(item.Length, 10))
		w.key("version")
		w.raw(strconv.Itoa(item.Version))
		w.close()
	}
	w.close()
	w.key("version")
	w.raw(strconv.Itoa(c.Version))
	w.close()
	m.signed = w.b
	return m, nil
}

func (m *metaDocument) check(typ string) error {
	needed := []string{"root.json", "targets.json"}
	if typ == "Timestamp" {
		needed = []string{"snapshot.json"}
	}
	what := strings.ToLower(typ)
	for _, name := range needed {
		if _, ok := m.meta[name]; !ok {
			return because(ErrMalformed, "%s: no entry for %s", what, name)
		}
	}
	for name, item := range m.meta {
		if err := checkText("file name", name); err != nil {
			return err
		}
		if !strings.HasSuffix(name, ".json") {
			return because(ErrMalformed, "%s: file name %q does not end in .json", what, name)
		}
		if !isHex(item.SHA256, 64) || item.SHA512 != "" && !isHex(item.SHA512, 128) {
			return because(ErrHash, "%s: %s has a hash that is not lower-case hex", what, name)
		}
		if item.Length < 1 || item.Length > 1<<31-1 || item.Version < 0 || item.Version > MaxVersion {
			return because(ErrNumber, "%s: %s has a length or version that the client cannot read", what, name)
		}
	}
	return nil
}

// ParseSnapshot reads a snapshot.json and checks all but its signatures.
func ParseSnapshot(data []byte, opts ...Option) (*Snapshot, error) {
	m, err := parseMeta(data, "Snapshot", func(l Limits) int { return l.Snapshot }, opts)
	if err != nil {
		return nil, unverified(err)
	}
	return &Snapshot{m}, nil
}

// ParseTimestamp reads a timestamp.json and checks all but its signatures.
func ParseTimestamp(data []byte, opts ...Option) (*Timestamp, error) {
	m, err := parseMeta(data, "Timestamp", func(l Limits) int { return l.Timestamp }, opts)
	if err != nil {
		return nil, unverified(err)
	}
	return &Timestamp{m}, nil
}

func parseMeta(data []byte, typ string, limit func(Limits) int, opts []Option) (metaDocument, error) {
	what := strings.ToLower(typ) + ".json"
	o, err := open(data, what, limit, opts)
	if err != nil {
		return metaDocument{}, err
	}
	if err := o.mustBe(what, typ); err != nil {
		return metaDocument{}, err
	}
	m := metaDocument{o.envelope, map[string]MetaItem{}}
	r := reader{where: what}
	for i := range r.object(r.member(&o.body, "meta")).members {
		e := &o.body
		list, _ := e.get("meta")
		entry := &list.members[i]
		in := reader{where: what + ": " + entry.key, err: r.err}
		b := in.object(&entry.value)
		in.only(b, "hashes", "length", "version")
		hashes := in.object(in.member(b, "hashes"))
		in.only(hashes, "sha256", "sha512")
		item := MetaItem{SHA256: in.text(hashes, "sha256"), Length: in.integer(b, "length", 1, 1<<31-1), Version: int(in.integer(b, "version", 0, MaxVersion))}
		if _, ok := hashes.get("sha512"); ok {
			item.SHA512 = in.text(hashes, "sha512")
		}
		m.meta[entry.key], r.err = item, in.err
	}
	if r.err != nil {
		return m, r.err
	}
	return m, m.check(typ)
}

// Meta is what the document says of a file.
func (m *metaDocument) Meta(name string) (MetaItem, bool) {
	item, ok := m.meta[name]
	return item, ok
}

// Files lists the files that the document describes, sorted.
func (m *metaDocument) Files() []string { return slices.Sorted(maps.Keys(m.meta)) }

// Role is RoleSnapshot.
func (s *Snapshot) Role() Role { return RoleSnapshot }

// Role is RoleTimestamp.
func (t *Timestamp) Role() Role { return RoleTimestamp }

func (s *Snapshot) with(list []Signature) Document {
	return &Snapshot{metaDocument{s.withSignatures(list), s.meta}}
}

func (t *Timestamp) with(list []Signature) Document {
	return &Timestamp{metaDocument{t.withSignatures(list), t.meta}}
}
