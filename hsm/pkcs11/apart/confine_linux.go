package apart

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine gives up, in the child, what the library does not need. unlocked says why its memory may be swapped; empty when
// all of it is locked. It is locked where no limit stands against it, for the runtime cannot live with a mapping refused.
func confine() (unlocked string, err error) {
	if kind, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || kind != unix.AF_UNIX {
		return "", errors.New("there is no socket to a parent")
	}
	// Nobody outlives his parent: asked for at the start already, and again should it have been lost.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	closeOthers()
	unix.CloseOnExec(socket)
	if err := unix.SetNonblock(socket, true); err != nil {
		return "", err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY && os.Geteuid() != 0 {
		return "RLIMIT_MEMLOCK limits it", nil
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// harden closes the parent's memory and descriptors to other processes of the same user, and keeps them out of core dumps.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// closeOthers closes what the parent's C libraries left open for its children. Go leaves nothing; the runtime's own of this
// process stay.
func closeOthers() {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range open {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= socket {
			continue
		}
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "anon_inode:") {
			_ = unix.Close(fd)
		}
	}
}

// prepare says how the child is started: in a process group of its own, which a terminal's Ctrl-C does not reach and which can be
// ended whole, and not to outlive its parent.
func prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// pair makes the two ends of the socket.
func pair() (parent, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "library"), os.NewFile(uintptr(fds[1]), "parent"), nil
}

// end kills the child and whatever it started.
func end(p *os.Process) {
	_ = unix.Kill(-p.Pid, unix.SIGKILL)
	_ = p.Kill()
}
