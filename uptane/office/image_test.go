package office

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/uptane"
)

// target is an entry for content; edit changes its custom object.
func target(t *testing.T, content string, edit func(*uptane.ImageCustom)) uptane.Target {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	c := uptane.ImageCustom{Name: "app", Version: "1", HardwareIDs: []string{"board"}, Format: uptane.Binary, CreatedAt: noon, UpdatedAt: noon}
	if edit != nil {
		edit(&c)
	}
	custom, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return uptane.Target{Length: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Custom: custom}
}

// TestImageFor: the destination must have exactly the image, or get it.
func TestImageFor(t *testing.T) {
	root := signedRoot(t, 1, noon.AddDate(1, 0, 0), seeded(1))
	ostree := func(c *uptane.ImageCustom) { c.Format = uptane.OSTree }
	commit, elsewhere := target(t, "", ostree), target(t, "image", func(c *uptane.ImageCustom) { c.URI = "https://example.com/app" })
	for _, x := range []struct {
		name    string
		target  uptane.Target
		file    string // what the destination has under the name, or "" for nothing
		commit  bool   // whether its OSTree server has the commit
		carry   bool
		carried string
		says    string
	}{
		{name: "there", target: target(t, "image", nil), file: "image"},
		{name: "there, and may be carried", target: target(t, "image", nil), file: "image", carry: true},
		{name: "not there", target: target(t, "image", nil), says: "does not have app-1"},
		{name: "to be carried", target: target(t, "image", nil), carry: true, carried: "app-1"},
		{name: "other content of the same length", target: target(t, "image", nil), file: "imagE", carry: true, says: "other content under the name app-1"},
		{name: "longer", target: target(t, "image", nil), file: "image and more", says: "other content"},
		{name: "elsewhere", target: elsewhere},
		// Whoever asks for a copy here does not want devices to be sent to an address that the source's signers chose.
		{name: "elsewhere, and to be carried", target: elsewhere, carry: true, says: `would download app-1 from "https://example.com/app"`},
		{name: "elsewhere, to be carried, and here", target: elsewhere, file: "image", carry: true, says: "would download app-1"},
		{name: "a commit", target: commit, commit: true},
		{name: "a commit that is not there", target: commit, carry: true, says: "does not have commit"},
	} {
		files := map[string][]byte{"root.json": root}
		if x.file != "" {
			files["app-1"] = []byte(x.file)
		}
		if x.commit {
			files[x.target.SHA256[2:]+".commit"] = nil
		}
		o, _, _ := hostile(t, root, files)
		carried, err := o.imageFor(t.Context(), "app-1", x.target, x.carry)
		if x.says == "" && err != nil || x.says != "" && (err == nil || !strings.Contains(err.Error(), x.says)) || carried != x.carried {
			t.Errorf("%s: carried %q, %v", x.name, carried, err)
		}
	}
}

// TestCarry: what the source's server gives is sent on only if it is what the source signed.
func TestCarry(t *testing.T) {
	root := signedRoot(t, 1, noon.AddDate(1, 0, 0), seeded(1))
	for name, content := range map[string]string{"another": "imagE", "shorter": "imag", "longer": "image and more"} {
		from, _, _ := hostile(t, root, map[string][]byte{"root.json": root, "app-1": []byte(content)})
		to, _, dir := hostile(t, root, map[string][]byte{"root.json": root})
		err := to.carry(t.Context(), &Draft{Carried: "app-1", from: from, there: "app-1", target: target(t, "image", nil)})
		if err == nil || !strings.Contains(err.Error(), "gives other content") && !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, ".carried-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %v is left, %v", name, left, err)
		}
	}
	// As it was signed it is sent on; this destination takes no uploads.
	from, _, _ := hostile(t, root, map[string][]byte{"root.json": root, "app-1": []byte("image")})
	to, _, dir := hostile(t, root, map[string][]byte{"root.json": root})
	if err := to.carry(t.Context(), &Draft{Carried: "app-1", from: from, there: "app-1", target: target(t, "image", nil)}); err == nil || !strings.Contains(err.Error(), "destination:") {
		t.Errorf("as it was signed: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || strings.Contains(entries[0].Name(), "carried") {
		t.Errorf("%v %v", entries, err)
	}
}

// TestSharedKeys: a key that stands in the roots of both environments is told, in whatever role.
func TestSharedKeys(t *testing.T) {
	soon := noon.AddDate(1, 0, 0)
	a, b := signedRoot(t, 1, soon, seeded(1)), signedRoot(t, 1, soon, seeded(2))
	from, _, _ := hostile(t, a, nil)
	to, said, _ := hostile(t, b, nil)
	if err := to.remarkSharedKeys(from); err != nil {
		t.Fatal(err)
	}
	// These roots share all keys but those of their root role.
	if len(*said) != 3 || !strings.Contains(strings.Join(*said, "\n"), "signs the targets of the source and the targets of the destination") {
		t.Errorf("%q", *said)
	}
}
