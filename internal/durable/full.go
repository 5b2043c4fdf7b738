package durable

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Full says whether err is that of a disk, a quota or a bound on files that takes nothing more: the kernel's, SQLite's (SQLITE_FULL, and SQLITE_IOERR_SHMSIZE
// for the index of its log) or PostgreSQL's (disk_full).
func Full(err error) bool {
	var lite interface{ Code() int }
	var state interface{ SQLState() string }
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) ||
		errors.As(err, &lite) && (lite.Code()&0xff == 13 || lite.Code() == 10|19<<8) || errors.As(err, &state) && state.SQLState() == "53100"
}

// Unwritten says of err that the file or folder at path could not be written, and not the temporary one beside it, which is gone, and what to do. Errors of
// other kinds stay as they are.
func Unwritten(path string, err error) error {
	var hint string
	switch {
	case Full(err):
		hint = "nothing was changed there: make room on its disk, and try again"
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		hint = "make its folder first, or name another place"
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		hint = "name a place where this user may write, or run it as the user who may write there"
	default:
		return err
	}
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		err = at.Err
	}
	return advice.New(advice.Failed, hint, "%s cannot be written: %w", show.Text(path), err)
}
