package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/softhsm"
)

// The two boards: one runs beside us with a SoftHSM token, the other one is a virtual machine with a TPM.
const localBoard, guestBoard = "board-0001", "board-0002"

func boardCommand() *cli.Command {
	return &cli.Command{
		Name: "board", Usage: "provision a simulated board with its keys in a simulated HSM, and let it connect and update", Before: shell.NoArgs,
		Description: "A board with a SoftHSM token runs on this machine. With --kernel a second one, with a TPM 2.0 (swtpm), boots in a\n" +
			"virtual machine (QEMU, software emulation). With --keep the services go on until Ctrl-C, and the folder has what to try.\n\n" +
			"Example: hanaper-demo board --bin bin --dir board --kernel bin/kernel --keep",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "bin", Value: "bin", Usage: "`FOLDER` of the programs"},
			&cli.PathFlag{Name: "boards", Value: "bin/board", Usage: "`FOLDER` of the boards' own programs"},
			&cli.PathFlag{Name: "dir", Value: "board", Usage: "`FOLDER` to work in; an earlier demo there is wiped"},
			&cli.PathFlag{Name: "kernel", Usage: "`FOLDER` of a kernel and its modules, made by scripts/kernel; boots the second board"},
			&cli.BoolFlag{Name: "keep", Usage: "leave everything running at the end, until Ctrl-C"},
		},
		Action: func(c *cli.Context) error {
			s, err := newStage(c.Path("bin"), c.Path("dir"), c.App.Writer)
			if err != nil {
				return err
			}
			p := &rig{play: newPlay(s, localBoard)}
			defer p.close()
			defer p.stopTPM()
			for flag, to := range map[string]*string{"kernel": &p.kernel, "boards": &p.programs} {
				if path := c.Path(flag); path != "" {
					if *to, err = filepath.Abs(path); err != nil {
						return err
					}
				}
			}
			if err := p.perform(c.Context); err != nil || !c.Bool("keep") {
				return err
			}
			return p.keep(c.Context)
		},
	}
}

// rig is a line, a back office and a gateway with simulated boards.
type rig struct {
	*play
	programs string    // folder of the boards' own
	kernel   string    // folder of the virtual machine's; empty without one
	chip     *exec.Cmd // swtpm, while it runs
	store    hsm.URI   // in the TPM
}

func (r *rig) perform(ctx context.Context) error {
	fmt.Fprintf(r.out, "Simulated boards, provisioned by a station, on throw-away tokens in %s\n", r.dir)
	scenes := []func(context.Context) error{r.makeTokens, r.enrolOfficers, r.requestCertificates, r.holdCeremony, r.startFactory, r.publishTrust, r.serveUptane,
		r.startGateway, r.provisionLocal, r.releaseImage, r.updateLocal}
	if r.kernel != "" {
		scenes = append(scenes, r.provisionGuest, r.bootGuest)
	}
	for _, scene := range scenes {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.out, "\nDone in %.1f s. devices/ has the import folders, *.log what the services said, *.yaml how everything is configured.\n", time.Since(r.started).Seconds())
	return nil
}

// provisionLocal takes a board with an empty token to its first round with the server.
func (r *rig) provisionLocal(ctx context.Context) error {
	r.title("A board with a SoftHSM token")
	b := r.boards[localBoard]
	if err := r.provision(ctx, localBoard, b.URI, r.gateway); err != nil {
		return err
	}
	r.say("the station has keys 02 and 03 born in the board's token, puts certificate 01 beside them, and lays out devices/%s", localBoard)
	said, err := r.start(ctx, localBoard, b.URI, "factory")
	if err != nil {
		return err
	}
	r.say("%s", said)
	if err := r.objects(ctx, b); err != nil {
		return err
	}
	return r.judgeTLS(ctx, b)
}

// start switches a board on, as a process beside us, for one round.
func (r *rig) start(ctx context.Context, id, token, expect string) (string, error) {
	said, err := r.run(ctx, filepath.Join(r.programs, "hanaper-board"), "-dial", r.gateway, "-import", "devices/"+id, "-state", "state-"+id, "-token", token, "-serial", id+"-main", "-hardware-id", "demo-board", "-expect", expect)
	return strings.TrimSpace(said), err
}

