package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

// maxLabel bounds what a scanner sends for one label, in bytes.
const maxLabel = 4 << 10

func scanCommand() *cli.Command {
	return &cli.Command{
		Name:  "scan",
		Usage: "enrol one board after the other, as their labels are read",
		Description: "Each line on standard input is a device id, as a barcode scanner types it; it is held to device.id_pattern and device.id_check. A board that is refused is said so at once, and the next label is read. Exit code 0: all that were read are enrolled.\n\n" +
			"Example:\n  hanaper-station scan --config station.yaml --import \"devices/{id}\"",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "hardware-id", Usage: "the ECU's hardware `ID`"},
			&cli.StringFlag{Name: "lot", Usage: "production `LOT`"},
			&cli.StringFlag{Name: "token", Usage: "the devices' token, a pkcs11: or tpm: `URI` with {id} in it"},
			&cli.StringFlag{Name: "import", Usage: "import `FOLDER` with {id} in it", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print a line of JSON for each board"},
		},
		Before: shell.NoArgs,
		Action: scan,
	}
}

func scan(c *cli.Context) error {
	conf, err := loadConfig(c)
	if err != nil {
		return err
	}
	progress := term.Stderr()
	s, err := station.NewScanner(conf, station.With{OpenToken: openToken, Tokens: pkcs11.List, Step: progress.Step, Done: progress.Done})
	if err != nil {
		return err
	}
	progress.Done("ready: read the first label")
	enrolled, failed, kind := 0, 0, advice.Refused
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, maxLabel), maxLabel)
	for c.Context.Err() == nil && lines.Scan() {
		r, err := s.Board(c.Context, lines.Text())
		switch {
		case err != nil:
			failed++
			if advice.KindOf(err) == advice.Failed {
				kind = advice.Failed
			}
			progress.Done("NOT enrolled: %v", err)
			if hint := advice.Hint(err); hint != "" {
				progress.Done("hint: %s", show.Line(hint))
			}
			continue
		case r == nil:
			continue
		}
		enrolled++
		if c.Bool("json") {
			err = shell.JSON(c.App.Writer, r)
		} else {
			_, err = fmt.Fprintf(c.App.Writer, "%s: serial %s, until %s; import folder %s\n", show.Text(r.DeviceID), show.Text(r.Serial), r.NotAfter.Format(time.RFC3339), show.Text(r.Import))
		}
		if err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return advice.Wrap(advice.Failed, err, "is it a label that was read?")
	}
	if failed > 0 {
		return advice.New(kind, "read those labels again, or set the boards aside", "%d boards are enrolled, and %d labels were not", enrolled, failed)
	}
	return c.Context.Err()
}
