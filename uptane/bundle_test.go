package uptane

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOfficersInAnyOrder(t *testing.T) {
	w := newWorld()
	one := w.root(t)
	two := must(one.Next(soon, func(c *RootConfig) error {
		c.Roles[RoleRoot] = roleOf(t, 3, w.rootA, w.rootB, w.rootC)
		return nil
	}))
	req := must(NewRequest(RequestConfig{Repository: Image, Document: two, Previous: one, Root: one}))
	carried := must(ParseRequest(req.Bytes()))
	if !bytes.Equal(carried.Bytes(), req.Bytes()) || carried.Digest() != req.Digest() {
		t.Fatal("a request changes when it is read and written")
	}
	officers := []crypto.Signer{w.rootA, w.rootB, w.rootC}
	var responses []*Response
	for _, o := range officers {
		r := must(SignRequest(must(NewReview(must(ParseRequest(req.Bytes())), Image, one)), o))
		responses = append(responses, must(ParseResponse(r.Bytes())))
	}
	var first []byte
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		// All at once, and one after another over the files in between.
		doc, err := Merge(carried, responses[order[0]], responses[order[1]], responses[order[2]])
		if err != nil {
			t.Fatal(err)
		}
		step := must(ParseRequest(req.Bytes()))
		for n, i := range order {
			d := must(Merge(step, responses[i]))
			if _, err := Emit(d, step.Authority()); (err == nil) != (n == 2) {
				t.Errorf("after %d signatures: %v", n+1, err)
			}
			step = must(ParseRequest(must(NewRequest(RequestConfig{Repository: Image, Document: d, Previous: one, Root: one})).Bytes()))
		}
		out, err := Emit(doc, carried.Authority())
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = out
		}
		if !bytes.Equal(out, first) || !bytes.Equal(out, step.Document().Bytes()) {
			t.Errorf("order %v gives other bytes", order)
		}
		if _, err := VerifyRootChain(one, [][]byte{out}, noon); err != nil {
			t.Error(err)
		}
	}
	// Every changed byte of either bundle is refused.
	for i := range req.Bytes() {
		b := req.Bytes()
		b[i] ^= 1
		if _, err := ParseRequest(b); err == nil {
			t.Fatalf("byte %d of the request changed unnoticed", i)
		}
	}
	for i := range responses[0].Bytes() {
		b := responses[0].Bytes()
		b[i] ^= 1
		if _, err := ParseResponse(b); err == nil {
			t.Fatalf("byte %d of the response changed unnoticed", i)
		}
	}
	// A forger can compute checksums too; what the responses say must then fail at the merge.
	for name, change := range map[string]func(*Response){
		"other digest":     func(r *Response) { r.Digest = strings.Repeat("0", 64) },
		"other version":    func(r *Response) { r.Version++ },
		"other role":       func(r *Response) { r.Role = RoleTargets },
		"other repository": func(r *Response) { r.Repository = Director },
		"other delegation": func(r *Response) { r.Delegation = "x" },
		"broken signature": func(r *Response) { r.Signatures[0].Sig[3] ^= 1 },
		"foreign key":      func(r *Response) { r.Signatures[0].KeyID = key(t, w.child).ID() },
	} {
		forged := must(ParseResponse(responses[0].Bytes()))
		change(forged)
		if doc, err := Merge(carried, must(ParseResponse(forged.Bytes()))); err == nil || doc != nil {
			t.Errorf("%s: merged", name)
		}
	}
	review := must(NewReview(carried, Image, one))
	if r, err := SignRequest(review, w.child); !errors.Is(err, ErrThreshold) || r != nil {
		t.Errorf("a key that does not count signed: %v", err)
	}
	if _, err := SignRequest(review, w.rootA, w.rootA); !errors.Is(err, ErrRepeatedKey) {
		t.Errorf("one key twice: %v", err)
	}
}

