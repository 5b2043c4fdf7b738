package main

import (
	"crypto/rand"
	"crypto/x509/pkix"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func csrCommand() *cli.Command {
	return &cli.Command{
		Name:        "csr",
		Usage:       "make the issuing key in this service's own token, if it is not there, and its certificate request for the ceremony",
		Description: "Example:\n  hanaperd csr --config hanaperd.yaml --common-name \"Plant 7 Factory CA\" --out factory-ca.csr",
		Flags: []cli.Flag{configFlag,
			&cli.StringFlag{Name: "key", Usage: "issuing key `URI`, instead of the configuration's issuing.key"},
			&cli.StringFlag{Name: "common-name", Aliases: []string{"n"}, Required: true, Usage: "`CN` of the issuing certificate"},
			&cli.StringFlag{Name: "organization", Usage: "`O` of the issuing certificate"},
			&cli.StringFlag{Name: "algorithm", Value: string(hsm.P256), Usage: "P-256, P-384, RSA-3072 or RSA-4096, for a new key"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "request `FILE`, which must not exist", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print the key's attributes as JSON"},
		},
		Before: shell.NoArgs,
		Action: issuingCSR,
	}
}

func issuingCSR(c *cli.Context) error {
	conf, uri, err := issuingURI(c)
	if err != nil {
		return err
	}
	if uri.Object == "" && uri.Opaque == "" {
		return advice.New(advice.Usage, "add ;object=NAME", "the key URI names no object")
	}
	if err := mustNotExist(c.String("out")); err != nil {
		return err
	}
	token, err := openToken(c.Context, conf, uri, 1, shell.Saying("hanaperd"))
	if err != nil {
		return err
	}
	defer token.Close()
	key, err := token.Key(c.Context, uri.Query())
	found := err == nil
	if errors.Is(err, hsm.ErrNoKey) {
		spec := hsm.GenerateSpec{Label: uri.Object, ID: uri.ID, Algorithm: hsm.Algorithm(c.String("algorithm")), Class: hsm.Sealed}
		if uri.Opaque != "" {
			spec.Class = hsm.Unread // such a store promises no more; printKey says it
		}
		key, err = token.Generate(c.Context, spec)
	}
	if err != nil {
		return err
	}
	subject := pkix.Name{CommonName: c.String("common-name")}
	if o := c.String("organization"); o != "" {
		subject.Organization = []string{o}
	}
	der, err := csr.Create(rand.Reader, key, csr.Template{Subject: subject})
	if err != nil {
		return err
	}
	if _, err := csr.Parse(der, csr.CAPolicy()); err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), csr.PEM(der), 0o644); err != nil {
		return err
	}
	return printKey(c, key, found)
}

func issuingURI(c *cli.Context) (*factory.Config, hsm.URI, error) {
	if s := c.String("key"); s != "" {
		uri, err := hsm.ParseURI(s)
		conf := factory.DefaultConfig()
		return &conf, uri, err
	}
	conf, err := factory.LoadConfig(c.String("config"))
	if err != nil {
		return nil, hsm.URI{}, err
	}
	return conf, conf.Key(), nil
}

// printKey shows what the token reads back of the key, for the ceremony's record.
func printKey(c *cli.Context, key hsm.Key, found bool) error {
	a := key.Attributes()
	if c.Bool("json") {
		answer := map[string]any{"uri": key.URI().String(), "attributes": a, "found": found, "request": c.String("out")}
		if a.Unread {
			answer["attributes"] = string(hsm.Unread)
		}
		return shell.JSON(c.App.Writer, answer)
	}
	birth := "made now"
	if found {
		birth = "was there"
	}
	if a.Unread {
		shell.Table(c.App.Writer, []string{"attribute", "value"}, [][]string{{"key", show.Text(key.URI().String())}, {"algorithm", string(a.Algorithm)}, {"birth", birth},
			{"all others", "unread: the store tells none, and that the key cannot leave it is its word alone"}, {"request", show.Text(c.String("out"))}})
		return nil
	}
	shell.Table(c.App.Writer, []string{"attribute", "value"}, [][]string{
		{"key", key.URI().String()}, {"algorithm", string(a.Algorithm)}, {"birth", birth}, {"local", fmt.Sprint(a.Local)},
		{"sensitive", fmt.Sprint(a.Sensitive)}, {"always sensitive", fmt.Sprint(a.AlwaysSensitive)},
		{"extractable", fmt.Sprint(a.Extractable)}, {"never extractable", fmt.Sprint(a.NeverExtractable)}, {"request", c.String("out")},
	})
	return nil
}
