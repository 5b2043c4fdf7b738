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

// Own refuses to work as root on a service's stores (files or folders; "" is passed over) where another user owns one, its folder, or a link on the way to
// it: the service could not read what root makes there, and whoever runs as that user leads root elsewhere. Of a path that is not there yet the last
// folder that is counts. Folders further up may be another's, such as the home of who becomes root: whoever has one of them can put something else in
// the place of what is below, which is then theirs, and refused, unless they do it in the moment between.
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

// foreign walks to a path as the kernel does (path_resolution(7)), link by link, and gives the first link on the way that is another user's than root's,
// or what is at its end, or the folder of that.
func foreign(path string) (at string, uid uint32) {
	at = "/"
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return "", 0
		}
		path = here + "/" + path
	}
	type step struct {
		at  string
		uid uint32
	}
	var trail []step
	ahead, last := strings.Split(path, "/"), 2
	for links := 0; len(ahead) > 0; {
		next := filepath.Join(at, ahead[0]) // of "..", too: there is no link in at
		ahead = ahead[1:]
		info, err := os.Lstat(next)
		if err != nil {
			last = 1
			break
		}
		sys, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return "", 0
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if at = next; len(trail) == 0 || trail[len(trail)-1].at != at {
				trail = append(trail, step{at, sys.Uid})
			}
			continue
		}
		if sys.Uid != 0 {
			return next, sys.Uid
		}
		if n := len(trail); n > 0 && trail[n-1].uid != 0 { // whoever has its folder can make it another
			return trail[n-1].at, trail[n-1].uid
		}
		to, err := os.Readlink(next)
		if links++; err != nil || links > 40 { // so many the kernel follows
			return "", 0
		}
		if ahead = append(strings.Split(to, "/"), ahead...); filepath.IsAbs(to) {
			at = "/"
		}
	}
	for _, s := range trail[max(0, len(trail)-last):] {
		if s.uid != 0 {
			return s.at, s.uid
		}
	}
	return "", 0
}
