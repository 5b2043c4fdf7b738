package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames a file where none is (renameat2 with RENAME_NOREPLACE, which FAT and exFAT know, too).
func renameNew(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncPlaced syncs a file that was renamed on FAT or exFAT. There a directory's entry has the file's size and place, and after a renaming
// Linux writes both with the file, not with the directory: without this, a cut leaves an empty file.
func syncPlaced(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Type != unix.MSDOS_SUPER_MAGIC && st.Type != unix.EXFAT_SUPER_MAGIC {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
