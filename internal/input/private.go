package input

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// LetsOthersIn says whether group or others may read or write the file at path, of which info tells. In the folder that systemd made for this
// service's credentials ($CREDENTIALS_DIRECTORY) the mode 0440 lets nobody else in: the group's bits are the mask of an access list there, which
// names the service's user alone, and the folder, which must be closed to others, belongs to root.
func LetsOthersIn(path string, info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return false
	}
	folder, in := os.LookupEnv("CREDENTIALS_DIRECTORY")
	if !in || !filepath.IsAbs(folder) || filepath.Dir(filepath.Clean(path)) != filepath.Clean(folder) || mode&0o037 != 0 || !ofRoot(info) {
		return true
	}
	st, err := os.Stat(folder)
	return err != nil || st.Mode().Perm()&0o027 != 0 || !ofRoot(st)
}

// ofRoot says whether root and root's group own what info tells of.
func ofRoot(info fs.FileInfo) bool {
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && sys.Uid == 0 && sys.Gid == 0
}
