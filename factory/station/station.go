// Package station gives one device its key, its certificate and its import folder, on the production line. A run may end
// anywhere: the next one finds what is done already, and goes on.
//
// # What it trusts
//
// The configuration, which names the fleet's root, the factory's address and what identifies it, and the gateway. An
// attacker who can change it decides whom the device will believe.
//
// The factory's answer only as far as it verifies: the certificate is for this device's id and this key, under the fleet
// root that the station holds. An attacker who controls hanaperd, or the line to it, can refuse the device a
// certificate, or give it another valid one of the same device id and key; nothing else is written. Where the station keeps
// checkpoints of the issuance log, an answer with an older or another history is refused. He can withhold checkpoints, which is
// a remark, or a refusal where the configuration demands them.
//
// The device's token, as far as it shows its key's attributes: a key that was not born in it, or that can leave it, is
// refused. An attacker who controls the token's module controls the device's key.
//
// Evidence of where the key was born (device.attestation) is only carried: hanaperd judges it. An attacker who controls the
// station or the device can have a chip of his own enrolled under the device's name, if its manufacturer is one that hanaperd believes.
//
// The import folder, if it is there, is compared and never changed; where its certificate is an earlier one of the same device, and the
// device's key is in a token, it is moved aside. The token's own certificate is replaced where hanaperd gave the very same key a later one. An attacker who can write to it can make the
// enrolment fail, and can of course change what the device will read after the station is done. In the file key store
// he who can read the folder, or the key that waits beside it, has the device's key.
package station

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Result says what an enrolment came to.
type Result struct {
	DeviceID string    `json:"device_id"`
	Serial   string    `json:"serial"`
	NotAfter time.Time `json:"not_after"`
	// NewKey and NewCertificate are false where an earlier run had got that far.
	NewKey         bool `json:"new_key"`
	NewCertificate bool `json:"new_certificate"`
	// NewUptaneKey is true where this run had the Uptane key made in the token.
	NewUptaneKey bool   `json:"new_uptane_key,omitempty"`
	Import       string `json:"import"`
}

// With is what a Station uses of its surroundings.
type With struct {
	// OpenToken opens the device's token and logs in. The Station closes it.
	OpenToken func(context.Context, hsm.URI) (hsm.Token, error)
	// Tokens lists what the device's module shows here; nil leaves the client's first-token rule unlooked at.
	Tokens Tokens
	// Step tells what is being done, Done what was done or tried. nil tells nobody.
	Step, Done func(format string, args ...any)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// offline has nothing asked of hanaperd.
	offline bool
}

// filled is w with something in each place that may be nil.
func (w With) filled() With {
	silent := func(string, ...any) {}
	if w.Step == nil {
		w.Step = silent
	}
	if w.Done == nil {
		w.Done = silent
	}
	if w.Now == nil {
		w.Now = time.Now
	}
	return w
}

// Station is one device's enrolment with everything loaded that needs neither token nor network.
type Station struct {
	c          *Config
	client     *factory.Client
	identity   tls.Certificate
	name       string // of this station, as its certificate has it
	fleet      []*x509.Certificate
	makers     []*x509.Certificate // of device.attestation_chain
	folder     *folder
	issuances  *issuances
	got        *archive
	openToken  func(context.Context, hsm.URI) (hsm.Token, error)
	tokens     Tokens
	step, done func(format string, args ...any)
	now        func() time.Time
}

// New checks the configuration and loads the files that it names.
func New(c *Config, w With) (*Station, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return load(c, w)
}

