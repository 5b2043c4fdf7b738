package imagetest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long something may take to appear before nobody believes any more that it will. No test says that anything is fast: a busy
// machine without acceleration starts in 15 s or in two minutes.
const patience = 10 * time.Minute

// image is the folder of the image that is tested.
func image(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("HANAPER_IMAGE")
	if dir == "" {
		t.Skip("make image-test sets HANAPER_IMAGE to the folder of an image")
	}
	return dir
}

// guest is a machine that was started from the image, with somebody at its serial line.
type guest struct {
	t     testing.TB
	cmd   *exec.Cmd
	keys  io.WriteCloser
	began time.Time
	ended chan struct{}
	typed map[string]bool
	// alone: sticks that were cut off while they were written are left as they are.
	alone  bool
	mu     sync.Mutex
	screen []byte
	read   int
}

// tpm is a TPM in software: the path of its control socket for a machine, which ends it when it ends.
func tpm(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "image-tpm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	control := filepath.Join(dir, "c")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+control)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("swtpm: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if _, err := os.Stat(control); err == nil {
			return control
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm does not start")
	return ""
}

// boot starts a machine with sticks, in the order of their letters (sda, sdb, ...), and a TPM if control names one.
func boot(t testing.TB, control string, sticks ...string) *guest {
	t.Helper()
	dir := image(t)
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none", "-serial", "stdio", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024",
		"-net", "none", "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"), "-append", strings.TrimSpace(string(line)), "-device", "qemu-xhci,p2=15,p3=15"}
	for i, s := range sticks {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=s%d,file=%s,format=raw", i, s), "-device", fmt.Sprintf("usb-storage,drive=s%d,removable=on", i))
	}
	if control != "" {
		args = append(args, "-chardev", "socket,id=c0,path="+control, "-tpmdev", "emulator,id=t0,chardev=c0", "-device", "tpm-tis,tpmdev=t0")
	}
	return start(t, exec.Command("qemu-system-x86_64", args...))
}

func start(t testing.TB, cmd *exec.Cmd) *guest {
	t.Helper()
	g := &guest{t: t, cmd: cmd, began: time.Now(), ended: make(chan struct{}), typed: map[string]bool{}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if g.keys, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("qemu (Debian: qemu-system-x86): %v", err)
	}
	go func() {
		defer close(g.ended)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			g.mu.Lock()
			g.screen = append(g.screen, buf[:n]...)
			g.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		g.pull()
		if t.Failed() {
			t.Logf("the serial line:\n%s", g.shown())
		}
	})
	return g
}

var steering = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]|\r`)

func (g *guest) shown() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return steering.ReplaceAllString(strings.ReplaceAll(string(g.screen), "\x1b[H\x1b[2J", "\n======== a new page\n"), "")
}

// sees waits until one of some texts is shown, after what was seen before, and says which.
func (g *guest) sees(texts ...string) int {
	g.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		g.mu.Lock()
		at, which := -1, -1
		for n, text := range texts {
			if i := bytes.Index(g.screen[g.read:], []byte(text)); i >= 0 && (at < 0 || i < at) {
				at, which = i, n
			}
		}
		if which >= 0 {
			g.read += at + len(texts[which])
		}
		g.mu.Unlock()
		if which >= 0 {
			return which
		}
		select {
		case <-g.ended:
			g.t.Fatalf("the machine ended before it showed %q", texts)
		default:
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%q is not shown", texts)
		}
	}
}

// answers types a line when a question is shown.
func (g *guest) answers(question, line string) {
	g.t.Helper()
	g.sees(question)
	g.types(line)
}

func (g *guest) types(line string) {
	g.t.Helper()
	g.typed[line] = true
	if _, err := io.WriteString(g.keys, line+"\n"); err != nil {
		g.t.Fatal(err)
	}
}

// menu waits for the main page and types a line. On the way there it finishes whatever was cut off while it was written, unless that
// is to be left alone, and gives how many sticks that were.
func (g *guest) menu(line string) (finished int) {
	g.t.Helper()
	for ; g.sees("What do you want to do?", "Type finish and Enter") == 1; finished++ {
		if g.alone {
			g.types("")
		} else {
			g.types("finish")
		}
	}
	g.answers("Type a number and Enter:", line)
	return finished
}

// pull ends the machine as taking the plug does.
func (g *guest) pull() {
	_ = g.cmd.Process.Kill()
	<-g.ended
	_ = g.cmd.Wait()
}

// off switches it off by the menu, and waits.
func (g *guest) off() {
	g.t.Helper()
	g.menu("0")
	g.answers("Type off and Enter", "off")
	g.leaves()
}

// leaves waits until it has switched itself off.
func (g *guest) leaves() {
	g.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(patience):
		g.t.Fatal("it does not switch itself off")
	}
	if err := g.cmd.Wait(); err != nil {
		g.t.Fatalf("qemu: %v", err)
	}
}

// does runs a line in the shell, and gives what it says.
func (g *guest) does(line string) string {
	g.t.Helper()
	g.mu.Lock()
	g.read = len(g.screen)
	from := g.read
	g.mu.Unlock()
	g.types(line + "; echo END$((6*7))")
	g.sees("END42")
	g.mu.Lock()
	defer g.mu.Unlock()
	said := steering.ReplaceAllString(string(g.screen[from:g.read]), "")
	// The line itself, which a busy machine echoes twice: as it is typed, and when the shell reads it.
	said = said[max(0, strings.LastIndex(said, "END$((6*7))")):]
	_, said, _ = strings.Cut(said, "\n")
	return strings.TrimSuffix(said, "END42")
}

// sized makes an empty stick.
func sized(t testing.TB, path string, mb int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(mb << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return path
}

func host(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fat makes a stick as shops sell them, with these files and folders on it.
func fat(t testing.TB, path, label string, files ...string) string {
	t.Helper()
	sized(t, path, 32)
	host(t, "mkfs.vfat", "-n", label, path)
	if len(files) > 0 {
		host(t, "mcopy", append([]string{"-s", "-i", path}, append(files, "::")...)...)
	}
	return path
}

// ext4 makes a stick that holds a folder's content.
func ext4(t testing.TB, path, label, dir string) string {
	t.Helper()
	sized(t, path, 32)
	args := []string{"-q", "-F", "-t", "ext4", "-L", label}
	if dir != "" {
		args = append(args, "-d", dir)
	}
	host(t, "mke2fs", append(args, path)...)
	return path
}

func copied(t testing.TB, from, to string) string {
	t.Helper()
	host(t, "cp", "--sparse=always", from, to)
	return to
}
