package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
)

// startTPM starts the TPM in software, with its commands or, for a virtual machine, its control channel at a socket.
func (r *rig) startTPM(commands bool) error {
	r.stopTPM()
	if err := os.MkdirAll(r.path("tpm"), 0o700); err != nil {
		return err
	}
	sockets := []string{"--ctrl", "type=unixio,path=" + r.path("tpm", "control")}
	want := r.path("tpm", "control")
	if commands {
		want = r.path("tpm", "commands")
		sockets = append(sockets, "--server", "type=unixio,path="+want, "--flags", "not-need-init,startup-clear")
	}
	_ = os.Remove(want)
	cmd := exec.Command("swtpm", append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + r.path("tpm")}, sockets...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("swtpm: %w", err)
	}
	r.chip = cmd
	for range 500 {
		if _, err := os.Stat(want); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("swtpm does not start")
}

func (r *rig) stopTPM() {
	if r.chip == nil {
		return
	}
	_ = r.chip.Process.Signal(syscall.SIGTERM)
	_ = r.chip.Wait()
	r.chip = nil
}

// provisionGuest gives the second board its identity while its TPM is at the line, and starts it there once.
func (r *rig) provisionGuest(ctx context.Context) error {
	r.title("A board with a TPM 2.0")
	if err := r.startTPM(true); err != nil {
		return err
	}
	pin := []byte("board-pin-0002")
	if err := r.write("tpm.pin", string(pin)+"\n"); err != nil {
		return err
	}
	info, err := tpm.Init(ctx, tpm.NewStore{Device: r.path("tpm", "commands"), Folder: r.path("tpm-store"), Label: guestBoard}, pin)
	if err != nil {
		return err
	}
	r.store = hsm.URI{Scheme: hsm.SchemeTPM, Token: guestBoard, Serial: info.Serial, Device: r.path("tpm", "commands"), Store: r.path("tpm-store"), PINSource: r.path("tpm.pin")}
	// In the field it calls the gateway by its name.
	_, port, _ := strings.Cut(r.gateway, ":")
	if err := r.provision(ctx, guestBoard, r.store.String(), gatewayName+":"+port); err != nil {
		return err
	}
	said, err := r.start(ctx, guestBoard, r.store.String(), "factory")
	if err != nil {
		return err
	}
	r.say("the station has key 02 born in the TPM; the board's first start, still at the line: %s", said)
	return r.assign(ctx, guestBoard)
}
