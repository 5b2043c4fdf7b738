package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// errGone: no archive has the locked version of a package any more.
var errGone = errors.New("the archives in apt's sources no longer have it")

// fetchOrAnew is fetch or, where a file for another lock is named and the archive no longer has all packages of this one, a new lock and fetch.
func fetchOrAnew(w io.Writer, image, lock, folder, anew string) error {
	err := fetch(w, lock, folder)
	if anew == "" || !errors.Is(err, errGone) {
		return err
	}
	fmt.Fprintf(w, "NOT THE LOCKED PACKAGES: %v.\nThis image is made of what the archive has today. It tests our code, and is no release. Lock anew: make image-lock\n", err)
	if err := writeLock(w, image, anew); err != nil {
		return err
	}
	return fetch(w, anew, folder)
}

// fetch brings the packages of the lock into a folder.
func fetch(w io.Writer, lock, folder string) error {
	list, err := readLock(lock)
	if err != nil {
		return err
	}
	n, err := bring(folder, list)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d packages as in %s, %d of them fetched\n", len(list), show.Text(lock), n)
	return err
}

// bring brings files of Debian's archive into a folder. Those that are there are held to their SHA-256, so that a call that was cut short goes on; the others are
// downloaded by apt's own program, from the archives in apt's sources, and held to the same. It gives the number of these.
func bring(folder string, list []locked) (fetched int, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return 0, err
	}
	var sites []string
	for _, l := range list {
		err := held(folder, l)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fetched, err
		}
		if sites == nil {
			if sites, err = archives(); err != nil {
				return fetched, err
			}
		}
		if err := download(sites, folder, l); err != nil {
			return fetched, err
		}
		fetched++
	}
	return fetched, nil
}

// held compares a package in the folder with the lock.
func held(folder string, l locked) error {
	file := filepath.Join(folder, l.file())
	f, err := input.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != l.sha256 {
		return advice.New(advice.Unverified, "remove the file, and find out who changed it",
			"%s is not the file in the lock: its SHA-256 is %s, want %s", show.Text(file), got, l.sha256)
	}
	return nil
}

// archives are where apt has Debian's packages from.
func archives() ([]string, error) {
	out, err := apt("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	list := strings.Fields(out)
	slices.Sort(list)
	if list = slices.Compact(list); len(list) == 0 {
		return nil, advice.New(advice.Failed, noIndex, "apt has no indices of Debian's archive")
	}
	return list, nil
}

// download tries each archive. What does not have the SHA-256 stays in a folder of its own, which goes away.
func download(sites []string, folder string, l locked) error {
	dir, err := os.MkdirTemp(folder, ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, l.file())
	gone := true
	var all error
	for _, site := range sites {
		_, err := apt("/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file", strings.TrimSuffix(site, "/")+"/"+l.path, file, "SHA256:"+l.sha256)
		if err == nil {
			if err := held(dir, l); err != nil {
				return err
			}
			return os.Rename(file, filepath.Join(folder, l.file()))
		}
		gone = gone && strings.Contains(err.Error(), "404 ")
		all = errors.Join(all, err)
	}
	if !gone {
		return advice.New(advice.Failed, "see to the network, or take "+l.file()+" from the release's packages into "+show.Text(folder), "package %s %s: %w", l.name, l.version, all)
	}
	return advice.New(advice.Failed, "take "+l.file()+" from the release's packages, or from https://snapshot.debian.org/package/, into "+show.Text(folder)+
		"; or lock what the archive has today: make image-lock", "package %s %s: %w", l.name, l.version, errGone)
}
