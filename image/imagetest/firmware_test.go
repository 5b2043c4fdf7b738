package imagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/image/published"
)

// firmwares are the ways in which a machine starts the image. Those of a UEFI are measured.
var firmwares = map[string]struct {
	uefi  bool
	drive []string // @ is the image's file
}{
	"BIOS CD":                           {false, []string{"-device", "ich9-ahci,id=a", "-drive", "if=none,id=d,media=cdrom,readonly=on,file=@", "-device", "ide-cd,bus=a.0,drive=d,bootindex=1"}},
	"BIOS stick":                        {false, []string{"-drive", "if=none,id=d,format=raw,readonly=on,file=@", "-device", "usb-storage,drive=d,removable=on,bootindex=1"}},
	"UEFI CD":                           {true, []string{"-device", "ich9-ahci,id=a", "-drive", "if=none,id=d,media=cdrom,readonly=on,file=@", "-device", "ide-cd,bus=a.0,drive=d,bootindex=1"}},
	"UEFI stick":                        {true, []string{"-drive", "if=none,id=d,format=raw,readonly=on,file=@", "-device", "usb-storage,drive=d,removable=on,bootindex=1"}},
	"UEFI unified image on a FAT stick": {true, nil},
}

// TestFirmware starts the image in each way, by SeaBIOS and by OVMF, and looks from within at what a TPM has measured: the published values.
// It is long: HANAPER_SOAK asks for it.
func TestFirmware(t *testing.T) {
	if os.Getenv("HANAPER_SOAK") == "" {
		t.Skip("make soak")
	}
	p, err := published.Read(filepath.Join(image(t), "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range firmwares {
		t.Run(name, func(t *testing.T) {
			args := []string{"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none", "-serial", "stdio", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024",
				"-net", "none", "-device", "qemu-xhci", "-chardev", "socket,id=c0,path=" + tpm(t), "-tpmdev", "emulator,id=t0,chardev=c0", "-device", "tpm-tis,tpmdev=t0"}
			if f.uefi {
				vars := copied(t, "/usr/share/OVMF/OVMF_VARS_4M.fd", filepath.Join(t.TempDir(), "vars"))
				args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,file="+vars)
			}
			drive, medium := f.drive, filepath.Join(image(t), "hanaper.iso")
			if drive == nil {
				drive = firmwares["UEFI stick"].drive
				medium = sized(t, filepath.Join(t.TempDir(), "stick"), 64)
				host(t, "mkfs.vfat", medium)
				host(t, "mmd", "-i", medium, "::EFI", "::EFI/BOOT")
				host(t, "mcopy", "-i", medium, filepath.Join(image(t), "hanaper.efi"), "::EFI/BOOT/BOOTX64.EFI")
			}
			for _, a := range drive {
				args = append(args, strings.ReplaceAll(a, "@", medium))
			}
			g := start(t, exec.Command("qemu-system-x86_64", args...))
			g.menu("s")
			g.answers("type shell:", "shell")
			g.answers("Type yes, open a shell:", "yes, open a shell")
			g.sees("Leave it with: exit")
			g.sees("/ # ")
			for n, want := range p.PCRs {
				got := strings.ToLower(lastLine(g.does("cat /sys/class/tpm/tpm0/pcr-sha256/" + n)))
				if f.uefi && got != want {
					t.Errorf("PCR %s is %q, published is %s", n, got, want)
				} else if !f.uefi && n != "4" && got != strings.Repeat("0", 64) {
					t.Errorf("a BIOS measured PCR %s: %q", n, got)
				}
			}
			boot := "BIOS, not measured"
			if f.uefi {
				boot = "UEFI, measured"
			}
			if got := lastLine(g.does("cat /run/hanaper/machine/boot")); got != boot {
				t.Errorf("the machine says %q, want %q", got, boot)
			}
		})
	}
}

// lastLine leaves out what a busy machine echoes late.
func lastLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