func TestRequestRefusals(t *testing.T) {
	w := newWorld()
	one := w.root(t)
	two := must(one.Next(soon, nil))
	three := must(signed(t, two, w.rootA, w.rootB).Next(soon, nil))
	targets := must(NewTargets(w.targetsConfig(1)))
	c := w.targetsConfig(1)
	c.Delegations = []Delegation{{Name: "x", Paths: []string{"*"}, RoleKeys: roleOf(t, 1, w.child)}}
	parent := must(NewTargets(c))
	for name, tc := range map[string]struct {
		c    RequestConfig
		want error
	}{
		"nothing":                       {RequestConfig{Repository: Image}, ErrMalformed},
		"no repository":                 {RequestConfig{Document: one}, ErrMalformed},
		"root 3 after root 1":           {RequestConfig{Repository: Image, Document: three, Root: one}, ErrVersion},
		"root 2 after nothing":          {RequestConfig{Repository: Image, Document: two}, ErrVersion},
		"targets without root":          {RequestConfig{Repository: Image, Document: targets}, ErrMalformed},
		"previous of another role":      {RequestConfig{Repository: Image, Document: targets, Previous: one, Root: one}, ErrType},
		"previous not older":            {RequestConfig{Repository: Image, Document: targets, Previous: targets, Root: one}, ErrRollback},
		"targets of the other":          {RequestConfig{Repository: Director, Document: targets, Root: one}, ErrMalformed},
		"delegation without parent":     {RequestConfig{Repository: Image, Document: targets, Delegation: "x", Root: one}, ErrDelegation},
		"delegation not in the parent":  {RequestConfig{Repository: Image, Document: targets, Delegation: "y", Parent: parent}, ErrDelegation},
		"a root that is a delegation's": {RequestConfig{Repository: Image, Document: one, Delegation: "x", Parent: parent}, ErrMalformed},
	} {
		if r, err := NewRequest(tc.c); !errors.Is(err, tc.want) || r != nil {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	d := must(NewRequest(RequestConfig{Repository: Image, Document: targets, Delegation: "x", Parent: parent}))
	review := must(NewReview(must(ParseRequest(d.Bytes())), Image, one))
	if len(review.Unverified()) != 1 || review.Word() == "Yes" {
		t.Errorf("a parent without a signature: %q", review.Unverified())
	}
	resp := must(SignRequest(review, w.child))
	if _, err := Emit(must(Merge(d, resp)), d.Authority()); err != nil {
		t.Error(err)
	}
	if got := d.Title(); got != "image delegation x version 1" {
		t.Error(got)
	}
}

func TestSignaturesAddUp(t *testing.T) {
	w := newWorld()
	first := must(NewRoot(w.rootConfig(t)))
	a := must(ParseRoot(must(Sign(first, w.rootA))))
	ab := must(ParseRoot(must(Sign(a, w.rootB))))
	if len(ab.Signatures()) != 2 {
		t.Fatal("the second signature threw the first away")
	}
	again := must(Sign(ab, w.rootB, w.rootA))
	if !bytes.Equal(again, ab.Bytes()) {
		t.Error("signing again changes valid signatures")
	}
	broken := ab.Signatures()
	broken[0].Sig[0] ^= 1
	mended := must(AddSignatures(first.with(broken).(*Root), w.rootA, w.rootB))
	if err := VerifyRoot(mended); err != nil {
		t.Errorf("a broken signature was not replaced: %v", err)
	}
	st := RootAuthority(nil, a).Standing(a)
	if len(st) != 1 || st[0].Met() || len(st[0].Signed) != 1 || len(st[0].Missing) != 2 {
		t.Errorf("standing: %+v", st)
	}
}

func TestDiff(t *testing.T) {
	w := newWorld()
	old := must(NewTargets(w.targetsConfig(3)))
	next := must(old.Next(soon.AddDate(0, 1, 0), func(c *TargetsConfig) error {
		delete(c.Targets, "app-0")
		name, x := imageTarget(8)
		c.Targets[name] = x
		_, c.Targets["app-1"] = imageTarget(5)
		c.Delegations = []Delegation{{Name: "partner", Paths: []string{"p/*"}, RoleKeys: roleOf(t, 1, w.child)}}
		return nil
	}))
	d := DiffDocuments(old, next)
	text := d.String()
	for _, want := range []string{"~ version: 1 -> 2", "  - \"app-0\"\n      - custom", "      - length: 1000\n", "  + \"app-8\"\n", "      + length: 1008\n", "  ~ \"app-1\"\n", "      - length: 1001\n      + length: 1005\n", "targets (1 added, 1 removed, 1 changed)",
		"  + delegation partner\n      + rule: 1 of 1 keys, search order 1\n      + path: \"p/*\"\n", "+ delegation partner key " + key(t, w.child).ID(), "2026-04-01T12:00:00Z -> 2026-05-01T12:00:00Z", d.Digest} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "app-2") {
		t.Error("an unchanged target is listed")
	}
	root := w.root(t)
	changed := must(root.Next(soon, func(c *RootConfig) error { c.Roles[RoleRoot] = roleOf(t, 1, w.rootA, w.child); return nil }))
	text = DiffDocuments(root, changed).String()
	for _, want := range []string{"~ root threshold: 2 of 3 -> 1 of 2", "- root key " + key(t, w.rootB).ID() + ": RSA-2048", "+ root key " + key(t, w.child).ID() + ": Ed25519"} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q in\n%s", want, text)
		}
	}
	if same := DiffDocuments(root, must(root.Next(soon.AddDate(1, 0, 0), nil))); !same.Empty() || !strings.Contains(same.String(), "no other change") {
		t.Error(same)
	}
	if got := (Change{What: "a\n+ b", New: "x"}).String(); strings.Contains(got, "\n") {
		t.Errorf("a name broke its line: %q", got)
	}
}

