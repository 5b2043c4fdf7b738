package repo

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func seedKey(name string) ed25519.PrivateKey {
	s := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(s[:])
}

func pub(name string) uptane.Key { return must(uptane.NewKey(seedKey(name).Public())) }

// serverRoot is version 1 as a server with online keys has it.
func serverRoot(t testing.TB) *uptane.Root {
	c := uptane.RootConfig{Version: 1, Expires: noon.AddDate(1, 0, 0), Roles: map[uptane.Role]uptane.RoleKeys{}}
	for _, r := range uptane.Roles() {
		c.Roles[r] = uptane.RoleKeys{Keys: []uptane.Key{pub("server " + string(r))}, Threshold: 1}
	}
	return must(uptane.AddSignatures(must(uptane.NewRoot(c)), seedKey("server root")))
}

func archive(t testing.TB, entries map[string]string) []byte {
	c := NewCredentials()
	for _, n := range []string{EntryTreehub, EntryRepoURL, EntryGateway, EntryRoot, EntryTargetsPub, EntryTargetsSec, EntryClientAuth, EntryServer, EntryAutoprov, "other.txt"} {
		if v, ok := entries[n]; ok {
			if err := c.Set(n, []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return must(c.Bytes())
}

const oauth = `{"oauth2":{"server":"https://auth.example.com/oauth2","client_id":"id","client_secret":"hush"},"ostree":{"server":"https://treehub.example.com/api/v3"},"future":7}`

func newRepo(t testing.TB, open Opener) *Repository {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tuf", "myrepo")
	r, _, err := Init(dir, InitConfig{Credentials: archive(t, map[string]string{
		EntryTreehub: oauth, EntryRepoURL: "https://repo.example.com\n", EntryGateway: "https://gw.example.com", EntryRoot: string(serverRoot(t).Bytes()), "other.txt": "kept",
	})}, open)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestInitLayout(t *testing.T) {
	r := newRepo(t, nil)
	for _, d := range []string{"", "roles", "roles/unsigned", "keys"} {
		info, err := os.Stat(r.Path(d))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%q: %v, %v", d, info.Mode(), err)
		}
	}
	for _, f := range []string{"config.json", "credentials.zip", "roles/root.json"} {
		info, err := os.Stat(r.Path(f))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%q: %v", f, err)
		}
	}
	var config map[string]any
	if err := json.Unmarshal(must(os.ReadFile(r.Path("config.json"))), &config); err != nil {
		t.Fatal(err)
	}
	if config["reposerver"] != "https://repo.example.com" || config["repoServerType"] != "RepoServer" {
		t.Errorf("%v", config)
	}
	auth := config["auth"].(map[string]any)
	if auth["client_id"] != "id" || auth["scope"] != "none" {
		t.Errorf("%v", auth)
	}
	again, err := Open(r.Dir(), nil)
	if err != nil || again.Config().Auth.OAuth2.ClientSecret != "hush" || again.Config().Treehub.OSTreeServer() != "https://treehub.example.com/api/v3" {
		t.Errorf("%v %v", again, err)
	}
	if s := fmt.Sprintf("%v %+v %#v", again.Config().Auth.OAuth2, *again.Config().Auth.OAuth2, *again.Config().Auth.OAuth2); strings.Contains(s, "hush") {
		t.Errorf("a secret is printed: %s", s)
	}
	if _, _, err := Init(r.Dir(), InitConfig{Credentials: archive(t, map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://x"})}, nil); advice.KindOf(err) != advice.Refused {
		t.Errorf("initialized twice: %v", err)
	}
}

func TestInitModesAndRefusals(t *testing.T) {
	client, server := p12Files(t)
	// As with garage-sign, a root that cannot be used is left out with a warning.
	noRoot := func(r *Repository) bool { _, err := r.Root(); return errors.Is(err, fs.ErrNotExist) }
	for name, tc := range map[string]struct {
		entries map[string]string
		kind    uptane.Repository
		server  string
		ok      bool
		check   func(*Repository) bool
	}{
		"no auth":    {map[string]string{EntryTreehub: `{"no_auth":true}`, EntryRepoURL: "https://r"}, "", "", true, func(r *Repository) bool { a := r.config.Auth; return a == (Auth{}) }},
		"basic auth": {map[string]string{EntryTreehub: `{"basic_auth":{"user":"u","password":"p"}}`, EntryRepoURL: "https://r"}, "", "", true, func(r *Repository) bool { return r.config.Auth.Basic.User == "u" }},
		"mTLS wins over OAuth": {map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r", EntryClientAuth: string(client), EntryServer: string(server)}, "", "", true, func(r *Repository) bool {
			return r.config.Auth.TLS.ServerCertPath == EntryServer && bytes.Equal(must(os.ReadFile(r.Path(EntryClientAuth))), client)
		}},
		"director":            {map[string]string{EntryTreehub: oauth, EntryGateway: "https://gw"}, uptane.Director, "", true, func(r *Repository) bool { return r.config.Reposerver == "https://gw" }},
		"server by flag":      {map[string]string{EntryTreehub: oauth}, "", "https://flag", true, func(r *Repository) bool { return r.config.Reposerver == "https://flag" }},
		"no URL":              {map[string]string{EntryTreehub: oauth}, "", "", false, nil},
		"URL of a file":       {map[string]string{EntryTreehub: oauth, EntryRepoURL: "file:///etc"}, "", "", false, nil},
		"no treehub.json":     {map[string]string{EntryRepoURL: "https://r"}, "", "", false, nil},
		"no login":            {map[string]string{EntryTreehub: `{}`, EntryRepoURL: "https://r"}, "", "", false, nil},
		"broken treehub.json": {map[string]string{EntryTreehub: `{"oauth2":7}`, EntryRepoURL: "https://r"}, "", "", false, nil},
		"unsigned root": {map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r", EntryRoot: string(must(uptane.Sign(
			must(uptane.NewRoot(serverRoot(t).Config())), seedKey("other"))))}, "", "", true, noRoot},
		"malformed root":     {map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r", EntryRoot: "{"}, "", "", true, noRoot},
		"broken targets.sec": {map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r", EntryTargetsPub: string(must(pub("x").MarshalJSON())), EntryTargetsSec: `{}`}, "", "", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "r")
			r, _, err := Init(dir, InitConfig{Credentials: archive(t, tc.entries), Kind: tc.kind, Server: tc.server}, nil)
			if (err == nil) != tc.ok {
				t.Fatalf("%v", err)
			}
			if !tc.ok {
				if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
					t.Error("a refused init left a folder")
				}
				return
			}
			again, err := Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(r) || !tc.check(again) {
				t.Errorf("%+v", again.config)
			}
		})
	}
}

