package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
)

// runUptane runs a verb of `hanaper uptane` and gives the exit code and both outputs.
func runUptane(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = shell.Run(&cli.App{Name: "hanaper", Commands: []*cli.Command{uptaneCommand()}, Writer: &o, ErrWriter: &e}, append([]string{"hanaper", "uptane"}, args...))
	return code, o.String(), e.String()
}

// officers are three people, each with a folder and a token of their own, whose keys are in it.
type officers struct {
	t    *testing.T
	dir  string // the office, where requests are made and merged
	dirs [3]string
	uris [3]string
	pubs [3]uptane.Key
}

func newOfficers(t *testing.T) *officers {
	t.Helper()
	o := &officers{t: t, dir: t.TempDir()}
	store := softhsm.ForTest(t)
	for i := range o.uris {
		board, err := store.Create(fmt.Sprintf("%s-%d", strings.ToLower(t.Name()[4:]), i))
		if err != nil {
			t.Fatal(err)
		}
		uri, err := hsm.ParseURI(board.URI)
		if err != nil {
			t.Fatal(err)
		}
		token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri})
		if err != nil {
			t.Fatal(err)
		}
		// One of them has an RSA key, whose signatures differ each time.
		key, err := token.Generate(t.Context(), hsm.GenerateSpec{Label: "uptane", Algorithm: []hsm.Algorithm{hsm.Ed25519, hsm.RSA2048, hsm.Ed25519}[i]})
		if err != nil {
			t.Fatal(err)
		}
		u := key.URI()
		u.ModulePath, u.PINSource = uri.ModulePath, uri.PINSource
		o.uris[i], o.dirs[i] = u.String(), t.TempDir()
		if o.pubs[i], err = uptane.NewKey(key.Public()); err != nil {
			t.Fatal(err)
		}
		token.Close()
		b, err := o.pubs[i].MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		o.write(fmt.Sprintf("officer%d.pub", i), b)
	}
	o.write("yes", []byte("Yes\n"))
	o.write("no", []byte("yes\n"))
	return o
}

func (o *officers) path(name string) string { return filepath.Join(o.dir, name) }

