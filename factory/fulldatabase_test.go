package factory_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/postgrestest"
	"github.com/hanaper/hanaper/internal/programtest"
)

// TestFullDiskOfDatabase: the disk under PostgreSQL, a small file system of its own, takes nothing more, twice. hanaperd says so in its health
// and to the stations; nothing that was acknowledged is lost. With room again it goes on by itself.
// The test runs itself once more in a mount namespace, where it may mount.
func TestFullDiskOfDatabase(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	t.Run("data", func(t *testing.T) { fullDisk(t, true) })
	t.Run("log", func(t *testing.T) { fullDisk(t, false) })
}

// fullDisk has all of the database, or only its write-ahead log, on the small disk. Without room for its log PostgreSQL ends.
func fullDisk(t *testing.T, all bool) {
	disk := t.TempDir()
	size := "size=80m,mode=0755"
	if !all {
		size = "size=20m,mode=0755"
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	// Others must be able to pass the folder above, for the database runs as somebody else.
	for at := disk; at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var cluster *postgrestest.Cluster
	if all {
		cluster = postgrestest.StartIn(t, disk, "")
	} else {
		cluster = postgrestest.StartIn(t, "", disk)
	}
	c := newCrash(t, 1, cluster)
	ctx, stop := context.WithCancel(context.Background())
	c.start(0)
	stations := c.stations(ctx)
	c.work()
	client := func() *factory.Client {
		client, err := factory.NewClient(factory.ClientConfig{URL: "https://" + c.addresses[0], CA: []*x509.Certificate{c.operations.cert}, Identity: c.station(t, "line-x").tls(), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}()
	restarts, rounds := 0, 2
	if !all {
		rounds = 1 // thousands of devices are enrolled until the log wants more room
	}
	for round := range rounds {
		ballast := filepath.Join(disk, "ballast")
		fill(t, ballast)
		eventually(t, "health tells of the full disk", func() bool {
			h, err := c.health(0)
			return err == nil && h.Status == "degraded" && h.Store != "ok"
		})
		// Some may still find room in pages that are there already.
		var err error
		for n := 0; err == nil && n < 2000; n++ {
			_, _, err = client.Enroll(ctx, deviceRequest(t, newKey(t), fmt.Sprintf("dev-full-%d-%d", round, n)))
		}
		if err == nil {
			t.Fatal("2000 devices were enrolled on a full disk")
		}
		if code(t, err) != factory.CodeUnavailable || !strings.Contains(err.Error(), "the store") {
			t.Errorf("a full disk: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		room := false
		for end := time.Now().Add(2 * time.Minute); !room && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if c.cluster.Ended() { // it does where its own log found no room, also a little later; a service manager starts it again
				restarts++
				c.cluster.Run()
			}
			h, err := c.health(0)
			room = err == nil && h.Status == "ok"
		}
		if !room {
			t.Fatal("it does not go on when there is room again")
		}
		c.work()
	}
	// Its first list may have met the full disk, and be signed when it is tried again.
	eventually(t, "its list is there", func() bool {
		_, err := os.Stat(filepath.Join(c.dir, "factory-ca.crl"))
		return err == nil
	})
	stop()
	stations.Wait()
	said := c.daemons[0].log.String()
	if all && !strings.Contains(said, "No space left on device") {
		t.Errorf("the log does not say what was wrong: %s", said)
	}
	if exit := c.daemons[0].stop(); exit != 0 {
		t.Errorf("SIGTERM: exit %d", exit)
	}
	c.daemons[0] = nil
	c.end(func() {}, stations)
	t.Logf("the database ended by itself %d times", restarts)
}

// fill writes a file until there is no room.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}