// hostile packs entries without Set's checks.
func hostile(t testing.TB, files ...func(*zip.Writer) error) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		if err := f(z); err != nil {
			t.Fatal(err)
		}
	}
	z.Close()
	return b.Bytes()
}

func TestHostileArchives(t *testing.T) {
	file := func(name string, n int) func(*zip.Writer) error {
		return func(z *zip.Writer) error {
			w, err := z.Create(name)
			if err == nil {
				_, err = w.Write(bytes.Repeat([]byte{'0'}, n))
			}
			return err
		}
	}
	link := func(z *zip.Writer) error {
		h := &zip.FileHeader{Name: "link"}
		h.SetMode(fs.ModeSymlink | 0o777)
		_, err := z.CreateHeader(h)
		return err
	}
	var many []func(*zip.Writer) error
	for i := range 65 {
		many = append(many, file(fmt.Sprintf("f%d", i), 1))
	}
	for name, data := range map[string][]byte{
		"path upwards": hostile(t, file("../evil", 1)), "absolute path": hostile(t, file("/etc/passwd", 1)), "upwards in a folder": hostile(t, file("a/../../b", 1)), "hidden folder": hostile(t, file(".ssh/b", 1)),
		"backslash": hostile(t, file(`..\evil`, 1)), "drive": hostile(t, file("c:evil", 1)), "hidden": hostile(t, file(".ssh", 1)),
		"link": hostile(t, link), "twice": hostile(t, file("a", 1), file("a", 1)), "too many": hostile(t, many...), "bomb": hostile(t, file("a", maxEntry+1)),
		"bomb in parts": hostile(t, file("a", maxEntry), file("b", maxEntry), file("c", maxEntry), file("d", maxEntry), file("e", maxEntry)),
		"no archive":    []byte("PK"), "empty": nil, "not ASCII": hostile(t, file("ä", 1)),
	} {
		c, err := ReadCredentials(data)
		if err == nil || c != nil {
			t.Errorf("%s: taken", name)
		}
		dir := filepath.Join(t.TempDir(), "r")
		if _, _, err := Init(dir, InitConfig{Credentials: data}, nil); err == nil {
			t.Errorf("%s: initialized", name)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written", name)
		}
	}
}

