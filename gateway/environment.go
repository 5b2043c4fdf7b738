package gateway

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/gateway/route"
	"github.com/hanaper/hanaper/internal/advice"
)

// environment is one environment of a gateway: its own roots, its own TLS identity and keys for session tickets, its own way on. A connection is of one
// environment, by the server name that it calls (SNI), for as long as it lives.
type environment struct {
	*EnvironmentSettings
	gateway *Gateway
	rules   Rules
	keys    *keyPair
	tls     *tls.Config
	judge   atomic.Pointer[cachedJudge]
	vitals  vitals
	forward *route.Router
	// upstreamFiles are by the upstream's name.
	upstreamFiles map[string]*upstreamFiles
	// renewal is nil where devices' certificates are not renewed.
	renewal *renewal
}

func (g *Gateway) newEnvironment(s *EnvironmentSettings) (e *environment, err error) {
	e = &environment{EnvironmentSettings: s, gateway: g, rules: s.Rules()}
	if e.keys, err = loadKeyPair("tls", s.tls); err != nil {
		return nil, err
	}
	if err := e.keys.expired(g.now()); err != nil {
		return nil, err
	}
	if e.forward, err = e.newRouter(); err != nil {
		return nil, err
	}
	if e.renewal, err = e.newRenewal(); err != nil {
		return nil, err
	}
	e.tls = e.tlsConfig()
	return e, nil
}

// key tells a device of this environment from all others in the gateway. Ids are compared without case.
func (e *environment) key(device string) string { return e.name + " " + foldName(device) }

// pairs are the environment's own certificates and keys.
func (e *environment) pairs() []*keyPair {
	list := []*keyPair{e.keys}
	for _, name := range slices.Sorted(maps.Keys(e.upstreamFiles)) {
		if own := e.upstreamFiles[name].own; own != nil {
			list = append(list, own)
		}
	}
	if e.renewal != nil {
		list = append(list, e.renewal.keys)
	}
	return list
}

// tlsConfig asks for a certificate, any: who may come in is decided by VerifyConnection, which, unlike VerifyPeerCertificate, also runs when a session is
// resumed. Tickets are sealed with keys of this environment alone: to another one they are noise, and the handshake is a full one.
func (e *environment) tlsConfig() *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert,
		GetCertificate:         e.keys.get,
		NextProtos:             protocols,
		SessionTicketsDisabled: !e.gateway.settings.tickets,
		VerifyConnection:       e.verify,
	}
	if e.tls12 {
		c.MinVersion = tls.VersionTLS12
	}
	if e.gateway.settings.tickets {
		// The keys of a config that GetConfigForClient gives are else those of the listener's.
		seal := &tls.Config{}
		c.WrapSession, c.UnwrapSession = seal.EncryptTicket, seal.DecryptTicket
	}
	return c
}

var protocols = []string{"h2", "http/1.1"}

// verify refuses in the handshake. The peer has not proven its key yet, so that nothing is registered here.
func (e *environment) verify(cs tls.ConnectionState) error {
	d := e.judge.Load().admit(cs.PeerCertificates, e.gateway.now())
	if d = e.unlessBarred(d, [32]byte{}); d.Admitted() {
		return nil
	}
	return &refusal{decision: d, chain: cs.PeerCertificates}
}

// unlessBarred asks the registry's memory about an admitted device. key is the digest of the one that it was met with, zero before that.
func (e *environment) unlessBarred(d Decision, key [32]byte) Decision {
	if !d.Admitted() {
		return d
	}
	if err := e.gateway.registry.Err(); err != nil {
		return Decision{Reason: RegistryDown, Detail: err.Error(), Device: d.Device}
	}
	if reason := RegistryReason(e.gateway.registry.Standing(e.name, d.Device, key)); reason != "" {
		return Decision{Reason: reason, Device: d.Device}
	}
	return d
}

// setTrust puts view in force here. It says whether it says anything new.
func (e *environment) setTrust(view View) (changed bool) {
	before := e.judge.Load()
	after := newCachedJudge(view, e.rules, before)
	e.judge.Store(after)
	if before == nil || !before.judge.view.Expires().Equal(view.Expires()) {
		e.vitals.renewed(e.gateway.now())
	}
	return before == nil || before.judge.cas != after.judge.cas
}

// tellTrust logs what came into force.
func (e *environment) tellTrust(view View) {
	log, print := e.gateway.log, view.Fingerprint()
	log.Info("trust in force", "environment", e.name, "fingerprint", fmt.Sprintf("%x", print[:8]),
		"anchors", len(view.Anchors()), "intermediates", len(view.Intermediates()), "expires", view.Expires().UTC().Format(time.RFC3339))
	if note := e.sharedNote(e.gateway.now()); note != "" {
		log.Warn(note)
	}
	for _, list := range e.judge.Load().judge.cas.bySubject {
		for _, a := range list {
			if a.fault != "" {
				log.Warn("a CA in the trust view is unfit: its devices are refused", "environment", e.name, "subject", a.cert.Subject.String(), "why", a.fault)
			}
		}
	}
}

// SetTrust puts view in force in its environment: handshakes and requests from now on are judged by it, and open connections whose device it
// does not admit are closed before SetTrust returns. A view of an environment that is not this gateway's is refused; so is the first one, if its officers
// know other names of their gateways than the configuration. Later such a name is refused to devices, and told in health: what else the view says holds.
func (g *Gateway) SetTrust(view View) error {
	e := g.environment(view.Environment())
	if e == nil {
		return advice.New(advice.Refused, "follow the repository of this gateway's own environment",
			"the trust view is of the environment %q, not %q", view.Environment(), g.settings.environmentNames())
	}
	g.trustMu.Lock()
	_, stray := e.allowed(view.Policy().GatewayNames)
	if err := e.strayNames(stray); err != nil && e.judge.Load() == nil {
		g.trustMu.Unlock()
		return err
	}
	changed := e.setTrust(view)
	g.nameServers()
	g.trustMu.Unlock()
	if changed {
		e.tellTrust(view)
		if err := e.strayNames(stray); err != nil {
			g.log.Error("names", "environment", e.name, "why", err)
		}
	}
	if err := view.Valid(g.now()); err != nil {
		g.log.Error("the trust view has expired: every device is refused", "environment", e.name, "why", err)
	}
	g.sweep(e)
	return nil
}

// environment is the one of this name, or nil.
func (g *Gateway) environment(name string) *environment {
	for _, e := range g.environments {
		if e.name == name {
			return e
		}
	}
	return nil
}

// nameServers finds anew which names lead where.
func (g *Gateway) nameServers() {
	n := &serverNames{of: map[string]*environment{}}
	for _, e := range g.environments {
		var officers []string
		if j := e.judge.Load(); j != nil {
			officers = j.judge.policy.GatewayNames
		}
		names, _ := e.allowed(officers)
		for _, name := range names {
			n.of[name] = e
		}
		if len(g.environments) == 1 && len(e.names) == 0 && len(officers) == 0 {
			n.any = e
		}
		if e.withoutSNI {
			n.silent = e
		}
	}
	g.served.Store(n)
}
