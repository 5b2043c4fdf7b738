package uptane

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// TargetsConfig is the content of a targets document to be built.
type TargetsConfig struct {
	// Repository defaults to Image. A Director document holds no delegations, and each ECU serial once.
	Repository Repository
	// Version is 0 or more; the server's own first document of a device has 0.
	Version int
	// Expires must be in whole seconds.
	Expires time.Time
	// Targets by file name.
	Targets map[string]Target
	// Delegations in the order in which they are searched; Image only. An empty list that is not nil is written.
	Delegations []Delegation
	// Custom is the top-level custom object, such as the Director's correlationId; empty: absent.
	Custom json.RawMessage
	// Extra holds top-level members that this package does not know, kept as they were read.
	Extra map[string]json.RawMessage
	// Limits default to the client's.
	Limits *Limits
}

// Targets is a targets.json or a delegation's metadata.
type Targets struct {
	envelope
	repo        Repository
	targets     map[string]Target
	delegations []Delegation
	custom      json.RawMessage
	extra       map[string]json.RawMessage
}

func (l Limits) targets(repo Repository) int {
	if repo == Director {
		return l.DirectorTargets
	}
	return l.ImageTargets
}

// NewTargets builds a targets document without signatures and refuses one that a device or the server would refuse.
func NewTargets(c TargetsConfig) (*Targets, error) {
	if c.Repository == "" {
		c.Repository = Image
	}
	limits := DefaultLimits()
	if c.Limits != nil {
		limits = *c.Limits
	}
	t := &Targets{
		envelope: envelope{version: c.Version, expires: c.Expires.UTC(), max: limits.targets(c.Repository)},
		repo:     c.Repository, targets: maps.Clone(c.Targets), delegations: cloneDelegations(c.Delegations),
		custom: slices.Clone(c.Custom), extra: maps.Clone(c.Extra),
	}
	if err := t.build(); err != nil {
		return nil, refused(err)
	}
	return t, nil
}

func cloneDelegations(list []Delegation) []Delegation {
	list = slices.Clone(list)
	for i := range list {
		list[i].Keys, list[i].Paths = slices.Clone(list[i].Keys), slices.Clone(list[i].Paths)
	}
	return list
}

func (t *Targets) build() error {
	if t.version < 0 || t.version > MaxVersion {
		return because(ErrVersion, "targets version %d is outside 0 to %d", t.version, MaxVersion)
	}
	if t.repo != Image && t.repo != Director {
		return because(ErrMalformed, "repository %q is neither image nor director", t.repo)
	}
	var p parser
	for name, target := range t.targets {
		if !target.hasCustom() {
			continue
		}
		p.next(string(target.Custom))
		v, err := p.parse()
		if err != nil {
			return inside("target "+strconv.Quote(name), err)
		}
		if t.repo == Image {
			if err := checkImageCustom(&v); err != nil {
				return inside("target "+strconv.Quote(name), err)
			}
		}
		if p.rewritten {
			target.Custom = v.append(nil)
			t.targets[name] = target
		}
	}
	if err := t.check(); err != nil {
		return err
	}
	for _, raw := range []*json.RawMessage{&t.custom} {
		if len(*raw) > 0 {
			v, err := parseJSON(*raw)
			if err != nil {
				return inside("custom", err)
			}
			if v.kind != object {
				return because(ErrMalformed, "the top-level custom must be an object, not %s", v.kind)
			}
			*raw = v.append(nil)
		}
	}
	signed, err := t.encode()
	if err != nil {
		return err
	}
	t.signed = signed
	return checkSize(t.title(), t)
}

func (t *Targets) title() string {
	if t.repo == Director {
		return "the director's targets.json"
	}
	return "targets metadata"
}

// check is what both directions demand of the content. Custom objects of the Image repository were checked as they were read.
func (t *Targets) check() error {
	ecus := map[string]string{}
	for name, target := range t.targets {
		if err := target.check(name, t.repo); err != nil {
			return err
		}
		if t.repo == Image {
			continue
		}
		if !target.hasCustom() {
			return because(ErrMalformed, "target %q: a director target needs ecuIdentifiers", name)
		}
		custom, err := parseJSON(target.Custom)
		if err != nil {
			return inside("target "+strconv.Quote(name), err)
		}
		c, err := directorCustomOf(&custom)
		if err != nil {
			return inside("target "+strconv.Quote(name), err)
		}
		if len(c.ECUs) == 0 {
			return because(ErrMalformed, "target %q: a director target needs an ECU that it is for", name)
		}
		for serial := range c.ECUs {
			if other, ok := ecus[serial]; ok {
				return because(ErrDisagree, "ECU %s is given both %q and %q", show.Text(serial), min(other, name), max(other, name))
			}
			ecus[serial] = name
		}
	}
	if t.repo == Director && len(t.delegations) > 0 {
		return because(ErrDelegation, "the director's targets hold a delegation")
	}
	return checkDelegations(t.delegations)
}

