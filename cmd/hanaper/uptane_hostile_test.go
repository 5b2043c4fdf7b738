package main

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/uptane"
)

// bench is what a hostile requester knows and holds: every public document, and keys of its own.
type bench struct {
	*officers
	root1, root2, target, snapshot, stamp, thief ed25519.PrivateKey
	trusted                                      *uptane.Root
	// published are the targets in force, parent those that delegate partner-icons to officer 2.
	published, parent *uptane.Targets
	icons             *uptane.Targets
	expires           time.Time
}

func seedKey(seed string) ed25519.PrivateKey {
	s := sha256.Sum256([]byte(seed))
	return ed25519.NewKeyFromSeed(s[:])
}

func (b *bench) key(s ed25519.PrivateKey) uptane.Key {
	k, err := uptane.NewKey(s.Public())
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

func (b *bench) keys(list ...any) []uptane.Key {
	var out []uptane.Key
	for _, x := range list {
		switch k := x.(type) {
		case ed25519.PrivateKey:
			out = append(out, b.key(k))
		case uptane.Key:
			out = append(out, k)
		}
	}
	return out
}

func (b *bench) signed(doc uptane.Document, err error, keys ...crypto.Signer) []byte {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := uptane.Sign(doc, keys...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func newBench(t *testing.T) *bench {
	b := &bench{officers: newOfficers(t), expires: time.Now().UTC().Truncate(time.Second).AddDate(1, 0, 0)}
	b.root1, b.root2, b.target, b.snapshot, b.stamp, b.thief = seedKey("root1"), seedKey("root2"), seedKey("target"), seedKey("snapshot"), seedKey("stamp"), seedKey("thief")
	root, err := uptane.NewRoot(uptane.RootConfig{Version: 1, Expires: b.expires, Roles: map[uptane.Role]uptane.RoleKeys{
		uptane.RoleRoot:      {Keys: b.keys(b.root1, b.root2, b.pubs[0]), Threshold: 2},
		uptane.RoleTargets:   {Keys: b.keys(b.target, b.pubs[1]), Threshold: 1},
		uptane.RoleSnapshot:  {Keys: b.keys(b.snapshot), Threshold: 1},
		uptane.RoleTimestamp: {Keys: b.keys(b.stamp), Threshold: 1},
	}})
	data := b.signed(root, err, b.root1, b.root2)
	b.write("root.json", data)
	b.trusted = uptaneRoot(t, data)
	c := uptane.TargetsConfig{Version: 7, Expires: b.expires, Targets: map[string]uptane.Target{}}
	b.put(&c, "app", "1", "aa")
	b.put(&c, "app", "2", "bb")
	c.Delegations = []uptane.Delegation{{Name: "partner-icons", Paths: []string{"icons/*"}, RoleKeys: uptane.RoleKeys{Keys: b.keys(b.pubs[2]), Threshold: 1}}}
	b.published = b.targets(b.make(c, b.target))
	b.parent = b.published
	d := uptane.TargetsConfig{Version: 2, Expires: b.expires, Targets: map[string]uptane.Target{}}
	b.put(&d, "icons/blue", "1", "cc")
	// Signed by the officer whose key the delegation lists, some time ago: made by a request below.
	b.icons = b.targets(b.make(d))
	b.write("unverified", []byte("Unverified\n"))
	return b
}

// put adds an entry to a list.
func (b *bench) put(c *uptane.TargetsConfig, name, version, fill string) {
	b.t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	custom, err := uptane.ImageCustom{Name: name, Version: version, HardwareIDs: []string{"board-a"}, CreatedAt: now, UpdatedAt: now}.JSON()
	if err != nil {
		b.t.Fatal(err)
	}
	c.Targets[name+"-"+version] = uptane.Target{Length: 5, SHA256: strings.Repeat(fill, 32), Custom: custom}
}

func (b *bench) make(c uptane.TargetsConfig, keys ...crypto.Signer) []byte {
	b.t.Helper()
	t, err := uptane.NewTargets(c)
	return b.signed(t, err, keys...)
}

func (b *bench) targets(data []byte) *uptane.Targets {
	b.t.Helper()
	t, err := uptane.ParseTargets(uptane.Image, data)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// next is the list after the published one, changed.
func (b *bench) next(change func(*uptane.TargetsConfig)) []byte {
	c := b.published.Config()
	c.Version++
	if change != nil {
		change(&c)
	}
	return b.make(c)
}

func (b *bench) nextRoot(change func(*uptane.RootConfig)) []byte {
	c := b.trusted.Config()
	c.Version++
	change(&c)
	r, err := uptane.NewRoot(c)
	return b.signed(r, err)
}

// wire is a request as anybody can write one who knows the format: none of the program's checks were asked.
type wire struct {
	repository, role, delegation     string
	document, previous, root, parent []byte
	digest                           string
}

func (b *bench) pack(w wire) []byte {
	b.t.Helper()
	text := func(data []byte) any {
		if data == nil {
			return nil
		}
		return string(data)
	}
	if w.repository == "" {
		w.repository = "image"
	}
	if w.digest == "" {
		var doc struct {
			Signed json.RawMessage `json:"signed"`
		}
		if err := json.Unmarshal(w.document, &doc); err != nil {
			b.t.Fatal(err)
		}
		w.digest = fmt.Sprintf("%x", sha256.Sum256(doc.Signed))
	}
	raw, err := json.Marshal(map[string]any{
		"format": "hanaper-uptane-request-v1", "repository": w.repository, "role": w.role, "delegation": w.delegation, "digest": w.digest,
		"document": text(w.document), "previous": text(w.previous), "root": text(w.root), "parent": text(w.parent),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	line, err := uptane.Canonical(raw)
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha256.Sum256(line)
	return append(append(line, '\n'), base64.StdEncoding.EncodeToString(sum[:])+"\n"...)
}

// hostile is a request of somebody who means harm, and what must become of it.
type hostile struct {
	name string
	// officer is whose key is asked for: 0 signs roots, 1 targets, 2 the delegation.
	officer int
	request wire
	// refused is part of the refusal; empty: the request is shown, and shown must be on the screen.
	refused string
	shown   []string
	// unverified: "Yes" must not be enough.
	unverified bool
	// late is part of a refusal that comes after the word, for it is about the key.
	late string
	// dates: nothing but version and expiry changes.
	dates bool
	// absent must not be on the screen.
	absent []string
}

// TestHostileRequests: whatever a requester writes, an officer sees the harm or is refused. Nothing is signed or written
// by a refusal, and nothing by the wrong word.
func TestHostileRequests(t *testing.T) {
	b := newBench(t)
	cases := slices.Concat(b.hostileRoots(), b.hostileTargets(), b.hostileDelegations())
	if len(cases) < 30 {
		t.Fatalf("only %d hostile requests", len(cases))
	}
	seen := map[string]bool{}
	for _, h := range cases {
		if seen[h.name] {
			t.Errorf("%s stands twice", h.name)
		}
		seen[h.name] = true
		t.Run(h.name, func(t *testing.T) { b.try(t, h) })
	}
}

func (b *bench) try(t *testing.T, h hostile) {
	b.write("request", b.pack(h.request))
	sign := func(answers string) (int, string, string) {
		before := b.tree()
		code, out, errs := runUptane(t, b.args([]string{"sign", "--key", b.uris[h.officer], "--trusted-root", "@root.json", "--answers", answers, "--out", "@never", "@request"})...)
		if code != 0 && b.tree() != before {
			t.Error("refused, but something was written")
		}
		_ = os.Remove(b.path("never"))
		_ = os.Remove(b.path("never.transcript"))
		return code, out, errs
	}
	if h.refused != "" {
		for _, answers := range []string{"@yes", "@unverified"} {
			if code, out, errs := sign(answers); code != 3 && code != 4 || !strings.Contains(errs, h.refused) {
				t.Errorf("exit code %d, want a refusal with %q: %s%s", code, h.refused, out, errs)
			}
		}
		return
	}
	if h.late != "" {
		if code, out, errs := sign("@yes"); code != 3 || !strings.Contains(errs, h.late) {
			t.Errorf("exit code %d, want a refusal with %q: %s%s", code, h.late, out, errs)
		}
		return
	}
	word, wrong := "@yes", "@unverified"
	if h.unverified {
		word, wrong = wrong, word
	}
	code, out, errs := sign(wrong)
	if code != 3 || !strings.Contains(errs, "not signed") {
		t.Errorf("the wrong word: exit code %d: %s%s", code, out, errs)
	}
	for _, want := range h.shown {
		if !strings.Contains(out, want) {
			t.Errorf("the officer does not see %q:\n%s", want, out)
		}
	}
	if !h.dates {
		h.absent = append(h.absent, "no other change")
	}
	for _, never := range h.absent {
		if strings.Contains(out, never) {
			t.Errorf("the officer sees %q:\n%s", never, out)
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 181 && strings.ContainsAny(line, `"|`) { // lines with text of others are broken at 80
			t.Errorf("a line that a terminal breaks where the requester likes: %q", line)
		}
	}
	if code, out, errs := sign(word); code != 0 {
		t.Errorf("the right word: exit code %d: %s%s", code, out, errs)
	}
}

func (b *bench) hostileRoots() []hostile {
	root := func(document []byte, previous []byte) wire {
		return wire{role: "root", document: document, previous: previous, root: b.trusted.Bytes()}
	}
	thieves := func(version int) []byte {
		c := b.trusted.Config()
		c.Version = version
		c.Roles[uptane.RoleRoot] = uptane.RoleKeys{Keys: b.keys(b.thief, b.pubs[0]), Threshold: 1}
		r, err := uptane.NewRoot(c)
		return b.signed(r, err, b.thief)
	}
	grab := func(c *uptane.RootConfig) {
		rk := c.Roles[uptane.RoleTargets]
		rk.Keys = append(rk.Keys, b.key(b.snapshot))
		c.Roles[uptane.RoleTargets] = rk
	}
	grabbed := b.nextRoot(grab)
	// The version before, as the thief would have the officer believe it: with the snapshot key in the targets role.
	forgedConfig := b.trusted.Config()
	grab(&forgedConfig)
	forgedRoot, err := uptane.NewRoot(forgedConfig)
	forged := b.signed(forgedRoot, err, b.thief)
	added := b.nextRoot(func(c *uptane.RootConfig) {
		rk := c.Roles[uptane.RoleTargets]
		rk.Keys = append(rk.Keys, b.key(b.thief))
		c.Roles[uptane.RoleTargets] = rk
	})
	addedBefore := b.trusted.Config()
	addedBefore.Roles[uptane.RoleTargets] = uptane.RoleKeys{Keys: b.keys(b.target, b.pubs[1], b.thief), Threshold: 1}
	before, err := uptane.NewRoot(addedBefore)
	forgedAdded := b.signed(before, err, b.thief)
	other := thieves(1)
	thiefID := b.key(b.thief).ID()
	return []hostile{
		{name: "root: null, a first root of the thief's", request: wire{role: "root", document: thieves(1)}, refused: "no root"},
		{name: "root: another one before it", request: wire{role: "root", document: thieves(2), root: other}, refused: "not the one that you trust"},
		{name: "root: another one before it, honest previous", request: wire{role: "root", document: thieves(2), root: other, previous: b.trusted.Bytes()}, refused: "not the one that you trust"},
		{name: "root: forged previous hides the snapshot key in the targets role", request: root(grabbed, forged), refused: "not the root that you trust"},
		{name: "root: forged previous hides a new targets key", request: root(added, forgedAdded), refused: "not the root that you trust"},
		{name: "root: new targets key, honest", request: root(added, b.trusted.Bytes()), shown: []string{"+ targets key " + thiefID}},
		{name: "root: new targets key, previous left out", request: root(added, nil), shown: []string{"+ targets key " + thiefID}},
		{name: "root: the snapshot key gets the targets role", request: root(grabbed, b.trusted.Bytes()), refused: "snapshot"},
		{name: "root: snapshot and targets keys change places", request: root(b.nextRoot(func(c *uptane.RootConfig) {
			c.Roles[uptane.RoleTargets], c.Roles[uptane.RoleSnapshot] = c.Roles[uptane.RoleSnapshot], uptane.RoleKeys{Keys: b.keys(b.target), Threshold: 1}
		}), nil), refused: "snapshot"},
		{name: "root: the officer's key for root and timestamp", request: root(b.nextRoot(func(c *uptane.RootConfig) {
			c.Roles[uptane.RoleTimestamp] = uptane.RoleKeys{Keys: b.keys(b.pubs[0]), Threshold: 1}
		}), b.trusted.Bytes()), refused: "both"},
		{name: "root: threshold lowered", request: root(b.nextRoot(func(c *uptane.RootConfig) {
			c.Roles[uptane.RoleRoot] = uptane.RoleKeys{Keys: c.Roles[uptane.RoleRoot].Keys, Threshold: 1}
		}), nil), shown: []string{"~ root threshold: 2 of 3 -> 1 of 3"}},
		{name: "root: another officer thrown out", request: root(b.nextRoot(func(c *uptane.RootConfig) {
			c.Roles[uptane.RoleRoot] = uptane.RoleKeys{Keys: b.keys(b.pubs[0], b.root1, b.thief), Threshold: 2}
		}), nil), shown: []string{"- root key " + b.key(b.root2).ID(), "+ root key " + thiefID}},
		{name: "root: two versions ahead", request: root(b.nextRoot(func(c *uptane.RootConfig) { c.Version = 3 }), nil), refused: "cannot follow"},
		{name: "root: good for a thousand years", dates: true, request: root(b.nextRoot(func(c *uptane.RootConfig) { c.Expires = b.expires.AddDate(1000, 0, 0) }), nil),
			shown: []string{b.expires.AddDate(1000, 0, 0).Format("2006-01-02")}},
		{name: "root: of the other repository", request: wire{repository: "director", role: "root", document: added, previous: b.trusted.Bytes(), root: b.trusted.Bytes()}, refused: "repository"},
		{name: "root: digest of another document", request: wire{role: "root", document: added, root: b.trusted.Bytes(), digest: strings.Repeat("0", 64)}, refused: "digest"},
		{name: "root: a key of small order", request: root(b.reKey(added, b.key(b.thief), strings.Repeat("00", 32)), nil), refused: "small order"},
	}
}

// reKey puts other bytes in the place of an Ed25519 key, as somebody does who writes JSON by hand.
func (b *bench) reKey(doc []byte, old uptane.Key, public string) []byte {
	b.t.Helper()
	raw := "302a300506032b6570032100" + public
	der := make([]byte, len(raw)/2)
	if _, err := fmt.Sscanf(raw, "%x", &der); err != nil {
		b.t.Fatal(err)
	}
	id := fmt.Sprintf("%x", sha256.Sum256(der))
	file, err := old.MarshalJSON()
	if err != nil {
		b.t.Fatal(err)
	}
	var have struct {
		KeyVal struct {
			Public string `json:"public"`
		} `json:"keyval"`
	}
	if err := json.Unmarshal(file, &have); err != nil {
		b.t.Fatal(err)
	}
	doc = bytes.ReplaceAll(bytes.ReplaceAll(doc, []byte(old.ID()), []byte(id)), []byte(have.KeyVal.Public), []byte(public))
	out, err := uptane.Canonical(doc) // the new id sorts elsewhere
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) hostileTargets() []hostile {
	list := func(document, previous []byte) wire {
		return wire{role: "targets", document: document, previous: previous, root: b.trusted.Bytes()}
	}
	honest := b.published.Bytes()
	evil := func(c *uptane.TargetsConfig) { b.put(c, "evil", "1", "ee") }
	withEvil := b.next(evil)
	forge := func(change func(*uptane.TargetsConfig), keys ...crypto.Signer) []byte {
		c := b.published.Config()
		change(&c)
		return b.make(c, keys...)
	}
	thiefRootConfig := b.trusted.Config()
	thiefRootConfig.Roles[uptane.RoleRoot] = uptane.RoleKeys{Keys: b.keys(b.thief), Threshold: 1}
	tr, err := uptane.NewRoot(thiefRootConfig)
	thiefRoot := b.signed(tr, err, b.thief)
	delegate := func(first bool, d uptane.Delegation) []byte {
		return b.next(func(c *uptane.TargetsConfig) {
			c.Delegations = append(c.Delegations, d)
			if first {
				slices.Reverse(c.Delegations)
			}
		})
	}
	toThief := uptane.RoleKeys{Keys: b.keys(b.thief), Threshold: 1}
	custom := func(text string) []byte {
		return b.next(func(c *uptane.TargetsConfig) {
			x := c.Targets["app-1"]
			x.Custom = json.RawMessage(text)
			c.Targets["app-1"] = x
		})
	}
	rename := func(name string) []byte {
		return b.next(func(c *uptane.TargetsConfig) {
			c.Targets[name] = uptane.Target{Length: 5, SHA256: strings.Repeat("ee", 32)}
		})
	}
	entry := []string{`+ "evil-1"`, strings.Repeat("ee", 32)}
	all := append(entry, `+ "app-1"`, `+ "app-2"`, "unverified")
	old := b.published.Config()
	old.Version = 4
	b.put(&old, "vulnerable", "1", "dd")
	verifiedOld := b.make(old, b.target)
	director := func() []byte {
		c, err := uptane.DirectorCustom{ECUs: map[string]string{"ecu-1": "board-a"}}.JSON()
		if err != nil {
			b.t.Fatal(err)
		}
		t, err := uptane.NewTargets(uptane.TargetsConfig{Repository: uptane.Director, Version: 8, Expires: b.expires,
			Targets: map[string]uptane.Target{"evil-1": {Length: 5, SHA256: strings.Repeat("ee", 32), Custom: c}}})
		return b.signed(t, err)
	}
	return []hostile{
		{name: "targets: under the thief's root", officer: 1, request: wire{role: "targets", document: withEvil, previous: honest, root: thiefRoot}, refused: "not the one that you trust"},
		{name: "targets: no root", officer: 1, request: wire{role: "targets", document: withEvil, previous: honest}, refused: "no root"},
		{name: "targets: honest previous", officer: 1, request: list(withEvil, honest), shown: entry, absent: []string{"app-1"}},
		{name: "targets: previous without a signature hides the entry", officer: 1, request: list(withEvil, forge(evil)), shown: all, unverified: true},
		{name: "targets: previous signed by the thief", officer: 1, request: list(withEvil, forge(evil, b.thief)), shown: all, unverified: true},
		{name: "targets: previous signed by the snapshot key", officer: 1, request: list(withEvil, forge(evil, b.snapshot)), shown: all, unverified: true},
		{name: "targets: previous with a signature moved over", officer: 1, request: list(withEvil, b.transplant(forge(evil), honest)), shown: all, unverified: true},
		{name: "targets: previous left out", officer: 1, request: list(withEvil, nil), shown: all, unverified: true},
		{name: "targets: an old previous, that held what was withdrawn since", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { b.put(c, "vulnerable", "1", "dd") }), verifiedOld),
			shown: []string{`+ "vulnerable-1"`, `+ "app-1"`, "unverified"}, unverified: true},
		{name: "targets: the last version that there can be", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { c.Version = uptane.MaxVersion }), honest), shown: []string{"2147483647"}, unverified: true},
		{name: "targets: an image exchanged", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) {
			x := c.Targets["app-1"]
			x.SHA256 = strings.Repeat("ee", 32)
			c.Targets["app-1"] = x
		}), honest), shown: []string{`~ "app-1"`, "- sha256: " + strings.Repeat("aa", 32), "+ sha256: " + strings.Repeat("ee", 32)}},
		{name: "targets: an image withdrawn", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { delete(c.Targets, "app-2") }), honest), shown: []string{`- "app-2"`}},
		{name: "targets: where to download from", officer: 1, request: list(custom(`{"hardwareIds":["board-a"],"name":"app","uri":"https://evil.example/","version":"1"}`), honest), shown: []string{`"https://evil.example/"`}},
		{name: "targets: for more hardware", officer: 1, request: list(custom(`{"hardwareIds":["board-a","board-b"],"name":"app","version":"1"}`), honest), shown: []string{`"board-b"`}},
		{name: "targets: a star behind a blank", officer: 1, request: list(delegate(false, uptane.Delegation{Name: "x", Paths: []string{"x/*.png icons and all that is", "*"}, RoleKeys: toThief}), honest),
			shown: []string{`+ path: "x/*.png icons and all that is"`, `+ path: "*"`}},
		{name: "targets: a path that looks like two", officer: 1, request: list(delegate(false, uptane.Delegation{Name: "x", Paths: []string{`x/*", "y/*`}, RoleKeys: toThief}), honest), shown: []string{`+ path: "x/*\", \"y/*"`}},
		{name: "targets: a delegation that is searched first", officer: 1, request: list(delegate(true, uptane.Delegation{Name: "x", Paths: []string{"app-*"}, Terminating: true, RoleKeys: toThief}), honest),
			shown: []string{"search order 1", "terminating", `+ path: "app-*"`}},
		{name: "targets: a path more for a delegation that is there", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { c.Delegations[0].Paths = []string{"icons/*", "app-*"} }), honest), shown: []string{`+ path: "app-*"`}},
		{name: "targets: the delegation's key exchanged", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { c.Delegations[0].RoleKeys = toThief }), honest),
			shown: []string{"- delegation partner-icons key " + b.pubs[2].ID(), "+ delegation partner-icons key " + b.key(b.thief).ID()}},
		{name: "targets: a delegation to the snapshot key", officer: 1, request: list(delegate(false, uptane.Delegation{Name: "x", Paths: []string{"x"}, RoleKeys: uptane.RoleKeys{Keys: b.keys(b.snapshot), Threshold: 1}}), honest), refused: "snapshot"},
		{name: "targets: a delegation to the officer's own key", officer: 1, request: list(delegate(false, uptane.Delegation{Name: "x", Paths: []string{"x"}, RoleKeys: uptane.RoleKeys{Keys: b.keys(b.pubs[1]), Threshold: 1}}), honest), refused: "targets"},
		{name: "targets: a name like a line", officer: 1, request: list(rename(`x: 5 bytes -> no change`), honest), shown: []string{`+ "x: 5 bytes -> no change"`}},
		{name: "targets: a name that fills the screen", officer: 1, request: list(rename("x"+strings.Repeat(" ", 200)+"nothing else"), honest), shown: []string{"      | "}},
		{name: "targets: a custom object that fills the screen", officer: 1, request: list(custom(`{"name":"app","note":"`+strings.Repeat(" ", 500)+`all well","version":"1"}`), honest), shown: []string{`"note"`, "      | "}},
		{name: "targets: a member that nobody knows", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { c.Extra = map[string]json.RawMessage{"a: b\"": json.RawMessage(`"x"`)} }), honest), shown: []string{`"a: b\""`}},
		{name: "targets: the document's own custom object", officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { c.Custom = json.RawMessage(`{"correlationId":"x"}`) }), honest), shown: []string{"correlationId"}},
		{name: "targets: shown as the director's", officer: 1, request: wire{repository: "director", role: "targets", document: director(), root: b.trusted.Bytes()}, refused: "repository"},
		{name: "targets: expired already", dates: true, officer: 1, request: list(b.next(func(c *uptane.TargetsConfig) { c.Expires = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }), honest), shown: []string{"not in the future"}},
		{name: "targets: with a signature that does not verify", officer: 1, request: list(b.transplant(withEvil, honest), honest), refused: "does not verify"},
		{name: "targets: for a key that only roots need", officer: 0, request: list(withEvil, honest), late: "does not need"},
	}
}

