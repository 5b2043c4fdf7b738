package durable

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Own refuses to work as root on a service's stores (files or folders; "" is passed over) where another user owns one, or a folder or link on the way to
// it: the service could not read what root makes there, and whoever runs as that user can lead root elsewhere, by a link or by a folder of theirs in its
// place. Of a path that is not there yet what there is of it counts.
func Own(stores ...string) error { return own(os.Geteuid(), stores) }

func own(euid int, stores []string) error {
	if euid != 0 {
		return nil // the file system says what this user may do
	}
	for _, store := range stores {
		if store == "" {
			continue
		}
		if at, uid := foreign(store); uid != 0 {
			id := strconv.FormatUint(uint64(uid), 10)
			who, hint := "the user id "+id, "run it as that user, or give the folder to root if root is to run the service"
			if u, err := user.LookupId(id); err == nil {
				who, hint = show.Text(u.Username), "run it as that user: runuser -u "+show.Text(u.Username)+" -- COMMAND"
			}
			return advice.New(advice.Usage, hint, "%s belongs to %s, and this is root: what root makes there, the service could not read", show.Text(at), who)
		}
	}
	return nil
}

// foreign walks to a path as the kernel does (path_resolution(7)), link by link, and gives the first thing on the way that is another user's than root's.
func foreign(path string) (at string, uid uint32) {
	at = "/"
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return "", 0
		}
		path = here + "/" + path
	}
	ahead := strings.Split(path, "/")
	for links := 0; len(ahead) > 0; {
		next := filepath.Join(at, ahead[0]) // of "..", too: there is no link in at
		ahead = ahead[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return "", 0
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
			return next, sys.Uid
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := os.Readlink(next)
		if links++; err != nil || links > 40 { // so many the kernel follows
			return "", 0
		}
		if ahead = append(strings.Split(to, "/"), ahead...); filepath.IsAbs(to) {
			at = "/"
		}
	}
	return "", 0
}
