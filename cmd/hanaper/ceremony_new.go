package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

func ceremonyNewCommand() *cli.Command {
	var kinds []string
	for _, k := range ceremony.NextKinds() {
		kinds = append(kinds, "  "+k.Name+": "+k.What)
	}
	flags := []cli.Flag{
		&cli.StringFlag{Name: "out", Usage: "write the script to the new `FILE`, beside which the files that it pins are named", Required: true},
		&cli.StringFlag{Name: "ceremony", Usage: "the `ID` of the new ceremony; by default the last one's with the number at its end counted up"},
		&cli.StringFlag{Name: "from", Usage: "the `TIME` at which the window begins, as 2026-11-21T00:00:00Z; by default today, by this machine's clock"},
		&cli.IntFlag{Name: "days", Usage: "the window's length, 1 to 31", Value: 3},
		&cli.StringFlag{Name: "officers", Usage: "the roster that replaces the last one, a `FILE`; for first, and the first release: the roster. officers without it goes on with a turnover that was aborted"},
		&cli.StringSliceFlag{Name: "approval", Usage: "an approval of that roster by an officer of the last one, a `FILE`; give one for each"},
		&cli.StringSliceFlag{Name: "shares", Usage: "shares of an aborted ceremony, a `FILE` that 'hanaper ceremony shares' wrote; give one for each"},
		&cli.StringFlag{Name: "token", Usage: "restore: the `LABEL` or serial of the token that died; first, and the first release: the label of the new one"},
		&cli.StringSliceFlag{Name: "without", Usage: "the `LABEL` or serial of a token that you have no longer: keys that are only there are left out"},
		&cli.StringFlag{Name: "root", Usage: "rollover, retire, factory: the `NAME` of a root's certificate"},
		&cli.StringSliceFlag{Name: "certificate", Usage: "revoke: the `NAME` of a certificate; give one for each"},
		&cli.StringFlag{Name: "reason", Usage: "revoke: the reason as RFC 5280 names it, such as keyCompromise or cessationOfOperation"},
		&cli.StringFlag{Name: "at", Usage: "revoke: the `TIME` since which it counts; by default the beginning of the window"},
		&cli.IntFlag{Name: "keys", Usage: "trust-keys: how many for each role", Value: 3},
		&cli.IntFlag{Name: "threshold", Usage: "trust-keys: how many of them must sign", Value: 2},
		&cli.StringFlag{Name: "manifest", Usage: "release: manifest.json of the release, a `FILE`"},
	}
	for use, what := range map[string]string{
		ceremony.UseFactory: "certify the request of a factory's CA", ceremony.UseStation: "certify the request of a station", ceremony.UseOperator: "certify the request of an operator",
		ceremony.UsePublisher: "certify the request of a publisher of CRLs", ceremony.UseViewer: "certify the request of one who only reads",
		ceremony.UseServer: "certify the request of a server of the factory", ceremony.UseGateway: "certify the request of a gateway",
		ceremony.UseGatewayClient: "certify the request of a gateway that hands on devices' renewals to the factory",
		ceremony.UseAnchor:        "take in the certificate of a CA outside; the first is an anchor, those after it are under it",
		ceremony.UseTrust:         "first: the public key of an online role of trust, snapshot, timestamp or crl",
		ceremony.UseFreeze:        "freeze the last CRL of a factory's CA whose key is destroyed, DER or PEM",
	} {
		flags = append(flags, &cli.StringSliceFlag{Name: use, Usage: what + ", `NAME=FILE`; give one for each"})
	}
	return &cli.Command{
		Name:      "new",
		Usage:     "write the script of the next ceremony from the folder of the last one",
		ArgsUsage: "KIND [DIR]",
		Description: "KIND is one of\n\n" + strings.Join(kinds, "\n") + "\n\nDIR is the folder of the last ceremony, which is verified as by 'hanaper ceremony verify': a folder that nothing vouches for decides nothing. first has none, and the first release. " +
			"Each kind but first, officers, restore and release renews what 'yearly' renews, too. The script has comments, and 'hanaper ceremony check' is asked about it. No file is ever overwritten.\n\n" +
			"Example:\n  hanaper ceremony new --out script-2.yaml --roster $(cat roster.sha256) yearly ceremony-1\n" +
			"  hanaper ceremony new --out script.yaml --officers roster.json first\n" +
			"  hanaper ceremony new --out script.yaml --officers roster.json --manifest manifest.json release",
		Flags: append(append(flags, stateFlag), anchorFlags()...),
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			for _, a := range args {
				if strings.HasPrefix(a, "-") {
					return advice.New(advice.Usage, "see 'hanaper ceremony new --help'", "flags stand before KIND: %q", a)
				}
			}
			if len(args) < 1 || len(args) > 2 {
				return advice.New(advice.Usage, "see 'hanaper ceremony new --help'", "give a kind, and the folder of the last ceremony; the first one has none")
			}
			if first, later := ceremony.NextBegins(args[0]); (first || later) && (len(args) == 1 && !first || len(args) == 2 && !later) {
				return advice.New(advice.Usage, "see 'hanaper ceremony new --help'", "give a kind, and the folder of the last ceremony; the first one has none")
			}
			return newScript(c, args)
		},
	}
}

