package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/schema"
	"github.com/hanaper/hanaper/internal/show"
)

// Info is what a registry's file says of itself.
type Info struct {
	ID string `json:"id"`
	// Last is the number of its last act, At that one's time.
	Last    int64     `json:"last_act"`
	At      time.Time `json:"at,omitzero"`
	Devices int64     `json:"devices"`
}

// Backup writes the registry, as it is at one moment, into a new file, while others go on writing. It is whole and checked when it returns.
func (r *Registry) Backup(ctx context.Context, path string) (info Info, err error) {
	if _, err := os.Lstat(path); err == nil {
		return info, advice.New(advice.Usage, "name another file", "backup %s: is there already", show.Text(path))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return info, advice.Wrap(advice.Usage, durable.Unwritten(path, err), "")
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".backup-")
	if err != nil {
		return info, durable.Unwritten(path, err)
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "registry")
	if _, err := r.store.read.ExecContext(ctx, "VACUUM INTO ?", temporary); err != nil {
		return info, durable.Unwritten(path, fmt.Errorf("backup: %w", err))
	}
	if err := os.Chmod(temporary, 0o600); err != nil {
		return info, err
	}
	if info, err = Inspect(ctx, temporary); err != nil {
		return info, err
	}
	if err := syncFile(temporary); err != nil {
		return info, err
	}
	if err := os.Link(temporary, path); err != nil {
		return info, err
	}
	return info, durable.SyncDir(filepath.Dir(path))
}

