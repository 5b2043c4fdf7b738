package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/internal/cpio"
)

// bootGuest boots the second board as a virtual machine, whose only program is the board's and whose TPM is the one that the
// station had before it.
func (r *rig) bootGuest(ctx context.Context) error {
	r.title("The board boots, in a virtual machine")
	if err := r.startTPM(false); err != nil {
		return err
	}
	if err := r.pack(r.path("guest.initrd")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	begun := time.Now()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-accel", "tcg", "-cpu", "max", "-m", "256", "-kernel", filepath.Join(r.kernel, "vmlinuz"), "-initrd", r.path("guest.initrd"), "-append", "console=ttyS0 quiet panic=-1",
		"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=",
		"-chardev", "socket,id=c0,path="+r.path("tpm", "control"), "-tpmdev", "emulator,id=t0,chardev=c0", "-device", "tpm-tis,tpmdev=t0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.CombinedOutput()
	if e := r.write("guest.log", string(out)); e != nil {
		return errors.Join(err, e)
	}
	said := ""
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "board: ") {
			said += strings.TrimSpace(line) + "\n"
		}
	}
	if err != nil || !strings.HasSuffix(said, "board: DONE\n") {
		return fmt.Errorf("the virtual machine (guest.log has its console): %v: %s%s", err, said, lastLines(string(out), 3))
	}
	r.say("%s", firstLine(said, "board: "))
	r.say("Linux with this one program, an initrd of its import folder and TPM store, booted and off again in %.1f s", time.Since(begun).Seconds())
	return nil
}

// pack writes the machine's whole file system as an initrd.
func (r *rig) pack(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // it holds the PIN
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(zip)
	c := cpio.NewWriter(buffered)
	store := r.store
	store.Device, store.Store, store.PINSource = "/dev/tpmrm0", "/store", "/tpm.pin"
	board, err := json.Marshal(map[string]string{"Import": "/import", "State": "/state", "Token": store.String(), "Serial": guestBoard + "-main", "Hardware": "demo-board", "Expect": "firmware-2.1"})
	if err != nil {
		return err
	}
	c.File("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n10.0.2.2 "+gatewayName+"\n"))
	c.File("board.json", 0o600, board)
	c.Copy("init", filepath.Join(r.programs, "hanaper-board-guest"))
	c.Copy("tpm.pin", r.path("tpm.pin"))
	for inside, outside := range map[string]string{"import": r.path("devices", guestBoard), "state": r.path("state-" + guestBoard), "store": r.path("tpm-store"), "modules": filepath.Join(r.kernel, "modules")} {
		c.Tree(inside, outside)
	}
	return errors.Join(c.End(), buffered.Flush(), zip.Close(), f.Close())
}
