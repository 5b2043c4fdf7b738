package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func enrollCommand() *cli.Command {
	return &cli.Command{
		Name:        "enroll",
		Usage:       "give one device its key, certificate and import folder; run again, it goes on where it stopped",
		Description: "Example:\n  hanaper-station enroll --config station.yaml --device-id vin-0001 --token \"pkcs11:token=vin-0001?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/vin-0001.pin\" --import devices/vin-0001",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "device-id", Aliases: []string{"d"}, Usage: "the device's `ID`: the CN of its certificate"},
			&cli.StringFlag{Name: "hardware-id", Usage: "the ECU's hardware `ID`"},
			&cli.StringFlag{Name: "lot", Usage: "production `LOT`"},
			&cli.StringFlag{Name: "token", Usage: "the device's token, a pkcs11: or tpm: `URI` without object"},
			&cli.StringFlag{Name: "import", Usage: "import `FOLDER` to lay out", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Before: shell.NoArgs,
		Action: enroll,
	}
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/hanaper/hanaper-station.yaml", Usage: "configuration `FILE`; 'hanaper-station config' prints one", TakesFile: true}
}

func enroll(c *cli.Context) error {
	conf, err := deviceConfig(c)
	if err != nil {
		return err
	}
	progress := term.Stderr()
	s, err := station.New(conf, station.With{OpenToken: openToken, Tokens: pkcs11.List, Step: progress.Step, Done: progress.Done})
	if err != nil {
		return err
	}
	r, err := s.Enroll(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, r)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: serial %s, until %s; import folder %s\n", show.Text(r.DeviceID), show.Text(r.Serial), r.NotAfter.Format(time.RFC3339), show.Text(r.Import))
	return err
}

func loadConfig(c *cli.Context) (*station.Config, error) {
	path := c.String("config")
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	data, err := input.ReadFile(path)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "'hanaper-station config' prints one")
	}
	conf, err := station.ParseConfig(path, data, dir)
	if err != nil {
		return nil, err
	}
	override(conf, c)
	return conf, nil
}

// deviceConfig is loadConfig for one device.
func deviceConfig(c *cli.Context) (*station.Config, error) {
	conf, err := loadConfig(c)
	if err != nil {
		return nil, err
	}
	if err := conf.Check(); err != nil {
		path := c.String("config")
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", path, err), advice.Hint(err))
	}
	return conf, nil
}

// override puts the flags of enroll in place of what the file says.
func override(c *station.Config, f *cli.Context) {
	for flag, p := range map[string]*string{"device-id": &c.Device.ID, "hardware-id": &c.Device.HardwareID, "lot": &c.Device.Lot,
		"token": &c.Device.Token, "import": &c.Import} {
		if f.IsSet(flag) {
			*p = f.String(flag)
		}
	}
}

// openToken opens the device's token; without a pin-source in its URI a person is asked for the PIN.
func openToken(ctx context.Context, uri hsm.URI) (hsm.Token, error) {
	return open.Token(ctx, open.Config{URI: uri, PIN: hsm.PINFromURI(uri, hsm.PINPrompt(term.TTY().Secret)), Sessions: 1})
}