func syncFile(path string) error {
	f, err := input.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Inspect reads a whole registry's file, changes nothing, and tells what it holds, or that it is damaged, something else, or a newer release's.
func Inspect(ctx context.Context, path string) (info Info, err error) {
	return inspect(ctx, path, path)
}

// inspect is Inspect of a copy of the file that is called name in errors.
func inspect(ctx context.Context, path, name string) (info Info, err error) {
	unfit := func(err error) (Info, error) {
		return Info{}, advice.New(advice.Unverified, "use another backup", "%s: %w", show.Text(name), err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		return unfit(errors.Join(err, errors.New("it is empty, or not there")))
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=rw&_pragma=busy_timeout(10000)&_pragma=query_only(1)")
	if err != nil {
		return info, err
	}
	defer db.Close()
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return unfit(err)
	}
	if version != format {
		return unfit(fmt.Errorf("it has format %d, and this release restores format %d", version, format))
	}
	if err := schema.Same(ctx, db, tables); err != nil {
		return unfit(err)
	}
	var said string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&said); err != nil || said != "ok" {
		return unfit(errors.Join(err, fmt.Errorf("it is damaged: %.200s", said)))
	}
	var at, gaps int64
	err = db.QueryRowContext(ctx, `SELECT lower(hex(id)), last, (SELECT count(*) FROM device), coalesce((SELECT at FROM act ORDER BY number DESC LIMIT 1), 0),
 last - (SELECT count(*) FROM act) FROM about`).Scan(&info.ID, &info.Last, &info.Devices, &at, &gaps)
	if err != nil {
		return unfit(err)
	}
	if gaps != 0 {
		return unfit(fmt.Errorf("%d of its acts are missing", gaps))
	}
	if at != 0 {
		info.At = time.Unix(at, 0).UTC()
	}
	return info, nil
}

// Restored says what a Restore did.
type Restored struct {
	Info
	// Aside is where what was there lies now; "" where nothing was.
	Aside string
	// Kept are blocks and retirements of what was there that the backup did not know, and that hold still.
	Kept int
	// Lost are acts that were done after the backup, and are not known any more.
	Lost int64
}

// Restore puts a backup in the place of the registry at path, which no gateway may be using. Devices that are kept out in the registry that was there stay
// out, if that can be read. known is the number of the last act that is known to have been; where acts are lost, and what was there cannot be read or lacks
// some of them itself, it is refused unless the loss is accepted.
func Restore(ctx context.Context, path, from string, known int64, acceptLoss bool, by gateway.By) (done Restored, err error) {
	if err := durable.Own(path); err != nil {
		return done, err
	}
	work, err := os.MkdirTemp(filepath.Dir(path), ".restore-")
	if err != nil {
		return done, err
	}
	defer os.RemoveAll(work)
	// What is looked at is the copy that is put in place. One that was made by hand may have its write-ahead log beside it; without it acts are missing.
	fresh := filepath.Join(work, "registry")
	for _, end := range []string{"", "-wal"} {
		if err := copyFile(from+end, fresh+end); err != nil && !(end != "" && errors.Is(err, fs.ErrNotExist)) {
			return done, err
		}
	}
	if done.Info, err = inspect(ctx, fresh, from); err != nil {
		return done, err
	}
	barred, last, unread := barredIn(ctx, path, done.ID)
	if unread == nil && last < known {
		// It is an older copy itself, and knows no more of who was blocked since.
		unread = fmt.Errorf("it was put back, and knows acts up to number %d", last)
	}
	known = max(known, last)
	done.Lost = max(known-done.Last, 0)
	if unread != nil && done.Lost > 0 && !acceptLoss {
		return done, advice.New(advice.Refused, "find out which devices were blocked since (your tickets, 'devices log' elsewhere), give --accept-loss, and block them again",
			"the backup knows acts up to number %d, and %d more were done; what is there now does not say which: %w", done.Last, done.Lost, unread)
	}
	if done.Kept, done.Last, err = carryOver(ctx, fresh, barred, known, by); err != nil {
		return done, err
	}
	if err := syncFile(fresh); err != nil {
		return done, err
	}
	if _, err := os.Lstat(path); err == nil {
		done.Aside = path + ".before-" + time.Now().UTC().Format("20060102T150405.000000Z")
		// The log first: a registry without its log is older, and a log without its registry nothing.
		for _, end := range []string{"-wal", "-shm", ""} {
			if err := os.Rename(path+end, done.Aside+end); err != nil && !(end != "" && errors.Is(err, fs.ErrNotExist)) {
				return done, err
			}
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return done, err
	}
	return done, durable.SyncDir(filepath.Dir(path))
}

// kept is a device that is kept out.
type kept struct {
	registry.Key
	name, why string
	state     registry.State
}

// barredIn reads who is kept out in the registry that is to be replaced, if it is the same one as the backup's.
func barredIn(ctx context.Context, path, id string) (list []kept, last int64, err error) {
	info, err := Inspect(ctx, path)
	if err != nil {
		return nil, 0, err
	}
	if info.ID != id {
		return nil, 0, fmt.Errorf("it is another registry than the backup's")
	}
	r, err := Open(Config{Path: path})
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	for _, state := range []gateway.State{gateway.Blocked, gateway.Retired} {
		f := gateway.Filter{State: state, Limit: 10_000}
		for {
			page, err := r.store.Devices(ctx, f)
			if err != nil {
				return nil, 0, err
			}
			for _, row := range page {
				list = append(list, kept{row.Key, row.Name, row.Why, row.State})
				f.AfterEnvironment, f.After = row.Environment, row.Name
			}
			if len(page) < f.Limit {
				break
			}
		}
	}
	return list, info.Last, nil
}

// carryOver blocks in the restored registry whom the other one kept out, and enters into its log that it was restored, and how many acts are lost: their
// numbers are not given again.
func carryOver(ctx context.Context, path string, barred []kept, known int64, by gateway.By) (n int, last int64, err error) {
	r, err := Open(Config{Path: path, Config: registry.Config{Who: by.Who}})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if last, err = r.Last(ctx); err != nil {
		return 0, 0, err
	}
	missing := max(known-last, 0)
	if missing > maxMissing {
		return 0, 0, fmt.Errorf("%d acts are missing: this is not a backup of the registry that was there", missing)
	}
	err = r.store.Do(ctx, func(tx registry.Tx) error {
		entries := make([]gateway.LogEntry, 0, missing+1)
		for i := range missing {
			entries = append(entries, gateway.LogEntry{At: by.At, Who: by.Who, Verb: gateway.Restored, Detail: "act " + strconv.FormatInt(last+i+1, 10) + " is lost"})
		}
		return tx.Enter(append(entries, gateway.LogEntry{At: by.At, Who: by.Who, Verb: gateway.Restored, Why: by.Why, Detail: fmt.Sprintf("%d acts lost", missing)}))
	})
	if err != nil {
		return 0, 0, err
	}
	for _, k := range barred {
		verb := gateway.Block
		if k.state == registry.Retired {
			verb = gateway.Retire
		}
		act := gateway.Act{Verb: verb, Environment: k.Environment, Device: k.name, By: by}
		act.Why = "carried over: " + k.why
		act.Why = act.Why[:min(len(act.Why), 900)]
		switch err := r.Do(ctx, act); {
		case err == nil:
			n++
		case !errors.Is(err, gateway.ErrState): // it is kept out there, too
			return 0, 0, err
		}
	}
	last, err = r.Last(ctx)
	return n, last, err
}

// maxMissing bounds the entries that a restored log has for acts that are lost.
const maxMissing = 1 << 20

func copyFile(from, to string) (err error) {
	in, err := input.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := input.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
