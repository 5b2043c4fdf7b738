package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// takeOver reads the devices of a release that kept each in a file of its own, all in one transaction. The folder is renamed
// afterwards, so that such a release finds no devices and no two records of one device live on.
func (s *SQLite) takeOver(ctx context.Context, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	gone := dir + ".taken-over"
	list, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(gone); err == nil && len(list) > 0 {
		return advice.New(advice.Refused, "decide which of the two is right, and move the other away",
			"%s and %s both hold devices: an older release has run on this folder since they were taken over", show.Text(dir), show.Text(gone))
	}
	err = s.writer.do(ctx, &change{run: func(ctx context.Context, tx *batch) error {
		var moved string
		if err := tx.QueryRowContext(ctx, "SELECT moved FROM state").Scan(&moved); err != nil {
			return err
		}
		if moved != "" || len(list) == 0 {
			return nil // another process was faster, or was killed before it renamed the folder
		}
		for _, path := range list {
			if err := tx.takeFile(ctx, path); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "UPDATE state SET moved = ?", time.Now().UTC().Format(time.RFC3339))
		return err
	}})
	if err != nil {
		return advice.Wrap(advice.Failed, fmt.Errorf("taking over the devices in %s: %w", show.Text(dir), err), "nothing was taken over; restore the file from a backup, or move it away to give up that device")
	}
	if len(list) == 0 {
		return nil
	}
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

func (tx *batch) takeFile(ctx context.Context, path string) error {
	data, err := input.ReadFile(path)
	if err != nil {
		return err
	}
	dev, err := reposerver.DecodeDevice(path, data)
	if err != nil {
		return err
	}
	k := keyOf(dev.ID)
	if name := fmt.Sprintf("%x.json", k); filepath.Base(path) != name {
		return fmt.Errorf("%s is the record of another device", show.Text(path))
	}
	record, err := reposerver.EncodeDevice(dev)
	if err != nil {
		return err
	}
	var with reposerver.With
	with.Manifest, err = input.ReadFile(strings.TrimSuffix(path, ".json") + ".manifest")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return tx.save(ctx, k, dev, record, with)
}
