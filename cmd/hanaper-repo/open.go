package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/trust"
)

// openToken opens the online keys' token.
func openToken(ctx context.Context, c *config) (hsm.Token, error) {
	uri, err := hsm.ParseURI(c.Keys.Token)
	if err != nil {
		return nil, err
	}
	return c.open(ctx, uri)
}

// open opens the token that a URI of the configuration names.
func (c *config) open(ctx context.Context, uri hsm.URI) (hsm.Token, error) {
	o := open.Config{URI: uri.TokenURI(), PIN: hsm.PINFromURI(uri, hsm.PINPrompt(term.TTY().Secret)), Tell: shell.Saying("hanaper-repo"), Stores: open.Stores()}
	if c.Keys.Apart {
		o.Apart = &apart.Limits{Sign: c.Keys.Deadline, Environment: c.Keys.Environment}
	}
	return open.Token(ctx, o)
}

// office is the publisher with its token.
type office struct {
	*trust.Publisher
	config *config
	token  hsm.Token
}

func (o *office) Close() { _ = o.token.Close() }

// openOffice does what every publishing verb begins with. What needs no token comes first.
func openOffice(c *cli.Context) (*office, error) {
	cfg, err := loadConfig(c.String("config"))
	if err != nil {
		return nil, err
	}
	pin, err := cfg.pin()
	if err != nil {
		return nil, err
	}
	token, err := openToken(c.Context, cfg)
	if err != nil {
		return nil, err
	}
	o := &office{config: cfg, token: token}
	keys := map[string]crypto.Signer{}
	for _, label := range []string{cfg.Keys.Snapshot, cfg.Keys.Timestamp, cfg.Keys.CRL} {
		key, err := token.Key(c.Context, hsm.Query{Label: label})
		if err != nil {
			o.Close()
			return nil, advice.Wrap(advice.KindOf(err), err, "'hanaper-repo keys generate' makes the online keys")
		}
		keys[label] = key
	}
	o.Publisher, err = trust.NewPublisher(trust.PublisherConfig{
		Dir: cfg.path(cfg.Publish), HighWater: cfg.path(cfg.HighWater), Pin: pin, Environment: cfg.Environment,
		Snapshot: keys[cfg.Keys.Snapshot], Timestamp: keys[cfg.Keys.Timestamp], CRL: keys[cfg.Keys.CRL],
		SnapshotLife: cfg.Lifetimes.Snapshot, TimestampLife: cfg.Lifetimes.Timestamp, CRLLife: cfg.Lifetimes.CRL,
	})
	if err == nil && o.View() != nil {
		err = o.checkApart(c.Context, slices.Concat(o.View().Anchors(), o.View().Intermediates()), c.App.ErrWriter)
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *office) checkApart(ctx context.Context, cas []*x509.Certificate, warn io.Writer) error {
	return checkApart(ctx, o.config, o.token, cas, warn)
}

// checkApart refuses a token that holds a CA's key beside the online keys: whoever takes this machine would have both.
func checkApart(ctx context.Context, c *config, token hsm.Token, cas []*x509.Certificate, warn io.Writer) error {
	keys, err := token.Keys(ctx)
	if errors.Is(err, hsm.ErrUnsupported) {
		fmt.Fprintf(warn, "hanaper-repo: warning: whether the key of a CA lies beside the online keys cannot be seen: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	for _, k := range keys {
		spki, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			continue
		}
		id := trust.ID(sha256.Sum256(spki))
		for _, ca := range cas {
			if trust.IssuerID(ca) != id {
				continue
			}
			if !c.Keys.Joined {
				return advice.New(advice.Refused, "keep the online keys in a token of their own; keys.joined allows this on a developer's desk",
					"token %q holds the key of CA %q beside the online trust keys", token.Info().Label, ca.Subject)
			}
			fmt.Fprintf(warn, "hanaper-repo: warning: token %q holds the key of CA %q as well (keys.joined)\n", token.Info().Label, ca.Subject)
		}
	}
	return nil
}
