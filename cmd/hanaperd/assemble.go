package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

var configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/hanaper/hanaperd.yaml", Usage: "configuration `FILE`; 'hanaperd config' prints one", TakesFile: true}

// parts is all that a configuration names, loaded and checked against each other.
type parts struct {
	config  *factory.Config
	token   hsm.Token
	key     hsm.Key
	issuer  *ca.Issuer
	chain   []*x509.Certificate
	callers *factory.Callers
	server  tls.Certificate
	// attestation is nil where no evidence is asked for.
	attestation *factory.Attestation
}

func (p *parts) close() { _ = p.token.Close() }

// assemble loads everything; what needs no token comes first, so that a mistake there costs no login.
func assemble(ctx context.Context, path string, tell func(said string)) (*parts, error) {
	c, err := factory.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	p := &parts{config: c}
	fleet, err := factory.LoadCertificates(c.Issuing.FleetRoot)
	if err != nil {
		return nil, err
	}
	if p.chain, err = factory.LoadCertificates(c.Issuing.Certificate); err != nil {
		return nil, err
	}
	if c.Issuing.Chain != "" {
		above, err := factory.LoadCertificates(c.Issuing.Chain)
		if err != nil {
			return nil, err
		}
		p.chain = append(p.chain, above...)
	}
	if err := ca.Verify(p.chain, fleet, time.Now()); err != nil {
		return nil, advice.New(advice.Unverified, "issuing.chain holds what stands between issuing.certificate and issuing.fleet_root, lowest first",
			"issuing certificate %s: %w", show.Text(c.Issuing.Certificate), err)
	}
	if err := p.loadCallers(fleet); err != nil {
		return nil, err
	}
	if p.attestation, err = c.LoadAttestation(false); err != nil {
		return nil, err
	}
	if p.server, err = factory.LoadIdentity(c.TLS.Certificate, c.TLS.Key); err != nil {
		return nil, err
	}
	if err := checkServer(p.server.Leaf, time.Now()); err != nil {
		return nil, advice.New(advice.Refused, "'hanaperd tls-csr' makes a request for one with profile server", "tls.certificate %s: %w", show.Text(c.TLS.Certificate), err)
	}
	if ca.SameKey(p.server.Leaf.PublicKey, p.chain[0].PublicKey) {
		return nil, advice.New(advice.Refused, "make one with 'hanaperd tls-csr'", "tls.key is the issuing key; TLS needs a key of its own")
	}
	if p.token, err = openToken(ctx, c, c.Key(), c.Issuing.Sessions, tell); err != nil {
		return nil, err
	}
	if err := p.loadIssuer(ctx, fleet); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// checkServer refuses a certificate that no station would take.
func checkServer(leaf *x509.Certificate, now time.Time) error {
	switch {
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		return errors.New("is not for servers")
	case now.After(leaf.NotAfter):
		return fmt.Errorf("expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

func (p *parts) loadCallers(fleet []*x509.Certificate) error {
	c := p.config
	operations, err := factory.LoadCertificates(c.Operations.Root)
	if err != nil {
		return err
	}
	p.callers, err = factory.NewCallers(operations, append(fleet, p.chain...), time.Now)
	if err != nil {
		return advice.New(advice.Refused, "operations.root is the root of stations and operators, never one that devices chain to",
			"%s: %w", show.Text(c.Operations.Root), err)
	}
	if c.Operations.CRL == "" {
		return nil
	}
	list, err := factory.LoadCRL(c.Operations.CRL)
	if err != nil {
		return err
	}
	if err := p.callers.UseCRL(list); err != nil {
		return advice.New(advice.Unverified, "operations.crl is the Operations Root's own list", "%s: %w", show.Text(c.Operations.CRL), err)
	}
	return nil
}

func (p *parts) loadIssuer(ctx context.Context, fleet []*x509.Certificate) (err error) {
	uri := p.config.Key()
	if p.key, err = p.token.Key(ctx, uri.Query()); err != nil {
		return err
	}
	if err := ca.CheckKeyMatches(p.chain[0], p.key.Public()); err != nil {
		return advice.New(advice.Unverified, "issuing.key and issuing.certificate must belong together", "key %s in %s is not the key of %s: %w",
			uri.Query(), p.token.Info().Name(), show.Text(p.config.Issuing.Certificate), err)
	}
	p.issuer, err = ca.NewIssuer(p.chain[0], p.key, append(p.chain[1:len(p.chain):len(p.chain)], fleet[0])...)
	return err
}

// openToken opens the token that a key URI names, with the PIN from its pin-source or from the terminal.
func openToken(ctx context.Context, c *factory.Config, uri hsm.URI, sessions int, tell func(said string)) (hsm.Token, error) {
	o := open.Config{URI: uri.TokenURI(), PIN: hsm.PINFromURI(uri, hsm.PINPrompt(term.TTY().Secret)), Sessions: sessions, Tell: tell}
	if c.Issuing.Apart {
		o.Apart = &apart.Limits{Sign: c.Issuing.Deadline, Environment: c.Issuing.Environment}
	}
	return open.Token(ctx, o)
}

func (p *parts) service(s record.Store, log *slog.Logger) (*factory.Service, error) {
	c := p.config
	sc := factory.ServiceConfig{IssuerConfig: factory.IssuerConfig{Issuer: p.issuer, Chain: p.chain}, Store: s, IDs: c.IDs(), Days: c.Devices.Days,
		Organization: c.Devices.Organization, CRLValidity: c.CRL.Validity, CRLRefresh: c.CRL.Refresh, CRLInterval: c.CRL.Interval, Attestation: p.attestation, Log: log}
	if c.CRL.File != "" {
		sc.PublishCRL = func(der []byte) error { return durable.WriteFile(c.CRL.File, der, 0o644) }
		sc.PublishedCRL = func() (*x509.RevocationList, error) {
			if _, err := os.Stat(c.CRL.File); errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return factory.LoadCRL(c.CRL.File)
		}
	}
	return factory.NewService(sc)
}
