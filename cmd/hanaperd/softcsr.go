package main

import (
	"errors"
	"net"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
)

func keyOut() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "key", Aliases: []string{"k"}, Required: true, Usage: "key `FILE` (PKCS#8, mode 0600); made if it is not there", TakesFile: true},
		&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "request `FILE`, which must not exist", TakesFile: true},
	}
}

func tlsCSRCommand() *cli.Command {
	return &cli.Command{
		Name:        "tls-csr",
		Usage:       "make this service's TLS key, if it is not there, and its certificate request for the ceremony",
		Description: "Example:\n  hanaperd tls-csr --key hanaperd.key --dns factory.plant7.example --out hanaperd.csr",
		Flags: append(keyOut(),
			&cli.StringFlag{Name: "common-name", Aliases: []string{"n"}, Value: "hanaperd", Usage: "`CN` of the certificate"},
			&cli.StringSliceFlag{Name: "dns", Usage: "`NAME` that stations call it by; repeat for more"},
			&cli.StringSliceFlag{Name: "ip", Usage: "`ADDRESS` that stations call it by; repeat for more"},
		),
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			t := csr.Template{DNSNames: c.StringSlice("dns")}
			for _, s := range c.StringSlice("ip") {
				ip := net.ParseIP(s)
				if ip == nil {
					return advice.New(advice.Usage, "", "--ip %q is no IP address", s)
				}
				t.IPs = append(t.IPs, ip)
			}
			if len(t.DNSNames)+len(t.IPs) == 0 {
				return advice.New(advice.Usage, "give --dns or --ip", "a server certificate needs a name")
			}
			t.Subject.CommonName = c.String("common-name")
			if err := errors.Join(durable.Own(c.String("key")), mustNotExist(c.String("out"))); err != nil {
				return err
			}
			made, err := factory.WriteRequest(c.String("key"), c.String("out"), t, csr.ServerPolicy())
			return told(c, made, err)
		},
	}
}

func operatorCSRCommand() *cli.Command {
	return &cli.Command{
		Name:        "operator-csr",
		Usage:       "make an operator's key, if it is not there, and its certificate request for the ceremony",
		Description: "Example:\n  hanaperd operator-csr --name olga --key olga.key --out olga.csr",
		Flags:       append(keyOut(), &cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "the operator's `NAME`"}),
		Before:      shell.NoArgs,
		Action: func(c *cli.Context) error {
			if err := mustNotExist(c.String("out")); err != nil {
				return err
			}
			made, err := factory.WriteCallerRequest(c.String("name"), c.String("key"), c.String("out"))
			return told(c, made, err)
		},
	}
}

// told says what was written.
func told(c *cli.Context, made bool, err error) error {
	if err != nil {
		return err
	}
	if made {
		shell.Wrote(c, "new key", c.String("key"))
	}
	shell.Wrote(c, "request", c.String("out"))
	return nil
}

func mustNotExist(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return advice.New(advice.Usage, "move it away, or choose another name", "%s exists already", path)
	}
	return nil
}
