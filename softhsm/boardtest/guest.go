package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guest is the whole user space of a virtual machine: it sets up devices, modules and the network, runs the board that
// /board.json describes, says on the console how that ended, and switches the machine off. It does not return.
func guest() {
	err := setUp()
	if err == nil {
		var b board
		if err = readBoard(&b); err == nil {
			err = b.run(context.Background(), os.Stdout)
		}
	}
	if err != nil {
		fmt.Println("board: FAILED:", err)
	} else {
		fmt.Println("board: DONE")
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func readBoard(b *board) error {
	text, err := os.ReadFile("/board.json")
	if err != nil {
		return err
	}
	return json.Unmarshal(text, b)
}

func setUp() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		if err := load(filepath.Join("/modules", name)); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	if err := address("lo", netip.MustParseAddr("127.0.0.1"), 8); err != nil {
		return err
	}
	if err := wait("/sys/class/net/eth0"); err != nil {
		return err
	}
	if err := address("eth0", netip.MustParseAddr("10.0.2.15"), 24); err != nil {
		return err
	}
	return wait("/dev/tpmrm0")
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func wait(path string) error {
	for range 200 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s does not come", path)
}

// address gives an interface its address, and brings it up.
func address(name string, ip netip.Addr, bits int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(what string, request uint, value any) error {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		switch v := value.(type) {
		case []byte:
			err = r.SetInet4Addr(v)
		case uint16:
			r.SetUint16(v)
		}
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, request, r); err != nil {
			return fmt.Errorf("%s of %s: %w", what, name, err)
		}
		return nil
	}
	mask := ^uint32(0) << (32 - bits)
	if err := set("address", unix.SIOCSIFADDR, ip.AsSlice()); err != nil {
		return err
	}
	if err := set("netmask", unix.SIOCSIFNETMASK, []byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}); err != nil {
		return err
	}
	return set("state", unix.SIOCSIFFLAGS, uint16(unix.IFF_UP|unix.IFF_RUNNING))
}
