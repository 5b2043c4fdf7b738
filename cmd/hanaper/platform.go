package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

// The notes of a machine that was started from an image of Hanaper: files of one line, or of a line for each act, in a folder that only
// root can write, made anew at each start. Whoever can write there can say what he likes; the TPM's statement is not taken from there.
const (
	// imageNote is "VERSION MANIFEST", bootNote how it was started, in words.
	imageNote, bootNote = "image", "boot"
	// mediumNote is the SHA-256 of the medium, if people had it read.
	mediumNote = "medium"
	// shellNote has the time of each shell, clockNote the times before and after each setting of the clock.
	shellNote, clockNote = "shell", "clock"
	maxNote              = 16 << 10
)

var machineFlag = &cli.StringFlag{Name: "machine", EnvVars: []string{"HANAPER_MACHINE"},
	Usage: "`DIR` with the notes of a machine that was started from the ceremony image; the transcript then says which image it was, what its TPM measured, and whether a shell was opened"}

// platformOf asks the machine for what the transcript says of it; nil where nobody named its notes.
func platformOf(c *cli.Context) (func(context.Context, []byte) (*ceremony.Platform, error), error) {
	dir := c.String("machine")
	if dir == "" {
		return nil, nil
	}
	p, err := readNotes(dir)
	if err != nil {
		return nil, advice.Wrap(advice.Failed, err, "start the machine anew; or leave --machine out, and the transcript says nothing of an image")
	}
	why := p.Unmeasured
	return func(ctx context.Context, qualifying []byte) (*ceremony.Platform, error) {
		said := *p
		said.Unmeasured = ""
		m, err := tpm.Measure(ctx, tpm.DefaultDevice, qualifying)
		switch {
		case errors.Is(err, hsm.ErrGone):
			said.Unmeasured = "there is no TPM" + why
		case err != nil:
			said.Unmeasured = show.Line(fmt.Sprintf("the TPM could not be asked: %v", err)) + why
		default:
			said.Measured = &ceremony.Measured{AttestationKey: m.AttestationKey, Statement: m.Statement, Signature: m.Signature, Endorsement: m.Endorsement}
			for _, v := range m.PCRs {
				said.Measured.PCRs = append(said.Measured.PCRs, fmt.Sprintf("%x", v))
			}
		}
		return &said, nil
	}, nil
}

// readNotes reads the notes; Unmeasured then says how the machine was started.
func readNotes(dir string) (*ceremony.Platform, error) {
	p := &ceremony.Platform{}
	if image, err := note(dir, imageNote); err != nil {
		return nil, err
	} else if len(image) > 0 {
		version, manifest, _ := strings.Cut(image[0], " ")
		p.Image = &ceremony.Image{Version: version, Manifest: manifest}
		medium, err := note(dir, mediumNote)
		if err != nil {
			return nil, err
		}
		if len(medium) > 0 {
			p.Image.Medium = medium[0]
		}
	}
	if boot, err := note(dir, bootNote); err != nil {
		return nil, err
	} else if len(boot) > 0 {
		p.Unmeasured = " (started: " + show.Line(boot[0]) + ")"
	}
	clocks, err := note(dir, clockNote)
	if err != nil {
		return nil, err
	}
	for _, line := range clocks {
		before, after, _ := strings.Cut(line, " ")
		p.Acts = append(p.Acts, ceremony.PlatformAct{What: ceremony.ActClock, At: after, Before: before})
	}
	shells, err := note(dir, shellNote)
	if err != nil {
		return nil, err
	}
	for _, line := range shells {
		p.Acts = append(p.Acts, ceremony.PlatformAct{What: ceremony.ActShell, At: line})
	}
	return p, nil
}

// note gives the lines of a note; none where it is not there.
func note(dir, name string) ([]string, error) {
	data, err := input.Read(filepath.Join(dir, name), maxNote)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, err
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// tellPlatform says before a ceremony begins what the transcript will say of the machine.
func tellPlatform(c *cli.Context) {
	p, err := readNotes(c.String("machine"))
	if c.String("machine") == "" || err != nil {
		return
	}
	for _, a := range p.Acts {
		if a.What == ceremony.ActShell {
			fmt.Fprintln(c.App.ErrWriter, "\n"+term.Wrap("REMARK: a shell was opened on this machine at "+show.Line(a.At)+". The transcript says so, for good. A machine that is started anew has none.", "  !!!!  "))
		}
	}
}
