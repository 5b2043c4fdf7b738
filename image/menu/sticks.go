package menu

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/internal/show"
)

// StateLabel is the label of the stick on which a machine remembers what it did.
const StateLabel = "HANAPER-STATE"

// Stick is a file system on something that can be taken out.
type Stick struct {
	// Device is such as sda1, Kind such as vfat. Label is what its maker wrote: foreign text.
	Device, Kind, Label string
	// At is where it is mounted; empty if it is not.
	At string
	// Why says why it is not mounted.
	Why string
	// MB is its size.
	MB int64
}

func (s Stick) String() string {
	name := s.Device
	if s.Label != "" {
		name += " " + show.Text(s.Label)
	}
	return name
}

// sticks are those that are plugged in.
type sticks struct {
	// block is /sys/class/block and dev is /dev, root where they are mounted.
	block, dev, root string
	list             []Stick
}

const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW

// careful: what is broken is an error. The maker of a stick may have written into it that the machine is to stop then.
const careful = "errors=remount-ro"

// kinds are the file systems that are mounted, with their options.
var kinds = map[string]string{"vfat": "fmask=0177,dmask=0077,quiet", "exfat": "fmask=0177,dmask=0077", "ext4": careful, "ext3": careful, "ext2": careful, "iso9660": "", "udf": ""}

// scan mounts, read-only, what was plugged in, and lets go of what was taken out.
func (s *sticks) scan(ctx context.Context) {
	names, _ := os.ReadDir(s.block)
	var now []Stick
	for _, n := range names {
		if !strings.HasPrefix(n.Name(), "sd") && !strings.HasPrefix(n.Name(), "sr") {
			continue
		}
		if i := slices.IndexFunc(s.list, func(was Stick) bool { return was.Device == n.Name() && was.At != "" }); i >= 0 && s.same(s.list[i]) {
			now = append(now, s.list[i])
			continue
		}
		// The names are sorted: a disk stands before its partitions, which cannot be mounted while it is.
		if slices.ContainsFunc(now, func(is Stick) bool { return is.At != "" && partOf(n.Name(), is.Device) }) {
			continue
		}
		if stick, ok := s.probe(ctx, n.Name()); ok {
			now = append(now, stick)
		}
	}
	for _, was := range s.list {
		if was.At != "" && !slices.ContainsFunc(now, func(is Stick) bool { return is.At == was.At }) {
			_ = unix.Unmount(was.At, unix.MNT_DETACH)
		}
	}
	slices.SortFunc(now, func(a, b Stick) int { return cmp.Compare(a.Device, b.Device) })
	s.list = now
}

// partOf says whether a device is a partition of another, as sda1 is of sda.
func partOf(device, disk string) bool {
	number, ok := strings.CutPrefix(device, disk)
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// same says whether a stick that is mounted is still the one that it was: one that was taken out does not answer.
func (s *sticks) same(was Stick) bool {
	var st unix.Statfs_t
	if unix.Statfs(was.At, &st) != nil {
		return false
	}
	f, err := os.Open(filepath.Join(s.dev, was.Device))
	if err != nil {
		return false
	}
	f.Close()
	if f, err = os.Open(was.At); err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == nil || errors.Is(err, io.EOF)
}

// probe says what is on a device, and mounts it; false for one that holds no file system.
func (s *sticks) probe(ctx context.Context, device string) (Stick, bool) {
	stick := Stick{Device: device}
	if size, err := os.ReadFile(filepath.Join(s.block, device, "size")); err == nil {
		var sectors int64
		_, _ = fmt.Sscan(string(size), &sectors)
		stick.MB = sectors / 2048
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	path := filepath.Join(s.dev, device)
	out, err := exec.CommandContext(ctx, "blkid", "-p", "-o", "export", path).Output()
	if err != nil {
		return stick, false
	}
	for l := range bytes.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(l)), "=")
		switch name {
		case "TYPE":
			stick.Kind = value
		case "LABEL":
			stick.Label = unescaped(value)
		}
	}
	if stick.Kind == "" {
		return stick, false
	}
	options, ok := kinds[stick.Kind]
	if !ok {
		stick.Why = "its file system, " + show.Text(stick.Kind) + ", is not one that is mounted here"
		return stick, true
	}
	at := filepath.Join(s.root, device)
	if err := os.MkdirAll(at, 0o700); err != nil {
		stick.Why = err.Error()
		return stick, true
	}
	_ = unix.Unmount(at, unix.MNT_DETACH)
	if err := mount(path, at, stick.Kind, options, true); err != nil {
		stick.Why = err.Error()
		return stick, true
	}
	stick.At = at
	return stick, true
}

