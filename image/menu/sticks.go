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

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// StateLabel is the label of the stick on which a machine remembers what it did.
const StateLabel = "HANAPER-STATE"

// Stick is a file system on something that can be taken out.
type Stick struct {
	// Device is such as sda1, Kind such as vfat. Label is what its maker wrote: foreign text.
	Device, Kind, Label string
	// UUID is the file system's and Serial the stick's own, as far as they have any: foreign text, too.
	UUID, Serial string
	// At is where it is mounted; empty if it is not.
	At string
	// Why says why it is not mounted.
	Why string
	// Unfinished: it was cut off while it was written, and its journal has what is not in its place yet. It is not mounted then: what is read
	// would be what was before, and the kernel would write.
	Unfinished bool
	// Unclean: a FAT that was cut off while it was written. It has no journal.
	Unclean bool
	// MB is its size.
	MB int64
}

// same says whether another is this one, as far as that can be told.
func (s Stick) same(other Stick) bool {
	return s.Device == other.Device && s.UUID == other.UUID && s.Serial == other.Serial
}

// named tells a stick from others with its label.
func (s Stick) named() string {
	name := s.String() + ", "
	if s.UUID != "" {
		name += "UUID " + show.Text(s.UUID) + ", "
	}
	if s.Serial != "" {
		name += "serial " + show.Text(s.Serial) + ", "
	}
	return name + fmt.Sprintf("%d MB", s.MB)
}

func (s Stick) String() string {
	name := s.Device
	if s.Label != "" {
		name += " " + show.Text(s.Label)
	}
	return name
}

// takes says whether results may be written to it. The memory of a machine is not among them: it never travels with a ceremony's folder.
func (s Stick) takes() bool { return s.At != "" && s.Kind != "iso9660" && s.Label != StateLabel }

// sticks are those that are plugged in.
type sticks struct {
	// block is /sys/class/block and dev is /dev, root where they are mounted.
	block, dev, root string
	list             []Stick
	// chosen is the stick of memory that people chose where there were several.
	chosen *Stick
	// left are unfinished sticks of which people said that they are to be left alone.
	left []Stick
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

// disk is the disk of a device that may be a partition: sda of sda1.
func disk(device string) string {
	if strings.HasPrefix(device, "sd") {
		return strings.TrimRight(device, "0123456789")
	}
	return device
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
	stick := Stick{Device: device, MB: s.size(device)}
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
		case "UUID":
			stick.UUID = unescaped(value)
		}
	}
	if stick.Kind == "" {
		return stick, false
	}
	stick.Serial = s.serial(device)
	stick.Unclean = unclean(path)
	if _, ok := kinds[stick.Kind]; !ok {
		stick.Why = "its file system, " + show.Text(stick.Kind) + ", is not one that is mounted here"
		return stick, true
	}
	switch err := s.mount(&stick); {
	case errors.Is(err, unix.EROFS) && strings.HasPrefix(stick.Kind, "ext"):
		stick.Unfinished, stick.Why = true, "it was CUT OFF while it was written; 4 finishes that"
	case err != nil:
		stick.Why = err.Error()
	}
	return stick, true
}

// size is that of a device, in MB.
func (s *sticks) size(device string) int64 {
	var sectors int64
	if text, err := os.ReadFile(filepath.Join(s.block, device, "size")); err == nil {
		_, _ = fmt.Sscan(string(text), &sectors)
	}
	return sectors / 2048
}

// model is what the maker of a disk calls it: foreign text.
func (s *sticks) model(device string) string {
	name, _ := os.ReadFile(filepath.Join(s.block, device, "device", "model"))
	return strings.TrimSpace(string(name))
}

// serial is the number that a stick's maker gave it: that of the USB device to which the disk belongs.
func (s *sticks) serial(device string) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(s.block, device))
	for ; err == nil && len(dir) > len("/sys/devices"); dir = filepath.Dir(dir) {
		if data, err := input.Read(filepath.Join(dir, "serial"), 4<<10); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	return ""
}

// unclean says whether a FAT or an exFAT has the mark of one that was not unmounted (for FAT as Linux and Windows write it: bit 0 of the byte
// at 37, or at 65 where the FAT has 32 bits; exFAT, section 3.1.13: bit 1 at 106).
func unclean(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	boot := make([]byte, 512)
	if _, err := io.ReadFull(f, boot); err != nil {
		return false
	}
	switch {
	case bytes.HasPrefix(boot[3:], []byte("EXFAT   ")):
		return boot[106]&2 != 0
	case bytes.HasPrefix(boot[82:], []byte("FAT32")):
		return boot[65]&1 != 0
	case bytes.HasPrefix(boot[54:], []byte("FAT")):
		return boot[37]&1 != 0
	}
	return false
}

