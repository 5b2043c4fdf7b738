package programtest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// SmallDisk mounts a file system of its own, as large as tmpfs(5) says it, at a new folder, in a test that has its OwnMounts. fill leaves no room on it, empty makes room again.
func SmallDisk(t T, dir string, size string) (fill, empty func()) {
	t.Helper()
	if err := errors.Join(os.Mkdir(dir, 0o755), syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0755")); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	return func() {
			t.Helper()
			f, err := os.Create(filler)
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			f.Close()
		}, func() {
			t.Helper()
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
}
