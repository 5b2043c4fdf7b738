package durable

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Own refuses to work as root on a service's stores (files or folders; "" is passed over) where their folder is another user's: the service could not
// read what root makes there, and whoever runs as that user could lead root elsewhere by a link. A path that is not there yet is its parent's.
func Own(stores ...string) error { return own(os.Geteuid(), stores) }

func own(euid int, stores []string) error {
	if euid != 0 {
		return nil // the file system says what this user may do
	}
	for _, store := range stores {
		if store == "" {
			continue
		}
		for at := filepath.Clean(store); ; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil && at != filepath.Dir(at) {
				continue
			}
			if sys, ok := sysOf(info); ok && sys.Uid != 0 {
				id := strconv.FormatUint(uint64(sys.Uid), 10)
				who, hint := "the user id "+id, "run it as that user, or give the folder to root if root is to run the service"
				if u, err := user.LookupId(id); err == nil {
					who, hint = show.Text(u.Username), "run it as that user: runuser -u "+show.Text(u.Username)+" -- COMMAND"
				}
				return advice.New(advice.Usage, hint, "%s belongs to %s, and this is root: what root makes there, the service could not read", show.Text(at), who)
			}
			break
		}
	}
	return nil
}

func sysOf(info os.FileInfo) (*syscall.Stat_t, bool) {
	if info == nil {
		return nil, false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	return sys, ok
}
