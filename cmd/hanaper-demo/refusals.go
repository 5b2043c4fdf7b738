package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func (p *play) refuseForeign(ctx context.Context) error {
	p.title("Refusal 1: a foreign certificate")
	cert, key, err := foreignDevice()
	if err != nil {
		return err
	}
	client, err := p.client(cert, key)
	if err != nil {
		return err
	}
	if status, body, err := p.get(client, "/whoami", nil); err == nil && status == http.StatusOK {
		return fmt.Errorf("a foreign certificate for vin-0001 was admitted: upstream met %q", body)
	}
	return p.tellRefusal(ctx, "somebody's own CA issued a perfect certificate for vin-0001: turned away", "vin-0001", "refused")
}

// tellRefusal says what happened, and shows the gateway's own line about it.
func (p *play) tellRefusal(ctx context.Context, what string, words ...string) error {
	line, err := p.logLine(ctx, p.gate, words...)
	if err != nil {
		return err
	}
	p.say("%s", what)
	p.say("the gateway's log: %s", line)
	return nil
}

// refuseRevoked has an operator revoke vin-0002, whose connection stays open all the while.
func (p *play) refuseRevoked(ctx context.Context) error {
	p.title("Refusal 2: a revoked certificate")
	d, err := p.device(ctx, "vin-0002")
	if err != nil {
		return err
	}
	defer d.close()
	if status, _, err := p.get(d.client, "/repo/timestamp.json", nil); err != nil || status != http.StatusOK {
		return fmt.Errorf("vin-0002 before its revocation: status %d, %v", status, err)
	}
	begun := time.Now()
	if _, err := p.run(ctx, "hanaperd", "revoke", "--url", "https://"+p.factory, "--ca", "ceremony/artefacts/operations-root.pem",
		"--cert", "ceremony/artefacts/operator-1.pem", "--key", "requests/operator-1.key", "--device-id", "vin-0002", "--reason", "key_compromise"); err != nil {
		return err
	}
	for {
		status, _, err := p.get(d.client, "/repo/timestamp.json", nil)
		if err != nil || status != http.StatusOK {
			break
		}
		if time.Since(begun) > 20*time.Second {
			return fmt.Errorf("vin-0002 is still admitted 20 s after its revocation")
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.say("an operator revokes vin-0002; hanaperd signs a CRL, hanaper-repo publishes it, the gateway follows")
	return p.tellRefusal(ctx, fmt.Sprintf("%.1f s later vin-0002 is turned away, on the connection that it had open, without a restart of anything",
		time.Since(begun).Seconds()), "vin-0002", "refused")
}

// refuseTampered changes one byte of the published anchor, in a copy that a second gateway is to follow.
func (p *play) refuseTampered(ctx context.Context) error {
	p.title("Refusal 3: trust that somebody tampered with")
	if err := os.CopyFS(p.path("tampered"), os.DirFS(p.path("published"))); err != nil {
		return err
	}
	var victim string
	err := filepath.WalkDir(p.path("tampered", "targets"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".anchors.pem") {
			victim = path
		}
		return err
	})
	if err != nil {
		return err
	}
	if victim == "" {
		return fmt.Errorf("no anchor is among the published targets")
	}
	b, err := os.ReadFile(victim)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(victim, b, 0o600); err != nil {
		return err
	}
	config, err := p.read("gateway.yaml")
	if err != nil {
		return err
	}
	second := strings.NewReplacer("http://"+p.repo+"/", "tampered", "state: gateway-trust", "state: second-trust", "devices.db", "second.db").Replace(string(config))
	if err := p.write("second-gateway.yaml", second); err != nil {
		return err
	}
	o, code, err := p.exit(ctx, "hanaper-gateway", "check", "--config", "second-gateway.yaml")
	if err != nil {
		return err
	}
	if code == 0 {
		return fmt.Errorf("a gateway took tampered trust: %s", o.all.String())
	}
	p.say("one bit of the Fleet Root in a copy of the trust repository is flipped; a gateway that is to follow it says (exit code %d):", code)
	p.say("%s", firstLine(o.all.String(), "hanaper-gateway:"))
	return nil
}

// judge lets programs that are not ours look at what was made.
func (p *play) judge(ctx context.Context) error {
	p.title("Other people's programs agree")
	art := func(n string) string { return filepath.Join("ceremony", "artefacts", n) }
	for _, c := range [][]string{
		{"openssl", "verify", "-x509_strict", "-CAfile", art("fleet-root.pem"), "-untrusted", art("factory-ca.pem"), "devices/vin-0001/client.pem"},
		{"openssl", "crl", "-inform", "DER", "-in", "factory-ca.crl", "-CAfile", art("factory-ca.pem"), "-noout", "-verify"},
	} {
		if _, err := p.run(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	p.say("openssl verifies the chain of vin-0001 and the factory's CRL")
	return nil
}
