package uptane

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// vectors returns the folder of the real server's metadata. It is not ours to copy, so a clone alone has none, and the test is skipped; .ci/run sets HANAPER_VECTORS
// wherever the project is worked on, so that it fails there if the folder is missing, and names the test at its end where it could not.
func vectors(t testing.TB) string {
	dir := os.Getenv("HANAPER_VECTORS")
	if dir == "" {
		t.Skip("HANAPER_VECTORS is not set: the real server's metadata is not checked")
	}
	return filepath.Join(dir, "ota-backend")
}

func TestServerMetadata(t *testing.T) {
	dir := vectors(t)
	then := time.Date(2018, 5, 1, 0, 0, 0, 0, time.UTC)
	roots := map[Repository]*Root{}
	for repo, folder := range map[Repository]string{Image: "repo", Director: "director"} {
		read := func(name string) []byte {
			b, err := os.ReadFile(filepath.Join(dir, folder, name))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		root, err := ParseRoot(read("root.json"))
		if err != nil {
			t.Fatalf("%s root: %v", repo, err)
		}
		if err := VerifyRoot(root); err != nil {
			t.Errorf("%s root: %v", repo, err)
		}
		if err := CheckExpiry(root, then); err != nil {
			t.Error(err)
		}
		if err := CheckExpiry(root, then.AddDate(1, 0, 0)); !errors.Is(err, ErrExpired) {
			t.Errorf("%s root has expired by 2019-05: %v", repo, err)
		}
		roots[repo] = root
		// The root that we build from the same content is the server's, byte for byte.
		c := root.Config()
		again, err := NewRoot(c)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Signed(), root.Signed()) {
			t.Errorf("%s root: rebuilt\n%s\nwas\n%s", repo, again.Signed(), root.Signed())
		}
		targets, err := ParseTargets(repo, read("targets.json"))
		if err != nil {
			t.Fatalf("%s targets: %v", repo, err)
		}
		if err := RoleAuthority(root, RoleTargets).Verify(targets); err != nil {
			t.Errorf("%s targets: %v", repo, err)
		}
		for _, doc := range []Document{root, targets} {
			if canonical, err := Canonical(doc.Raw()); err != nil || !bytes.Equal(canonical, doc.Bytes()) {
				t.Errorf("%s %s: canonical form differs (%v)", repo, doc.Role(), err)
			}
		}
		if repo == Image {
			snapshot, err := ParseSnapshot(read("snapshot.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := RoleAuthority(root, RoleSnapshot).Verify(snapshot); err != nil {
				t.Error(err)
			}
			timestamp, err := ParseTimestamp(read("timestamp.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := RoleAuthority(root, RoleTimestamp).Verify(timestamp); err != nil {
				t.Error(err)
			}
			if m, _ := snapshot.Meta("root.json"); m != MetaOf(root) {
				t.Errorf("snapshot lists root as %+v, we compute %+v", m, MetaOf(root))
			}
			// Rebuilt with our writer, the targets are the server's bytes.
			c := targets.Config()
			again, err := NewTargets(c)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Signed(), targets.Signed()) {
				t.Error("image targets: rebuilt content differs")
			}
			for _, name := range targets.Names() {
				target, _ := targets.Target(name)
				custom, err := target.ImageCustom()
				if err != nil {
					t.Fatal(err)
				}
				j, err := custom.JSON()
				if err != nil || !bytes.Equal(j, target.Custom) {
					t.Errorf("%s: custom rebuilt as %s, was %s (%v)", name, j, target.Custom, err)
				}
			}
		}
	}
	// A changed byte of the signed part is noticed.
	for repo, root := range roots {
		bad := edit(t, root.Bytes(), func(m map[string]any) { signedPart(m)["version"] = json.Number("2") })
		r, err := ParseRoot(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyRoot(r); !errors.Is(err, ErrThreshold) {
			t.Errorf("%s: changed root: %v", repo, err)
		}
	}
}
