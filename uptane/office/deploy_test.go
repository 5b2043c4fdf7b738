package office

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/uptane"
)

// TestAdapt: whoever signs at the source chooses the target's file name, and may give it a second hash. Neither passes unseen: the
// file is called as the caller names the image, and the hash that the caller named is the only one that devices here get.
func TestAdapt(t *testing.T) {
	root := signedRoot(t, 1, noon.AddDate(1, 0, 0), seeded(1))
	plain := target(t, "image", nil)
	second := plain
	second.SHA512 = strings.Repeat("66", 64)
	for _, x := range []struct {
		name   string
		there  string
		target uptane.Target
		config DeployConfig
		here   string
		image  string
		says   string
	}{
		{"as it is", "app-1", plain, DeployConfig{}, "app-1", "app", ""},
		{"called so here, too", "app-1", plain, DeployConfig{Name: "app"}, "app-1", "app", ""},
		{"another name", "app-1", plain, DeployConfig{Name: "firmware"}, "firmware-1", "firmware", ""},
		{"a file called otherwise", "brakes-9", plain, DeployConfig{Name: "app"}, "app-1", "app", ""},
		{"two hashes", "app-1", second, DeployConfig{}, "app-1", "app", "SHA-512 of app-1 is left out"},
	} {
		o, said, _ := hostile(t, root, nil)
		here, got, err := o.adapt(x.there, x.target, x.config)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		custom, err := got.ImageCustom()
		if here != x.here || custom.Name != x.image || err != nil {
			t.Errorf("%s: %s, of name %s, %v", x.name, here, custom.Name, err)
		}
		if got.SHA256 != plain.SHA256 || got.Length != plain.Length || got.SHA512 != "" {
			t.Errorf("%s: %+v", x.name, got)
		}
		if x.says == "" && len(*said) > 0 || x.says != "" && !slices.ContainsFunc(*said, func(line string) bool { return strings.Contains(line, x.says) }) {
			t.Errorf("%s: said %q", x.name, *said)
		}
	}
}

// signedTargets is targets.json with one target, under the keys of signedRoot.
func signedTargets(t *testing.T, name string, entry uptane.Target) []byte {
	t.Helper()
	doc, err := uptane.NewTargets(uptane.TargetsConfig{Version: 1, Expires: noon.AddDate(0, 1, 0), Targets: map[string]uptane.Target{name: entry}})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := uptane.AddSignatures(doc, seeded(byte(100+slices.Index(uptane.Roles(), uptane.RoleTargets))))
	if err != nil {
		t.Fatal(err)
	}
	return signed.Bytes()
}

// TestDraftTakesNoName: what the destination has under a name stays, whatever the source's signers call so; nothing is drafted.
func TestDraftTakesNoName(t *testing.T) {
	root := signedRoot(t, 1, noon.AddDate(1, 0, 0), seeded(1))
	image := func(content string) uptane.Target { return target(t, content, nil) }
	ostree := func(content string) uptane.Target {
		return target(t, content, func(c *uptane.ImageCustom) { c.Format = uptane.OSTree })
	}
	elsewhere := target(t, "exchanged", func(c *uptane.ImageCustom) { c.URI = "https://example.com/app" })
	for _, x := range []struct {
		name    string
		has     string // the name of what the destination has
		old     uptane.Target
		new     uptane.Target
		config  DeployConfig
		refused bool
	}{
		{"another name", "tool-1", image("tool"), image("image"), DeployConfig{Carry: true}, false},
		{"the same bytes", "app-1", image("image"), image("image"), DeployConfig{Carry: true}, false},
		{"other bytes", "app-1", image("image"), image("exchanged"), DeployConfig{Carry: true}, true},
		{"other bytes, by the name given", "app-1", image("image"), image("exchanged"), DeployConfig{Name: "app", Carry: true}, true},
		{"other bytes, unchecked", "app-1", image("image"), image("exchanged"), DeployConfig{Unchecked: true}, true},
		{"other bytes, elsewhere", "app-1", image("image"), elsewhere, DeployConfig{}, true},
		{"another commit", "app-1", ostree("image"), ostree("exchanged"), DeployConfig{}, true},
	} {
		from, _, _ := hostile(t, root, map[string][]byte{"root.json": root, "targets.json": signedTargets(t, "app-1", x.new)})
		to, _, dir := hostile(t, root, map[string][]byte{"root.json": root, "targets.json": signedTargets(t, x.has, x.old), x.new.SHA256[2:] + ".commit": nil})
		x.config.Commit = x.new.SHA256
		draft, err := to.DraftFrom(t.Context(), from, x.config)
		next, rerr := to.r.UnsignedTargets()
		if rerr != nil {
			t.Fatal(rerr)
		}
		got, _ := next.Target("app-1")
		if !x.refused {
			if err != nil || draft.Diff == nil || got.SHA256 != x.new.SHA256 {
				t.Errorf("%s: %v", x.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "other bytes under the name app-1, SHA-256 "+x.old.SHA256) || !got.Equal(x.old) || draft != nil {
			t.Errorf("%s: %v, and the draft has %s", x.name, err, got.SHA256)
		}
		if _, err := os.Stat(filepath.Join(dir, "roles", "targets.json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: signed: %v", x.name, err)
		}
	}
}
