package uptane

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Keys are made once and shared: RSA generation is slow.
var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	var out []*rsa.PrivateKey
	for range 4 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

func edKey(seed string) ed25519.PrivateKey {
	s := sha256.Sum256([]byte(seed))
	return ed25519.NewKeyFromSeed(s[:])
}

func key(t testing.TB, s crypto.Signer) Key {
	t.Helper()
	k, err := NewKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	soon = noon.AddDate(0, 1, 0)
)

func roleOf(t testing.TB, threshold int, signers ...crypto.Signer) RoleKeys {
	rk := RoleKeys{Threshold: threshold}
	for _, s := range signers {
		rk.Keys = append(rk.Keys, key(t, s))
	}
	return rk
}

// world is a small, complete pair of repositories.
type world struct {
	rootA, rootB, rootC, targets, targets2, snapshot, timestamp, child crypto.Signer
}

func newWorld() world {
	return world{edKey("root a"), rsaKeys()[0], edKey("root c"), rsaKeys()[1], edKey("targets 2"), edKey("snapshot"), edKey("timestamp"), edKey("child")}
}

func (w world) rootConfig(t testing.TB) RootConfig {
	return RootConfig{Version: 1, Expires: soon, Roles: map[Role]RoleKeys{
		RoleRoot:      roleOf(t, 2, w.rootA, w.rootB, w.rootC),
		RoleTargets:   roleOf(t, 1, w.targets, w.targets2),
		RoleSnapshot:  roleOf(t, 1, w.snapshot),
		RoleTimestamp: roleOf(t, 1, w.timestamp),
	}}
}

func (w world) root(t testing.TB) *Root {
	t.Helper()
	return signed(t, must(NewRoot(w.rootConfig(t))), w.rootA, w.rootB)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func signed[D Document](t testing.TB, doc D, keys ...crypto.Signer) D {
	t.Helper()
	out, err := AddSignatures(doc, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func imageTarget(i int) (string, Target) {
	sum := sha256.Sum256(fmt.Append(nil, i))
	custom := must(ImageCustom{Name: "app", Version: fmt.Sprint(i), HardwareIDs: []string{"board-a"}, Format: Binary, CreatedAt: noon, UpdatedAt: noon}.JSON())
	return fmt.Sprintf("app-%d", i), Target{Length: int64(1000 + i), SHA256: fmt.Sprintf("%x", sum), Custom: custom}
}

func (w world) targetsConfig(n int) TargetsConfig {
	c := TargetsConfig{Version: 1, Expires: soon, Targets: map[string]Target{}}
	for i := range n {
		name, target := imageTarget(i)
		c.Targets[name] = target
	}
	return c
}

// files builds and signs everything below the root.
func (w world) files(t testing.TB, root *Root, targets *Targets, delegations map[string]*Targets, version int) ImageFiles {
	t.Helper()
	meta := map[string]MetaItem{"root.json": MetaOf(root), "targets.json": MetaOf(targets)}
	f := ImageFiles{Roots: [][]byte{root.Bytes()}, Targets: targets.Bytes(), Delegations: map[string][]byte{}}
	for name, d := range delegations {
		meta[name+".json"] = MetaOf(d)
		f.Delegations[name] = d.Bytes()
	}
	snapshot := signed(t, must(NewSnapshot(MetaConfig{Version: version, Expires: soon, Meta: meta})), w.snapshot)
	timestamp := signed(t, must(NewTimestamp(MetaConfig{Version: version, Expires: soon, Meta: map[string]MetaItem{"snapshot.json": MetaOf(snapshot)}})), w.timestamp)
	f.Snapshot, f.Timestamp = snapshot.Bytes(), timestamp.Bytes()
	return f
}

// edit decodes JSON, lets the caller change it and encodes it again; for making bad documents.
func edit(t testing.TB, data []byte, change func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// resign signs whatever is in "signed" without any of the package's checks, as an attacker who holds the keys could.
func resign(t testing.TB, data []byte, signers ...crypto.Signer) []byte {
	t.Helper()
	v, err := parseJSON(data)
	if err != nil {
		return data // what cannot be parsed cannot be signed; the parser must refuse it anyway
	}
	body, _ := v.get("signed")
	message := body.append(nil)
	var list []Signature
	for _, s := range signers {
		_, sig, err := signMessage(s, message)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sig)
	}
	return encode(message, list)
}

func signedPart(m map[string]any) map[string]any { return m["signed"].(map[string]any) }