func add(version string) NewTarget {
	return NewTarget{Name: "app", Version: version, Length: 5, SHA256: strings.Repeat("a", 64), HardwareIDs: []string{"board"}, URL: "https://x/y", CustomMeta: json.RawMessage(`{"counter":3}`), Now: noon}
}

func TestGuide(t *testing.T) {
	r := newRepo(t, nil)
	ctx := context.Background()
	root := serverRoot(t)
	if err := r.StoreRoot(root); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"root-a", "root-b", "root-c", "targets-a", "targets-b"} {
		if _, err := r.Keys().Generate(n, uptane.Ed25519, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	// The server's own root key, as move-offline has it: here in a file.
	old := keyFile{KeyType: "ED25519"}
	old.KeyVal.Private = fmt.Sprintf("%x", []byte(seedKey("server root")))
	if err := r.Keys().write("old", pub("server root"), &old); err != nil {
		t.Fatal(err)
	}
	// Thresholds and keys in an order that is invalid in between.
	if _, err := r.SetThreshold(uptane.RoleRoot, 2); err != nil {
		t.Fatal(err)
	}
	if b, err := r.UnsignedRoot(); err == nil || b != nil {
		t.Error("a draft that can never be met was handed out for signing")
	}
	if _, n, err := r.RemoveKeys(uptane.RoleRoot, []string{pub("server root").ID()}, nil); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	must(r.AddKeys(uptane.RoleRoot, "root-a", "root-b", "root-c", "root-a"))
	must(r.AddKeys(uptane.RoleTargets, "targets-a", "targets-b"))
	_, n, err := r.RemoveKeys(uptane.RoleTargets, []string{pub("server targets").ID()}, []string{"targets-b"})
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	period := must(uptane.ParsePeriod("1Y"))
	sign := func(now time.Time, keys ...string) *Signed {
		t.Helper()
		s, err := r.SignRoot(SignOptions{Context: ctx, Keys: keys, ExpireAfter: &period, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	// One officer after another, at different times, and nothing is thrown away.
	sign(noon, "root-a")
	sign(noon.Add(time.Hour), "root-c")
	if _, err := r.RootsToPush(); !errors.Is(err, uptane.ErrThreshold) {
		t.Errorf("pushed without the old root's signature: %v", err)
	}
	s := sign(noon.Add(2*time.Hour), "old")
	if len(s.Document.Signatures()) != 3 || len(s.Discarded)+len(s.Foreign) != 0 || !s.Standing[0].Met() || !s.Standing[1].Met() {
		t.Errorf("%+v", s)
	}
	if text := s.Diff.String(); !strings.Contains(text, "~ root threshold: 1 of 1 -> 2 of 3") {
		t.Errorf("%s", text)
	}
	ready, err := r.RootsToPush()
	if err != nil || len(ready) != 1 || ready[0].Version() != 2 {
		t.Fatal(ready, err)
	}
	next := ready[0]
	if got, err := uptane.VerifyRootChain(root, [][]byte{next.Bytes()}, noon); err != nil || got.Version() != 2 {
		t.Fatal(err)
	}
	if trusted := must(r.TrustedRoot()); trusted.Version() != 1 {
		t.Errorf("the root in force is version %d before the push", trusted.Version())
	}
	if err := r.StoreRoot(next); err != nil {
		t.Fatal(err)
	}
	// Another expiry is another document, and the loss is told.
	s, err = r.SignRoot(SignOptions{Keys: []string{"root-a"}, Now: noon})
	if err != nil || s.Document.Version() != 3 {
		t.Fatal(err)
	}
	when := noon.AddDate(0, 2, 0)
	s, err = r.SignRoot(SignOptions{Keys: []string{"root-b"}, Expires: &when, Now: noon})
	if err != nil || len(s.Discarded) != 1 {
		t.Errorf("%+v, %v", s, err)
	}

	// Targets.
	pulled := must(uptane.AddSignatures(must(uptane.NewTargets(uptane.TargetsConfig{Version: 4, Expires: noon.AddDate(0, 1, 0)})), seedKey("server targets")))
	if err := r.StoreTargets(pulled, uptane.FileDigest(pulled)); err != nil {
		t.Fatal(err)
	}
	must(addTargets(r, add("1"), add("2")))
	must(r.DeleteTarget("app-1"))
	if _, err := r.DeleteTarget("app-1"); err == nil {
		t.Error("deleted twice")
	}
	// A build system edits the unsigned file by hand.
	p := r.Path("roles/unsigned/targets.json")
	edited := strings.Replace(string(must(os.ReadFile(p))), `"counter": 3`, `"counter": 4, "layer": "meta-x"`, 1)
	if err := os.WriteFile(p, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	must(addTargets(r, add("3")))
	s, err = r.SignTargets(SignOptions{Keys: []string{"targets-a"}, ExpireAfter: &period, Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	if text := s.Diff.String(); !strings.Contains(text, `+ custom "layer": "meta-x"`) || !strings.Contains(text, `+ "app-3"`) || strings.Contains(text, "app-1") {
		t.Errorf("%s", text)
	}
	doc, sum, err := r.TargetsToPush()
	if err != nil || doc.Version() != 5 || sum != uptane.FileDigest(pulled) {
		t.Errorf("%v %v", sum, err)
	}
	target, _ := doc.Target("app-2")
	custom := must(target.ImageCustom())
	if string(custom.Extra["counter"]) != "4" || custom.URI != "https://x/y" || custom.Format != uptane.Binary || *custom.CLIUploaded {
		t.Errorf("%+v", custom)
	}
	five := 9
	if s := must(r.SignTargets(SignOptions{Keys: []string{"targets-a"}, Version: &five, Now: noon})); s.Document.Version() != 9 {
		t.Error("--version is ignored")
	}
	if s := must(r.SignTargets(SignOptions{Keys: []string{"root-a"}, Now: noon})); len(s.Foreign) != 1 {
		t.Error("a signature that does not count is not told")
	}
	must(r.AddDelegation(uptane.Delegation{Name: "partner", Paths: []string{"partner/*"}, Terminating: true, RoleKeys: uptane.RoleKeys{Keys: []uptane.Key{pub("p")}, Threshold: 1}}))
	if d := must(r.UnsignedTargets()).Delegations(); len(d) != 1 {
		t.Error(d)
	}
	names := must(r.Keys().Names())
	if len(names) != 6 {
		t.Error(names)
	}
}

func TestSignRefusals(t *testing.T) {
	r := newRepo(t, nil)
	if err := r.StoreRoot(serverRoot(t)); err != nil {
		t.Fatal(err)
	}
	must(r.Keys().Generate("k", uptane.Ed25519, 0, nil))
	must(r.InitTargets(0, noon.AddDate(0, 1, 0)))
	past, future, period := noon.AddDate(0, 0, -1), noon.AddDate(1, 0, 0), uptane.Period{Days: 1}
	strict := must(uptane.NewPolicy(uptane.PolicyConfig{Require: uptane.RulesConfig{Roles: map[string]uptane.RoleRules{"targets": {MaxValidity: "1D"}}}}))
	no := errors.New("no")
	for name, o := range map[string]SignOptions{
		"no key":           {Now: noon},
		"unknown key":      {Keys: []string{"nobody"}, Now: noon},
		"key with a path":  {Keys: []string{"../keys/k"}, Now: noon},
		"no time":          {Keys: []string{"k"}},
		"past":             {Keys: []string{"k"}, Expires: &past, Now: noon},
		"both expiries":    {Keys: []string{"k"}, Expires: &future, ExpireAfter: &period, Now: noon},
		"fraction":         {Keys: []string{"k"}, Expires: ptr(future.Add(time.Millisecond)), Now: noon},
		"policy":           {Keys: []string{"k"}, Policy: strict, Now: noon},
		"not confirmed":    {Keys: []string{"k"}, Confirm: func(*uptane.Diff, []uptane.Finding) error { return no }, Now: noon},
		"wrong signature":  {Signatures: map[string][]byte{"k": make([]byte, 64)}, Now: noon},
		"sigs and version": {Signatures: map[string][]byte{"k": make([]byte, 64)}, Version: ptr(3), Now: noon},
		"token, no opener": {Keys: []string{"pkcs11:token=x;object=y"}, Now: noon},
		"PIN in the URI":   {Keys: []string{"pkcs11:token=x;object=y?pin-value=1234"}, Now: noon},
	} {
		if s, err := r.SignTargets(o); err == nil || s != nil {
			t.Errorf("%s: signed", name)
		} else if strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: the PIN is in the error", name)
		}
		if _, err := os.Lstat(r.Path("roles/targets.json")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: something was written", name)
		}
	}
	s, err := r.SignTargets(SignOptions{Keys: []string{"k"}, Expires: &past, Force: true, Now: noon})
	if err != nil || s.Document.Version() != 1 {
		t.Errorf("--force: %v", err)
	}
	// A director repository makes no targets.
	dir := filepath.Join(t.TempDir(), "d")
	d, _, err := Init(dir, InitConfig{Kind: uptane.Director, Credentials: archive(t, map[string]string{EntryTreehub: oauth, EntryGateway: "https://gw"})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.InitTargets(1, noon); err == nil {
		t.Error("a director repository made targets")
	}
	if _, err := addTargets(d, add("1")); err == nil {
		t.Error("a director repository took a target")
	}
}

// addTargets adds to the unsigned targets what a caller has built.
func addTargets(r *Repository, list ...NewTarget) (path string, err error) {
	return r.EditTargets(func(c *uptane.TargetsConfig) error {
		for _, n := range list {
			name, t, err := n.Build()
			if err != nil {
				return err
			}
			c.Targets[name] = t
		}
		return nil
	})
}

func ptr[T any](v T) *T { return &v }

func TestSignaturesFromElsewhere(t *testing.T) {
	r := newRepo(t, nil)
	if err := r.StoreRoot(serverRoot(t)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"a", "b"} {
		if err := r.Keys().Import(n, pub(n)); err != nil {
			t.Fatal(err)
		}
	}
	must(r.AddKeys(uptane.RoleRoot, "a", "b"))
	must(r.IncrementRootVersion())
	bytesToSign := must(r.UnsignedRoot())
	one := must(r.SignRoot(SignOptions{Signatures: map[string][]byte{"a": ed25519.Sign(seedKey("a"), bytesToSign)}, Now: noon}))
	two := must(r.SignRoot(SignOptions{Signatures: map[string][]byte{"b": ed25519.Sign(seedKey("b"), bytesToSign)}, Now: noon}))
	if one.Document.Version() != 2 || len(two.Document.Signatures()) != 2 || !bytes.Equal(two.Document.Signed(), bytesToSign) {
		t.Errorf("%+v", two)
	}
	if prev, err := r.PreviousRoot(two.Document.(*uptane.Root)); err != nil || prev.Version() != 1 {
		t.Errorf("%v", err)
	}
}

func TestExport(t *testing.T) {
	r := newRepo(t, func(context.Context, string) (crypto.Signer, io.Closer, error) { return seedKey("token"), nil, nil })
	const uri = "pkcs11:token=fleet;object=targets?module-path=/lib/x.so"
	must(r.Keys().Link(context.Background(), "targets", uri))
	if _, err := r.Keys().Link(context.Background(), "x", uri+"&pin-value=1"); err == nil {
		t.Error("a PIN went into a file")
	}
	out := filepath.Join(t.TempDir(), "out.zip")
	if err := r.ExportCredentials("targets", out); err != nil {
		t.Fatal(err)
	}
	c := must(ReadCredentials(must(os.ReadFile(out))))
	sec, _ := c.Entry(EntryTargetsSec)
	if !strings.Contains(string(sec), `"pkcs11:token=fleet;object=targets"`) || strings.Contains(string(sec), "private") {
		t.Errorf("stub: %s", sec)
	}
	if kept, _ := c.Entry("other.txt"); string(kept) != "kept" {
		t.Error("an entry was lost")
	}
	if b, _ := c.Entry(EntryTreehub); !strings.Contains(string(b), `"future": 7`) || !strings.Contains(string(b), "hush") {
		t.Errorf("%s", b)
	}
	if must(c.Root()).Version() != 1 {
		t.Error("no root")
	}
	// Who gets the archive can begin with it.
	again, warnings, err := Init(filepath.Join(t.TempDir(), "again"), InitConfig{Credentials: must(os.ReadFile(out))}, r.keys.open)
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	signer, closer, err := again.Keys().Signer(context.Background(), "targets")
	if err != nil || !signer.Public().(ed25519.PublicKey).Equal(seedKey("token").Public()) {
		t.Fatal(err)
	}
	closer.Close()
	// A token that holds another key than the .pub file shows is refused.
	again.keys.open = func(context.Context, string) (crypto.Signer, io.Closer, error) { return seedKey("exchanged"), nil, nil }
	if _, _, err := again.Keys().Signer(context.Background(), "targets"); advice.KindOf(err) != advice.Unverified {
		t.Errorf("exchanged key: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	k := NewKeys(filepath.Join(t.TempDir(), "keys"), nil)
	for name, tc := range map[string]struct {
		typ  uptane.KeyType
		bits int
	}{"ed": {uptane.Ed25519, 0}, "rsa": {uptane.RSA, 0}} {
		key, err := k.Generate(name, tc.typ, tc.bits, nil)
		if err != nil {
			t.Fatal(err)
		}
		if info := must(os.Stat(filepath.Join(k.Dir(), name+".sec"))); info.Mode().Perm() != 0o600 {
			t.Errorf("%v", info.Mode())
		}
		var f map[string]map[string]any
		b := must(os.ReadFile(filepath.Join(k.Dir(), name+".sec")))
		_ = json.Unmarshal(b, &f)
		if name == "rsa" && !strings.Contains(string(b), "BEGIN RSA PRIVATE KEY") {
			t.Error("garage-sign reads PKCS#1 only")
		}
		if name == "ed" && len(f["keyval"]["private"].(string)) != 128 {
			t.Error("garage-sign writes seed and public key")
		}
		signer, _, err := k.Signer(context.Background(), name)
		if err != nil || must(uptane.NewKey(signer.Public())).ID() != key.ID() {
			t.Error(err)
		}
		if _, err := k.Generate(name, tc.typ, tc.bits, nil); advice.KindOf(err) != advice.Refused {
			t.Errorf("replaced: %v", err)
		}
	}
	for _, bits := range []int{1024, 2047, 8192} {
		if _, err := k.Generate("odd", uptane.RSA, bits, nil); err == nil {
			t.Errorf("%d bits", bits)
		}
	}
	if _, err := k.Generate("ec", "ECPRIME256V1", 0, nil); err == nil {
		t.Error("an EC key")
	}
	for _, n := range []string{"", "../x", "a/b", ".hidden", `a\b`, "a\nb"} {
		if _, err := k.Generate(n, uptane.Ed25519, 0, nil); err == nil {
			t.Errorf("name %q", n)
		}
	}
	if entries := must(os.ReadDir(k.Dir())); len(entries) != 4 {
		t.Errorf("%d files", len(entries))
	}
}

func TestDelegationFiles(t *testing.T) {
	k := NewKeys(t.TempDir(), nil)
	must(k.Generate("a", uptane.Ed25519, 0, nil))
	must(k.Generate("b", uptane.Ed25519, 0, nil))
	ctx := context.Background()
	empty := must(NewDelegation(noon.AddDate(1, 0, 0)))
	full := must(AddTargetToDelegation(empty, add("1")))
	full = must(AddTargetToDelegation(full, add("2")))
	one := must(SignDelegation(ctx, k, full, "a"))
	two := must(SignDelegation(ctx, k, one, "b"))
	doc := must(uptane.ParseTargets(uptane.Image, two))
	if doc.Len() != 2 || len(doc.Signatures()) != 2 {
		t.Errorf("%d targets, %d signatures", doc.Len(), len(doc.Signatures()))
	}
	if _, err := SignDelegation(ctx, k, []byte(`{"_type":"Root"}`), "a"); err == nil {
		t.Error("signed what is no delegation")
	}
}

func FuzzReadCredentials(f *testing.F) {
	f.Add(archive(f, map[string]string{EntryTreehub: oauth, EntryRepoURL: "https://r"}))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ReadCredentials(data)
		if err != nil {
			return
		}
		_, _ = c.Auth()
		_, _ = c.Root()
		if _, err := ReadCredentials(must(c.Bytes())); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"reposerver":"https://x","auth":{"client_id":"a","client_secret":"b","server":"https://y"},"treehub":` + oauth + `}`))
	f.Add([]byte(`{"reposerver":"https://x","auth":{"certPath":"a.p12"},"treehub":{"ostree":{}},"repoServerType":"Director"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Config
		if json.Unmarshal(data, &c) != nil {
			return
		}
		b := must(json.Marshal(c))
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(`{"keytype":"ED25519","keyval":{"private":"00"}}`))
	f.Add([]byte(`{"keytype":"RSA","keyval":{"uri":"pkcs11:token=x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := parseSecret("x", data); err == nil && k.KeyVal.Private != "" {
			_, _ = parsePrivate(uptane.KeyType(k.KeyType), k.KeyVal.Private)
		}
	})
}