func (o *officers) write(name string, data []byte) {
	o.t.Helper()
	if err := os.WriteFile(o.path(name), data, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o *officers) read(path string) []byte {
	o.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// ok runs a verb that must succeed; @NAME is a file in the office.
func (o *officers) ok(args ...string) (out string) {
	o.t.Helper()
	code, out, errs := runUptane(o.t, o.args(args)...)
	if code != 0 {
		o.t.Fatalf("%s: exit code %d: %s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// refused runs a verb that must end with a code and leave no file changed.
func (o *officers) refused(want int, text string, args ...string) {
	o.t.Helper()
	before := o.tree()
	code, out, errs := runUptane(o.t, o.args(args)...)
	if code != want || !strings.Contains(errs, text) {
		o.t.Errorf("%s: exit code %d, want %d with %q: %s%s", strings.Join(args, " "), code, want, text, out, errs)
	}
	if o.tree() != before {
		o.t.Errorf("%s: refused, but a file has changed", strings.Join(args, " "))
	}
}

func (o *officers) args(args []string) []string {
	var out []string
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "@"); ok {
			a = o.path(name)
		}
		out = append(out, a)
	}
	return out
}

func (o *officers) tree() string {
	o.t.Helper()
	var b strings.Builder
	for _, dir := range append([]string{o.dir}, o.dirs[:]...) {
		if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(p)
			fmt.Fprintf(&b, "%s %x\n", p, data)
			return err
		}); err != nil {
			o.t.Fatal(err)
		}
	}
	return b.String()
}

// newKeyFile writes the public half of a key that nobody here holds.
func (o *officers) newKeyFile(name string) {
	o.t.Helper()
	_, k, err := ed25519.GenerateKey(nil)
	if err != nil {
		o.t.Fatal(err)
	}
	pub, err := uptane.NewKey(k.Public())
	if err != nil {
		o.t.Fatal(err)
	}
	b, err := pub.MarshalJSON()
	if err != nil {
		o.t.Fatal(err)
	}
	o.write(name, b)
}

// serverRoot is root version 1, whose root key is the server's.
func (o *officers) serverRoot() ed25519.PrivateKey {
	o.t.Helper()
	_, server, err := ed25519.GenerateKey(nil)
	if err != nil {
		o.t.Fatal(err)
	}
	config := uptane.RootConfig{Version: 1, Expires: time.Now().UTC().Truncate(time.Second).AddDate(1, 0, 0), Roles: map[uptane.Role]uptane.RoleKeys{}}
	for _, role := range uptane.Roles() {
		_, k, err := ed25519.GenerateKey(nil)
		if err != nil {
			o.t.Fatal(err)
		}
		if role == uptane.RoleRoot {
			k = server
		}
		pub, err := uptane.NewKey(k.Public())
		if err != nil {
			o.t.Fatal(err)
		}
		config.Roles[role] = uptane.RoleKeys{Keys: []uptane.Key{pub}, Threshold: 1}
	}
	root, err := uptane.NewRoot(config)
	if err != nil {
		o.t.Fatal(err)
	}
	data, err := uptane.Sign(root, server)
	if err != nil {
		o.t.Fatal(err)
	}
	o.write("1.root.json", data)
	return server
}

func TestUptaneSixOrders(t *testing.T) {
	o := newOfficers(t)
	o.serverRoot()
	old := uptaneRoot(t, o.read(o.path("1.root.json"))).Keys(uptane.RoleRoot).Keys[0].ID()

	// The next root: three officers, two of whom must sign, for root; one of them for targets.
	o.ok("root", "new-version", "--expire-after", "1Y", "--out", "@draft.json", "@1.root.json")
	o.refused(3, "draft.json", "root", "new-version", "--out", "@draft.json", "@1.root.json")
	o.ok("root", "add-key", "--key", "@officer0.pub", "--key", "@officer1.pub", "@draft.json")
	o.refused(2, "transcript", "root", "add-key", "--key", o.uris[2], "@draft.json")
	o.ok("root", "add-key", "--key", o.uris[2], "--transcript", "@keys.transcript", "@draft.json")
	o.ok("root", "remove-key", "--key-id", old, "@draft.json")
	o.refused(2, "no key", "root", "remove-key", "--key-id", old, "@draft.json")
	o.ok("root", "set-threshold", "--threshold", "3", "@draft.json")
	o.newKeyFile("office-targets.pub")
	o.ok("root", "replace-key", "--role", "targets", "--key-id", uptaneRoot(t, o.read(o.path("1.root.json"))).Keys(uptane.RoleTargets).Keys[0].ID(), "--key", "@office-targets.pub", "@draft.json")
	o.ok("request", "--root", "@1.root.json", "--out", "@request", "@draft.json")
	o.refused(3, "request", "request", "--root", "@1.root.json", "--out", "@request", "@draft.json")

	for i, dir := range o.dirs {
		response := filepath.Join(dir, "response")
		sign := []string{"sign", "--key", o.uris[i], "--trusted-root", "@1.root.json", "--answers", "@yes", "--out", response, "@request"}
		o.refused(3, "not Yes", append([]string{"sign", "--answers", "@no"}, append([]string{"--key", o.uris[i], "--trusted-root", "@1.root.json", "--out", response}, "@request")...)...)
		out := o.ok(sign...)
		for _, want := range []string{"image root version 2", "threshold: 1 of 1 -> 3 of 3", "+ root key " + o.pubs[i].ID(), "- root key " + old, "warning: root has threshold 3, below 5"} {
			if !strings.Contains(out, want) {
				t.Errorf("officer %d does not see %q:\n%s", i, want, out)
			}
		}
		o.refused(3, "in the way", sign...)
		o.transcript(response+".transcript", o.pubs[i].ID())
	}
	responses := []string{filepath.Join(o.dirs[0], "response"), filepath.Join(o.dirs[1], "response"), filepath.Join(o.dirs[2], "response")}

	var merged []byte
	for n, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		name := fmt.Sprintf("@merged-%d.json", n)
		// The server's old key signs last, when the root is moved offline.
		o.refused(3, "", "merge", "--out", name, "@request", responses[order[0]], responses[order[1]], responses[order[2]])
		o.ok("merge", "--partial", "--out", name, "@request", responses[order[0]], responses[order[1]], responses[order[2]])
		data := o.read(o.path(name[1:]))
		if merged != nil && !bytes.Equal(data, merged) {
			t.Errorf("order %v gives other bytes", order)
		}
		merged = data
	}
	if err := uptane.VerifyRoot(uptaneRoot(t, merged)); err != nil {
		t.Error(err)
	}

	// Officers one after another, each adding to the document that the one before had merged, in all six orders.
	for n, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		doc := "@draft.json"
		for _, i := range order {
			base := filepath.Join(o.dirs[i], fmt.Sprintf("chain-%d", n))
			o.ok("request", "--root", "@1.root.json", "--out", base+".request", doc)
			o.ok("sign", "--key", o.uris[i], "--trusted-root", "@1.root.json", "--answers", "@yes", "--out", base+".response", base+".request")
			o.ok("merge", "--partial", "--out", base+".json", base+".request", base+".response")
			doc = base + ".json"
		}
		root := uptaneRoot(t, o.read(doc))
		if err := uptane.VerifyRoot(root); err != nil || len(root.Signatures()) != 3 {
			t.Errorf("order %v: %v, %d signatures", order, err, len(root.Signatures()))
		}
		if !bytes.Equal(root.Signed(), uptaneRoot(t, merged).Signed()) {
			t.Errorf("order %v: other signed bytes", order)
		}
	}

	// A byte changed on the way, anywhere in a request or a response, is refused.
	for _, file := range []string{o.path("request"), responses[0]} {
		whole := o.read(file)
		for at := 0; at < len(whole); at += len(whole)/60 + 1 {
			data := bytes.Clone(whole)
			data[at] ^= 1
			o.write("flipped", data)
			if file == responses[0] {
				o.refused(4, "", "merge", "--partial", "--out", "@never", "@request", "@flipped", responses[1], responses[2])
			} else {
				o.refused(4, "", "sign", "--key", o.uris[0], "--trusted-root", "@1.root.json", "--answers", "@yes", "--out", "@never", "@flipped")
			}
		}
	}

	var rows []standingRow
	if err := json.Unmarshal([]byte(o.ok("status", "--json", "--response", responses[0], "@request")), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 || len(rows[1].Signed)+len(rows[0].Signed) != 1 || len(rows[0].Missing)+len(rows[1].Missing) != 3 {
		t.Errorf("status: %+v", rows)
	}
	if table := o.ok("status", "--root", "@1.root.json", "@1.root.json", "@merged-0.json"); !strings.Contains(table, "3 of 3") || !strings.Contains(table, "0 of 1") {
		t.Errorf("status:\n%s", table)
	}
}

