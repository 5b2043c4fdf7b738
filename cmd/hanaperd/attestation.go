package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func attestationCommand() *cli.Command {
	return &cli.Command{
		Name:        "attestation",
		Usage:       "evidence of where devices' keys were born",
		Subcommands: []*cli.Command{attestationFetchCommand(), attestationVerifyCommand()},
	}
}

func attestationFetchCommand() *cli.Command {
	return &cli.Command{
		Name:        "fetch",
		Usage:       "as an operator, write the evidence that a running hanaperd has on record for a device id to a file",
		Description: "Example:\n  hanaperd attestation fetch --url https://factory.plant7.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --out vin-0001.evidence vin-0001",
		ArgsUsage:   "ID",
		Flags:       append(callerFlags(), &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "evidence `FILE`, which must not exist", TakesFile: true}),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "ID")
			if err != nil {
				return err
			}
			if err := mustNotExist(c.String("out")); err != nil {
				return err
			}
			client, err := caller(c)
			if err != nil {
				return err
			}
			kept, err := client.Evidence(c.Context, args[0])
			if err != nil {
				return err
			}
			if _, err := factory.ParseEvidence("the answer", kept); err != nil {
				return err
			}
			if err := durable.Create(c.String("out"), kept, 0o644); err != nil {
				return err
			}
			shell.Wrote(c, "evidence", c.String("out"))
			return nil
		},
	}
}

func attestationVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "verify evidence that was kept, and the device's certificate, offline, by roots that you hold",
		Description: "What is taken from hanaperd's word is that a TPM's attestation key was activated, and when; all else is verified anew. Take the roots from the manufacturers, " +
			"not from who gave you the evidence.\n\n" +
			"Example:\n  hanaperd attestation verify --certificate vin-0001.pem --fleet-root fleet-root.pem --roots tpm=acme-tpm-root.pem vin-0001.evidence",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "certificate", Required: true, Usage: "the device's certificate, and those between it and the Fleet Root: `FILE`, PEM", TakesFile: true},
			&cli.StringFlag{Name: "fleet-root", Required: true, Usage: "Fleet Root `FILE`", TakesFile: true},
			&cli.StringSliceFlag{Name: "roots", Required: true, Usage: "manufacturers' roots for a kind of chip (tpm, piv, yubihsm, android): `KIND=FILE`; may be given several times"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: verifyAttestation,
	}
}

func verifyAttestation(c *cli.Context) error {
	args, err := shell.Args(c, "FILE")
	if err != nil {
		return err
	}
	policy, err := auditorsPolicy(c.StringSlice("roots"))
	if err != nil {
		return err
	}
	kept, err := input.ReadFile(args[0])
	if err != nil {
		return advice.Wrap(advice.Usage, err, "`hanaperd attestation fetch` writes it")
	}
	evidence, err := factory.ParseEvidence(show.Text(args[0]), kept)
	if err != nil {
		return err
	}
	chain, err := factory.LoadCertificates(c.String("certificate"))
	if err != nil {
		return err
	}
	fleet, err := factory.LoadCertificates(c.String("fleet-root"))
	if err != nil {
		return err
	}
	// The certificate as it was when the evidence was judged: it may have ended since.
	if err := ca.Verify(chain, fleet, evidence.At); err != nil {
		return advice.New(advice.Unverified, "put the certificates between it and the Fleet Root behind the device's, as client.pem of the import folder has them", "certificate %s: %w", show.Text(c.String("certificate")), err)
	}
	v, err := factory.VerifyEvidence(kept, chain[0], policy)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, v)
	}
	rows := [][]string{{"device", show.Text(chain[0].Subject.CommonName)}, {"judged", evidence.At.UTC().Format(time.RFC3339)}, {"kind", show.Text(v.Kind)},
		{"root file", show.Text(v.Manufacturer)}, {"root (SHA-256)", v.Root}, {"chip (SHA-256)", v.Certificate}, {"key (SHA-256)", v.Key}}
	for _, f := range v.Facts {
		rows = append(rows, []string{f.Name, show.Text(f.Value)})
	}
	shell.Table(c.App.Writer, []string{"what", "verified"}, rows)
	return nil
}

// auditorsPolicy pins roots that are given as KIND=FILE; a file's name stands for the manufacturer's.
func auditorsPolicy(roots []string) (*attest.Policy, error) {
	var makers []attest.ManufacturerConfig
	for _, r := range roots {
		kind, file, ok := strings.Cut(r, "=")
		if !ok || file == "" {
			return nil, advice.New(advice.Usage, "write it as tpm=FILE", "--roots %s", show.Text(r))
		}
		certs, err := factory.LoadCertificates(file)
		if err != nil {
			return nil, err
		}
		makers = append(makers, attest.ManufacturerConfig{Name: file, Kind: attest.Kind(kind), Roots: certs})
	}
	pinned, err := attest.NewManufacturers(makers...)
	if err != nil {
		return nil, fmt.Errorf("--roots: %w", err)
	}
	policy, err := attest.NewPolicy(attest.PolicyConfig{Manufacturers: pinned, Default: attest.Rule{Level: attest.Required}})
	if err != nil {
		return nil, fmt.Errorf("--roots: %w", err)
	}
	return policy, nil
}
