package uptane

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	"github.com/hanaper/hanaper/internal/advice"
)

// badSalt is a token that signs with another salt length than it is asked for; v15 one that ignores PSS.
type badSigner struct {
	*rsa.PrivateKey
	salt int
	v15  bool
}

func (b badSigner) Sign(r io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	if b.v15 {
		return rsa.SignPKCS1v15(r, b.PrivateKey, crypto.SHA256, digest)
	}
	return rsa.SignPSS(r, b.PrivateKey, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: b.salt, Hash: crypto.SHA256})
}

// TestEmittingRefuses goes through the refusals of the wire format on the side that builds and signs.
func TestEmittingRefuses(t *testing.T) {
	w := newWorld()
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rsa1024 := &rsa.PublicKey{N: new(big.Int).Rsh(rsaKeys()[0].N, 1024), E: 65537}
	root := func(change func(*RootConfig)) func() (Document, error) {
		return func() (Document, error) {
			c := w.rootConfig(t)
			change(&c)
			r, err := NewRoot(c)
			if r == nil {
				return nil, err
			}
			return r, err
		}
	}
	targets := func(change func(*TargetsConfig)) func() (Document, error) {
		return func() (Document, error) {
			c := w.targetsConfig(1)
			change(&c)
			d, err := NewTargets(c)
			if d == nil {
				return nil, err
			}
			return d, err
		}
	}
	entry := func(change func(*Target)) func() (Document, error) {
		return targets(func(c *TargetsConfig) {
			name, target := imageTarget(7)
			change(&target)
			c.Targets[name] = target
		})
	}
	anyKey := func(pub crypto.PublicKey) func() (Document, error) {
		return func() (Document, error) { _, err := NewKey(pub); return nil, err }
	}
	signer := func(s crypto.Signer) func() (Document, error) {
		return func() (Document, error) {
			r, err := AddSignatures(must(NewRoot(w.rootConfig(t))), s)
			if r == nil {
				return nil, err
			}
			return r, err
		}
	}
	valid := w.root(t)
	for _, tc := range []struct {
		name string
		want error
		do   func() (Document, error)
	}{
		{"P-256 key", ErrKeyType, anyKey(&p256.PublicKey)},
		{"RSA-1024 key", ErrKeyType, anyKey(rsa1024)},
		{"short Ed25519 key", ErrKeyType, anyKey(ed25519.PublicKey{1, 2, 3})},
		{"no key", ErrKeyType, anyKey(nil)},
		{"signing with P-256", ErrKeyType, signer(p256)},
		{"maximum PSS salt", ErrSalt, signer(badSigner{PrivateKey: rsaKeys()[0], salt: 222})},
		{"no PSS salt", ErrSalt, signer(badSigner{PrivateKey: rsaKeys()[0], salt: 0})},
		{"PKCS#1 v1.5", ErrSignature, signer(badSigner{PrivateKey: rsaKeys()[0], v15: true})},
		{"version 0", ErrVersion, root(func(c *RootConfig) { c.Version = 0 })},
		{"version above 31 bits", ErrVersion, root(func(c *RootConfig) { c.Version = 1 << 31 })},
		{"fraction of a second", ErrTime, root(func(c *RootConfig) { c.Expires = soon.Add(time.Millisecond) })},
		{"no expiry", ErrTime, root(func(c *RootConfig) { c.Expires = time.Time{} })},
		{"year 10000", ErrTime, root(func(c *RootConfig) { c.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{"a role missing", ErrMalformed, root(func(c *RootConfig) { delete(c.Roles, RoleSnapshot) })},
		{"an unknown role", ErrUnexpected, root(func(c *RootConfig) { c.Roles["mirrors"] = c.Roles[RoleRoot] })},
		{"threshold 0", ErrBadRule, root(func(c *RootConfig) { c.Roles[RoleRoot] = roleOf(t, 0, w.rootA) })},
		{"threshold above the keys", ErrBadRule, root(func(c *RootConfig) { c.Roles[RoleRoot] = roleOf(t, 2, w.rootA) })},
		{"threshold above 1000", ErrBadRule, root(func(c *RootConfig) { c.Roles[RoleRoot] = RoleKeys{c.Roles[RoleRoot].Keys, 1001} })},
		{"one key twice in a role", ErrRepeatedKey, root(func(c *RootConfig) { c.Roles[RoleRoot] = roleOf(t, 2, w.rootA, w.rootA) })},
		{"an empty key", ErrKeyType, root(func(c *RootConfig) { c.Roles[RoleRoot] = RoleKeys{[]Key{{}}, 1} })},
		{"root above 64 KiB", ErrTooLarge, root(func(c *RootConfig) {
			rk := RoleKeys{Threshold: 1}
			for i := range 600 {
				rk.Keys = append(rk.Keys, key(t, edKey(fmt.Sprint(i))))
			}
			c.Roles[RoleTargets] = rk
		})},
		{"root version N+2", ErrVersion, func() (Document, error) {
			r, err := valid.Next(soon, func(c *RootConfig) error { c.Version++; return nil })
			if r == nil {
				return nil, err
			}
			return r, err
		}},
		{"targets version not higher", ErrRollback, func() (Document, error) {
			d, err := must(NewTargets(w.targetsConfig(1))).Next(soon, func(c *TargetsConfig) error { c.Version = 1; return nil })
			if d == nil {
				return nil, err
			}
			return d, err
		}},
		{"target name not ASCII", ErrNotASCII, targets(func(c *TargetsConfig) { c.Targets["größe"] = c.Targets["app-0"] })},
		{"target name with DEL", ErrNotASCII, targets(func(c *TargetsConfig) { c.Targets["a\x7f"] = c.Targets["app-0"] })},
		{"target name with ..", ErrMalformed, targets(func(c *TargetsConfig) { c.Targets["a/../b"] = c.Targets["app-0"] })},
		{"target name too long", ErrMalformed, targets(func(c *TargetsConfig) { c.Targets[strings.Repeat("a", 254)] = c.Targets["app-0"] })},
		{"float in custom", ErrNumber, entry(func(x *Target) { x.Custom = json.RawMessage(`{"a":1.0}`) })},
		{"exponent in custom", ErrNumber, entry(func(x *Target) { x.Custom = json.RawMessage(`{"a":1e3}`) })},
		{"integer above int64 in custom", ErrNumber, entry(func(x *Target) { x.Custom = json.RawMessage(`{"a":9223372036854775808}`) })},
		{"non-ASCII in custom", ErrNotASCII, entry(func(x *Target) { x.Custom = json.RawMessage(`{"a":"é"}`) })},
		{"escaped non-ASCII in custom", ErrNotASCII, entry(func(x *Target) { x.Custom = json.RawMessage(`{"a":"\u00e9"}`) })},
		{"repeated member in custom", ErrDuplicate, entry(func(x *Target) { x.Custom = json.RawMessage(`{"a":1,"a":2}`) })},
		{"custom no JSON", ErrMalformed, entry(func(x *Target) { x.Custom = json.RawMessage(`{`) })},
		{"custom an array", ErrMalformed, entry(func(x *Target) { x.Custom = json.RawMessage(`[]`) })},
		{"unknown target format", ErrMalformed, entry(func(x *Target) { x.Custom = json.RawMessage(`{"targetFormat":"ZIP"}`) })},
		{"no hash", ErrHash, entry(func(x *Target) { x.SHA256 = "" })},
		{"upper-case hash", ErrHash, entry(func(x *Target) { x.SHA256 = strings.ToUpper(x.SHA256) })},
		{"negative length", ErrMalformed, entry(func(x *Target) { x.Length = -1 })},
		{"director target without ECU", ErrMalformed, targets(func(c *TargetsConfig) { c.Repository = Director })},
		{"director with one ECU twice", ErrDisagree, targets(func(c *TargetsConfig) {
			c.Repository = Director
			custom := must(DirectorCustom{ECUs: map[string]string{"ecu": "board-a"}}.JSON())
			for _, n := range []string{"app-0", "app-1"} {
				_, x := imageTarget(0)
				x.Custom = custom
				c.Targets[n] = x
			}
		})},
		{"director with a delegation", ErrDelegation, targets(func(c *TargetsConfig) {
			c.Repository, c.Targets = Director, nil
			c.Delegations = []Delegation{{Name: "x", Paths: []string{"*"}, RoleKeys: roleOf(t, 1, w.child)}}
		})},
		{"director targets above 64 KiB", ErrTooLarge, targets(func(c *TargetsConfig) {
			c.Repository = Director
			c.Targets = map[string]Target{}
			for i := range 500 {
				name, x := imageTarget(i)
				x.Custom = must(DirectorCustom{ECUs: map[string]string{fmt.Sprint(i): "board-a"}}.JSON())
				c.Targets[name] = x
			}
		})},
		{"image targets above 8 MiB", ErrTooLarge, targets(func(c *TargetsConfig) {
			_, x := imageTarget(0)
			x.Custom = json.RawMessage(`{"a":"` + strings.Repeat("a", 8<<20) + `"}`)
			c.Targets["big"] = x
		})},
		{"delegation of threshold 2 with one key", ErrBadRule, targets(func(c *TargetsConfig) {
			c.Delegations = []Delegation{{Name: "x", Paths: []string{"*"}, RoleKeys: roleOf(t, 2, w.child)}}
		})},
		{"delegation named twice", ErrDelegation, targets(func(c *TargetsConfig) {
			d := Delegation{Name: "x", Paths: []string{"*"}, RoleKeys: roleOf(t, 1, w.child)}
			c.Delegations = []Delegation{d, d}
		})},
		{"delegation named like a role", ErrDelegation, targets(func(c *TargetsConfig) {
			c.Delegations = []Delegation{{Name: "snapshot", Paths: []string{"*"}, RoleKeys: roleOf(t, 1, w.child)}}
		})},
		{"delegation name with a slash", ErrDelegation, targets(func(c *TargetsConfig) {
			c.Delegations = []Delegation{{Name: "../x", Paths: []string{"*"}, RoleKeys: roleOf(t, 1, w.child)}}
		})},
		{"delegation without paths", ErrDelegation, targets(func(c *TargetsConfig) {
			c.Delegations = []Delegation{{Name: "x", RoleKeys: roleOf(t, 1, w.child)}}
		})},
		{"delegation with a broken pattern", ErrDelegation, targets(func(c *TargetsConfig) {
			c.Delegations = []Delegation{{Name: "x", Paths: []string{"a[b"}, RoleKeys: roleOf(t, 1, w.child)}}
		})},
		{"extra member that exists", ErrDuplicate, targets(func(c *TargetsConfig) { c.Extra = map[string]json.RawMessage{"version": json.RawMessage("2")} })},
		{"snapshot without targets", ErrMalformed, func() (Document, error) {
			s, err := NewSnapshot(MetaConfig{Version: 1, Expires: soon, Meta: map[string]MetaItem{"root.json": MetaOf(valid)}})
			if s == nil {
				return nil, err
			}
			return s, err
		}},
		{"timestamp without snapshot", ErrMalformed, func() (Document, error) {
			s, err := NewTimestamp(MetaConfig{Version: 1, Expires: soon})
			if s == nil {
				return nil, err
			}
			return s, err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := tc.do()
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err != nil && advice.KindOf(err) != advice.Refused {
				t.Errorf("%v: exit kind %d", err, advice.KindOf(err))
			}
			if doc != nil {
				t.Error("a document came out all the same")
			}
		})
	}

	// Emit is the last gate: short, foreign and broken signatures.
	first := must(NewRoot(w.rootConfig(t)))
	one := signed(t, first, w.rootA)
	if out, err := Emit(one, RootAuthority(nil, one)); !errors.Is(err, ErrThreshold) || out != nil {
		t.Errorf("short threshold: %v", err)
	}
	foreign := signed(t, first, w.rootA, w.rootB, w.child)
	if out, err := Emit(foreign, RootAuthority(nil, foreign)); !errors.Is(err, ErrSignature) || out != nil {
		t.Errorf("foreign signature: %v", err)
	}
	full := signed(t, first, w.rootA, w.rootB, w.rootC)
	if _, err := Emit(full, RootAuthority(nil, full)); err != nil {
		t.Error(err)
	}
	broken := full.Signatures()
	broken[0].Sig[0] ^= 1
	if out, err := Emit(first.with(broken), RootAuthority(nil, first)); err == nil || out != nil {
		t.Errorf("broken signature: %v", err)
	}
}

// TestVerifyingRefuses goes through the same refusals on the side that reads: documents that someone signed with the
// right keys, but wrongly made.
func TestVerifyingRefuses(t *testing.T) {
	w := newWorld()
	valid := w.root(t)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ecSPKI, _ := x509.MarshalPKIXPublicKey(&p256.PublicKey)
	rsaPub := &rsaKeys()[0].PublicKey
	rsaID, edID := key(t, w.rootB).ID(), key(t, w.rootA).ID()
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(rsaPub)}))
	keys := func(m map[string]any) map[string]any { return signedPart(m)["keys"].(map[string]any) }
	public := func(m map[string]any, id, v string) {
		keys(m)[id].(map[string]any)["keyval"].(map[string]any)["public"] = v
	}
	role := func(m map[string]any, r string) map[string]any {
		return signedPart(m)["roles"].(map[string]any)[r].(map[string]any)
	}
	for _, tc := range []struct {
		name   string
		want   error
		change func(m map[string]any)
	}{
		{"an EC key", ErrKeyType, func(m map[string]any) {
			sum := sha256.Sum256(ecSPKI)
			keys(m)[hex.EncodeToString(sum[:])] = map[string]any{"keytype": "ECPRIME256V1", "keyval": map[string]any{"public": hex.EncodeToString(ecSPKI)}}
		}},
		{"a PKCS#1 PEM", ErrKeyType, func(m map[string]any) { public(m, rsaID, pkcs1) }},
		{"a PEM without its final newline", ErrMalformed, func(m map[string]any) {
			public(m, rsaID, strings.TrimSpace(key(t, w.rootB).Value()))
		}},
		{"upper-case Ed25519", ErrMalformed, func(m map[string]any) { public(m, edID, strings.ToUpper(key(t, w.rootA).Value())) }},
		{"one key under two ids", ErrKeyID, func(m map[string]any) {
			keys(m)[strings.Repeat("0", 64)] = keys(m)[edID]
			r := role(m, "root")
			r["keyids"] = []any{edID, strings.Repeat("0", 64)}
		}},
		{"a key id listed twice", ErrRepeatedKey, func(m map[string]any) { role(m, "root")["keyids"] = []any{edID, edID} }},
		{"an unknown key id", ErrMalformed, func(m map[string]any) { role(m, "root")["keyids"] = []any{strings.Repeat("1", 64)} }},
		{"lower-case type", ErrType, func(m map[string]any) { signedPart(m)["_type"] = "root" }},
		{"type of another role", ErrType, func(m map[string]any) { signedPart(m)["_type"] = "Targets" }},
		{"no type", ErrMalformed, func(m map[string]any) { delete(signedPart(m), "_type") }},
		{"fraction of a second", ErrTime, func(m map[string]any) { signedPart(m)["expires"] = "2026-04-01T12:00:00.000Z" }},
		{"time zone offset", ErrTime, func(m map[string]any) { signedPart(m)["expires"] = "2026-04-01T12:00:00+00:00" }},
		{"a day that does not exist", ErrTime, func(m map[string]any) { signedPart(m)["expires"] = "2026-02-30T12:00:00Z" }},
		{"an extra field", ErrUnexpected, func(m map[string]any) { signedPart(m)["x"] = 1 }},
		{"an extra field of a role", ErrUnexpected, func(m map[string]any) { role(m, "root")["x"] = 1 }},
		{"an extra field of a key", ErrUnexpected, func(m map[string]any) { keys(m)[edID].(map[string]any)["scheme"] = "ed25519" }},
		{"consistent_snapshot true", ErrMalformed, func(m map[string]any) { signedPart(m)["consistent_snapshot"] = true }},
		{"no consistent_snapshot", ErrMalformed, func(m map[string]any) { delete(signedPart(m), "consistent_snapshot") }},
		{"an unknown role", ErrUnexpected, func(m map[string]any) { signedPart(m)["roles"].(map[string]any)["mirrors"] = role(m, "root") }},
		{"a role missing", ErrMalformed, func(m map[string]any) { delete(signedPart(m)["roles"].(map[string]any), "targets") }},
		{"threshold 0", ErrNumber, func(m map[string]any) { role(m, "root")["threshold"] = 0 }},
		{"negative threshold", ErrNumber, func(m map[string]any) { role(m, "root")["threshold"] = -1 }},
		{"threshold above the keys", ErrBadRule, func(m map[string]any) { role(m, "root")["threshold"] = 4 }},
		{"version 0", ErrVersion, func(m map[string]any) { signedPart(m)["version"] = 0 }},
		{"version above 31 bits", ErrNumber, func(m map[string]any) { signedPart(m)["version"] = 1 << 31 }},
		{"version a float", ErrNumber, func(m map[string]any) { signedPart(m)["version"] = 1.5 }},
		{"version a string", ErrMalformed, func(m map[string]any) { signedPart(m)["version"] = "1" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := resign(t, edit(t, valid.Bytes(), tc.change), w.rootA, w.rootB)
			r, err := ParseRoot(bad)
			if !errors.Is(err, tc.want) || advice.KindOf(err) != advice.Unverified {
				t.Errorf("got %v (kind %d), want %v", err, advice.KindOf(err), tc.want)
			}
			if r != nil {
				t.Error("a root came out all the same")
			}
			if got, err := VerifyRootChain(valid, [][]byte{bad}, noon); err == nil || got != nil {
				t.Error("the chain took it")
			}
		})
	}

	for name, tc := range map[string]struct {
		from, to string
		want     error
	}{
		"raw non-ASCII":              {`"Root"`, `"Rööt"`, ErrNotASCII},
		"escaped non-ASCII":          {`"Root"`, `"R\u00f6ot"`, ErrNotASCII},
		"repeated member":            {`"version":1`, `"version":1,"version":1`, ErrDuplicate},
		"exponent":                   {`"version":1`, `"version":1e0`, ErrNumber},
		"trailing data":              {`"version":1}}`, `"version":1}} {}`, ErrMalformed},
		"an extra field of the file": {`{"signatures"`, `{"a":1,"signatures"`, ErrUnexpected},
		"a line break in base64":     {`"sig":"`, `"sig":"\n`, ErrMalformed},
		"leading zero":               {`"version":1`, `"version":01`, ErrMalformed},
		"minus zero":                 {`"version":1`, `"version":-0`, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			data := string(valid.Bytes())
			if !strings.Contains(data, tc.from) {
				t.Fatal("the test's own text is gone")
			}
			if _, err := ParseRoot([]byte(strings.Replace(data, tc.from, tc.to, 1))); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := ParseRoot(append(bytes.Repeat([]byte(" "), 64<<10), valid.Bytes()...)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("oversize: %v", err)
	}
}

// TestSignatureRefusals has signatures that the client or the server does not take.
func TestSignatureRefusals(t *testing.T) {
	w := newWorld()
	first := must(NewRoot(w.rootConfig(t)))
	good := signed(t, first, w.rootA, w.rootB).Signatures()
	digest := sha256.Sum256(first.signed)
	maximum := must(rsa.SignPSS(rand.Reader, rsaKeys()[0], crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}))
	isRSA := func(s Signature) bool { return s.KeyID == key(t, w.rootB).ID() }
	change := func(f func(*Signature)) []Signature {
		out := sorted(good)
		for i := range out {
			out[i].Sig = bytes.Clone(out[i].Sig)
			if isRSA(out[i]) {
				f(&out[i])
			}
		}
		return out
	}
	for name, tc := range map[string]struct {
		list  []Signature
		parse error // nil: it parses and does not verify
		why   string
	}{
		"repeated key id":     {append(sorted(good), good[0]), ErrRepeatedKey, ""},
		"unknown method":      {change(func(s *Signature) { s.Method = "rsa-pkcs1" }), ErrMethod, ""},
		"EC method":           {change(func(s *Signature) { s.Method = "ecPrime256v1" }), ErrMethod, ""},
		"short key id":        {change(func(s *Signature) { s.KeyID = "ab" }), ErrKeyID, ""},
		"method of the other": {change(func(s *Signature) { s.Method = MethodEd25519 }), nil, "does not fit"},
		"maximum salt":        {change(func(s *Signature) { s.Sig = maximum }), nil, "salt"},
		"changed signature":   {change(func(s *Signature) { s.Sig[9] ^= 1 }), nil, "does not verify"},
		"empty signature":     {change(func(s *Signature) { s.Sig = nil }), nil, "does not verify"},
		"one of two":          {good[:1], nil, "has not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			data := encode(first.signed, tc.list)
			r, err := ParseRoot(data)
			if tc.parse != nil {
				if !errors.Is(err, tc.parse) || r != nil {
					t.Errorf("got %v, want %v", err, tc.parse)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyRoot(r); !errors.Is(err, ErrThreshold) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v", err)
			}
		})
	}
	// The older word for the method is read, unknown key ids are skipped.
	old := change(func(s *Signature) { s.Method = methodPSS })
	old = append(old, Signature{KeyID: strings.Repeat("9", 64), Method: MethodEd25519, Sig: []byte{1}})
	r, err := ParseRoot(encode(first.signed, old))
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyRoot(r); err != nil {
		t.Error(err)
	}
}

// TestCheckSigner finds a token that cannot do it before its key is in a root.
func TestCheckSigner(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for name, tc := range map[string]struct {
		s    crypto.Signer
		want error
	}{
		"RSA":       {rsaKeys()[0], nil},
		"Ed25519":   {edKey("x"), nil},
		"P-256":     {p256, ErrKeyType},
		"salt 222":  {badSigner{PrivateKey: rsaKeys()[0], salt: 222}, ErrSalt},
		"salt 20":   {badSigner{PrivateKey: rsaKeys()[0], salt: 20}, ErrSalt},
		"PKCS#1":    {badSigner{PrivateKey: rsaKeys()[0], v15: true}, ErrSignature},
		"other key": {swapped{edKey("a"), edKey("b")}, ErrSignature},
	} {
		if err := CheckSigner(tc.s); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		} else if errors.Is(err, ErrSalt) && advice.Hint(err) == "" {
			t.Errorf("%s: no advice", name)
		}
	}
}

