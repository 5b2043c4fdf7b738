package reposerver_test

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

const childVariable = "HANAPER_REPOSERVER_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Fprintln(os.Stderr, churn(dir))
		os.Exit(1)
	}
	softhsm.Main(m)
}

func churnConfig(dir string) (reposerver.Config, error) {
	keys, err := reposerver.NewFolderKeys(dir+"/keys", "Ed25519")
	return reposerver.Config{Dir: dir, Kind: uptane.Image, Keys: keys}, err
}

// churn changes a repository without end: roots, targets, delegations.
func churn(dir string) error {
	ctx := context.Background()
	c, err := churnConfig(dir)
	if err != nil {
		return err
	}
	image, err := reposerver.OpenImage(c)
	if err != nil {
		return err
	}
	labelled := func(role uptane.Role) (crypto.Signer, error) {
		return c.Keys.Labelled(ctx, "uptane-image-"+string(role))
	}
	key, err := labelled(uptane.RoleTargets)
	if err != nil {
		return err
	}
	for {
		data, _, err := image.Root(0)
		if err != nil {
			return err
		}
		root, err := uptane.ParseRoot(data)
		if err != nil {
			return err
		}
		if root.Version() < 500 {
			next, err := root.Next(time.Now().Add(time.Hour).Truncate(time.Second), nil)
			if err != nil {
				return err
			}
			if _, err := image.CosignRoot(ctx, next.Bytes()); err != nil {
				return err
			}
		}
		data, sum, err := image.Targets()
		if err != nil {
			return err
		}
		targets, err := uptane.ParseTargets(uptane.Image, data)
		if err != nil {
			return err
		}
		more, err := targets.Next(time.Now().Add(time.Hour).Truncate(time.Second), nil)
		if err != nil {
			return err
		}
		signed, err := uptane.Sign(more, key)
		if err != nil {
			return err
		}
		if err := image.PushTargets(ctx, signed, sum); err != nil {
			return err
		}
	}
}

// TestKilled kills the writer again and again, and finds a repository that a device verifies each time.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	c := must(churnConfig(dir))(t)
	if err := reposerver.Create(t.Context(), c, reposerver.Start{}); err != nil {
		t.Fatal(err)
	}
	image := must(reposerver.OpenImage(c))(t)
	var previous *uptane.VerifiedImage
	versions := map[int]bool{}
	for i := range 15 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Not before it has written something, of three times twice new targets: on a busy machine it starts slowly.
		written := func() []byte {
			if i%3 == 0 {
				return must(image.Timestamp())(t)
			}
			data, _, err := image.Targets()
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		before := written()
		for deadline := time.Now().Add(time.Minute); bytes.Equal(before, written()); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("kill %d: the writer wrote nothing for a minute", i)
			}
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		var f uptane.ImageFiles
		var trusted *uptane.Root
		for n := 1; ; n++ {
			data, found, err := image.Root(n)
			if err != nil {
				t.Fatal(err)
			}
			if !found {
				break
			}
			if n == 1 {
				trusted = must(uptane.ParseRoot(data))(t)
			} else {
				f.Roots = append(f.Roots, data)
			}
		}
		var err error
		f.Timestamp, f.Snapshot = must(image.Timestamp())(t), must(image.Snapshot())(t)
		if f.Targets, _, err = image.Targets(); err != nil {
			t.Fatal(err)
		}
		if previous, err = uptane.VerifyImage(trusted, f, previous, time.Now()); err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		versions[previous.Targets().Version()] = true
	}
	if len(versions) < 5 {
		t.Errorf("only %d states seen: the writer hardly ran", len(versions))
	}
	// And the next writer carries on.
	if err := image.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}
