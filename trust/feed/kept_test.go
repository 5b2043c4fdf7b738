package feed_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// unwritable keeps the state folder from taking anything in, until the function that it gives is called.
func (g *gateway) unwritable() (writable func()) {
	g.t.Helper()
	files := filepath.Join(g.state, "files")
	if err := os.Rename(files, files+".away"); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(files, nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return func() {
		g.t.Helper()
		if err := os.Remove(files); err != nil {
			g.t.Fatal(err)
		}
		if err := os.Rename(files+".away", files); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestKeptLater: what was verified and could not be kept is in force, is said at each look, and is kept as soon as that is possible, also
// while the source is away: else the next start would forget revocations.
func TestKeptLater(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	if err := g.Status().Unkept; err != nil {
		t.Error(err)
	}
	writable := g.unwritable()
	w.AddCRL(2, 5)
	for range 3 {
		if err := g.refresh(); err == nil || !strings.Contains(err.Error(), "is in force, and not kept") {
			t.Fatalf("the look says %v", err)
		}
		if !g.revoked(5) || g.Status().Unkept == nil {
			t.Fatalf("revoked %v, unkept %v", g.revoked(5), g.Status().Unkept)
		}
	}
	// A newer one takes its place.
	w.AddCRL(3, 5, 6)
	if err := g.refresh(); err == nil || !g.revoked(6) {
		t.Fatal(err)
	}
	writable()
	away := w.Dir + ".away"
	if err := os.Rename(w.Dir, away); err != nil {
		t.Fatal(err)
	}
	if err := g.refresh(); err == nil || strings.Contains(err.Error(), "not kept") {
		t.Errorf("the source is away: %v", err)
	}
	if err := g.Status().Unkept; err != nil {
		t.Error(err)
	}
	g.restart()
	if g.Current() == nil || !g.revoked(5) || !g.revoked(6) {
		t.Error("a revocation was forgotten")
	}
	if err := os.Rename(away, w.Dir); err != nil {
		t.Fatal(err)
	}
	g.good()
}

// TestKeptAtClose: what is not kept yet is kept when the feed ends.
func TestKeptAtClose(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	writable := g.unwritable()
	w.AddCRL(2, 5)
	if err := g.refresh(); err == nil {
		t.Fatal("kept")
	}
	writable()
	g.restart()
	if !g.revoked(5) {
		t.Error("a revocation was forgotten")
	}
}

// TestDrip: a source that sends a byte now and then holds up no look for longer than a slow line would.
func TestDrip(t *testing.T) {
	feed.SetPatience(t, 300*time.Millisecond)
	w := trusttest.New(t)
	w.Import()
	good := http.FileServer(http.Dir(w.Dir))
	drip := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case name := <-drip:
			if !strings.HasSuffix(r.URL.Path, name) {
				drip <- name
				break
			}
			rw.WriteHeader(http.StatusOK)
			for r.Context().Err() == nil {
				_, _ = rw.Write([]byte(" "))
				rw.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
			return
		default:
		}
		good.ServeHTTP(rw, r)
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	g := newGateway(t, w)
	g.src = "http://" + l.Addr().String() + "/"
	g.restart()
	g.good()
	w.AddCRL(1, 5)
	drip <- "timestamp.json"
	done := make(chan error, 1)
	go func() { done <- g.refresh() }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "too slowly") {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the look goes on")
	}
	g.good()
	if !g.revoked(5) {
		t.Error("not taken up")
	}
}

// TestKeptLaterUnchanged: what could not be kept, and has not changed since, is not read again, and is kept all the same.
func TestKeptLaterUnchanged(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	writable := g.unwritable()
	w.AddCRL(2, 5)
	if err := g.refresh(); err == nil {
		t.Fatal("kept")
	}
	w.Now = w.Now.Add(23 * time.Hour)
	g.now = w.Now
	if err := w.Publish(func(p *trust.Publisher) error { return p.Refresh() }); err != nil {
		t.Fatal(err)
	}
	if err := g.refresh(); err == nil {
		t.Fatal("kept")
	}
	writable()
	away := w.Dir + ".away"
	if err := os.Rename(w.Dir, away); err != nil {
		t.Fatal(err)
	}
	if err := g.refresh(); err == nil || g.Status().Unkept != nil {
		t.Fatalf("%v, unkept: %v", err, g.Status().Unkept)
	}
	g.restart()
	if g.Current() == nil || !g.revoked(5) {
		t.Error("a revocation was forgotten")
	}
}

// padded is a CRL with an extension of so many bytes, which nobody knows and need not.
func padded(t *testing.T, w *trusttest.World, number int64, size int, serials ...int64) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: w.Now, NextUpdate: w.Now.AddDate(0, 0, 30),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, size)}}}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: w.Now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, w.Issuing.Cert, w.Issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestLargeListAtRestart: a list of any size that is accepted is there again after a restart without the source, and nothing else is left beside what is kept.
func TestLargeListAtRestart(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	der := padded(t, w, 1, 70<<20, 5)
	if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(der) }); err != nil {
		t.Fatal(err)
	}
	g.good()
	if err := os.RemoveAll(w.Dir); err != nil {
		t.Fatal(err)
	}
	g.restart()
	if g.Current() == nil || !g.revoked(5) || g.revoked(6) {
		t.Fatal("it is not there")
	}
	list, err := os.ReadDir(filepath.Join(g.state, "files"))
	if err != nil || len(list) != len(g.Current().Files()) {
		t.Errorf("%d files for %d: %v", len(list), len(g.Current().Files()), err)
	}
}

