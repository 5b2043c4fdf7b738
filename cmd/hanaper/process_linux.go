package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// harden keeps secrets out of swap, core dumps and other processes' reach. Memory is locked whole only where no limit
// stands against it, for the runtime cannot live with a mapping refused; PINs are locked page by page besides.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unlocked = "RLIMIT_MEMLOCK limits it (ulimit -l unlimited lifts that)"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && (limit.Cur == unix.RLIM_INFINITY || os.Geteuid() == 0) {
		unlocked = ""
		if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
			unlocked = err.Error()
		}
	}
}