// swapped is a token that shows one key and signs with another.
type swapped struct{ shown, used ed25519.PrivateKey }

func (s swapped) Public() crypto.PublicKey { return s.shown.Public() }
func (s swapped) Sign(r io.Reader, m []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.used.Sign(r, m, o)
}

// TestSizes has every document above its client's limit, on both sides.
func TestSizes(t *testing.T) {
	w := newWorld()
	root := w.root(t)
	targets := signed(t, must(NewTargets(w.targetsConfig(2))), w.targets)
	f := w.files(t, root, targets, nil, 1)
	tiny := Limits{Root: 100, ImageTargets: 100, DirectorTargets: 100, Snapshot: 100, Timestamp: 100}
	director := targets.Config()
	director.Repository, director.Limits = Director, &tiny
	for n, x := range director.Targets {
		x.Custom = must(DirectorCustom{ECUs: map[string]string{n: "h"}}.JSON())
		director.Targets[n] = x
	}
	meta := map[string]MetaItem{"root.json": MetaOf(root), "targets.json": MetaOf(targets), "snapshot.json": MetaOf(targets)}
	rc, tc := w.rootConfig(t), w.targetsConfig(2)
	rc.Limits, tc.Limits = &tiny, &tiny
	var errs []error
	collect := func(_ any, err error) { errs = append(errs, err) }
	for _, do := range []func(){
		func() { collect(NewRoot(rc)) },
		func() { collect(NewTargets(tc)) },
		func() { collect(NewTargets(director)) },
		func() { collect(NewSnapshot(MetaConfig{Version: 1, Expires: soon, Meta: meta, Limits: &tiny})) },
		func() { collect(NewTimestamp(MetaConfig{Version: 1, Expires: soon, Meta: meta, Limits: &tiny})) },
		func() { collect(ParseRoot(root.Bytes(), WithLimits(tiny))) },
		func() { collect(ParseTargets(Image, targets.Bytes(), WithLimits(tiny))) },
		func() { collect(ParseTargets(Director, targets.Bytes(), WithLimits(tiny))) },
		func() { collect(ParseSnapshot(f.Snapshot, WithLimits(tiny))) },
		func() { collect(ParseTimestamp(f.Timestamp, WithLimits(tiny))) },
		func() { collect(ParseRoot(root.Bytes(), WithLimits(tiny), Local())) },
		func() { collect(ParseUnsignedTargets(Image, targets.Signed(), WithLimits(tiny))) },
		func() { collect(ParseKey(bytes.Repeat([]byte(" "), maxKeyFile+1))) },
		func() { collect(ParsePolicy("x", bytes.Repeat([]byte(" "), maxPolicy+1))) },
	} {
		do()
	}
	for i, err := range errs {
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	// A signature can be what makes a document too large.
	exact := DefaultLimits()
	exact.ImageTargets = len(must(NewTargets(w.targetsConfig(2))).Bytes())
	tc.Limits = &exact
	if out, err := Sign(must(NewTargets(tc)), w.targets); !errors.Is(err, ErrTooLarge) || out != nil {
		t.Errorf("signed beyond the limit: %v", err)
	}
	// An indented local file is judged by its canonical form.
	var indented bytes.Buffer
	if err := json.Indent(&indented, targets.Bytes(), "", "        "); err != nil {
		t.Fatal(err)
	}
	exact.ImageTargets = len(targets.Bytes())
	if _, err := ParseTargets(Image, indented.Bytes(), WithLimits(exact), Local()); err != nil {
		t.Error(err)
	}
	if _, err := ParseTargets(Image, indented.Bytes(), WithLimits(exact)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a device would not read it to its end: %v", err)
	}
	deep := strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2)
	if _, err := Canonical([]byte(deep)); !errors.Is(err, ErrMalformed) {
		t.Errorf("nesting: %v", err)
	}
}
