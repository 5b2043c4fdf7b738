package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
)

// callerFlags say where hanaperd is and who calls.
func callerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Required: true, Usage: "hanaperd's `URL`, https://host:port"},
		&cli.StringFlag{Name: "ca", Required: true, Usage: "root `FILE` of hanaperd's own certificate", TakesFile: true},
		&cli.StringFlag{Name: "cert", Required: true, Usage: "the operator's certificate `FILE`", TakesFile: true},
		&cli.StringFlag{Name: "key", Required: true, Usage: "the operator's key `FILE`, mode 0600", TakesFile: true},
		&cli.BoolFlag{Name: "json", Usage: "print JSON"},
	}
}

func caller(c *cli.Context) (*factory.Client, error) {
	roots, err := factory.LoadCertificates(c.String("ca"))
	if err != nil {
		return nil, err
	}
	id, err := factory.LoadIdentity(c.String("cert"), c.String("key"))
	if err != nil {
		return nil, err
	}
	return factory.NewClient(factory.ClientConfig{URL: c.String("url"), CA: roots, Identity: id, Tries: 3})
}

func revokeCommand() *cli.Command {
	return &cli.Command{
		Name:        "revoke",
		Usage:       "as an operator, revoke a device's certificate at a running hanaperd",
		Description: "Example:\n  hanaperd revoke --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --device-id vin-0001 --reason key_compromise",
		Flags: append(callerFlags(),
			&cli.StringFlag{Name: "device-id", Usage: "the device's `ID`; or:"},
			&cli.StringFlag{Name: "serial", Usage: "the certificate's serial number, in `HEX`"},
			&cli.BoolFlag{Name: "unknown", Usage: "revoke the serial also where hanaperd's record does not know it, as after a loss of the store"},
			&cli.StringFlag{Name: "reason", Required: true, Usage: "one of " + strings.Join(factory.Reasons(), ", ")},
			&cli.StringFlag{Name: "note", Usage: "`WORDS` that stay in the record beside it"},
		),
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			client, err := caller(c)
			if err != nil {
				return err
			}
			q := factory.RevokeRequest{DeviceID: c.String("device-id"), Serial: c.String("serial"), Unknown: c.Bool("unknown"), Reason: c.String("reason"), Note: c.String("note")}
			a, err := client.Revoke(c.Context, q)
			if err != nil {
				return err
			}
			a = listed(c.Context, client, q, a)
			if c.Bool("json") {
				return shell.JSON(c.App.Writer, a)
			}
			list := "its CRL follows by itself"
			if a.CRLNumber > 0 {
				list = "CRL " + strconv.FormatInt(a.CRLNumber, 10) + " says so"
			}
			name := a.DeviceID
			if !a.Known {
				name = "a certificate that the record does not know"
			}
			_, err = c.App.Writer.Write([]byte("revoked " + name + " (serial " + a.Serial + ", " + a.Reason + "); " + list + "\n"))
			return err
		},
	}
}

func crlCommand() *cli.Command {
	return &cli.Command{
		Name:  "crl",
		Usage: "fetch the latest CRL of an issuing CA from a running hanaperd",
		Description: "Operators, viewers, publishers and stations may. Without --issuer it is the list of the first issuing CA.\n\n" +
			"Example:\n  hanaperd crl --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --out factory-ca.crl\n" +
			"  hanaperd crl --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --issuers",
		Flags: append(callerFlags(), &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FILE` to put it in, DER", TakesFile: true},
			&cli.StringFlag{Name: "issuer", Usage: "the issuing CA's `ID`, as --issuers shows it"},
			&cli.BoolFlag{Name: "issuers", Usage: "list the issuing CAs, and the numbers of their lists"}),
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			if c.Bool("issuers") == c.IsSet("out") || c.Bool("issuers") && c.IsSet("issuer") {
				return advice.New(advice.Usage, "--out FILE puts a list in a file, --issuers shows the issuing CAs", "give one of --out and --issuers")
			}
			client, err := caller(c)
			if err != nil {
				return err
			}
			if c.Bool("issuers") {
				return showIssuers(c, client)
			}
			der, err := client.CRLOf(c.Context, c.String("issuer"))
			if err != nil {
				return err
			}
			if err := durable.WriteFile(c.String("out"), der, 0o644); err != nil {
				return err
			}
			shell.Wrote(c, "list", c.String("out"))
			return nil
		},
	}
}

func showIssuers(c *cli.Context, client *factory.Client) error {
	a, err := client.Issuers(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, a)
	}
	var rows [][]string
	for _, i := range a.Issuers {
		until := "no list yet"
		if i.NextUpdate != nil {
			until = i.NextUpdate.Format(time.RFC3339)
		}
		rows = append(rows, []string{i.ID, i.Subject, i.NotAfter.Format(time.RFC3339), strconv.FormatInt(i.CRLNumber, 10), until})
	}
	shell.Table(c.App.Writer, []string{"id", "issuing CA", "until", "list", "list until"}, rows)
	return nil
}

// listWait is how long revoke waits for the list that carries its revocation: lists are not signed at once, one after another.
const listWait = 10 * time.Second

// listed asks again, which changes nothing, until the revocation is on a list; it gives up quietly, for the revocation stands.
func listed(ctx context.Context, client *factory.Client, q factory.RevokeRequest, a *factory.RevokeAnswer) *factory.RevokeAnswer {
	for end := time.Now().Add(listWait); a.CRLNumber == 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(500 * time.Millisecond)
		if again, err := client.Revoke(ctx, q); err == nil {
			a = again
		}
	}
	return a
}