func newScript(c *cli.Context, args []string) error {
	out := c.String("out")
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Usage, "name a file that does not exist with --out", "%s is there already", show.Text(out))
	}
	n, err := nextOf(c, args[0])
	if err != nil {
		return err
	}
	var s *ceremony.Status
	if len(args) == 2 {
		n.Folder = absolute(args[1])
		held, err := anchors(c, "")
		if err != nil {
			return err
		}
		if _, err := os.Stat(n.Folder); err != nil {
			return advice.Wrap(advice.Usage, err, "name the folder of the last ceremony")
		}
		if err := notARelease(n.Folder); err != nil {
			return err
		}
		if s, err = ceremony.ReadStatus(c.Context, input.Dir(n.Folder), n.Folder, held); err != nil {
			return err
		}
	}
	text, err := ceremony.WriteNext(s, n)
	if err != nil {
		return err
	}
	if err := durable.Create(out, text, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "written to %s\n", show.Text(out))
	plan, err := loadPlan(c, out)
	if err != nil {
		return fmt.Errorf("the file is there, and `hanaper ceremony check` refuses it as it stands: %w", err)
	}
	fmt.Fprintf(c.App.Writer, "`hanaper ceremony check` passes it: %d steps. Read it, and change what is not meant.\n", len(plan.Steps))
	if s != nil {
		if a, err := anchorOf(c); err == nil {
			if err := a.State.CanFollow(machine.Begun{Earlier: s.Checkpoint}); err != nil {
				fmt.Fprintf(c.App.ErrWriter, "hanaper: %s is not the folder of the last ceremony: %s. `hanaper ceremony run` will refuse the script; name the folder of the last one\n", show.Text(args[1]), show.Line(err.Error()))
			}
		}
	}
	for _, p := range problemsOf(s) {
		fmt.Fprintf(c.App.ErrWriter, "hanaper: after the last ceremony: %s\n", show.Line(p))
	}
	return nil
}

func problemsOf(s *ceremony.Status) []string {
	if s == nil {
		return nil
	}
	return s.Problems
}

// nextOf reads the flags, and the files that they name.
func nextOf(c *cli.Context, kind string) (ceremony.Next, error) {
	n := ceremony.Next{Kind: kind, Ceremony: c.String("ceremony"), Days: c.Int("days"), Script: absolute(c.String("out")), Reason: c.String("reason"),
		Token: c.String("token"), Without: c.StringSlice("without"), Keys: c.Int("keys"), Threshold: c.Int("threshold"), From: time.Now().UTC().Truncate(24 * time.Hour)}
	for name, at := range map[string]*time.Time{"from": &n.From, "at": &n.At} {
		if text := c.String(name); text != "" {
			t, err := time.Parse(timeForm, text)
			if err != nil {
				return n, advice.New(advice.Usage, "write it in UTC, as 2026-11-21T00:00:00Z", "--%s %q is not a date", show.Text(name), text)
			}
			*at = t
		}
	}
	if kind == "restore" && n.Token != "" {
		n.Names = []string{n.Token}
	}
	if root := c.String("root"); root != "" {
		n.Names = []string{root}
	}
	if kind == "revoke" {
		n.Names = c.StringSlice("certificate")
	}
	if path := c.String("officers"); path != "" {
		data, err := readFile(path)
		if err != nil {
			return n, err
		}
		n.Officers = &ceremony.NamedFile{Name: "roster", File: absolute(path), Data: data}
	}
	if path := c.String("manifest"); path != "" {
		data, err := readFile(path)
		if err != nil {
			return n, err
		}
		n.Manifest = &ceremony.NamedFile{Name: "manifest", File: absolute(path), Data: data}
	}
	for _, path := range c.StringSlice("approval") {
		data, err := readFile(path)
		if err != nil {
			return n, err
		}
		n.Approvals = append(n.Approvals, ceremony.NamedFile{File: absolute(path), Data: data})
	}
	for _, path := range c.StringSlice("shares") {
		data, err := readFile(path)
		if err != nil {
			return n, err
		}
		n.Shares = append(n.Shares, ceremony.NamedFile{File: absolute(path), Data: data})
	}
	for _, use := range ceremony.NextUses() {
		for _, text := range c.StringSlice(use) {
			name, path, ok := strings.Cut(text, "=")
			if !ok || name == "" {
				return n, advice.New(advice.Usage, "write NAME=FILE", "--%s %q", show.Text(use), text)
			}
			data, err := readFile(path)
			if err != nil {
				return n, err
			}
			n.Inputs = append(n.Inputs, ceremony.NamedFile{Name: name, File: absolute(path), Data: data, Use: use})
		}
	}
	return n, nil
}

// absolute makes files comparable; where the working folder is unknown, the name is as good.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
