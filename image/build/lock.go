package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// locked is one line of packages.lock.
type locked struct {
	name, version, sha256 string
	path                  string // in the archive: pool/main/...
}

// file is the package's name in a folder of packages.
func (l locked) file() string { return path.Base(l.path) }

const (
	lockHead = `# The Debian packages in the ceremony image: name, version, SHA-256, path in Debian's archive. Written by "make image-lock".
# Their old versions and their sources are at https://snapshot.debian.org/package/ and, with this file, in the release.
`
	lockAnew = "write it anew with: make image-lock"
	noIndex  = "run apt-get update, with Debian 12's archive in apt's sources"
)

var lockLine = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+) ([0-9A-Za-z.+~:-]+) ([0-9a-f]{64}) (pool/[0-9A-Za-z/.+~%_-]+\.deb)$`)

// readLock reads packages.lock; a package stands there once.
func readLock(file string) ([]locked, error) {
	data, err := input.ReadFile(file)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "write it with: make image-lock")
	}
	var list []locked
	for n, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := lockLine.FindStringSubmatch(line)
		if m == nil || strings.Contains(m[4], "..") {
			return nil, advice.New(advice.Usage, lockAnew, "%s:%d: want a name, a version, a SHA-256 and a path: %s", show.Text(file), n+1, show.Text(line))
		}
		l := locked{m[1], m[2], m[3], m[4]}
		if slices.ContainsFunc(list, func(o locked) bool { return o.name == l.name || o.file() == l.file() }) {
			return nil, advice.New(advice.Usage, lockAnew, "%s:%d: %s stands there twice", show.Text(file), n+1, l.name)
		}
		list = append(list, l)
	}
	return list, nil
}

// writeLock asks apt for the packages that contents names.
func writeLock(w io.Writer, image, file string) error {
	rules, err := readContents(filepath.Join(image, "contents"))
	if err != nil {
		return err
	}
	var names []string
	for _, r := range rules {
		name := r.pkg
		if name == kernelPackage {
			if name, err = kernelOf(); err != nil {
				return err
			}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := bytes.NewBufferString(lockHead)
	for _, name := range names {
		l, err := candidate(name)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, l.name, l.version, l.sha256, l.path)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d packages in %s\n", len(names), show.Text(file))
	return err
}

// kernelPackage stands for the newest kernel, whose package has its version in its name.
const kernelPackage = "linux-image-amd64"

var kernelName = regexp.MustCompile(`^linux-image-[0-9].*-amd64$`)

func kernelOf() (string, error) {
	out, err := apt("apt-cache", "depends", kernelPackage)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if _, name, ok := strings.Cut(strings.TrimSpace(line), "Depends: "); ok && kernelName.MatchString(name) {
			return name, nil
		}
	}
	return "", advice.New(advice.Failed, noIndex, "apt knows no kernel that %s needs", kernelPackage)
}

// candidate is the version of a package that apt would install.
func candidate(name string) (locked, error) {
	out, err := apt("apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return locked{}, err
	}
	l := locked{name: name}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Version":
			l.version = value
		case "SHA256":
			l.sha256 = value
		case "Filename":
			l.path = value
		}
	}
	if !lockLine.MatchString(fmt.Sprint(l.name, " ", l.version, " ", l.sha256, " ", l.path)) {
		return locked{}, advice.New(advice.Failed, noIndex, "apt says of %s no version, SHA-256 and path", show.Text(name))
	}
	return l, nil
}

// apt runs one of apt's programs, and gives what it wrote.
func apt(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", advice.New(advice.Failed, noIndex, "%s %s: %w: %s", name, show.Text(strings.Join(args, " ")), err, show.Text(strings.TrimSpace(said.String())))
	}
	return out.String(), nil
}
