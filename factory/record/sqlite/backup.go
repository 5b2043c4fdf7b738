package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/factory/record/tables"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// Backup writes the store, as it is at one moment, into a new file, while others go on writing. It is whole and checked when it returns.
func (s *Store) Backup(ctx context.Context, path string) error {
	return create(ctx, path, func(temporary string) error {
		// A connection that may only ask may not do this either.
		db, err := sql.Open("sqlite", dsn(s.path, ""))
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.ExecContext(ctx, "VACUUM INTO ?", temporary)
		return durable.Unwritten(path, err)
	})
}

// create makes a backup file under another name, checks it, and puts it in its place, which must be free.
func create(ctx context.Context, path string, fill func(temporary string) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return advice.New(advice.Usage, "name another file", "backup %s: is there already", show.Text(path))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return advice.Wrap(advice.Usage, durable.Unwritten(path, err), "")
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".backup-")
	if err != nil {
		return durable.Unwritten(path, err)
	}
	defer os.RemoveAll(dir)
	temporary := filepath.Join(dir, "store")
	if err := fill(temporary); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := os.Chmod(temporary, 0o600); err != nil {
		return err
	}
	if _, err := Inspect(ctx, temporary); err != nil {
		return err
	}
	if err := syncFile(temporary); err != nil {
		return err
	}
	if err := os.Link(temporary, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

func syncFile(path string) error {
	f, err := input.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Export writes what each gives, the rows of one table after another, into a new backup file: a store of another kind is backed up so.
func Export(ctx context.Context, path string, each func(table string, put func([]any) error) error) error {
	return create(ctx, path, func(temporary string) error {
		f, err := input.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		f.Close()
		db, err := sql.Open("sqlite", dsn(temporary, "&_pragma=synchronous(OFF)"))
		if err != nil {
			return err
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d;", Version, application)); err != nil {
			return err
		}
		for _, table := range tables.Names {
			insert, err := tx.PrepareContext(ctx, tables.Into(table))
			if err != nil {
				return err
			}
			if err := each(table, func(row []any) error { _, err := insert.ExecContext(ctx, row...); return err }); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

// Info is what a backup says of itself.
type Info struct {
	// Sequence is the number of its last event, At that event's time.
	Sequence int64
	At       time.Time
	Devices  int64
}

// Inspect reads a whole store file and tells what it holds, or that it is damaged, another program's, or a newer release's.
func Inspect(ctx context.Context, path string) (Info, error) {
	s, err := ReadFile(ctx, path)
	if err != nil {
		return Info{}, err
	}
	defer s.Close()
	if err := s.Check(ctx); err != nil {
		return Info{}, advice.New(advice.Unverified, "use another backup", "%s: %w", show.Text(path), err)
	}
	var info Info
	var at int64
	if info.Sequence, err = s.Sequence(ctx); err == nil {
		err = s.DB.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM device), coalesce((SELECT at FROM event ORDER BY sequence DESC LIMIT 1), 0)").Scan(&info.Devices, &at)
	}
	if at != 0 {
		info.At = time.Unix(at, 0).UTC()
	}
	return info, err
}

// Restore puts a backup in the place of the store in dir, which no hanaperd may be using. What was there is moved aside, to the name that
// is returned ("" where nothing was). The restored store is held: it takes no intent until an operator accepts it.
func Restore(ctx context.Context, dir, from, reason string) (aside string, err error) {
	if _, err := os.Stat(from); err != nil {
		return "", advice.Wrap(advice.Usage, err, "name a file that `hanaperd backup` wrote")
	}
	if err := durable.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := Lock(dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	work, err := os.MkdirTemp(dir, ".restore-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	path, fresh := filepath.Join(dir, File), filepath.Join(work, File)
	// A copy that was made by hand may have its write-ahead log beside it; without it it would be older than it looks.
	for _, end := range []string{"", "-wal"} {
		if err := copyFile(from+end, fresh+end); err != nil && !(end != "" && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	if err := prepare(ctx, fresh, reason); err != nil {
		return "", advice.Wrap(advice.Unverified, fmt.Errorf("%s: %w", show.Text(from), err), "use another backup; the store was left as it is")
	}
	if err := syncFile(fresh); err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); err == nil {
		if aside, err = moveAside(dir); err != nil {
			return "", err
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return aside, err
	}
	return aside, durable.SyncDir(dir)
}

// prepare brings a copy up to date, reads all of it, and has it held.
func prepare(ctx context.Context, path, reason string) error {
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		return errors.Join(err, errors.New("it is empty"))
	}
	s, err := open(ctx, path)
	if err != nil {
		return err
	}
	s.lock = io.NopCloser(nil)
	err = s.Check(ctx)
	if err == nil {
		err = s.Hold(ctx, reason)
	}
	return errors.Join(err, s.Close())
}

// moveAside renames the store and its write-ahead log, the log first: a store without its log is older, and a log without its store nothing.
func moveAside(dir string) (string, error) {
	aside := filepath.Join(dir, "factory.before-"+time.Now().UTC().Format("20060102T150405.000000Z")+".db")
	for _, end := range []string{"-wal", "-shm", ""} {
		if err := os.Rename(filepath.Join(dir, File+end), aside+end); err != nil && !(end != "" && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	return aside, durable.SyncDir(dir)
}

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
