package station

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// CopyConfig says which import folder goes to which device.
type CopyConfig struct {
	Folder string
	// Target is [user@]host, Port its ssh port, Directory where the device looks for the folder.
	Target    string
	Port      int
	Directory string
	// Identity and KnownHosts are files of ssh's; empty takes ssh's own.
	Identity, KnownHosts string
}

var (
	copyTarget    = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.:_-]*$`)
	copyDirectory = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)
)

// Bounds of an import folder: its bytes, and how long one step at the device may take.
const (
	maxFolder = 16 << 20
	copyTime  = 2 * time.Minute
)

// takenCode is what the command on the device ends with where the folder is there already; no shell and no ssh ends with it by itself.
const takenCode = 73

// Copy brings a laid out folder to a device with the system's ssh, and reads it back. The device's host key must be known: a device that
// nobody vouches for gets no key and no PIN. What is secret goes through ssh's pipe, never into an argument. The device needs a shell and tar.
//
// An attacker who controls the device, or its host key, has what it is given, and can pretend to hold it. He can do nothing to the station:
// what comes back is read with a bound, and only compared.
func Copy(ctx context.Context, c CopyConfig) error {
	up := strings.Contains(c.Directory, "..")
	c.Directory = path.Clean(c.Directory)
	switch {
	case !copyTarget.MatchString(c.Target):
		return advice.New(advice.Usage, "write it as user@host, or as host", "the target %.80q", c.Target)
	case c.Port < 1 || c.Port > 65535:
		return advice.New(advice.Usage, "22 is ssh's", "port %d", c.Port)
	case !copyDirectory.MatchString(c.Directory) || up:
		return advice.New(advice.Usage, "an absolute path of letters, digits, dots, dashes", "the directory %.80q", c.Directory)
	}
	files, err := readFolder(c.Folder)
	if err != nil {
		return err
	}
	defer func() {
		for _, b := range files {
			clear(b)
		}
	}()
	packed, err := pack(files)
	if err != nil {
		return err
	}
	defer clear(packed)
	at := c.Directory
	// The new folder is made beside, and takes its place in one step; one that holds something is left alone.
	_, err = c.ssh(ctx, packed, fmt.Sprintf(`set -e; umask 077; if [ -d %[1]s ] && [ -n "$(ls -A %[1]s)" ]; then cat >/dev/null; exit %[2]d; fi; `+
		`rm -rf %[1]s.new; mkdir -p %[1]s.new; tar -x -f - -C %[1]s.new; sync; if [ -d %[1]s ]; then rmdir %[1]s; fi; mv %[1]s.new %[1]s; sync`, at, takenCode))
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == takenCode) {
		return err
	}
	back, err := c.ssh(ctx, nil, fmt.Sprintf(`cd %s && tar -c -f - .`, at))
	if err != nil {
		return err
	}
	defer clear(back)
	if err := sameFiles(back, files); err != nil {
		return advice.New(advice.Refused, "it may be another device's; look at the device, and move its folder away", "%s on %s: %w", show.Text(at), show.Text(c.Target), err)
	}
	return nil
}

// readFolder reads an import folder, which must have been laid out.
func readFolder(dir string) (map[string][]byte, error) {
	files, size := map[string][]byte{}, int64(0)
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		b, err := input.Read(at, maxFolder)
		size += int64(len(b))
		if err == nil && size > maxFolder {
			err = fmt.Errorf("it is larger than %d bytes", maxFolder)
		}
		files[filepath.ToSlash(name)] = b
		return err
	})
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "")
	}
	if files["client.pem"] == nil || files["sota.toml"] == nil {
		return nil, advice.New(advice.Usage, "name a folder that 'hanaper-station enroll' has laid out", "%s is no import folder of a device", show.Text(dir))
	}
	return files, nil
}

func pack(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{".": true}
	for name, data := range files {
		if dir := path.Dir(name); !made[dir] {
			made[dir] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
				return nil, err
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(modeOf(name)), Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// sameFiles compares what a device sent back.
func sameFiles(packed []byte, want map[string][]byte) error {
	r := tar.NewReader(bytes.NewReader(packed))
	seen := 0
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("what the device sent back cannot be read: %w", err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		name := path.Clean(h.Name)
		data, ok := want[name]
		if !ok {
			return fmt.Errorf("it holds %s, which is none of ours", show.Text(name))
		}
		have, err := io.ReadAll(io.LimitReader(r, int64(len(data))+1))
		if err != nil || !bytes.Equal(have, data) {
			return fmt.Errorf("its %s says something else", show.Text(name))
		}
		seen++
	}
	if seen != len(want) {
		return fmt.Errorf("it holds %d files, not %d", seen, len(want))
	}
	return nil
}

// ssh runs a command on the device and gives what it wrote, with a bound.
func (c CopyConfig) ssh(ctx context.Context, in []byte, command string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	args := []string{"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15", "-o", "ForwardAgent=no", "-p", strconv.Itoa(c.Port)}
	if c.KnownHosts != "" {
		args = append(args, "-o", "UserKnownHostsFile="+c.KnownHosts, "-o", "GlobalKnownHostsFile="+os.DevNull)
	}
	if c.Identity != "" {
		args = append(args, "-i", c.Identity, "-o", "IdentitiesOnly=yes")
	}
	cmd := exec.CommandContext(ctx, "ssh", append(args, "--", c.Target, command)...)
	cmd.Stdin = bytes.NewReader(in)
	var said bytes.Buffer
	cmd.Stderr = &limited{w: &said, left: 4 << 10}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, advice.Wrap(advice.Failed, err, "install the ssh client")
	}
	got, readErr := io.ReadAll(io.LimitReader(out, 2*maxFolder))
	cancelAfter := len(got) == 2*maxFolder
	if cancelAfter {
		cancel()
	}
	err = cmd.Wait()
	if err == nil {
		err = readErr
	}
	if err == nil || cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == takenCode {
		return got, err
	}
	hint := "can you log in with ssh by hand, without being asked anything?"
	kind := advice.Failed
	if strings.Contains(said.String(), "Host key verification failed") {
		kind, hint = advice.Refused, "put the device's host key into the known hosts, after comparing it with the device itself; it is never taken unseen"
	}
	return nil, advice.New(kind, hint, "ssh to %s: %w: %s", show.Text(c.Target), err, show.Line(strings.TrimSpace(said.String())))
}

// limited keeps the first bytes and drops the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	_, err := l.w.Write(p[:n])
	return len(p), err
}
