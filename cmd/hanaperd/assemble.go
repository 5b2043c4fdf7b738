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
	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/namepolicy"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/internal/weakkey"
)

var configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/hanaper/hanaperd.yaml", Usage: "configuration `FILE`; 'hanaperd config' prints one", TakesFile: true}

// parts is all that a configuration names, loaded and checked against each other.
type parts struct {
	config *factory.Config
	// tokens are open, those of all issuers; issuers are in the configuration's order.
	tokens  []hsm.Token
	opened  map[string]hsm.Token
	issuers []*issuer
	callers *factory.Callers
	server  tls.Certificate
	// fleet are the Fleet Roots.
	fleet []*x509.Certificate
	// attestation is nil where no evidence is asked for.
	attestation *factory.Attestation
	// renewal is nil where no certificates are renewed.
	renewal *factory.Renewal
	// shared is nil where there are no shared credentials; who allows them is found when it serves.
	shared *factory.Shared
	// lots says who orders lots, and what stations may do.
	lots factory.LotPolicy
	// profiles are those of files.
	profiles []*factory.Profile
	weakKeys weakkey.Blacklist
}

// issuer is one issuing CA: its certificate and those above, and its key in each token that has it.
type issuer struct {
	certificate string
	keys        []hsm.URI
	crl         string
	chain       []*x509.Certificate
	opened      []hsm.Key
	// in are the names of the tokens of the opened keys.
	in      []string
	signers []*ca.Issuer
}

func (p *parts) close() {
	for _, t := range p.tokens {
		_ = t.Close()
	}
}

