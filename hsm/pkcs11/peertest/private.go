package peertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/softhsm"
)

// private is the variable that says that this process has places of its own already: "new", or "ready" once they are filled.
const private = "HANAPER_TEST_PLACES"

// Main runs a package's tests with places of their own: func TestMain(m *testing.M) { peertest.Main(m) }
//
// openCryptoki has one configuration, one socket, one daemon and one segment of shared memory a machine, and p11-kit's proxy one folder
// of modules. So the test program runs itself again with namespaces of its own for mounts and System V IPC, and there puts empty
// folders over those. Daemons of this machine are not met, and two test programs do not meet. It needs root, or a system
// that lets users make user namespaces. SoftHSM's store is removed at the end, as softhsm.Main does.
func Main(m interface{ Run() int }) {
	switch os.Getenv(private) {
	case "":
		os.Exit(again())
	case "new":
		if err := furnish(); err != nil {
			fmt.Fprintf(os.Stderr, "places for the tests' daemons: %v\n", err)
			os.Exit(1)
		}
		os.Setenv(private, "ready") //nolint:errcheck // cannot fail for this name
	}
	softhsm.Main(cardtest.Main{Tests: m})
}

// again runs this program in new namespaces and gives its exit code.
func again() int {
	runtime.LockOSThread() // Pdeathsig is sent when the thread ends that started the process
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), private+"=new")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: these tests start daemons (pkcsslotd, pcscd) in namespaces of their own, and this system refuses to make them: %v\n"+
			"run the tests as root, or allow users to make namespaces (sysctl kernel.unprivileged_userns_clone=1); in a container, give it CAP_SYS_ADMIN\n", filepath.Base(os.Args[0]), err)
		return 1
	}
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// furnish puts empty folders over the fixed places of the peers.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/dev/shm", "/var/log", opencryptokiStore, opencryptokiConfig, proxyModules} {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("%w: %s", err, install)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mount an empty folder on %s: %w", dir, err)
		}
	}
	for _, dir := range []string{"/run/lock", "/run/opencryptoki", "/run/pcscd", os.TempDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// pkcsslotd gives its files to the group pkcs11, which a namespace with one user does not have: here it is root's.
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(groups)) {
		if !strings.HasPrefix(line, "pkcs11:") {
			lines = append(lines, line)
		}
	}
	own := "/run/group"
	if err := os.WriteFile(own, []byte(strings.Join(lines, "")+"pkcs11:x:0:root\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(own, "/etc/group", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount a file on /etc/group: %w", err)
	}
	return nil
}

// needPlaces fails a test of a package whose TestMain is not Main.
func needPlaces(t interface {
	Helper()
	Fatal(args ...any)
}) {
	t.Helper()
	if os.Getenv(private) != "ready" {
		t.Fatal("this peer has fixed places on a machine: let TestMain call peertest.Main")
	}
}
