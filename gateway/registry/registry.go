// Package registry keeps the devices that a gateway has met, in SQLite.
//
// It trusts its file. An attacker who can write it can make the gateway refuse a device, forget one, or lift a deletion;
// what the trust view refuses stays refused. Device ids are personal data: the file is made with mode 0600.
package registry

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	_ "modernc.org/sqlite" // the driver, without cgo

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

const (
	// batch bounds the meetings of one transaction, keptInMind the devices kept in memory.
	batch      = 256
	keptInMind = 200_000
	// flushEvery is how often last-seen times are written, pollEvery how often deletions by others are looked for.
	flushEvery = 2 * time.Second
	pollEvery  = 500 * time.Millisecond
	// probeEvery is for how long nothing is written before a write is tried.
	probeEvery = 10 * time.Second
	// maxBlind is for how long looking for them may fail before nobody is admitted.
	maxBlind = 15 * time.Second
	// maxUnwritten bounds the last-seen times in memory.
	maxUnwritten = 100_000
)

// SQLite is a gateway.Registry in one file. Other processes may use the file at the same time.
type SQLite struct {
	path        string
	write, read *sql.DB
	say         sentences

	meetings chan *meeting
	changed  chan struct{}
	stop     chan struct{}
	wake     chan struct{}
	done     sync.WaitGroup
	once     sync.Once

	// recent is the certificate by which each device was last met. A device whose tombstone comes or goes is taken out of it.
	recent  *lru.Cache[string, [32]byte]
	deleted atomic.Pointer[map[string]bool]
	// Names are folded in recent, deleted and seen.

	// generation counts deletions and releases. faces guards what is put into recent against a change of it.
	generation atomic.Int64
	faces      sync.Mutex

	// id is the registry's own name, made with its file.
	id string
	// files are those that were opened, by path; lost is why they are not there any more. looked is when the tombstones were
	// last looked at, on the clock that began with opened.
	files  map[string]os.FileInfo
	opened time.Time
	lost   atomic.Pointer[error]
	looked atomic.Int64
	// sick is why the last write failed; wrote is when the last one was good, on the same clock.
	sick  atomic.Pointer[error]
	wrote atomic.Int64

	seenMu sync.Mutex
	seen   map[string]time.Time
}

var _ gateway.Registry = (*SQLite)(nil)

// Open opens the registry at path and makes it if it is not there.
func Open(path string) (*SQLite, error) {
	if err := touch(path); err != nil {
		return nil, err
	}
	r := &SQLite{path: path, meetings: make(chan *meeting, batch), changed: make(chan struct{}, 1), stop: make(chan struct{}),
		wake: make(chan struct{}, 1), seen: map[string]time.Time{}, opened: time.Now()}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	var err error
	if r.write, err = sql.Open("sqlite", dsn); err != nil {
		return nil, err
	}
	r.write.SetMaxOpenConns(1)
	if r.read, err = sql.Open("sqlite", dsn); err != nil {
		return nil, err
	}
	r.read.SetMaxOpenConns(2)
	if r.recent, err = lru.New[string, [32]byte](keptInMind); err != nil {
		return nil, err
	}
	if err := r.prepare(); err != nil {
		r.write.Close()
		r.read.Close()
		return nil, advice.Wrap(advice.Failed, fmt.Errorf("registry %s: %w", show.Text(path), err), "is it a registry of hanaper-gateway, and is there room on the disk?")
	}
	r.files = map[string]os.FileInfo{}
	// The log of changes is as much a part of the registry as the file: what other processes write to another one is not seen.
	for _, name := range []string{path, path + "-wal"} {
		if r.files[name], err = os.Stat(name); err != nil {
			r.write.Close()
			r.read.Close()
			return nil, err
		}
	}
	r.done.Add(2)
	go r.writer()
	go r.watcher()
	return r, nil
}

// touch makes the file if it is not there, and refuses one that others may read or write: device ids are personal data, and tombstones are
// not for everybody to lift.
func touch(path string) error {
	f, err := input.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return advice.Wrap(advice.Usage, fmt.Errorf("registry: %w", err), "registry.path names a file in a folder that exists and that the gateway may write")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return advice.New(advice.Usage, "chmod 600 "+path, "registry %s may be read or written by others (mode %04o)", show.Text(path), mode)
	}
	return nil
}

// ID is the registry's own name: a file that was put in its place has another.
func (r *SQLite) ID() string { return r.id }

func (r *SQLite) prepare() error {
	var version int
	if err := r.write.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > format {
		return fmt.Errorf("it was written by a newer release (format %d, this one knows %d)", version, format)
	}
	if version < format {
		if err := r.upgrade(version); err != nil {
			return err
		}
	}
	if err := r.write.QueryRow("SELECT lower(hex(id)) FROM about").Scan(&r.id); err != nil {
		return err
	}
	if _, err := r.look(true); err != nil {
		return err
	}
	return r.prepareSentences()
}

