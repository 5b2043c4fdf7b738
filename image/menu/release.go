package menu

import (
	"context"
	"os"
	"path/filepath"

	"github.com/hanaper/hanaper/internal/advice"
)

// releaseOf gives the folder of the release in which the folder of a ceremony looks to lie; empty where it lies in none.
func releaseOf(ceremony string) string {
	dir := filepath.Dir(ceremony)
	if info, err := os.Lstat(filepath.Join(dir, "manifest.json")); filepath.Base(ceremony) != "ceremony" || err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return dir
}

// verifyRelease holds a release to what its ceremony signed. The program that runs is of the release that this machine was started from, which is
// another than the one on the stick: so it is left out.
func (m *menu) verifyRelease(ctx context.Context, dir string) error {
	const title = "Verify a release"
	// What was verified is remembered, so that an older release is not taken for a new one later.
	if err := m.memory(title, dir); err != nil {
		return err
	}
	args, err := m.numbers(title, dir)
	if err != nil {
		return err
	}
	if args == nil {
		return advice.New(advice.Usage, "get the roster's SHA-256 from two people who have it on paper", "without a number from your paper nothing says whose release this is")
	}
	return m.says(ctx, title, m.memoryPaths(), append(append([]string{"release", "verify", "--not-installed"}, args...), dir)...)
}
