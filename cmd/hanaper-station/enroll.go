package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
)

type clock func() time.Time

func enrollCommand() *cli.Command {
	return &cli.Command{
		Name:        "enroll",
		Usage:       "give one device its key, certificate and import folder; run again, it goes on where it stopped",
		Description: "Example:\n  hanaper-station enroll --config station.yaml --device-id vin-0001 --token \"pkcs11:token=vin-0001?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/vin-0001.pin\" --import devices/vin-0001",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/hanaper/hanaper-station.yaml", Usage: "configuration `FILE`; 'hanaper-station config' prints one", TakesFile: true},
			&cli.StringFlag{Name: "device-id", Aliases: []string{"d"}, Usage: "the device's `ID`: the CN of its certificate"},
			&cli.StringFlag{Name: "hardware-id", Usage: "the ECU's hardware `ID`"},
			&cli.StringFlag{Name: "lot", Usage: "production `LOT`"},
			&cli.StringFlag{Name: "token", Usage: "the device's token, a pkcs11: `URI` without object"},
			&cli.StringFlag{Name: "import", Usage: "import `FOLDER` to lay out", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Before: shell.NoArgs,
		Action: enroll,
	}
}

// result is what enroll prints.
type result struct {
	DeviceID string    `json:"device_id"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	// NewKey and NewCertificate are false where an earlier run had got that far.
	NewKey         bool   `json:"new_key"`
	NewCertificate bool   `json:"new_certificate"`
	Import         string `json:"import"`
}

func enroll(c *cli.Context) error {
	conf, err := loadConfig(c)
	if err != nil {
		return err
	}
	s, err := newStation(conf, term.Stderr())
	if err != nil {
		return err
	}
	r, err := s.enroll(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, r)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: serial %s, until %s; import folder %s\n", r.DeviceID, r.Serial, r.NotAfter.Format(time.RFC3339), r.Import)
	return err
}

func loadConfig(c *cli.Context) (*config, error) {
	path := c.String("config")
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "'hanaper-station config' prints one")
	}
	conf, err := parseConfig(path, data, dir)
	if err != nil {
		return nil, err
	}
	conf.override(c)
	if err := conf.check(); err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", path, err), advice.Hint(err))
	}
	return conf, nil
}

// station is one device's enrolment with everything loaded that needs neither token nor network.
type station struct {
	c        *config
	client   *factory.Client
	fleet    []*x509.Certificate
	folder   *folder
	progress *term.Progress
	now      clock
}

func newStation(c *config, progress *term.Progress) (*station, error) {
	s := &station{c: c, progress: progress, now: time.Now}
	var err error
	if s.fleet, err = factory.LoadCertificates(c.FleetRoot); err != nil {
		return nil, err
	}
	if s.folder, err = newFolder(c); err != nil {
		return nil, err
	}
	roots, err := factory.LoadCertificates(c.Factory.CA)
	if err != nil {
		return nil, err
	}
	id, err := factory.LoadIdentity(c.Factory.Certificate, c.Factory.Key)
	if err != nil {
		return nil, err
	}
	if now := s.now(); now.After(id.Leaf.NotAfter) {
		return nil, advice.New(advice.Refused, "have the ceremony issue a new one", "this station's certificate %s expired at %s",
			c.Factory.Certificate, id.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	s.client, err = factory.NewClient(factory.ClientConfig{URL: c.Factory.URL, CA: roots, Identity: id, Tries: c.Factory.Tries, Timeout: c.Factory.Timeout,
		Note: func(err error, wait time.Duration) { progress.Done("%v; next try in %s", err, wait.Round(time.Second)) }})
	return s, err
}

// enroll makes or finds the key, asks for the certificate, checks it, stores it, and lays out the folder. Every step may
// be done already.
func (s *station) enroll(ctx context.Context) (*result, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	s.progress.Step("%s: key", s.c.Device.ID)
	keys, err := openKeyStore(ctx, s.c)
	if err != nil {
		return nil, err
	}
	defer keys.close()
	key, made, err := keys.key(ctx)
	if err != nil {
		return nil, err
	}
	s.progress.Step("%s: certificate", s.c.Device.ID)
	request, err := s.request(key)
	if err != nil {
		return nil, err
	}
	a, isNew, err := s.client.Enroll(ctx, request)
	if err != nil {
		return nil, err
	}
	chain, err := checkAnswer(a, s.c, key.Public(), s.fleet, s.now)
	if err != nil {
		return nil, err
	}
	if err := keys.putCertificate(ctx, chain[0]); err != nil {
		return nil, err
	}
	s.progress.Step("%s: import folder", s.c.Device.ID)
	if err := s.folder.lay(ctx, chain, key); err != nil {
		return nil, err
	}
	s.progress.Done("%s: enrolled", s.c.Device.ID)
	return &result{DeviceID: s.c.Device.ID, Serial: a.Serial, NotAfter: chain[0].NotAfter.UTC(), NewKey: made, NewCertificate: isNew, Import: s.c.Import}, nil
}

// check finds, before the token is touched, what would be refused after it: a device id that no policy allows, and an
// import folder of another device.
func (s *station) check(ctx context.Context) error {
	specimen, err := softKey(hsm.P256)
	if err != nil {
		return err
	}
	q, err := s.request(specimen)
	if err == nil {
		_, err = csr.Parse([]byte(q.CSR), csr.DevicePolicy())
	}
	if err != nil {
		return advice.New(advice.Refused, "device ids begin with a letter or digit and hold letters, digits and . _ : @ = + -", "device id %q: %w", s.c.Device.ID, err)
	}
	return s.folder.check(ctx)
}

func (s *station) request(key crypto.Signer) (q factory.EnrollRequest, err error) {
	t := csr.Template{}
	t.Subject.CommonName = s.c.Device.ID
	der, err := csr.Create(rand.Reader, key, t)
	if err != nil {
		return q, err
	}
	return factory.EnrollRequest{CSR: string(csr.PEM(der)), HardwareID: s.c.Device.HardwareID, Lot: s.c.Device.Lot}, nil
}
