// Package postgrestest runs PostgreSQL servers of a test's own, on Unix sockets, with every commit synced to the disk. It fails, and
// never skips, where the server's programs are missing (scripts/packages-test.txt).
package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Cluster is a server with its data.
type Cluster struct {
	t       testing.TB
	dir     string
	bin     string
	as      *syscall.Credential
	options []string
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *os.File
	mu      sync.Mutex
	bases   int
}

// Start makes a cluster and starts its server, with these options (-c NAME=VALUE) besides its own.
func Start(t testing.TB, options ...string) *Cluster {
	t.Helper()
	return StartIn(t, "", "", options...)
}

// StartIn is Start with the data, or only the write-ahead log, below a folder that may be small: the log comes in files of a megabyte.
func StartIn(t testing.TB, parent, wal string, options ...string) *Cluster {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatal("no PostgreSQL server is installed: scripts/install-peers test")
	}
	c := &Cluster{t: t, bin: filepath.Dir(slices.Max(found)), options: options}
	// The server's sockets need a short path, and its folder must be open to the user that it runs as.
	if c.dir, err = os.MkdirTemp(parent, "hanaper-pg-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(c.dir) })
	if os.Getuid() == 0 && !nobodyElse() {
		c.as = unprivileged(t)
		if err := os.Chown(c.dir, int(c.as.Uid), int(c.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-D", c.data(), "-U", "hanaper", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--data-checksums"}
	if parent != "" || wal != "" {
		args = append(args, "--wal-segsize=1")
	}
	if parent != "" {
		c.options = append(c.options, "-c", "min_wal_size=2MB", "-c", "max_wal_size=8MB")
	}
	if wal != "" {
		wal = filepath.Join(wal, "wal")
		if err := os.Mkdir(wal, 0o700); err != nil {
			t.Fatal(err)
		}
		if c.as != nil {
			if err := os.Chown(wal, int(c.as.Uid), int(c.as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, "--waldir="+wal)
	}
	if out, err := c.command("initdb", args...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	if c.log, err = os.Create(filepath.Join(c.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill(); c.log.Close() })
	c.Run()
	return c
}

// unprivileged is somebody else than root, whom the server refuses to run as.
func unprivileged(t testing.TB) *syscall.Credential {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if errors.Join(err1, err2) == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("PostgreSQL does not run as root, and there is no user postgres or nobody")
	return nil
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// nobodyElse says that this is root of a user namespace that has no other user.
func nobodyElse() bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(users))
	return err == nil && len(f) == 3 && f[2] == "1"
}

func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	args = append([]string{filepath.Join(c.bin, name)}, args...)
	if os.Getuid() == 0 && c.as == nil {
		args = append([]string{"unshare", "--user", "--map-user=1000", "--map-group=1000"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = c.dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	// It ends with the test, also where that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// Run starts the server again after Kill or Stop, and waits until it answers.
func (c *Cluster) Run() {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		args := append([]string{"-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=60"}, c.options...)
		c.cmd, c.exited = c.command("postgres", args...), make(chan struct{})
		c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
		if err := c.cmd.Start(); err != nil {
			c.t.Fatal(err)
		}
		go func(cmd *exec.Cmd, exited chan struct{}) { _ = cmd.Wait(); close(exited) }(c.cmd, c.exited)
		for c.running() {
			if c.command("pg_isready", "-q", "-h", c.dir, "-U", "hanaper", "-d", "postgres").Run() == nil {
				return
			}
			if time.Now().After(end) {
				c.t.Fatalf("PostgreSQL does not answer: %s", c.Log())
			}
			time.Sleep(20 * time.Millisecond)
		}
		// After a kill its workers may still hold the shared memory for a moment.
		if time.Now().After(end) {
			c.t.Fatalf("PostgreSQL does not start: %s", c.Log())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Ended says that the server ended, by itself or by Kill and Stop.
func (c *Cluster) Ended() bool { return !c.running() }

func (c *Cluster) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// Kill ends the server as a crash does.
func (c *Cluster) Kill() { c.end(syscall.SIGKILL) }

// Stop ends the server at once, as an operator does: sessions are cut.
func (c *Cluster) Stop() { c.end(syscall.SIGINT) }

func (c *Cluster) end(s syscall.Signal) {
	if c.cmd == nil || !c.running() {
		return
	}
	_ = c.cmd.Process.Signal(s)
	<-c.exited
}

// Log is what the server has said.
func (c *Cluster) Log() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "log"))
	return string(b[max(0, len(b)-4000):])
}

// Database makes an empty database and gives how to connect to it.
func (c *Cluster) Database() string {
	c.t.Helper()
	c.mu.Lock()
	c.bases++
	name := fmt.Sprintf("base%d", c.bases)
	c.mu.Unlock()
	c.SQL("postgres", "CREATE DATABASE "+name)
	return fmt.Sprintf("host=%s user=hanaper dbname=%s", c.dir, name)
}

// Dir is the folder of the server's data and socket.
func (c *Cluster) Dir() string { return c.dir }

// Tool runs one of PostgreSQL's own programs against a database.
func (c *Cluster) Tool(name string, args ...string) string {
	c.t.Helper()
	out, err := c.command(name, append([]string{"-h", c.dir, "-U", "hanaper"}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// SQL runs a statement in a database.
func (c *Cluster) SQL(database, statement string) string {
	c.t.Helper()
	return strings.TrimSpace(c.Tool("psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement))
}