// unescaped takes back the backslash that blkid puts before a blank and some signs. \xNN, for what cannot be printed, stays.
func unescaped(label string) string {
	for _, sign := range " \"'$`<>" {
		label = strings.ReplaceAll(label, `\`+string(sign), string(sign))
	}
	return label
}

// mount mounts; the kernel of a medium that cannot be written refuses to mount it otherwise.
func mount(from, at, kind, options string, readOnly bool) error {
	flags := uintptr(mountFlags)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	err := unix.Mount(from, at, kind, flags, options)
	if errors.Is(err, unix.EINVAL) { // a kernel that does not know MS_NOSYMFOLLOW (before 5.10)
		err = unix.Mount(from, at, kind, flags&^uintptr(unix.MS_NOSYMFOLLOW), options)
	}
	return err
}

// on gives the stick on which a path lies; nil if it lies on none.
func (s *sticks) on(path string) *Stick {
	for i := range s.list {
		if at := s.list[i].At; at != "" && (path == at || strings.HasPrefix(path, at+"/")) {
			return &s.list[i]
		}
	}
	return nil
}

// state is the stick on which this machine remembers what it did; nil without one. Two of them are none: nobody would know which.
func (s *sticks) state() *Stick {
	var found *Stick
	for i := range s.list {
		if s.list[i].Label == StateLabel && s.list[i].Kind == "ext4" && s.list[i].At != "" {
			if found != nil {
				return nil
			}
			found = &s.list[i]
		}
	}
	return found
}

// writable mounts the sticks on which these paths lie for writing; back makes them read-only again.
func (s *sticks) writable(paths ...string) (back func(), err error) {
	var opened []*Stick
	back = func() {
		unix.Sync()
		for _, stick := range opened {
			_ = unix.Mount("", stick.At, "", mountFlags|unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
	for _, p := range paths {
		stick := s.on(p)
		if stick == nil || slices.Contains(opened, stick) {
			continue
		}
		// What is written is on the stick at once: SoftHSM, for one, does not sync the keys that it has made.
		if err := unix.Mount("", stick.At, "", mountFlags|unix.MS_REMOUNT|unix.MS_SYNCHRONOUS|unix.MS_DIRSYNC, kinds[stick.Kind]); err != nil {
			back()
			return nil, fmt.Errorf("the stick %s cannot be written: %w", stick, err)
		}
		opened = append(opened, stick)
	}
	return back, nil
}

// release unmounts everything, so that it can be taken out.
func (s *sticks) release() error {
	unix.Sync()
	var errs []error
	for i := range s.list {
		if at := s.list[i].At; at != "" {
			if err := unix.Unmount(at, 0); err != nil && !errors.Is(err, fs.ErrInvalid) {
				errs = append(errs, fmt.Errorf("%s: %w", s.list[i], err))
			}
		}
	}
	s.list = nil
	return errors.Join(errs...)
}

// roots are the folders of the sticks that are mounted.
func (s *sticks) roots() (dirs []string) {
	for _, stick := range s.list {
		if stick.At != "" {
			dirs = append(dirs, stick.At)
		}
	}
	return dirs
}
