package imagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestImagePage runs the commands of docs/image.md that start the image in a virtual machine, as they are printed: the menu comes, with the
// stick that they make, and finds on it what was put there.
func TestImagePage(t *testing.T) {
	dir := t.TempDir()
	host(t, "mkdir", filepath.Join(dir, "image"))
	if err := os.Symlink(image(t), filepath.Join(dir, "image", "out")); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/image.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(page), "\n    truncate ")
	if !ok {
		t.Fatal("docs/image.md has no commands that begin with truncate")
	}
	block, _, _ = strings.Cut("truncate "+block, "\n\n")
	makes, starts, ok := strings.Cut(block, "\n    qemu-system-x86_64 ")
	if !ok || !strings.Contains(string(page), "`mcopy -s -i stick.img FOLDER ::`") {
		t.Fatalf("docs/image.md: %q", block)
	}
	if err := os.MkdirAll(filepath.Join(dir, "FOLDER"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "FOLDER", "script.yaml"), []byte("version: 1\nceremony: x\nroster: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := exec.Command("sh", "-ec", makes+"\nmcopy -s -i stick.img FOLDER ::")
	made.Dir = dir
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("sh", "-ec", "exec qemu-system-x86_64 "+starts)
	cmd.Dir = dir
	g := start(t, cmd)
	g.menu("6")
	g.sees("FOLDER/script.yaml")
	g.answers("Type a number and Enter", "")
	g.off()
	if head := g.shown(); !strings.Contains(head, "FLEET") || !strings.Contains(head, "HANAPER") {
		t.Errorf("the sticks are not named:\n%s", head)
	}
}
