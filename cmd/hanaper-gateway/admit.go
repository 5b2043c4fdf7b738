package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

func admitCommand() *cli.Command {
	return &cli.Command{
		Name:      "admit",
		Usage:     "say whether a certificate would be admitted, and why",
		ArgsUsage: "CERT",
		Description: "CERT is PEM or DER, its first certificate is the device's. The trust is that of --config, or the folder --trust from\n" +
			"--root on. With --config the registry is asked, where there is one, whether the device is barred. Exit code 0: admitted; 3: refused.\n\n" +
			"Example:\n  hanaper-gateway admit --config gateway.yaml devices/vin-0001/client.pem",
		Flags: []cli.Flag{configFlag(), jsonFlag(),
			&cli.StringFlag{Name: "environment", Usage: "with the --config of several environments: the `NAME` of the one to judge by"},
			&cli.StringFlag{Name: "trust", Usage: "the trust repository's `FOLDER`"},
			&cli.StringFlag{Name: "root", Usage: "the environment's first `root.json`, or its SHA-256"},
			&cli.TimestampFlag{Name: "at", Layout: time.RFC3339, Usage: "judge at this `TIME` (RFC 3339); trust that has expired now stays expired"},
			&cli.BoolFlag{Name: "crl-by-policy", Usage: "with --trust: ask for CRLs only where the officers' policy does, as trust.crl: policy"}},
		Action: admit,
	}
}

type admission struct {
	Admitted bool   `json:"admitted"`
	Reason   string `json:"reason"`
	Text     string `json:"text"`
	Device   string `json:"device_id,omitempty"`
	// Mark is "shared-credential" or "test-bench": not for production.
	Mark  string    `json:"mark,omitempty"`
	Until time.Time `json:"until,omitzero"`
	Path  []link    `json:"path,omitempty"`
}

type link struct {
	Subject string `json:"subject"`
	Serial  string `json:"serial"`
}

func admit(c *cli.Context) error {
	args, err := shell.Args(c, "CERT")
	if err != nil {
		return err
	}
	chain, err := readChain(args[0])
	if err != nil {
		return err
	}
	view, rules, err := viewFor(c)
	if err != nil {
		return err
	}
	now := time.Now()
	if at := c.Timestamp("at"); at != nil {
		now = *at
	}
	d := gateway.AdmitUnder(view, rules, chain, now)
	if d.Admitted() {
		if d, err = unlessBarred(c, d); err != nil {
			return err
		}
	}
	a := admission{Admitted: d.Admitted(), Reason: string(d.Reason), Text: d.Words(), Device: d.Device, Mark: string(d.Mark), Until: d.Until.UTC()}
	for _, p := range d.Path {
		a.Path = append(a.Path, link{Subject: p.Subject.String(), Serial: hex.EncodeToString(p.SerialNumber.Bytes())})
	}
	if c.Bool("json") {
		err = shell.JSON(c.App.Writer, a)
	} else {
		explain(c.App.Writer, a)
	}
	if err == nil && !a.Admitted {
		err = advice.New(advice.Refused, "", "refused (%s): %s", show.Text(a.Reason), show.Text(a.Text))
	}
	return err
}

// unlessBarred asks the registry of the configuration, where there is one, whether operators have barred the device.
func unlessBarred(c *cli.Context, d gateway.Decision) (gateway.Decision, error) {
	config := c.String("config")
	if config == "" {
		return d, nil
	}
	settings, err := gateway.LoadSettings(config)
	if err != nil {
		return d, err
	}
	e, err := settings.Environment(c.String("environment"))
	if err != nil {
		return d, err
	}
	r, err := openExisting(c.Context, settings)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	defer r.Close()
	if reason := gateway.RegistryReason(r.Standing(e.Name(), d.Device, [32]byte{})); reason != "" {
		return gateway.Decision{Reason: reason, Device: d.Device, Detail: "'hanaper-gateway devices show' says why"}, nil
	}
	return d, nil
}

func explain(w io.Writer, a admission) {
	if !a.Admitted {
		return
	}
	fmt.Fprintf(w, "admitted as %s until %s\n", show.Text(a.Device), a.Until.Format(time.RFC3339))
	switch gateway.Mark(a.Mark) {
	case gateway.SharedCredential:
		fmt.Fprintln(w, "  a SHARED CREDENTIAL: for POST /devices and nothing else; not for production")
	case gateway.TestBench:
		fmt.Fprintln(w, "  a TEST BENCH that came by a shared credential; not for production")
	}
	for _, l := range a.Path {
		fmt.Fprintf(w, "  %s (serial %s)\n", show.Text(l.Subject), show.Text(l.Serial))
	}
}

func viewFor(c *cli.Context) (*trust.View, gateway.Rules, error) {
	config, dir := c.String("config"), c.String("trust")
	switch {
	case (config == "") == (dir == ""):
		return nil, gateway.Rules{}, advice.New(advice.Usage, "--config FILE, or --trust FOLDER with --root", "name the trust to judge by, once")
	case dir != "":
		if c.String("root") == "" {
			return nil, gateway.Rules{}, advice.New(advice.Usage, "the first root.json of the environment, or its SHA-256", "--trust needs --root")
		}
		v, err := gateway.OpenTrust(dir, c.String("root"), time.Now())
		return v, gateway.Rules{CRLByPolicy: c.Bool("crl-by-policy")}, err
	}
	settings, err := gateway.LoadSettings(config)
	if err != nil {
		return nil, gateway.Rules{}, err
	}
	e, err := settings.Environment(c.String("environment"))
	if err != nil {
		return nil, gateway.Rules{}, err
	}
	v, err := e.LookAtTrust(c.Context, time.Now)
	return v, e.Rules(), err
}

func readChain(path string) ([]*x509.Certificate, error) {
	data, err := input.Read(path, 1<<20)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a certificate, PEM or DER")
	}
	if !bytes.Contains(data, []byte("-----BEGIN")) {
		one, err := x509.ParseCertificate(data)
		return []*x509.Certificate{one}, unreadable(path, err)
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, unreadable(path, err)
		}
		chain = append(chain, one)
	}
	if len(chain) == 0 {
		return nil, advice.New(advice.Usage, "name a certificate, PEM or DER", "%s holds no certificate", path)
	}
	return chain, nil
}

func unreadable(path string, err error) error {
	if err == nil {
		return nil
	}
	return advice.New(advice.Refused, "", "refused (%s): %s: %w", gateway.BadCertificate, path, err)
}
