package uptane

import (
	"crypto"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestRootChain(t *testing.T) {
	w := newWorld()
	one := w.root(t)
	newRoots := func(c *RootConfig) error { c.Roles[RoleRoot] = roleOf(t, 2, w.rootC, w.child); return nil }
	two := must(one.Next(soon, newRoots))
	// Both thresholds: the old root's two of three and the new root's two of two. The key of both counts for both.
	full := signed(t, two, w.rootA, w.rootC, w.child)
	three := signed(t, must(full.Next(soon, nil)), w.rootC, w.child)
	got, err := VerifyRootChain(one, [][]byte{one.Bytes(), full.Bytes(), three.Bytes()}, noon)
	if err != nil || got.Version() != 3 {
		t.Fatalf("a good chain: %v", err)
	}
	expired := signed(t, must(one.Next(noon.AddDate(0, 0, -1), newRoots)), w.rootA, w.rootC, w.child)
	after := signed(t, must(expired.Next(soon, nil)), w.rootC, w.child)
	if _, err := VerifyRootChain(one, [][]byte{expired.Bytes(), after.Bytes()}, noon); err != nil {
		t.Errorf("an expired root in the middle of a chain: %v", err)
	}
	other := signed(t, must(NewRoot(func() RootConfig { c := w.rootConfig(t); c.Expires = soon.AddDate(0, 0, 1); return c }())), w.rootA, w.rootB)
	for name, tc := range map[string]struct {
		chain [][]byte
		want  error
	}{
		"only the new threshold":     {[][]byte{signed(t, two, w.rootC, w.child).Bytes()}, ErrThreshold},
		"only the old threshold":     {[][]byte{signed(t, two, w.rootA, w.rootB).Bytes()}, ErrThreshold},
		"a version left out":         {[][]byte{three.Bytes()}, ErrVersion},
		"backwards":                  {[][]byte{full.Bytes(), one.Bytes()}, ErrVersion},
		"another root of version 1":  {[][]byte{other.Bytes()}, ErrVersion},
		"the newest has expired":     {[][]byte{expired.Bytes()}, ErrExpired},
		"no signatures at all":       {[][]byte{two.Bytes()}, ErrThreshold},
		"more than the bound allows": {make([][]byte, MaxRotations+1), ErrTooLarge},
	} {
		if _, err := VerifyRootChain(one, tc.chain, noon); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if err := CheckExpiry(one, soon); err != nil {
		t.Errorf("at the very second of expiry a document is valid: %v", err)
	}
}

// repositories builds a good Image and Director state; tests spoil parts of it.
func repositories(t *testing.T) (w world, root *Root, targets *Targets, child *Targets, image ImageFiles) {
	w = newWorld()
	root = w.root(t)
	c := w.targetsConfig(3)
	c.Delegations = []Delegation{{Name: "partner", Paths: []string{"partner/*"}, RoleKeys: roleOf(t, 1, w.child), Terminating: true}}
	targets = signed(t, must(NewTargets(c)), w.targets)
	cc := TargetsConfig{Version: 1, Expires: soon, Targets: map[string]Target{}}
	_, x := imageTarget(9)
	cc.Targets["partner/x"], cc.Targets["outside"] = x, x
	child = signed(t, must(NewTargets(cc)), w.child)
	image = w.files(t, root, targets, map[string]*Targets{"partner": child}, 1)
	return
}

func TestVerifyImage(t *testing.T) {
	w, root, targets, child, good := repositories(t)
	v, err := VerifyImage(root, good, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"app-0": true, "partner/x": true, "outside": false, "partner/none": false, "none": false} {
		if _, err := v.Find(name); (err == nil) != want {
			t.Errorf("Find(%q): %v", name, err)
		}
	}
	later := signed(t, must(targets.Next(soon, nil)), w.targets)
	newer, err := VerifyImage(root, w.files(t, root, later, nil, 2), v, noon)
	if err != nil {
		t.Fatal(err)
	}
	unsigned := must(NewTargets(targets.Config()))
	spoil := func(change func(*ImageFiles)) ImageFiles {
		f := good
		f.Delegations = maps.Clone(good.Delegations)
		change(&f)
		return f
	}
	sign := func(data []byte, s crypto.Signer, change func(map[string]any)) []byte {
		return resign(t, edit(t, data, change), s)
	}
	meta := func(m map[string]any, name string) map[string]any {
		return signedPart(m)["meta"].(map[string]any)[name].(map[string]any)
	}
	for name, tc := range map[string]struct {
		files ImageFiles
		want  error
	}{
		"targets signed by the wrong key": {w.files(t, root, signed(t, unsigned, w.snapshot), nil, 1), ErrThreshold},
		"targets without signature":       {w.files(t, root, unsigned, nil, 1), ErrThreshold},
		"targets not those of the snapshot": {spoil(func(f *ImageFiles) {
			f.Targets = later.Bytes()
		}), ErrHash},
		"targets with white space": {spoil(func(f *ImageFiles) { f.Targets = append(f.Targets, ' ') }), ErrHash},
		"snapshot not that of the timestamp": {spoil(func(f *ImageFiles) {
			f.Snapshot = w.files(t, root, later, nil, 1).Snapshot
		}), ErrHash},
		"timestamp by the snapshot key": {spoil(func(f *ImageFiles) {
			f.Timestamp = sign(f.Timestamp, w.snapshot, func(map[string]any) {})
		}), ErrThreshold},
		"timestamp expired": {spoil(func(f *ImageFiles) {
			f.Timestamp = sign(f.Timestamp, w.timestamp, func(m map[string]any) { signedPart(m)["expires"] = "2026-02-01T00:00:00Z" })
		}), ErrExpired},
		"snapshot version is not the listed one": {spoil(func(f *ImageFiles) {
			f.Timestamp = sign(f.Timestamp, w.timestamp, func(m map[string]any) { meta(m, "snapshot.json")["version"] = 7 })
		}), ErrVersion},
		"snapshot length one short": {spoil(func(f *ImageFiles) {
			f.Timestamp = sign(f.Timestamp, w.timestamp, func(m map[string]any) { meta(m, "snapshot.json")["length"] = len(f.Snapshot) - 1 })
		}), ErrHash},
		"a snapshot as timestamp": {spoil(func(f *ImageFiles) { f.Timestamp = f.Snapshot }), ErrType},
		"delegation signed by the targets key": {w.files(t, root, targets, map[string]*Targets{
			"partner": signed(t, must(NewTargets(child.Config())), w.targets)}, 1), ErrThreshold},
		"delegation expired": {w.files(t, root, targets, map[string]*Targets{
			"partner": signed(t, must(NewTargets(func() TargetsConfig { c := child.Config(); c.Expires = noon.AddDate(0, 0, -1); return c }())), w.child)}, 1), ErrExpired},
		"delegation not in the snapshot": {func() ImageFiles {
			f := w.files(t, root, targets, nil, 1)
			f.Delegations["partner"] = child.Bytes()
			return f
		}(), ErrVersion},
		"delegation changed": {spoil(func(f *ImageFiles) {
			f.Delegations["partner"] = signed(t, must(child.Next(soon, nil)), w.child).Bytes()
		}), ErrHash},
	} {
		got, err := VerifyImage(root, tc.files, nil, noon)
		if !errors.Is(err, tc.want) || got != nil {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if _, err := VerifyImage(root, good, newer, noon); !errors.Is(err, ErrRollback) {
		t.Errorf("rollback: %v", err)
	}
	// The snapshot knows of a root that is withheld.
	two := signed(t, must(root.Next(soon, nil)), w.rootA, w.rootB)
	f := w.files(t, two, targets, map[string]*Targets{"partner": child}, 1)
	f.Roots = nil
	if _, err := VerifyImage(root, f, nil, noon); !errors.Is(err, ErrVersion) {
		t.Errorf("withheld root: %v", err)
	}
}

func TestVerifyDirectorAndAgreement(t *testing.T) {
	w, root, _, _, files := repositories(t)
	image := must(VerifyImage(root, files, nil, noon))
	director := func(change func(map[string]Target)) (*VerifiedDirector, error) {
		c := TargetsConfig{Repository: Director, Version: 1, Expires: soon, Custom: json.RawMessage(`{"correlationId":"urn:x:1"}`), Targets: map[string]Target{}}
		name, x := imageTarget(1)
		x.Custom = must(DirectorCustom{ECUs: map[string]string{"ecu-1": "board-a"}}.JSON())
		c.Targets[name] = x
		change(c.Targets)
		doc := signed(t, must(NewTargets(c)), w.targets)
		return VerifyDirector(root, DirectorFiles{Targets: doc.Bytes()}, nil, noon)
	}
	ecus := map[string]string{"ecu-1": "board-a", "ecu-2": "board-b"}
	good, err := director(func(map[string]Target) {})
	if err != nil {
		t.Fatal(err)
	}
	list, err := VerifyAgreement(good, image, ecus)
	if err != nil || len(list) != 1 || list[0].ECU != "ecu-1" || list[0].Name != "app-1" {
		t.Fatalf("%+v, %v", list, err)
	}
	one := func(change func(*Target)) func(map[string]Target) {
		return func(m map[string]Target) { x := m["app-1"]; change(&x); m["app-1"] = x }
	}
	custom := func(ecus map[string]string) func(map[string]Target) {
		return one(func(x *Target) { x.Custom = must(DirectorCustom{ECUs: ecus}.JSON()) })
	}
	for name, change := range map[string]func(map[string]Target){
		"other length":       one(func(x *Target) { x.Length++ }),
		"other hash":         one(func(x *Target) { x.SHA256 = strings.Repeat("0", 64) }),
		"unknown target":     func(m map[string]Target) { m["other"] = m["app-1"]; delete(m, "app-1") },
		"other hardware":     custom(map[string]string{"ecu-2": "board-b"}),
		"an ECU not ours":    custom(map[string]string{"ecu-9": "board-a"}),
		"wrong hardware id":  custom(map[string]string{"ecu-2": "board-a"}),
		"one of two is bad":  custom(map[string]string{"ecu-1": "board-a", "ecu-2": "board-b"}),
		"terminated pattern": func(m map[string]Target) { m["outside"] = m["app-1"]; delete(m, "app-1") },
	} {
		d, err := director(change)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := VerifyAgreement(d, image, ecus); !errors.Is(err, ErrDisagree) || got != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	old := good
	doc := signed(t, must(good.Targets().Next(soon, nil)), w.targets)
	newer, err := VerifyDirector(root, DirectorFiles{Targets: doc.Bytes()}, old, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDirector(root, DirectorFiles{Targets: good.Targets().Bytes()}, newer, noon); !errors.Is(err, ErrRollback) {
		t.Errorf("rollback: %v", err)
	}
	if _, err := VerifyDirector(root, DirectorFiles{Targets: doc.Bytes()}, nil, soon.AddDate(0, 0, 1)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	// Two ECUs in one document that someone signed all the same, and a delegation.
	for name, tc := range map[string]struct {
		change func(map[string]any)
		want   error
	}{
		"an ECU twice": {func(m map[string]any) {
			ts := signedPart(m)["targets"].(map[string]any)
			ts["app-2"] = ts["app-1"]
		}, ErrDisagree},
		"a delegation": {func(m map[string]any) {
			id := key(t, w.child).ID()
			signedPart(m)["delegations"] = map[string]any{"keys": map[string]any{id: key(t, w.child)},
				"roles": []any{map[string]any{"name": "x", "keyids": []string{id}, "paths": []string{"*"}, "threshold": 1, "terminating": false}}}
		}, ErrDelegation},
		"no ECU": {func(m map[string]any) {
			delete(signedPart(m)["targets"].(map[string]any)["app-1"].(map[string]any), "custom")
		}, ErrMalformed},
	} {
		bad := resign(t, edit(t, doc.Bytes(), tc.change), w.targets)
		if _, err := VerifyDirector(root, DirectorFiles{Targets: bad}, nil, noon); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a/b", true}, {"a*", "b", false}, {"a*c", "abbc", true}, {"a*c", "abb", false}, {"?", "a", true}, {"?", "", false},
		{"a?c", "a/c", true}, {"[a-c]x", "bx", true}, {"[!a-c]x", "bx", false}, {"[^a-c]x", "dx", true}, {"[]]", "]", true},
		{`\*`, "*", true}, {`\*`, "a", false}, {"*.bin", ".bin", true}, {"a**b", "ab", true}, {"[a-]", "-", true},
		{strings.Repeat("a*", 40) + "b", strings.Repeat("a", 200), false},
	} {
		d := Delegation{Paths: []string{tc.pattern}}
		if got := d.Matches(tc.name); got != tc.want {
			t.Errorf("%q matches %q: %v", tc.pattern, tc.name, got)
		}
	}
	for _, bad := range []string{"[", "[a", `a\`, "[z-a]", "[[:alpha:]]"} {
		if _, err := parsePattern(bad); !errors.Is(err, ErrDelegation) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