// transplant gives a document the signatures of another.
func (b *bench) transplant(doc, from []byte) []byte {
	b.t.Helper()
	var d, f map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(doc, &d), json.Unmarshal(from, &f)); err != nil {
		b.t.Fatal(err)
	}
	d["signatures"] = f["signatures"]
	raw, err := json.Marshal(d)
	if err == nil {
		raw, err = uptane.Canonical(raw)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return raw
}

func (b *bench) hostileDelegations() []hostile {
	doc := func(change func(*uptane.TargetsConfig)) []byte {
		c := b.icons.Config()
		c.Version = 3
		if change != nil {
			change(&c)
		}
		return b.make(c)
	}
	plain := doc(nil)
	evil := doc(func(c *uptane.TargetsConfig) { b.put(c, "icons/evil", "1", "ee") })
	parents := func(keys []uptane.Key, paths []string, signers ...crypto.Signer) []byte {
		c := b.parent.Config()
		c.Delegations = []uptane.Delegation{{Name: "partner-icons", Paths: paths, RoleKeys: uptane.RoleKeys{Keys: keys, Threshold: 1}}}
		return b.make(c, signers...)
	}
	ask := func(document, previous, parent []byte) wire {
		return wire{role: "targets", delegation: "partner-icons", document: document, previous: previous, parent: parent, root: b.trusted.Bytes()}
	}
	toOfficer1 := b.keys(b.pubs[1])
	all := []string{`+ "icons/blue-1"`, `+ "icons/evil-1"`, "unverified"}
	rootless := ask(plain, nil, parents(toOfficer1, []string{"icons/*"}))
	rootless.root = nil
	unknown := ask(plain, nil, b.parent.Bytes())
	unknown.delegation = "partner-sounds"
	forgedPrevious := b.icons.Config()
	b.put(&forgedPrevious, "icons/evil", "1", "ee")
	outside := b.icons.Config()
	b.put(&outside, "app", "3", "ee")
	return []hostile{
		{name: "delegation: root null, and a parent that names the targets officer", officer: 1, request: rootless, refused: "targets"},
		{name: "delegation: a parent without a signature names the targets officer", officer: 1, request: ask(plain, nil, parents(toOfficer1, []string{"*"})), refused: "targets"},
		{name: "delegation: a parent of the thief's names the targets officer", officer: 1, request: ask(plain, nil, parents(toOfficer1, []string{"*"}, b.thief)), refused: "targets"},
		{name: "delegation: a verified parent names the targets officer", officer: 1, request: ask(plain, nil, parents(toOfficer1, []string{"*"}, b.target)), refused: "targets"},
		{name: "delegation: a verified parent names the root officer", officer: 0, request: ask(plain, nil, parents(b.keys(b.pubs[0]), []string{"*"}, b.target)), refused: "root"},
		{name: "delegation: an unsigned parent", officer: 2, request: ask(evil, b.icons.Bytes(), parents(b.keys(b.pubs[2]), []string{"icons/*"})), shown: all, unverified: true},
		{name: "delegation: a parent signed by the snapshot key", officer: 2, request: ask(evil, b.icons.Bytes(), parents(b.keys(b.pubs[2]), []string{"icons/*"}, b.snapshot)), shown: all, unverified: true},
		{name: "delegation: an unsigned previous hides the entry", officer: 2, request: ask(evil, b.make(forgedPrevious), b.parent.Bytes()), shown: all, unverified: true},
		{name: "delegation: previous left out", officer: 2, request: ask(evil, nil, b.parent.Bytes()), shown: all, unverified: true},
		{name: "delegation: that the parent does not have", officer: 2, request: unknown, refused: "delegate"},
		{name: "delegation: a name outside its paths", officer: 2, request: ask(doc(func(c *uptane.TargetsConfig) { maps.Copy(c.Targets, outside.Targets) }), b.icons.Bytes(), b.parent.Bytes()), refused: "app-3"},
		{name: "delegation: that delegates on to the timestamp key", officer: 2, request: ask(doc(func(c *uptane.TargetsConfig) {
			c.Delegations = []uptane.Delegation{{Name: "y", Paths: []string{"icons/*"}, RoleKeys: uptane.RoleKeys{Keys: b.keys(b.stamp), Threshold: 1}}}
		}), b.icons.Bytes(), b.parent.Bytes()), refused: "timestamp"},
	}
}

// TestNoRootNoSignature: an officer who names no root signs nothing, whatever the request says.
func TestNoRootNoSignature(t *testing.T) {
	b := newBench(t)
	b.write("request", b.pack(wire{role: "targets", document: b.next(nil), previous: b.published.Bytes(), root: b.trusted.Bytes()}))
	b.refused(2, "no root", "sign", "--key", b.uris[1], "--answers", "@yes", "--out", "@never", "@request")
	for _, name := range []string{"never", "never.transcript"} {
		if _, err := os.Stat(b.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was written", name)
		}
	}
}