func (t *Targets) encode() ([]byte, error) {
	expires, err := formatTime("targets expiry", t.expires)
	if err != nil {
		return nil, err
	}
	members := map[string]func(*writer){
		"_type":   func(w *writer) { w.text("Targets") },
		"expires": func(w *writer) { w.text(expires) },
		"version": func(w *writer) { w.raw(strconv.Itoa(t.version)) },
		"targets": t.writeTargets,
	}
	if t.delegations != nil {
		members["delegations"] = func(w *writer) { writeDelegations(w, t.delegations) }
	}
	if len(t.custom) > 0 {
		members["custom"] = func(w *writer) { w.b = append(w.b, t.custom...) }
	}
	for k, raw := range t.extra {
		if _, ok := members[k]; ok || k == "custom" || k == "delegations" {
			return nil, because(ErrDuplicate, "extra member %q is one that the document has already", k)
		}
		v, err := Canonical(raw)
		if err != nil {
			return nil, fmt.Errorf("member %q: %w", k, err)
		}
		if err := checkText("member name", k); err != nil {
			return nil, err
		}
		members[k] = func(w *writer) { w.b = append(w.b, v...) }
	}
	room := 1024
	for name, target := range t.targets {
		room += len(name) + len(target.Custom) + len(target.SHA512) + 160
	}
	w := writer{b: make([]byte, 0, room)}
	w.open()
	for _, k := range slices.Sorted(maps.Keys(members)) {
		w.key(k)
		members[k](&w)
	}
	w.close()
	return w.b, nil
}

func (t *Targets) writeTargets(w *writer) {
	w.open()
	for _, name := range slices.Sorted(maps.Keys(t.targets)) {
		w.key(name)
		target := t.targets[name]
		at := len(w.b) + customStart
		target.write(w)
		if n := len(target.Custom); n > 0 {
			// The document's own bytes from here on, which the caller cannot change.
			target.Custom = w.b[at : at+n : at+n]
			t.targets[name] = target
		}
	}
	w.close()
}

// Role is RoleTargets.
func (t *Targets) Role() Role { return RoleTargets }

// Repository is where the document belongs.
func (t *Targets) Repository() Repository { return t.repo }

// Len is the number of targets.
func (t *Targets) Len() int { return len(t.targets) }

// Empty says whether it lists no target, delegates nothing and says nothing else.
func (t *Targets) Empty() bool {
	return len(t.targets)+len(t.delegations)+len(t.custom)+len(t.extra) == 0
}

// Names lists the targets, sorted.
func (t *Targets) Names() []string { return slices.Sorted(maps.Keys(t.targets)) }

// Target finds a target by file name.
func (t *Targets) Target(name string) (Target, bool) {
	target, ok := t.targets[name]
	return target, ok
}

// Delegations lists the delegations in the order in which they are searched.
func (t *Targets) Delegations() []Delegation { return cloneDelegations(t.delegations) }

// Delegation finds a delegation by name.
func (t *Targets) Delegation(name string) (Delegation, bool) {
	for _, d := range t.delegations {
		if d.Name == name {
			return d, true
		}
	}
	return Delegation{}, false
}

// Custom is the top-level custom object, empty if there is none.
func (t *Targets) Custom() json.RawMessage { return slices.Clone(t.custom) }

// Config returns a copy of the content, to be changed and built anew.
func (t *Targets) Config() TargetsConfig {
	limits := DefaultLimits()
	limits.ImageTargets, limits.DirectorTargets = t.max, t.max
	return TargetsConfig{
		Repository: t.repo, Version: t.version, Expires: t.expires, Targets: maps.Clone(t.targets),
		Delegations: cloneDelegations(t.delegations), Custom: slices.Clone(t.custom), Extra: maps.Clone(t.extra), Limits: &limits,
	}
}

// MayFollow says whether targets of a version may take the place of old ones: a higher one always. Where somebody went up to
// versions that leave no room, with a key that the root has replaced since, a lower one may too: the real client forgets what it
// has seen of a repository when it follows a new root.
func MayFollow(root *Root, old *Targets, version int) bool {
	return version > old.Version() || old.Version() > LastRoom && version <= LastRoom && RoleAuthority(root, RoleTargets).Verify(old) != nil
}

// Next builds the document that follows t: version one higher, with the changes that change makes to a copy of t's
// content. A version that is not higher than t's is refused.
func (t *Targets) Next(expires time.Time, change func(*TargetsConfig) error) (*Targets, error) {
	c := t.Config()
	c.Version, c.Expires = t.version+1, expires
	if change != nil {
		if err := change(&c); err != nil {
			return nil, err
		}
	}
	if c.Version <= t.version {
		return nil, refused(because(ErrRollback, "targets version %d is not higher than %d", c.Version, t.version))
	}
	return NewTargets(c)
}

func (t *Targets) with(list []Signature) Document {
	out := *t
	out.envelope = t.withSignatures(list)
	return &out
}