// look reads the tombstones if the generation has changed, or in any case if must.
func (r *SQLite) look(must bool) (changed bool, err error) {
	var g int64
	if err := r.read.QueryRow("SELECT value FROM generation").Scan(&g); err != nil {
		return false, err
	}
	if g == r.generation.Load() && !must {
		r.looked.Store(int64(time.Since(r.opened)))
		return false, nil
	}
	rows, err := r.read.Query("SELECT name FROM devices WHERE deleted <> 0")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	set := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return false, err
		}
		set[fold(name)] = true
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	r.faces.Lock()
	r.forget(set, g)
	r.deleted.Store(&set)
	r.generation.Store(g)
	r.faces.Unlock()
	r.looked.Store(int64(time.Since(r.opened)))
	return true, nil
}

// forget takes the devices whose tombstone comes or goes out of memory: they are met anew, and no other is. Where a tombstone has come and
// gone between two looks nobody knows whose it was, and all are.
func (r *SQLite) forget(set map[string]bool, generation int64) {
	var was map[string]bool
	if p := r.deleted.Load(); p != nil {
		was = *p
	}
	changed := int64(0)
	for _, one := range []struct{ in, out map[string]bool }{{set, was}, {was, set}} {
		for name := range one.in {
			if !one.out[name] {
				r.recent.Remove(name)
				changed++
			}
		}
	}
	if generation-r.generation.Load() != changed {
		r.recent.Purge()
	}
}

// watcher notices what other processes delete and release.
func (r *SQLite) watcher() {
	defer r.done.Done()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			changed, err := r.look(false)
			if same := r.checkFile(); err == nil && changed || !same {
				r.tell()
			}
		}
	}
}

// checkFile sees whether the file at path is the one in use: in any other, an operator's deletions would go unseen. It says
// whether the answer is the same as before.
func (r *SQLite) checkFile() (same bool) {
	var lost error
	for name, opened := range r.files {
		if now, err := os.Stat(name); err != nil {
			lost = fmt.Errorf("the registry's file is gone: %w", err)
		} else if !os.SameFile(now, opened) {
			lost = fmt.Errorf("another file was put in the place of the registry's %s: start the gateway anew", show.Text(name))
		}
	}
	before := r.lost.Load()
	if lost == nil {
		r.lost.Store(nil)
	} else {
		r.lost.Store(&lost)
	}
	return (before == nil) == (lost == nil)
}

// Err implements gateway.Registry.
func (r *SQLite) Err() error {
	if lost := r.lost.Load(); lost != nil {
		return *lost
	}
	if blind := time.Since(r.opened) - time.Duration(r.looked.Load()); blind > maxBlind {
		return fmt.Errorf("the registry %s has not answered for %s", show.Text(r.path), blind.Round(time.Second))
	}
	return nil
}

// Trouble implements gateway.Registry.
func (r *SQLite) Trouble() error {
	if sick := r.sick.Load(); sick != nil {
		return *sick
	}
	return nil
}

// noteWrite notes how a write ended.
func (r *SQLite) noteWrite(err error) {
	if err != nil {
		err = fmt.Errorf("registry %s: %w", show.Text(r.path), err)
		r.sick.Store(&err)
		return
	}
	r.sick.Store(nil)
	r.wrote.Store(int64(time.Since(r.opened)))
}

// probe writes a row of its own where nobody else has written for some time: a disk that is full is known before a new device comes.
func (r *SQLite) probe() {
	if r.sick.Load() == nil && time.Since(r.opened)-time.Duration(r.wrote.Load()) < probeEvery {
		return
	}
	r.noteWrite(r.tx(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE about SET probed = ?", time.Now().Unix())
		return err
	}))
}

func (r *SQLite) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Deleted implements gateway.Registry.
func (r *SQLite) Deleted(device string) bool { return (*r.deleted.Load())[fold(device)] }

// Changed implements gateway.Registry.
func (r *SQLite) Changed() <-chan struct{} { return r.changed }

// Close writes what is not written yet.
func (r *SQLite) Close() error {
	var err error
	r.once.Do(func() {
		close(r.stop)
		r.done.Wait()
		err = r.flush()
		if e := r.read.Close(); err == nil {
			err = e
		}
		if e := r.write.Close(); err == nil {
			err = e
		}
	})
	return err
}

// Seen implements gateway.Registry.
func (r *SQLite) Seen(device string, at time.Time) {
	r.seenMu.Lock()
	r.seen[fold(device)] = at
	full := len(r.seen) >= maxUnwritten
	r.seenMu.Unlock()
	if full {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *SQLite) flush() error {
	r.seenMu.Lock()
	seen := r.seen
	r.seen = make(map[string]time.Time, len(seen))
	r.seenMu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	err := r.tx(context.Background(), func(tx *sql.Tx) error {
		device, err := tx.Prepare("UPDATE devices SET last_seen = ?1 WHERE name = ?2 AND last_seen < ?1 AND deleted = 0")
		if err != nil {
			return err
		}
		cert, err := tx.Prepare("UPDATE certificates SET last_seen = ?1 WHERE sha256 = ?2 AND last_seen < ?1")
		if err != nil {
			return err
		}
		for name, at := range seen {
			if _, err := device.Exec(at.Unix(), name); err != nil {
				return err
			}
			if f, ok := r.recent.Peek(name); ok {
				if _, err := cert.Exec(at.Unix(), f[:]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	r.noteWrite(err)
	return err
}

func (r *SQLite) tx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := r.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}
