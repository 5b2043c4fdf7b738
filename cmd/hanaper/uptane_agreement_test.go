package main

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/uptane"
)

// TestUptaneAgreement: what the Director assigns is compared with the Image repository, and what differs is refused.
func TestUptaneAgreement(t *testing.T) {
	dir, soon := t.TempDir(), time.Now().AddDate(0, 0, 7).UTC().Truncate(time.Second)
	key := func(b byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(b)), 32)))
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sign := func(name string, d uptane.Document, signer ed25519.PrivateKey) []byte {
		t.Helper()
		data, err := uptane.Sign(d, signer)
		ok(err)
		ok(os.WriteFile(filepath.Join(dir, name), data, 0o600))
		return data
	}
	root := func(name string, first byte) {
		t.Helper()
		c := uptane.RootConfig{Version: 1, Expires: soon, Roles: map[uptane.Role]uptane.RoleKeys{}}
		for i, r := range uptane.Roles() {
			k, err := uptane.NewKey(key(first + byte(i)).Public())
			ok(err)
			c.Roles[r] = uptane.RoleKeys{Keys: []uptane.Key{k}, Threshold: 1}
		}
		doc, err := uptane.NewRoot(c)
		ok(err)
		sign(name, doc, key(first+at(uptane.RoleRoot)))
	}
	root("root.json", 'a')
	root("director-root.json", 'm')
	targets := func(name string, which uptane.Repository, x uptane.Target, signer ed25519.PrivateKey) *uptane.Targets {
		t.Helper()
		doc, err := uptane.NewTargets(uptane.TargetsConfig{Repository: which, Version: 1, Expires: soon, Targets: map[string]uptane.Target{"app-1": x}})
		ok(err)
		doc, err = uptane.ParseTargets(which, sign(name, doc, signer))
		ok(err)
		return doc
	}
	image := uptane.Target{Length: 5, SHA256: strings.Repeat("ab", 32)}
	var err error
	image.Custom, err = uptane.ImageCustom{Name: "app", Version: "1", HardwareIDs: []string{"board-a"}, CreatedAt: soon, UpdatedAt: soon}.JSON()
	ok(err)
	it := targets("targets.json", uptane.Image, image, key('a'+at(uptane.RoleTargets)))
	snap, err := uptane.NewSnapshot(uptane.MetaConfig{Version: 1, Expires: soon, Meta: map[string]uptane.MetaItem{"root.json": uptane.MetaOf(uptaneRoot(t, read(t, filepath.Join(dir, "root.json")))), "targets.json": uptane.MetaOf(it)}})
	ok(err)
	snap, err = uptane.ParseSnapshot(sign("snapshot.json", snap, key('a'+at(uptane.RoleSnapshot))))
	ok(err)
	stamp, err := uptane.NewTimestamp(uptane.MetaConfig{Version: 1, Expires: soon, Meta: map[string]uptane.MetaItem{"snapshot.json": uptane.MetaOf(snap)}})
	ok(err)
	sign("timestamp.json", stamp, key('a'+at(uptane.RoleTimestamp)))
	assigned := func(name string, change func(*uptane.Target), ecus map[string]string) {
		x := uptane.Target{Length: image.Length, SHA256: image.SHA256}
		x.Custom, err = uptane.DirectorCustom{ECUs: ecus}.JSON()
		ok(err)
		change(&x)
		targets(name, uptane.Director, x, key('m'+at(uptane.RoleTargets)))
	}
	assigned("same.json", func(*uptane.Target) {}, map[string]string{"ecu-1": "board-a"})
	assigned("longer.json", func(x *uptane.Target) { x.Length++ }, map[string]string{"ecu-1": "board-a"})
	assigned("hash.json", func(x *uptane.Target) { x.SHA256 = strings.Repeat("cd", 32) }, map[string]string{"ecu-1": "board-a"})
	assigned("hardware.json", func(*uptane.Target) {}, map[string]string{"ecu-1": "board-b"})
	verify := func(name string, more ...string) (int, string, string) {
		args := []string{"verify", "--trusted-root", filepath.Join(dir, "root.json"), "--director-root", filepath.Join(dir, "director-root.json"), "--director-targets", filepath.Join(dir, name)}
		return runUptane(t, append(args, more...)...)
	}
	whole := []string{"--targets", filepath.Join(dir, "targets.json"), "--snapshot", filepath.Join(dir, "snapshot.json"), "--timestamp", filepath.Join(dir, "timestamp.json")}
	if code, out, errs := verify("same.json", whole...); code != 0 || !strings.Contains(out, "1 assignments, each as the Image repository has it") || !strings.Contains(out, "ECU ecu-1 (board-a): app-1") {
		t.Errorf("%d, %s%s", code, out, errs)
	}
	for name, want := range map[string]string{"longer.json": "6 bytes for the director and 5", "hash.json": "other hashes", "hardware.json": "the image is for", "targets.json": "director:"} {
		if code, out, errs := verify(name, whole...); code != 4 || !strings.Contains(errs, want) || strings.Contains(out, "verified") {
			t.Errorf("%s: %d, %s%s", name, code, out, errs)
		}
	}
	if code, _, errs := verify("same.json"); code != 2 || !strings.Contains(errs, "whole Image repository") {
		t.Errorf("%d, %s", code, errs)
	}
}

// at is a role's place in uptane.Roles.
func at(r uptane.Role) byte {
	for i, o := range uptane.Roles() {
		if o == r {
			return byte(i)
		}
	}
	return 0
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
