package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "load all that the configuration names, the issuing key in its token included, and serve nothing",
		Description: "Example:\n  hanaperd check --config hanaperd.yaml",
		Flags:       []cli.Flag{configFlag},
		Before:      shell.NoArgs,
		Action: func(c *cli.Context) error {
			p, err := assemble(c.Context, c.String("config"), shell.Saying("hanaperd"))
			if err != nil {
				return err
			}
			defer p.close()
			issuances, err := checkLog(c.Context, p)
			if err != nil {
				return err
			}
			shared, err := checkLeave(c.Context, p)
			if err != nil {
				return err
			}
			rows := [][]string{{"PKCS#11 library", libraryOf(p)}}
			for _, i := range p.issuers {
				for n, key := range i.opened {
					what := "issuing key"
					if n > 0 {
						what = "its copy"
					}
					rows = append(rows, []string{what, fmt.Sprintf("%s in %s", key.Attributes().Algorithm, i.in[n])})
				}
				rows = append(rows, []string{"issuing certificate", i.chain[0].Subject.String() + ", until " + i.chain[0].NotAfter.UTC().Format(time.RFC3339)})
			}
			rows = append(rows, []string{"TLS certificate", p.server.Leaf.Subject.String() + ", until " + p.server.Leaf.NotAfter.UTC().Format(time.RFC3339)},
				[]string{"store", storeName(p.config)},
				[]string{"profiles", profileNames(p)},
				[]string{"evidence of devices' keys", evidenceAsked(p)},
				[]string{"issuance log", issuances}, []string{"shared credentials", shared})
			shell.Table(c.App.Writer, []string{"part", "finding"}, rows)
			return nil
		},
	}
}

// profileNames lists the profiles, that for devices of lots which name none first.
func profileNames(p *parts) string {
	names := []string{factory.DeviceProfile}
	for _, one := range p.profiles {
		names = append(names, one.Name)
	}
	if first := slices.Index(names, p.config.Devices.Profile); first > 0 {
		names[0], names[first] = names[first], names[0]
	}
	return strings.Join(names, ", ")
}

// checkLog finds the issuance log's key, and says what the log is called.
func checkLog(ctx context.Context, p *parts) (string, error) {
	if p.config.Log == nil {
		return "none", nil
	}
	policy, err := logPolicy(p.config)
	if err != nil {
		return "", err
	}
	key, err := p.logKey(ctx, shell.Saying("hanaperd"))
	if err != nil {
		return "", err
	}
	if vkey, err := journal.VerifierKey(policy.Origin(), key.Public()); err != nil || vkey != policy.Key() {
		return "", advice.New(advice.Unverified, "'hanaperd log key' prints the verifier key of log.key", "log.verifier is not the public half of log.key")
	}
	return fmt.Sprintf("%s, signed with %s, %d of %d witnesses", show.Text(policy.Origin()), key.Attributes().Algorithm, policy.Demand(), len(policy.Witnesses())), nil
}

// libraryOf says where the token's library runs.
func libraryOf(p *parts) string {
	t, is := p.tokens[0].(*apart.Token)
	switch {
	case p.config.Key().Opaque != "":
		return "none: hanaper-kms serves the key, in a process of its own"
	case p.config.Key().Scheme == hsm.SchemeTPM:
		return "none: the TPM is used without one"
	case !is:
		return "inside this program"
	case t.Unlocked() != "":
		return "in a process of its own, whose memory may be swapped: " + t.Unlocked()
	}
	return "in a process of its own, whose memory is locked"
}

// evidenceAsked says what is asked of devices.
func evidenceAsked(p *parts) string {
	a := p.config.Attestation
	if p.attestation == nil {
		return "refused"
	}
	var makers []string
	for _, m := range a.Manufacturers {
		makers = append(makers, m.Kind+" of "+show.Text(m.Name))
	}
	return strings.Join(append([]string{a.Policy}, makers...), ", ")
}