func TestPolicy(t *testing.T) {
	w := newWorld()
	root := w.root(t)
	findings, err := DefaultPolicy().Check(root, noon)
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, f := range findings {
		rules = append(rules, f.Text)
	}
	for _, want := range []string{"root has threshold 2, below 5", "root has 3 keys, fewer than 8", "targets has threshold 1, below 3"} {
		if !strings.Contains(strings.Join(rules, "\n"), want) {
			t.Errorf("no warning %q in %q", want, rules)
		}
	}
	p, err := ParsePolicy("policy.yaml", []byte(`
require:
  key_types: [Ed25519, RSA-2048]
  unique_keys: true
  hardware_ids: true
  roles:
    root: {min_threshold: 2, min_keys: 3, max_validity: 2M}
    delegation: {min_threshold: 2}
recommend: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	if f, err := p.Check(root, noon); err != nil || len(f) != 0 {
		t.Errorf("%v %v", f, err)
	}
	build := func(change func(*RootConfig)) Document { c := w.rootConfig(t); change(&c); return must(NewRoot(c)) }
	list := func(change func(*TargetsConfig)) Document {
		c := w.targetsConfig(1)
		change(&c)
		return must(NewTargets(c))
	}
	for name, doc := range map[string]Document{
		"threshold 1": build(func(c *RootConfig) { c.Roles[RoleRoot] = roleOf(t, 1, w.rootA, w.rootB, w.rootC) }),
		"two keys":    build(func(c *RootConfig) { c.Roles[RoleRoot] = roleOf(t, 2, w.rootA, w.rootB) }),
		"three years": build(func(c *RootConfig) { c.Expires = noon.AddDate(3, 0, 0) }),
		"shared key":  build(func(c *RootConfig) { c.Roles[RoleTargets] = roleOf(t, 1, w.rootA) }),
		"no hardware": list(func(c *TargetsConfig) { c.Targets["x"] = Target{SHA256: strings.Repeat("0", 64)} }),
		"delegation": list(func(c *TargetsConfig) {
			c.Delegations = []Delegation{{Name: "x", Paths: []string{"*"}, RoleKeys: roleOf(t, 1, w.child)}}
		}),
	} {
		if _, err := p.Check(doc, noon); !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f, _ := p.Check(root, soon.AddDate(1, 0, 0)); len(f) != 1 || f[0].Rule != "expiry" {
		t.Errorf("an expired root gives no warning: %v", f)
	}
	for _, bad := range []string{"require: {roles: {mirrors: {}}}", "require: {key_types: [P-256]}", "requires: {}", "require: {roles: {root: {max_validity: soon}}}",
		"require: {roles: {root: {min_keys: -1}}}", "require: 7", "require: {roles: {root: {min_threshold: 2}, root: {min_threshold: 1}}}"} {
		if p, err := ParsePolicy("policy.yaml", []byte(bad)); err == nil || p != nil {
			t.Errorf("%s: taken", bad)
		}
	}
}

func TestPeriod(t *testing.T) {
	at := func(s string) time.Time { return must(ParseTime(s)) }
	for _, tc := range []struct{ period, from, to string }{
		{"1Y3M5D", "2026-01-31T10:00:00Z", "2027-05-05T10:00:00Z"},
		{"1M", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"},
		{"1Y", "2024-02-29T00:00:00Z", "2025-02-28T00:00:00Z"},
		{"31D", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
		{"14M", "2026-11-30T00:00:00Z", "2028-01-30T00:00:00Z"},
		{"1y2d", "2026-01-01T00:00:00Z", "2027-01-03T00:00:00Z"},
	} {
		p, err := ParsePeriod(tc.period)
		if err != nil || !p.After(at(tc.from)).Equal(at(tc.to)) {
			t.Errorf("%s after %s is %v, not %s (%v)", tc.period, tc.from, p.After(at(tc.from)), tc.to, err)
		}
	}
	for _, bad := range []string{"", "Y", "1", "5D1Y", "1Y1Y", "-1D", "1.5M", "1W", "P1Y", "99999999Y", "0D", " 1D"} {
		if p, err := ParsePeriod(bad); !errors.Is(err, ErrTime) {
			t.Errorf("%q gives %v, %v", bad, p, err)
		}
	}
}

// The example is in the specification, byte for byte.
func TestGoldenBytes(t *testing.T) {
	c := RootConfig{Version: 1, Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Roles: map[Role]RoleKeys{}}
	for _, r := range Roles() {
		c.Roles[r] = roleOf(t, 1, edKey("example "+string(r)))
	}
	got := must(Sign(must(NewRoot(c)), edKey("example root")))
	want, err := os.ReadFile(filepath.Join("testdata", "example-root.json"))
	if err != nil {
		t.Fatal(err)
	}
	if spec, err := os.ReadFile("../docs/spec/uptane.md"); err != nil || !bytes.Contains(spec, want) {
		t.Errorf("the specification does not show these bytes (%v)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the bytes of a root have changed; every offline signature in the field depends on them:\n%s", got)
	}
}