// load is New for a configuration that names no device yet.
func load(c *Config, w With) (*Station, error) {
	if err := c.checkLine(); err != nil {
		return nil, err
	}
	w = w.filled()
	s := &Station{c: c, got: &archive{path: c.Factory.Got}, openToken: w.OpenToken, tokens: w.Tokens, step: w.Step, done: w.Done, now: w.Now}
	var err error
	if s.fleet, err = factory.LoadCertificates(c.FleetRoot); err != nil {
		return nil, err
	}
	if c.Device.AttestationChain != "" {
		if s.makers, err = factory.LoadCertificates(c.Device.AttestationChain); err != nil {
			return nil, err
		}
	}
	if s.folder, err = newFolder(c, s.now, s.done); err != nil {
		return nil, err
	}
	id, err := factory.LoadIdentity(c.Factory.Certificate, c.Factory.Key)
	if err != nil {
		return nil, err
	}
	if s.now().After(id.Leaf.NotAfter) {
		return nil, advice.New(advice.Refused, "have the ceremony issue a new one", "this station's certificate %s expired at %s",
			show.Text(c.Factory.Certificate), id.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	s.identity, s.name = id, id.Leaf.Subject.CommonName
	if _, name, err := ca.RoleOf(id.Leaf); err == nil {
		s.name = name
	}
	s.client, err = c.client(func(err error, wait time.Duration) { s.done("%v; next try in %s", err, wait.Round(time.Second)) })
	if err != nil {
		return nil, err
	}
	client := s.client
	if w.offline {
		client = nil
	}
	s.issuances, err = newIssuances(c.Log, client, s.now, s.done)
	return s, err
}

// client speaks to hanaperd as this station.
func (c *Config) client(note func(error, time.Duration)) (*factory.Client, error) {
	roots, err := factory.LoadCertificates(c.Factory.CA)
	if err != nil {
		return nil, err
	}
	id, err := factory.LoadIdentity(c.Factory.Certificate, c.Factory.Key)
	if err != nil {
		return nil, err
	}
	return factory.NewClient(factory.ClientConfig{URL: c.Factory.URL, CA: roots, Identity: id, Tries: c.Factory.Tries, Timeout: c.Factory.Timeout, Note: note,
		Proxy: c.Factory.Proxy, ProxyCredentials: c.Factory.ProxyCredentials})
}

// Enroll makes or finds the keys, asks for the certificate, checks it, stores it, lays out the folder, and reads back what the device
// will use. Every step may be done already.
func (s *Station) Enroll(ctx context.Context) (*Result, error) {
	o, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer o.keys.close()
	s.step("%s: certificate", show.Text(s.c.Device.ID))
	evidence, err := s.evidence(ctx, o.keys, o.key)
	if err != nil {
		return nil, err
	}
	request, err := s.request(o.key, evidence)
	if err != nil {
		return nil, err
	}
	held, err := s.issuances.held()
	if err != nil {
		return nil, err
	}
	if request.Last, err = s.got.last(); err != nil {
		return nil, err
	}
	a, isNew, err := s.client.EnrollHolding(ctx, request, held)
	if err != nil {
		return nil, err
	}
	chain, err := checkAnswer(a, s.c, o.key.Public(), s.fleet, s.now())
	if err != nil {
		return nil, err
	}
	s.tellDiffers(a)
	if err := s.got.add(chain[0]); err != nil {
		return nil, err
	}
	// Before anything is written to the device: a factory whose record was put back does not go on making devices.
	if err := s.issuances.accept(ctx, held, a.Log); err != nil {
		return nil, err
	}
	if err := s.finish(ctx, o, chain); err != nil {
		return nil, err
	}
	s.done("%s: enrolled", show.Text(s.c.Device.ID))
	return s.result(o, a.Serial, chain, isNew), nil
}

// opened is a device's key store with its keys.
type opened struct {
	keys             keyStore
	key              crypto.Signer
	made, madeUptane bool
}

// open checks what can be known without the factory, opens the key store, and finds the device's keys or has them made. Whoever calls
// it closes the key store.
func (s *Station) open(ctx context.Context) (*opened, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	s.step("%s: key", show.Text(s.c.Device.ID))
	keys, err := openKeyStore(ctx, s.c, s.openToken, s.done)
	if err != nil {
		return nil, err
	}
	o := &opened{keys: keys}
	if store, is := keys.(*tokenStore); is {
		err = s.firstToken(store.token.Info())
	}
	if err == nil {
		o.key, o.made, err = keys.key(ctx)
	}
	if err == nil {
		o.madeUptane, err = keys.uptaneKey(ctx)
	}
	if err != nil {
		keys.close()
		return nil, err
	}
	return o, nil
}

// finish writes to the device what was checked, and reads it back.
func (s *Station) finish(ctx context.Context, o *opened, chain []*x509.Certificate) error {
	if err := o.keys.putCertificate(ctx, chain[0]); err != nil {
		return err
	}
	s.step("%s: import folder", show.Text(s.c.Device.ID))
	if err := s.folder.lay(ctx, chain, o.key); err != nil {
		return err
	}
	s.step("%s: reading back", show.Text(s.c.Device.ID))
	return o.keys.verify(ctx, chain[0])
}

func (s *Station) result(o *opened, serial string, chain []*x509.Certificate, isNew bool) *Result {
	return &Result{DeviceID: s.c.Device.ID, Serial: serial, NotAfter: chain[0].NotAfter.UTC(), NewKey: o.made, NewUptaneKey: o.madeUptane, NewCertificate: isNew, Import: s.c.Import}
}

func (s *Station) tellDiffers(a *factory.EnrollAnswer) {
	if a.Differs != "" {
		s.done("%s: take care: it is enrolled already, and %s; the record stays", show.Text(s.c.Device.ID), show.Text(a.Differs))
	}
}

// check finds, before the token is touched, what would be refused after it: a device id that no policy allows, and an
// import folder of another device.
func (s *Station) check(ctx context.Context) error {
	if err := s.checkRequest(); err != nil {
		return err
	}
	return s.folder.check(ctx)
}

// checkRequest holds the device's id to the rules of requests.
func (s *Station) checkRequest() error {
	specimen, err := softKey(hsm.P256)
	if err != nil {
		return err
	}
	q, err := s.request(specimen, nil)
	if err == nil {
		_, err = csr.Parse([]byte(q.CSR), csr.DevicePolicy())
	}
	if err != nil {
		return advice.New(advice.Refused, "device ids begin with a letter or digit and hold letters, digits and . _ : @ = + -", "device id %q: %w", s.c.Device.ID, err)
	}
	return nil
}

func (s *Station) request(key crypto.Signer, evidence []byte) (q factory.EnrollRequest, err error) {
	t := csr.Template{Evidence: evidence}
	t.Subject.CommonName = s.c.Device.ID
	der, err := csr.Create(rand.Reader, key, t)
	if err != nil {
		return q, err
	}
	return factory.EnrollRequest{CSR: string(csr.PEM(der)), HardwareID: s.c.Device.HardwareID, Lot: s.c.Device.Lot}, nil
}