// unescaped takes back the backslash that blkid puts before a blank and some signs. \xNN, for what cannot be printed, stays.
func unescaped(label string) string {
	for _, sign := range " \"'$`<>" {
		label = strings.ReplaceAll(label, `\`+string(sign), string(sign))
	}
	return label
}

// mount mounts a stick read-only. Its device is made read-only first, so that the kernel writes nothing, either: neither a journal nor what
// was deleted while it was open. Of a stick whose journal has to be written it is EROFS.
func (s *sticks) mount(stick *Stick) error {
	at := filepath.Join(s.root, stick.Device)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	_ = unix.Unmount(at, unix.MNT_DETACH)
	if err := s.protect(stick.Device, true); err != nil {
		return err
	}
	if err := mount(filepath.Join(s.dev, stick.Device), at, stick.Kind, unix.MS_RDONLY, kinds[stick.Kind]); err != nil {
		return err
	}
	stick.At = at
	return nil
}

// protect has the kernel refuse every write to a device, or no more.
func (s *sticks) protect(device string, readOnly bool) error {
	f, err := os.Open(filepath.Join(s.dev, device))
	if err != nil {
		return err
	}
	defer f.Close()
	flag := 0
	if readOnly {
		flag = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, flag); err != nil {
		return fmt.Errorf("%s cannot be made read-only: %w", device, err)
	}
	return nil
}

// mount mounts with what all sticks are mounted with.
func mount(from, at, kind string, flags uintptr, options string) error {
	err := unix.Mount(from, at, kind, mountFlags|flags, options)
	if errors.Is(err, unix.EINVAL) { // a kernel that does not know MS_NOSYMFOLLOW (before 5.10)
		err = unix.Mount(from, at, kind, mountFlags&^uintptr(unix.MS_NOSYMFOLLOW)|flags, options)
	}
	return err
}

// finish has the kernel write in its place what the journal of a stick has.
func (s *sticks) finish(stick *Stick) error {
	at := filepath.Join(s.root, stick.Device)
	if err := s.protect(stick.Device, false); err != nil {
		return err
	}
	err := mount(filepath.Join(s.dev, stick.Device), at, stick.Kind, unix.MS_SYNCHRONOUS|unix.MS_DIRSYNC, kinds[stick.Kind])
	if err == nil {
		err = unix.Unmount(at, 0)
	}
	return errors.Join(err, s.protect(stick.Device, true))
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

// memories are the sticks on which this machine may remember what it did.
func (s *sticks) memories() (list []*Stick) {
	for i := range s.list {
		if s.list[i].Label == StateLabel && s.list[i].Kind == "ext4" && s.list[i].At != "" {
			list = append(list, &s.list[i])
		}
	}
	return list
}

// state is the one of them that is used: the only one, or that which people chose; nil without one. Where one was chosen no other takes its
// place unasked.
func (s *sticks) state() *Stick {
	list := s.memories()
	if s.chosen == nil {
		if len(list) == 1 {
			return list[0]
		}
		return nil
	}
	for _, stick := range list {
		if stick.same(*s.chosen) {
			return stick
		}
	}
	return nil
}

// unfinishedState is a stick of memory that was cut off while it was written.
func (s *sticks) unfinishedState() *Stick {
	for i := range s.list {
		if s.list[i].Label == StateLabel && s.list[i].Unfinished {
			return &s.list[i]
		}
	}
	return nil
}

// writable mounts the sticks on which these paths lie for writing; back makes them read-only again. Where there are no sticks (s is nil) both do nothing.
func (s *sticks) writable(paths ...string) (back func() error, err error) {
	if s == nil {
		return func() error { return nil }, nil
	}
	var opened []*Stick
	back = func() error {
		unix.Sync()
		var errs []error
		for _, stick := range opened {
			err := unix.Mount("", stick.At, "", mountFlags|unix.MS_REMOUNT|unix.MS_RDONLY, "")
			if err == nil {
				err = s.protect(stick.Device, true)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("the stick %s can still be written, which it should not: take all sticks out (page 3): %w", stick, err))
			}
		}
		return errors.Join(errs...)
	}
	for _, p := range paths {
		stick := s.on(p)
		if stick == nil || slices.Contains(opened, stick) {
			continue
		}
		err := s.protect(stick.Device, false)
		if err == nil {
			// What is written is on the stick at once: SoftHSM, for one, does not sync the keys that it has made.
			err = unix.Mount("", stick.At, "", mountFlags|unix.MS_REMOUNT|unix.MS_SYNCHRONOUS|unix.MS_DIRSYNC, kinds[stick.Kind])
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the stick %s cannot be written: %w", stick, err), s.protect(stick.Device, true), back())
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
