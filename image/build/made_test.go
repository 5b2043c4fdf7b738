package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/image/published"
)

// TestMade: an image that was made is what it says of itself, as zstd, cpio and sha256sum read it: every file in its root stands in the manifest
// with mode and SHA-256, and no other is there; it is small; it has no driver for a network or a disk; its init is the one to be read here.
func TestMade(t *testing.T) {
	dir := os.Getenv("HANAPER_IMAGE")
	if dir == "" {
		t.Skip("make image-compare sets HANAPER_IMAGE to the folder of an image")
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p, err := published.Read(filepath.Join(dir, "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range p.Files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) != f.Size || fmt.Sprintf("%x", sha256.Sum256(data)) != f.SHA256 || len(data) > 80e6 {
			t.Errorf("%s: %d bytes, image.json says %+v; at most 80 MB are allowed", name, len(data), f)
		}
	}
	root := t.TempDir()
	unpack := exec.Command("sh", "-c", `zstd -dc "$1" | (cd "$2" && cpio -id --quiet -f dev/console)`, "sh", absolute(t, filepath.Join(dir, "initrd")), root)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/usr/share/hanaper/manifest": ""}
	for line := range strings.Lines(string(manifest)) {
		f := strings.Fields(line)
		if f[0] == "link" {
			want[f[2]] = "link " + f[4]
		} else {
			want[f[4]] = f[0] + " " + f[2]
		}
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, root)
		got := ""
		if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			got = "link " + to
		} else {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			got = fmt.Sprintf("%04o %x", st.Mode()&0o7777|st.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|fs.ModeType), sha256.Sum256(data))
			if name == "/usr/share/hanaper/manifest" && bytes.Equal(data, manifest) {
				got = ""
			}
		}
		if said, ok := want[name]; !ok || said != got {
			t.Errorf("%s is %q, the manifest says %q", name, got, said)
		}
		delete(want, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range want {
		t.Errorf("%s is in the manifest, and not in the image", name)
	}
	modules, err := os.ReadFile(filepath.Join(root, "etc/modules"))
	if err != nil {
		t.Fatal(err)
	}
	for module := range strings.Lines(string(modules)) {
		for _, bad := range []string{"net", "e1000", "r8169", "wifi", "80211", "blue", "virtio", "nvme", "ahci", "mmc", "snd", "thunder", "firewire"} {
			if strings.Contains(filepath.Base(module), bad) {
				t.Errorf("a driver that is not for ceremonies: %s", module)
			}
		}
	}
	here, err := os.ReadFile("../root/init")
	if err != nil {
		t.Fatal(err)
	}
	if there, err := os.ReadFile(filepath.Join(root, "init")); err != nil || !bytes.Equal(here, there) {
		t.Errorf("the image has another init: %v", err)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