// assemble loads everything; what needs no token comes first, so that a mistake there costs no login.
func assemble(ctx context.Context, path string, tell func(said string)) (*parts, error) {
	c, err := factory.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	p := &parts{config: c}
	if p.profiles, err = c.LoadProfiles(factory.ProfileSources{Evidence: c.Attestation.Policy != "", Names: namepolicy.New}); err != nil {
		return nil, err
	}
	if p.weakKeys, err = weakkey.LoadBlacklists(c.WeakKeys); err != nil {
		return nil, err
	}
	fleet, err := factory.LoadCertificates(c.Issuing.FleetRoot)
	if err != nil {
		return nil, err
	}
	p.fleet = fleet
	if err := p.loadChains(fleet); err != nil {
		return nil, err
	}
	if err := p.loadCallers(fleet); err != nil {
		return nil, err
	}
	if p.lots, err = c.LoadLots(p.callers); err != nil {
		return nil, err
	}
	if p.attestation, err = c.LoadAttestation(false); err != nil {
		return nil, err
	}
	if p.renewal, err = c.LoadRenewal(fleet); err != nil {
		return nil, err
	}
	if s := c.Shared; s != nil {
		p.shared = &factory.Shared{CredentialDays: s.CredentialDays, DeviceDays: s.DeviceDays}
		if p.shared.ServerRoots, err = factory.LoadCertificates(s.ServerRoot); err != nil {
			return nil, err
		}
	}
	if p.server, err = factory.LoadIdentity(c.TLS.Certificate, c.TLS.Key); err != nil {
		return nil, err
	}
	now := time.Now()
	if err := checkServer(p.server.Leaf, now); err != nil {
		if now.After(p.server.Leaf.NotAfter) || now.Before(p.server.Leaf.NotBefore) {
			return nil, ofTheTime(now, fmt.Errorf("tls.certificate %s: %w", show.Text(c.TLS.Certificate), err), "a new certificate needs a request: 'hanaperd tls-csr'")
		}
		return nil, advice.New(advice.Refused, "'hanaperd tls-csr' makes a request for one with profile server", "tls.certificate %s: %w", show.Text(c.TLS.Certificate), err)
	}
	for _, i := range p.issuers {
		if ca.SameKey(p.server.Leaf.PublicKey, i.chain[0].PublicKey) {
			return nil, advice.New(advice.Refused, "make one with 'hanaperd tls-csr'", "tls.key is an issuing key; TLS needs a key of its own")
		}
	}
	if err := p.openKeys(ctx, fleet[0], tell); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// loadChains reads the certificates of every issuing CA.
func (p *parts) loadChains(fleet []*x509.Certificate) (err error) {
	c := p.config
	p.issuers = []*issuer{{certificate: c.Issuing.Certificate, keys: c.Keys(), crl: c.CRL.File}}
	chains := []string{c.Issuing.Chain}
	for _, o := range c.Issuing.Others {
		p.issuers, chains = append(p.issuers, &issuer{certificate: o.Certificate, keys: o.Keys(), crl: o.CRL}), append(chains, o.Chain)
	}
	for n, i := range p.issuers {
		if i.chain, err = factory.LoadCertificates(i.certificate); err != nil {
			return err
		}
		if chains[n] != "" {
			above, err := factory.LoadCertificates(chains[n])
			if err != nil {
				return err
			}
			i.chain = append(i.chain, above...)
		}
		now := time.Now()
		if err := ca.Verify(i.chain, fleet, now); err != nil {
			if ca.Verify(i.chain, fleet, i.chain[0].NotBefore) == nil {
				return ofTheTime(now, fmt.Errorf("issuing certificate %s: %w", show.Text(i.certificate), err), "a CA that ended needs a new certificate, from the officers")
			}
			return advice.New(advice.Unverified, "chain holds what stands between certificate and issuing.fleet_root, lowest first",
				"issuing certificate %s: %w", show.Text(i.certificate), err)
		}
	}
	return nil
}

// checkServer refuses a certificate that no station would take.
// ofTheTime is the error of a certificate that only the time is against. It is no refusal for good: a machine that starts with a wrong clock, as after its
// battery died, is set right by the network a moment later, and the service manager's next start finds all well.
func ofTheTime(now time.Time, err error, otherwise string) error {
	return advice.Wrap(advice.Failed, err, "is this machine's clock right? It shows "+now.UTC().Format(time.RFC3339)+". If it is: "+otherwise)
}

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
	devices := slices.Clone(fleet)
	for _, i := range p.issuers {
		devices = append(devices, i.chain...)
	}
	p.callers, err = factory.NewCallers(operations, devices, time.Now)
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

// openKeys opens each issuing CA's key in every token that has it. Of the tokens that hold one key, one that is away is left out until the next
// start; what is wrong otherwise stops the start.
func (p *parts) openKeys(ctx context.Context, fleet *x509.Certificate, tell func(said string)) error {
	for _, i := range p.issuers {
		var away error
		for _, uri := range i.keys {
			if err := p.openKey(ctx, i, uri, fleet, tell); err != nil {
				if advice.KindOf(err) != advice.Failed || len(i.keys) == 1 {
					return err
				}
				tell(fmt.Sprintf("key %s is left out until the next start: %s", uri.Query(), err))
				away = errors.Join(away, err)
			}
		}
		if len(i.signers) == 0 {
			return away
		}
	}
	return nil
}

// tokenOf is the token that a key URI names, opened once for all its keys.
func (p *parts) tokenOf(ctx context.Context, uri hsm.URI, tell func(said string)) (hsm.Token, error) {
	name := uri.TokenURI().String()
	if token := p.opened[name]; token != nil {
		return token, nil
	}
	token, err := openToken(ctx, p.config, uri, p.config.Issuing.Sessions, tell)
	if err != nil {
		return nil, err
	}
	if p.opened == nil {
		p.opened = map[string]hsm.Token{}
	}
	p.opened[name], p.tokens = token, append(p.tokens, token)
	return token, nil
}

func (p *parts) openKey(ctx context.Context, i *issuer, uri hsm.URI, fleet *x509.Certificate, tell func(said string)) error {
	token, err := p.tokenOf(ctx, uri, tell)
	if err != nil {
		return err
	}
	key, err := token.Key(ctx, uri.Query())
	if err != nil {
		return err
	}
	if err := ca.CheckKeyMatches(i.chain[0], key.Public()); err != nil {
		return advice.New(advice.Unverified, "a key and its certificate must belong together", "key %s in %s is not the key of %s: %w",
			uri.Query(), token.Info().Name(), show.Text(i.certificate), err)
	}
	signer, err := ca.NewIssuer(i.chain[0], key, append(i.chain[1:len(i.chain):len(i.chain)], fleet)...)
	if err == nil {
		i.opened, i.in, i.signers = append(i.opened, key), append(i.in, token.Info().Name()), append(i.signers, signer)
	}
	return err
}

// openToken opens the token that a key URI names, with the PIN from its pin-source or from the terminal.
func openToken(ctx context.Context, c *factory.Config, uri hsm.URI, sessions int, tell func(said string)) (hsm.Token, error) {
	o := open.Config{URI: uri.TokenURI(), PIN: hsm.PINFromURI(uri, hsm.PINPrompt(term.TTY().Secret)), Sessions: sessions, Tell: tell, Stores: open.Stores()}
	if c.Issuing.Apart {
		o.Apart = &apart.Limits{Sign: c.Issuing.Deadline, Environment: c.Issuing.Environment}
	}
	return open.Token(ctx, o)
}

func (p *parts) service(s record.Store, issuances *issuancelog.Log, log *slog.Logger) (*factory.Service, error) {
	c := p.config
	var each []factory.IssuerConfig
	for _, i := range p.issuers {
		each = append(each, i.configure())
	}
	sc := factory.ServiceConfig{IssuerConfig: each[0], Others: each[1:], Roots: p.fleet, Store: s, IDs: c.IDs(), Days: c.Devices.Days, MinimumDays: c.Devices.MinimumDays, ClockGap: c.Clock.Gap, Expiries: p.expiries,
		Organization: c.Devices.Organization, CRLValidity: c.CRL.Validity, CRLRefresh: c.CRL.Refresh, CRLInterval: c.CRL.Interval, Attestation: p.attestation, Renewal: p.renewal, Shared: p.shared, Lots: p.lots, Log: log}
	sc.TokenHealth, sc.Version = p.tokenHealth, shell.Running()
	sc.WeakKeys = p.weakKeys
	sc.Profiles, sc.DefaultProfile = p.profiles, c.Devices.Profile
	if issuances != nil {
		sc.IssuanceLog = served{issuances}
		sc.Witnesses = append(sc.Witnesses, served{issuances}.witnesses()...)
	}
	if c.Store.Mark != "" {
		sc.Witnesses = append(sc.Witnesses, factory.MarkFile(c.Store.Mark))
	}
	return factory.NewService(sc)
}

// tokenHealth is nil while one of the tokens can be used, as far as they know.
func (p *parts) tokenHealth() error {
	var away error
	for _, t := range p.tokens {
		known, is := t.(interface{ Health() error })
		if !is {
			return nil
		}
		err := known.Health()
		if err == nil {
			return nil
		}
		away = errors.Join(away, err)
	}
	return away
}

// expiries are what ends beside the issuing CAs and their lists.
func (p *parts) expiries() []factory.Expiry {
	all := []factory.Expiry{factory.CertificateExpiry("hanaperd's TLS certificate", p.server.Leaf, "'hanaperd tls-csr' makes a request for a new one")}
	for _, r := range p.callers.Roots() {
		all = append(all, factory.CertificateExpiry(fmt.Sprintf("the Operations Root %q", r.Subject.CommonName), r, "have the ceremony make the next one"))
	}
	if e, ok := p.callers.Expiry(); ok {
		all = append(all, e)
	}
	return all
}

func (i *issuer) configure() factory.IssuerConfig {
	c := factory.IssuerConfig{Issuer: i.signers[0], Clones: i.signers[1:], Chain: i.chain}
	if i.crl == "" {
		return c
	}
	c.PublishCRL = func(der []byte) error { return durable.WriteFile(i.crl, der, 0o644) }
	c.PublishedCRL = func() ([]byte, error) {
		if _, err := os.Stat(i.crl); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return factory.ReadCRL(i.crl)
	}
	return c
}
