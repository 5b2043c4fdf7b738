package main

import (
	"context"
	"fmt"
)

// keep leaves everything running, says what there is to try, and waits.
func (p *play) keep(ctx context.Context) error {
	fmt.Fprintf(p.out, `
Everything goes on running until you press Ctrl-C:

   gateway, for devices       https://%s
   factory CA                 https://%s
   trust repository           http://%s
   Uptane, for engineers      http://%s
   Uptane, for the gateway    http://%s

Try this in another terminal:

   cd %s; export PATH="%s:$PATH" %s
   hanaper-gateway devices list --config gateway.yaml
   hanaper-gateway admit --config gateway.yaml devices/vin-0001/client.pem
   hanaper-repo status --config hanaper-repo.yaml
   hanaper-repo uptane status --config hanaper-repo.yaml
   curl -sS http://%s/api/v1/user_repo/targets.json
   curl -sS -H 'x-ats-device-uuid: vin-0001' http://%s/director/ecus -d '{"primary_ecu_serial":"e","ecus":[{"ecu_serial":"e","hardware_identifier":"demo-board","clientKey":{"keytype":"ED25519","keyval":{"public":"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"}}}]}'
   hanaper-repo director assign --config hanaper-repo.yaml vin-0001 firmware-2.1
   hanaper-repo director --config hanaper-repo.yaml
   hanaper ceremony verify --roster %s ceremony

`, p.gateway, p.factory, p.repo, p.admin, p.devices, p.dir, p.bin, p.tokens.Env()[0], p.admin, p.devices, p.roster)
	return p.wait(ctx)
}

// wait returns when the context ends; with an error when a service ends by itself.
func (p *play) wait(ctx context.Context) error {
	ended := make(chan error, len(p.servers))
	for _, s := range p.servers {
		go func() {
			err := <-s.done
			s.done <- err // close waits for it too
			ended <- fmt.Errorf("%s has ended by itself: see %s", s.name, s.log)
		}()
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.out, "Stopping.")
		return nil
	case err := <-ended:
		return err
	}
}