func uptaneRoot(t *testing.T, data []byte) *uptane.Root {
	t.Helper()
	root, err := uptane.ParseRoot(data)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// transcript checks that an act was recorded: the intent, then the outcome.
func (o *officers) transcript(path, keyid string) {
	o.t.Helper()
	record, err := journal.Parse(o.read(path))
	if err != nil {
		o.t.Fatal(err)
	}
	var kinds []string
	for _, leaf := range record.Leaves() {
		var l uptaneLeaf
		if err := json.Unmarshal(leaf, &l); err != nil {
			o.t.Fatal(err)
		}
		kinds = append(kinds, l.Kind)
		if len(l.Keys) != 1 || l.Keys[0] != keyid || l.ToolDigest == "" || l.Clock == "" {
			o.t.Errorf("%s: %+v", path, l)
		}
	}
	if strings.Join(kinds, " ") != "uptane-sign-intent uptane-sign" {
		o.t.Errorf("%s: %v", path, kinds)
	}
}

// TestUptaneTargets goes from a root of the officers' to targets and a delegation that verify.
func TestUptaneTargets(t *testing.T) {
	o := newOfficers(t)
	server := o.serverRoot()
	o.ok("root", "new-version", "--out", "@draft.json", "@1.root.json")
	o.ok("root", "add-key", "--role", "targets", "--key", "@officer0.pub", "--key", "@officer1.pub", "@draft.json")
	o.ok("root", "set-threshold", "--role", "targets", "--threshold", "2", "@draft.json")
	draft, err := uptane.ParseUnsignedRoot(o.read(o.path("draft.json")))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := uptane.Sign(draft, server)
	if err != nil {
		t.Fatal(err)
	}
	o.write("2.root.json", signed)

	o.ok("delegation", "new", "--out", "@targets.draft")
	o.ok("targets", "add", "--name", "image", "--version", "1", "--sha256", strings.Repeat("ab", 32), "--length", "5", "--hardware-id", "rpi", "@targets.draft")
	o.refused(3, "", "targets", "add", "--name", "ümlaut", "--version", "1", "--sha256", strings.Repeat("ab", 32), "--hardware-id", "rpi", "@targets.draft")
	o.ok("delegation", "add", "--name", "supplier", "--path", "supplier*", "--key", "@officer2.pub", "@targets.draft")
	o.ok("request", "--root", "@2.root.json", "--out", "@request", "@targets.draft")

	// The root in the request must be the officer's own.
	other := newOfficerRoot(t)
	o.write("other.root.json", other)
	o.refused(3, "not the one that you trust", "sign", "--key", o.uris[0], "--trusted-root", "@other.root.json", "--answers", "@yes", "--out", "@never", "@request")
	o.refused(3, "not the one that you trust", "sign", "--key", o.uris[0], "--trusted-root", "@1.root.json", "--answers", "@yes", "--out", "@never", "@request")
	// A key that does not count, and a policy that forbids.
	o.refused(3, "does not need", "sign", "--key", o.uris[2], "--trusted-root", "@2.root.json", "--answers", "@yes", "--out", "@never", "@request")
	o.write("policy.yaml", []byte("require:\n  roles:\n    delegation: {min_threshold: 2}\n"))
	o.refused(3, "policy", "sign", "--key", o.uris[0], "--policy", "@policy.yaml", "--trusted-root", "@2.root.json", "--answers", "@yes", "--out", "@never", "@request")
	o.write("policy.yaml", []byte("requires: {}\n"))
	o.refused(2, "policy.yaml", "sign", "--key", o.uris[0], "--policy", "@policy.yaml", "--trusted-root", "@2.root.json", "--answers", "@yes", "--out", "@never", "@request")

	for i := range 2 {
		o.ok("sign", "--key", o.uris[i], "--trusted-root", "@1.root.json", "--root-chain", "@2.root.json", "--answers", "@yes", "--out", filepath.Join(o.dirs[i], "response"), "@request")
	}
	first, second := filepath.Join(o.dirs[0], "response"), filepath.Join(o.dirs[1], "response")
	o.refused(3, "", "merge", "--out", "@targets.json", "@request", first)
	o.refused(2, "RESPONSE", "merge", "--out", "@targets.json", "@request")
	o.ok("merge", "--out", "@targets.json", "@request", second, first)

	// The delegation's own document.
	o.ok("delegation", "new", "--out", "@d.draft")
	o.ok("targets", "add", "--name", "supplier-a", "--version", "1", "--sha256", strings.Repeat("cd", 32), "--hardware-id", "ecu", "@d.draft")
	o.refused(3, "", "request", "--root", "@2.root.json", "--parent", "@targets.json", "--delegation", "nobody", "--out", "@d.request", "@d.draft")
	o.ok("request", "--root", "@2.root.json", "--parent", "@targets.json", "--delegation", "supplier", "--out", "@d.request", "@d.draft")
	o.ok("sign", "--key", o.uris[2], "--trusted-root", "@2.root.json", "--answers", "@yes", "--out", "@d.response", "@d.request")
	o.ok("merge", "--out", "@d.json", "@d.request", "@d.response")
	if out := o.ok("verify", "--trusted-root", "@1.root.json", "--root-chain", "@2.root.json", "--targets", "@targets.json", "--delegation", "supplier="+o.path("d.json")); !strings.Contains(out, "verified") {
		t.Errorf("verify: %s", out)
	}
	o.refused(4, "", "verify", "--trusted-root", "@1.root.json", "--targets", "@targets.json")
	o.refused(4, "expired", "verify", "--trusted-root", "@2.root.json", "--targets", "@targets.json", "--time", "2050-01-01T00:00:00Z")

	// The next version: removed, added, shown as a diff.
	o.ok("targets", "new-version", "--expires", "2040-01-01T00:00:00Z", "--out", "@next.draft", "@targets.json")
	o.ok("targets", "remove", "--filename", "image-1", "@next.draft")
	o.refused(2, "no target", "targets", "remove", "--filename", "image-1", "@next.draft")
	o.ok("delegation", "remove", "--name", "supplier", "@next.draft")
	out := o.ok("diff", "@targets.json", "@next.draft")
	for _, want := range []string{`- "image-1"`, "~ version: 1 -> 2", "2040-01-01T00:00:00Z"} {
		if !strings.Contains(out, want) {
			t.Errorf("diff lacks %q:\n%s", want, out)
		}
	}
	if out := o.ok("show", "@targets.json"); !strings.Contains(out, "image-1") {
		t.Errorf("show:\n%s", out)
	}
	o.refused(3, "", "request", "--root", "@2.root.json", "--previous", "@next.draft", "--out", "@never", "@targets.json")
	o.ok("request", "--next", "--root", "@2.root.json", "--previous", "@targets.json", "--out", "@request2", "@next.draft")
	if _, err := os.Stat(o.path("never")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused verb wrote its output")
	}
}

func newOfficerRoot(t *testing.T) []byte {
	t.Helper()
	o := &officers{t: t, dir: t.TempDir()}
	o.serverRoot()
	return o.read(o.path("1.root.json"))
}
