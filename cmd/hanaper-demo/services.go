package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hanaper/hanaper/hsm"
)

// gatewayName is how a virtual machine calls the gateway; its own /etc/hosts says where that is.
const gatewayName = "gateway.demo"

// requestCertificates lets every service make its own keys and ask for certificates: private keys never travel.
func (p *play) requestCertificates(ctx context.Context) error {
	p.title("Requests")
	for _, a := range []*string{&p.factory, &p.repo, &p.gateway, &p.devices, &p.admin} {
		var err error
		if *a, err = freeAddress(); err != nil {
			return err
		}
	}
	factory := p.boards["factory"]
	issuing := hsm.URI{Token: factory.Label, Serial: factory.Serial, Object: "factory-ca", ModulePath: factory.Module, PINSource: factory.PINFile}
	if err := p.write("hanaperd.yaml", fmt.Sprintf(`listen: %s
state: factory
issuing:
  key: %q
  certificate: ceremony/artefacts/factory-ca.pem
  fleet_root: ceremony/artefacts/fleet-root.pem
tls: {certificate: ceremony/artefacts/hanaperd.pem, key: requests/hanaperd.key}
operations: {root: ceremony/artefacts/operations-root.pem, crl: ceremony/artefacts/operations-root-crl.crl}
crl: {file: factory-ca.crl}
`, p.factory, issuing.String())); err != nil {
		return err
	}
	if err := p.write("hanaper-repo.yaml", fmt.Sprintf(`environment: demo
root: ceremony/trust/metadata/1.root.json
publish: published
keys: {token: %q}
serve: {listen: %s, interval: 200ms}
crls: [{file: factory-ca.crl}]
uptane:
  folder: uptane
  keys: {token: %q}
  admin: {listen: %s, open: true}
  devices: {listen: %s, open: true}
`, p.boards["repo"].URI, p.repo, p.boards["uptane-online"].URI, p.admin, p.devices)); err != nil {
		return err
	}
	if err := os.MkdirAll(p.path("requests"), 0o700); err != nil {
		return err
	}
	for _, c := range [][]string{
		{"hanaperd", "csr", "--config", "hanaperd.yaml", "--common-name", "Demo Factory CA 1", "--organization", "Demo Devices", "--out", "requests/factory-ca.csr"},
		{"hanaperd", "tls-csr", "--key", "requests/hanaperd.key", "--out", "requests/hanaperd.csr", "--ip", "127.0.0.1"},
		{"hanaperd", "operator-csr", "--name", "operator-1", "--key", "requests/operator-1.key", "--out", "requests/operator-1.csr"},
		{"hanaper-station", "csr", "--name", "station-1", "--key", "requests/station-1.key", "--out", "requests/station-1.csr"},
		{"hanaper-repo", "keys", "generate", "--config", "hanaper-repo.yaml", "--out", "requests"},
		{"hanaperd", "tls-csr", "--common-name", "gateway", "--key", "requests/gateway.key", "--out", "requests/gateway.csr", "--ip", "127.0.0.1", "--dns", gatewayName},
	} {
		if _, err := p.run(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	p.say("factory, station, operator, back office and gateway make their own keys and ask for certificates")
	p.say("the issuing key was born in token \"factory\", the publishing keys in token \"repo\": none of them can leave")
	return nil
}

func (p *play) startFactory(ctx context.Context) (err error) {
	p.title("The production line")
	p.hanaperd, err = p.serve(ctx, p.factory, "hanaperd", "serve", "--config", "hanaperd.yaml")
	if err != nil {
		return err
	}
	p.say("hanaperd serves at https://%s, for stations and operators of the Operations Root only", p.factory)
	return nil
}

func (p *play) publishTrust(ctx context.Context) error {
	p.title("Trust is published")
	if _, err := p.run(ctx, "hanaper-repo", "init", "--config", "hanaper-repo.yaml", "ceremony/trust"); err != nil {
		return err
	}
	if _, err := p.run(ctx, "hanaper-repo", "crl", "add", "--config", "hanaper-repo.yaml", "factory-ca.crl"); err != nil {
		return err
	}
	p.say("hanaper-repo adds the factory's CRL and fresh signatures to what the officers signed: it can tighten, never loosen")
	return nil
}

func (p *play) startGateway(ctx context.Context) (err error) {
	p.title("The gateway")
	if p.upstream, err = newUpstream("http://" + p.devices); err != nil {
		return err
	}
	if err := p.write("gateway.yaml", fmt.Sprintf(`listen: %s
environment: demo
tls: {certificate: ceremony/artefacts/gateway.pem, key: requests/gateway.key}
trust: {source: "http://%s/", root: ceremony/trust/metadata/1.root.json, state: gateway-trust, interval: 200ms}
registry: {path: devices.db}
upstream: {url: %q}
`, p.gateway, p.repo, p.upstream.url)); err != nil {
		return err
	}
	p.gate, err = p.serve(ctx, p.gateway, "hanaper-gateway", "serve", "--config", "gateway.yaml")
	if err != nil {
		return err
	}
	p.say("hanaper-gateway listens at %s; it holds no signing key, and believes only the trust repository", p.gateway)
	return nil
}
