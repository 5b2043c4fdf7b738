package console

import (
	"context"
	"fmt"

	"github.com/hanaper/hanaper/factory"
)

// allActs are the acts in the order of the page that lists them.
func (k *Console) allActs() []*act {
	return []*act{k.revoke()}
}

// actOf finds an act by name.
func (k *Console) actOf(name string) *act {
	for _, a := range k.acts {
		if a.Name == name {
			return a
		}
	}
	return nil
}

func (k *Console) revoke() *act {
	return &act{
		Name: "revoke", Title: "Revoke a device", Verb: "Revoke", Final: true,
		Lead: "Gateways turn the device away once they have the next list, on open connections too.",
		Fields: []field{
			{Name: "device_id", Label: "Device id", Hint: "as it stands in the certificate", Must: true},
			{Name: "reason", Label: "Reason", Options: factory.Reasons(), Must: true},
		},
		plan: func(ctx context.Context, v values) (*plan, error) {
			d, err := k.service.Device(ctx, v["device_id"])
			if err != nil {
				return nil, err
			}
			if d.Status != "issued" {
				return nil, &factory.Fault{Code: factory.CodeRevoked, Text: fmt.Sprintf("device id %q is %s", d.DeviceID, statusWords(d)), Hint: "there is nothing to revoke"}
			}
			p := &plan{Rows: append(deviceRows(d), row{"Reason", v["reason"]}),
				Warnings: []string{"The certificate is revoked for good: no act takes it back."}}
			return p, nil
		},
		do: func(ctx context.Context, who string, v values, note string) (*outcome, error) {
			a, err := k.service.Revoke(ctx, who, factory.RevokeRequest{DeviceID: v["device_id"], Reason: v["reason"], Note: note})
			if err != nil {
				return nil, err
			}
			o := &outcome{Said: "The certificate of device " + quoted(a.DeviceID) + " is revoked", Device: a.DeviceID,
				Rows: []row{{"Serial", a.Serial}, {"Reason", a.Reason}, {"Revoked at", a.RevokedAt.Format("2006-01-02 15:04:05 UTC")}}}
			if a.CRLNumber != 0 {
				o.Rows = append(o.Rows, row{"On revocation list", fmt.Sprint(a.CRLNumber)})
			} else {
				o.Rows = append(o.Rows, row{"On revocation list", "not yet: the next one is signed by itself within seconds, while the token is well"})
			}
			return o, nil
		},
	}
}
