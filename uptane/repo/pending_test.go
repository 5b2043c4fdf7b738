package repo

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hanaper/hanaper/uptane"
)

// TestPendingRoots: a root that was signed here and is followed by another is kept for the push, and counts neither as in force
// nor as given up until the server has said so.
func TestPendingRoots(t *testing.T) {
	r := newRepo(t, nil)
	if err := r.StoreRoot(serverRoot(t)); err != nil {
		t.Fatal(err)
	}
	old := keyFile{KeyType: "ED25519"}
	old.KeyVal.Private = fmt.Sprintf("%x", []byte(seedKey("server root")))
	if err := r.Keys().write("old", pub("server root"), &old); err != nil {
		t.Fatal(err)
	}
	must(r.Keys().Generate("a", uptane.Ed25519, 0, nil))
	must(r.AddKeys(uptane.RoleRoot, "a"))
	period := must(uptane.ParsePeriod("1Y"))
	sign := func(keys ...string) {
		t.Helper()
		if _, err := r.SignRoot(SignOptions{Keys: keys, ExpireAfter: &period, Now: noon}); err != nil {
			t.Fatal(err)
		}
	}
	sign("old", "a")
	must(r.IncrementRootVersion())
	if _, _, err := r.RemoveKeys(uptane.RoleRoot, nil, []string{"old"}); err != nil {
		t.Fatal(err)
	}
	sign("a")
	// Version 3 lacks nothing but is the second one: version 1 is still what everything is verified under.
	if trusted := must(r.TrustedRoot()); trusted.Version() != 1 {
		t.Errorf("the root in force is version %d", trusted.Version())
	}
	roots := must(r.RootsToPush())
	if len(roots) != 2 || roots[0].Version() != 2 || roots[1].Version() != 3 {
		t.Fatalf("to push: %v", roots)
	}
	if _, err := uptane.VerifyRootChain(serverRoot(t), [][]byte{roots[0].Bytes(), roots[1].Bytes()}, noon); err != nil {
		t.Error(err)
	}
	// The server took the first; the rest is as it was.
	if err := r.AcceptRoot(roots[0]); err != nil {
		t.Fatal(err)
	}
	if trusted, left := must(r.TrustedRoot()), must(r.RootsToPush()); trusted.Version() != 2 || len(left) != 1 || left[0].Version() != 3 {
		t.Errorf("in force %d, to push %v", trusted.Version(), left)
	}
	// Given up, they lie where no command reads them.
	kept := must(r.GiveUpRoots(3))
	if err := r.StoreRoot(roots[0]); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || must(r.Root()).Version() != 2 {
		t.Errorf("kept %v, root version %d", kept, must(r.Root()).Version())
	}
	if root, err := uptane.ParseRoot(must(os.ReadFile(kept[0]))); err != nil || root.Version() != 3 {
		t.Errorf("%v", err)
	}
	// A pending root that nobody completed stops the push of those that follow.
	if err := r.AcceptRoot(must(r.Root())); err != nil {
		t.Fatal(err)
	}
	must(r.AddKeys(uptane.RoleRoot, "old"))
	must(r.SetThreshold(uptane.RoleRoot, 2))
	sign("a")
	if _, err := r.RootsToPush(); !errors.Is(err, uptane.ErrThreshold) {
		t.Errorf("pushed with a signature missing: %v", err)
	}
}