// TestSmallDisk: a disk that becomes full while a list comes keeps nothing of it; the list is in force all the same, and is kept once there is room, also while the source is
// away. The disk is a small file system of its own, in a mount namespace where the test runs itself once more.
func TestSmallDisk(t *testing.T) {
	if !programtest.OwnMounts(t) {
		return
	}
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	g.Close()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close(); _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	g.state = filepath.Join(disk, "state")
	g.start()
	w.AddCRL(1)
	g.good()
	der := padded(t, w, 2, 3<<20, 5)
	if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(der) }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.refresh(); err == nil || !strings.Contains(err.Error(), "no space left") || !g.revoked(5) {
			t.Fatalf("a full disk: %v", err)
		}
		list, err := filepath.Glob(filepath.Join(g.state, "files", ".hanaper-*"))
		if err != nil || len(list) > 0 {
			t.Errorf("left behind: %v, %v", list, err)
		}
	}
	if err := os.RemoveAll(w.Dir); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=20m"); err != nil {
		t.Fatal(err)
	}
	if err := g.refresh(); err == nil || g.Status().Unkept != nil {
		t.Fatalf("%v, unkept: %v", err, g.Status().Unkept)
	}
	g.restart()
	if g.Current() == nil || !g.revoked(5) {
		t.Error("a revocation was forgotten")
	}
}

// TestRefusedListLeavesNothing: of a list that is not what the metadata lists nothing is kept, whichever byte of it is another and however it ends.
func TestRefusedListLeavesNothing(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	g := newGateway(t, w)
	w.AddCRL(1)
	g.good()
	der := padded(t, w, 2, 1<<20, 5)
	if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(der) }); err != nil {
		t.Fatal(err)
	}
	var path string
	err := filepath.WalkDir(w.Dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil && info.Size() == int64(len(der)) {
				path = p
			}
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatal(path, err)
	}
	names := func() (list []string) {
		entries, err := os.ReadDir(filepath.Join(g.state, "files"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	before := names()
	first, middle, last := bytes.Clone(der), bytes.Clone(der), bytes.Clone(der)
	first[0] ^= 1
	middle[len(der)/2] ^= 1
	last[len(der)-1] ^= 1
	// A good list of the same CA and length, which says something else: only the metadata tells.
	another := padded(t, w, 2, 1<<20, 6)
	for len(another) != len(der) {
		another = padded(t, w, 2, 1<<20, 6)
	}
	for name, data := range map[string][]byte{"another good one": another, "first": first, "middle": middle, "last": last, "cut": der[:len(der)-1], "longer": append(bytes.Clone(der), 0), "half": der[:len(der)/2], "empty": {}, "a folder": nil} {
		err := os.Remove(path)
		if data == nil {
			err = errors.Join(err, os.Mkdir(path, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(path, data, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := g.refresh(); err == nil || g.revoked(5) || g.revoked(6) {
			t.Errorf("%s: %v", name, err)
		}
		if after := names(); !slices.Equal(before, after) {
			t.Errorf("%s left %v, was %v", name, after, before)
		}
	}
	if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, der, 0o644)); err != nil {
		t.Fatal(err)
	}
	g.good()
	if !g.revoked(5) {
		t.Error("the good one is not in force")
	}
}