// objects has pkcs11-tool, which is not ours, list the board's token.
func (r *rig) objects(ctx context.Context, b softhsm.Board) error {
	cmd := exec.CommandContext(ctx, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", "env:BOARD_PIN", "--list-objects")
	cmd.Env = append(r.env, "BOARD_PIN="+string(b.PIN))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("pkcs11-tool: %w: %s", err, lastLines(string(out), 3))
	}
	for _, want := range []string{"Certificate Object", "ID:         01", "ID:         02", "ID:         03"} {
		if !strings.Contains(string(out), want) {
			return fmt.Errorf("pkcs11-tool finds no %q in token %q", want, b.Label)
		}
	}
	r.say("pkcs11-tool sees certificate 01, key 02 and key 03 in the token, as the sota.toml beside them says")
	return nil
}

// judgeTLS has gnutls-cli, which is not ours either, connect with key and certificate in the token.
func (r *rig) judgeTLS(ctx context.Context, b softhsm.Board) error {
	_, port, _ := strings.Cut(r.gateway, ":")
	object := func(kind string, id byte) string {
		return hsm.URI{Token: b.Label, Serial: b.Serial, ID: []byte{id}, Type: kind}.String()
	}
	cmd := exec.CommandContext(ctx, "gnutls-cli", "--provider", b.Module, "--x509cafile", r.path("devices", localBoard, "root.crt"),
		"--x509certfile", object("cert", 1), "--x509keyfile", object("private", 2), "--port", port, "127.0.0.1")
	cmd.Env = append(r.env, "GNUTLS_PIN="+string(b.PIN)) // of a throw-away token
	// Its end of the connection stays open until the server closes the other one.
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var out shared
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = io.WriteString(in, "GET /whoami HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
	if err = errors.Join(err, cmd.Wait()); err != nil || !strings.Contains(out.String(), "200 OK") || !strings.Contains(out.String(), localBoard) {
		return fmt.Errorf("gnutls-cli: %v: %s", err, lastLines(out.String(), 5))
	}
	r.say("gnutls-cli connects through the gateway with key 02 and certificate 01 in the token, and is known upstream as %s", localBoard)
	return nil
}

// releaseImage uploads a firmware, lists it, and has the Director assign it.
func (r *rig) releaseImage(ctx context.Context) error {
	r.title("Software for the boards")
	if err := r.write("firmware.bin", strings.Repeat("the firmware of the simulated boards, 2.1\n", 1000)); err != nil {
		return err
	}
	if err := r.release(ctx, []string{"targets", "upload", "--input", "firmware.bin", "--name", "firmware", "--version", "2.1"},
		[]string{"targets", "add-uploaded", "--input", "firmware.bin", "--name", "firmware", "--version", "2.1", "--hardwareids", "demo-board"}); err != nil {
		return err
	}
	r.say("a release engineer uploads firmware-2.1 and signs the list that names it with the offline key")
	return r.assign(ctx, localBoard)
}

func (r *rig) assign(ctx context.Context, id string) error {
	if _, err := r.run(ctx, "hanaper-repo", "director", "assign", "--config", "hanaper-repo.yaml", id, "firmware-2.1"); err != nil {
		return err
	}
	r.say("an operator has %s install it", id)
	return nil
}

func (r *rig) updateLocal(ctx context.Context) error {
	r.title("The board updates")
	said, err := r.start(ctx, localBoard, r.boards[localBoard].URI, "firmware-2.1")
	if err != nil {
		return err
	}
	r.say("%s", said)
	return nil
}

// keep leaves everything running, says what there is to try, and waits.
func (r *rig) keep(ctx context.Context) error {
	b := r.boards[localBoard]
	fmt.Fprintf(r.out, `
Everything goes on running until you press Ctrl-C. Try this in another terminal:

   cd %s; export PATH="%s:%s:$PATH" %s
   hanaper-board -dial %s -import devices/%[6]s -state state-%[6]s -token '%[7]s' -serial %[6]s-main -hardware-id demo-board
   hanaper-station enroll --config %[6]s.yaml
   hanaper-gateway devices list --config gateway.yaml
   hanaper-repo director show --config hanaper-repo.yaml %[6]s

`, r.dir, r.bin, r.programs, r.tokens.Env()[0], r.gateway, localBoard, b.URI)
	return r.wait(ctx)
}
