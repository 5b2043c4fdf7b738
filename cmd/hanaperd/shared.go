package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/uptane/repo"
)

// leave is the officers' word on shared credentials: the policy in the trust that is published.
type leave struct {
	feed *feed.Feed
}

// openLeave follows the trust repository that the section names; state is the folder to keep what was seen in.
func openLeave(ctx context.Context, c *factory.SharedConfig, state string) (*leave, error) {
	pin, err := trust.ParsePin(c.Trust.Root)
	if err != nil {
		data, err := input.Read(c.Trust.Root, trust.MaxRootSize)
		if err != nil {
			return nil, advice.New(advice.Usage, "name the environment's first root.json, or its SHA-256 in hex", "shared_credentials.trust.root: %w", err)
		}
		pin = trust.PinRoot(data)
	}
	var ca []byte
	if c.Trust.CA != "" {
		if ca, err = input.ReadFile(c.Trust.CA); err != nil {
			return nil, advice.New(advice.Usage, "name a PEM file", "shared_credentials.trust.ca: %w", err)
		}
	}
	client, err := feed.NewClient(ca)
	if err != nil {
		return nil, fmt.Errorf("shared_credentials.trust.ca: %w", err)
	}
	l := &leave{}
	if l.feed, err = feed.New(feed.Config{Source: c.Trust.Source, Pin: pin, Environment: c.Environment, StateDir: state, Interval: c.Trust.Interval, Client: client}); err != nil {
		return nil, err
	}
	// What was seen earlier will do for a start: whether it still holds is asked at every request.
	err = l.feed.Refresh(ctx)
	switch view := l.feed.Current(); {
	case view == nil && err == nil:
		err = errors.New("the trust source gives nothing")
		fallthrough
	case view == nil:
		err = advice.Wrap(advice.KindOf(err), fmt.Errorf("shared_credentials.trust: %w", err), advice.Hint(err))
	case view.Policy().Production() || view.Policy().SharedCredentials == nil:
		err = advice.New(advice.Refused, "remove the section shared_credentials here, or have the officers allow it in an environment whose stage is development",
			"the policy of the environment %s allows no shared credentials", show.Text(view.Environment()))
	default:
		return l, nil
	}
	_ = l.feed.Close()
	return nil, err
}

// allowed says whether the policy in force lets this CA issue and use shared credentials at now, and until when.
func (l *leave) allowed(issuer *x509.Certificate, now time.Time) (time.Time, error) {
	view := l.feed.Current()
	if err := view.Valid(now); err != nil {
		return time.Time{}, err
	}
	shared := view.Policy().SharedAt(now)
	switch {
	case shared == nil:
		return time.Time{}, errors.New("the officers' policy does not allow them, or no longer")
	case !shared.IssuedBy(trust.IssuerID(issuer)):
		return time.Time{}, fmt.Errorf("the officers' policy allows them for another CA than %q", issuer.Subject.CommonName)
	}
	return shared.Until, nil
}

func (l *leave) run(ctx context.Context, log *slog.Logger) {
	_ = l.feed.Run(ctx, func(v *trust.View) {
		if v.Policy().SharedAt(time.Now()) == nil {
			log.Warn("the officers' policy allows no shared credentials any more")
		}
	})
}

// checkLeave looks at what the section names, keeps nothing, and says what it found.
func checkLeave(ctx context.Context, p *parts) (string, error) {
	if p.shared == nil {
		return "none", nil
	}
	dir, err := os.MkdirTemp("", "hanaperd-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	l, err := openLeave(ctx, p.config.Shared, dir)
	if err != nil {
		return "", err
	}
	defer l.feed.Close()
	until, err := l.allowed(p.issuers[0].chain[0], time.Now())
	if err != nil {
		return "refused: " + err.Error(), nil
	}
	return "ALLOWED until " + until.Format(time.RFC3339) + ": not for production", nil
}

func sharedCommand() *cli.Command {
	return &cli.Command{
		Name:  "shared",
		Usage: "shared credentials, by which test benches get keys and certificates; never in production",
		Subcommands: []*cli.Command{{
			Name:  "issue",
			Usage: "as an operator, have a running hanaperd make a shared credential",
			Description: "It is written as a credentials.zip, with the gateway's address and autoprov_credentials.p12. The lot bounds how many devices may come by it; the\n" +
				"credential takes one of its places. Whoever has it can enrol a test bench: 'hanaperd revoke' ends it.\n\n" +
				"Example:\n  hanaperd shared issue --url https://factory.bench.example:8443 --ca operations-root.pem --cert olga.pem --key olga.key --lot benches --days 30 --gateway https://gateway.bench.example:8443 --out credentials.zip",
			Flags: append(callerFlags(), &cli.StringFlag{Name: "lot", Required: true, Usage: "the `LOT` that its devices are enrolled under"},
				&cli.StringFlag{Name: "gateway", Required: true, Usage: "the gateway's `URL`, as benches reach it"},
				&cli.IntFlag{Name: "days", Usage: "how many `DAYS` it lasts; as long as hanaperd allows if left out"},
				&cli.StringFlag{Name: "out", Value: "credentials.zip", Usage: "`FILE` to write, mode 0600", TakesFile: true}),
			Before: shell.NoArgs,
			Action: issueShared,
		}},
	}
}

func issueShared(c *cli.Context) error {
	// Before it is made: a credential that cannot be kept is lost, and takes a place of its lot.
	if _, err := os.Lstat(c.String("out")); err == nil {
		return advice.New(advice.Usage, "name another file, or move that one away", "%s is there already", show.Text(c.String("out")))
	}
	gateway, err := address.ParseURL(strings.TrimRight(c.String("gateway"), "/"))
	if err != nil || gateway.Scheme != "https" {
		return advice.New(advice.Usage, "write https://host:port", "--gateway: %s is not the URL of a gateway", show.Text(c.String("gateway")))
	}
	client, err := caller(c)
	if err != nil {
		return err
	}
	a, err := client.IssueShared(c.Context, factory.SharedRequest{Lot: c.String("lot"), Days: c.Int("days")})
	if err != nil {
		return err
	}
	archive := repo.NewCredentials()
	err = errors.Join(archive.Set(repo.EntryAutoprov, []byte(gateway.String())), archive.Set(repo.EntryAutoprovP, a.PKCS12))
	var data []byte
	if err == nil {
		data, err = archive.Bytes()
	}
	if err == nil {
		err = durable.Create(c.String("out"), data, 0o600)
	}
	if err != nil {
		return advice.Wrap(advice.KindOf(err), err, "the credential "+a.ID+" was issued and is lost: revoke it with 'hanaperd revoke --device-id "+a.ID+"'")
	}
	if c.Bool("json") {
		a.PKCS12 = nil
		return shell.JSON(c.App.Writer, a)
	}
	_, err = fmt.Fprintf(c.App.Writer, "SHARED CREDENTIAL, not for production: %s for lot %s until %s, in %s\n", show.Text(a.ID), show.Text(a.Lot), a.NotAfter.Format(time.RFC3339), show.Text(c.String("out")))
	return err
}
