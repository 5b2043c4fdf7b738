package console

import (
	"strings"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/show"
)

// quoted is a foreign word inside a sentence of ours.
func quoted(s string) string { return show.Text(s) }

// search is the page that looks for devices.
type search struct {
	By, Query string
	Ways      []row
	Problem   *factory.Fault
	Device    *factory.DeviceAnswer
	Rows      []row
	Acts      []*act
}

func (k *Console) devices(v *visit) (*answer, error) {
	q := v.r.URL.Query()
	s := search{By: clip(q.Get("by")), Query: strings.TrimSpace(clip(q.Get("q"))), Ways: []row{{"id", "Device id"}, {"serial", "Serial number of a certificate"}, {"key", "SHA-256 of a public key"}}}
	a := &answer{template: "devices.html", title: "Devices"}
	if s.By == "" {
		s.By = "id"
	}
	if s.Query != "" {
		d, err := k.service.FindDevice(v.ctx, s.By, s.Query)
		if err != nil {
			f := faultOf(err)
			if f.Status() >= 500 {
				return nil, err
			}
			s.Problem, a.status = f, f.Status()
		} else {
			s.Device, s.Rows, a.title = d, deviceRows(d), "Device "+show.Text(d.DeviceID)
			if v.mayAct() {
				s.Acts = k.actsOn(d)
			}
		}
	}
	a.data = s
	return a, nil
}

// actsOn are the acts that make sense for a device as it stands.
func (k *Console) actsOn(d *factory.DeviceAnswer) (fit []*act) {
	if d.Status == "issued" {
		fit = append(fit, k.actOf("revoke"))
	}
	return fit
}

func statusWords(d *factory.DeviceAnswer) string {
	switch d.Status {
	case "open":
		return "open: its enrolment has begun, and its certificate was handed to nobody yet"
	case "revoked":
		return "revoked (" + d.Reason + ")"
	}
	return d.Status
}

// deviceRows are what is on record of a device, in words.
func deviceRows(d *factory.DeviceAnswer) []row {
	rows := []row{{"Device id", quoted(d.DeviceID)}, {"Status", statusWords(d)}, {"Serial number", d.Serial}, {"Station", quoted(d.Station)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, row{name, quoted(value)})
		}
	}
	add("Hardware id", d.HardwareID)
	add("Lot", d.Lot)
	const form = "2006-01-02 15:04:05 UTC"
	if d.IssuedAt != nil {
		rows = append(rows, row{"Issued", d.IssuedAt.Format(form)})
	}
	rows = append(rows, row{"Valid until", d.NotAfter.Format(form)})
	if d.RevokedAt != nil {
		rows = append(rows, row{"Revoked", d.RevokedAt.Format(form)})
	}
	rows = append(rows, row{"SHA-256 of its key", d.KeyDigest})
	if a := d.Attested; a != nil {
		rows = append(rows, row{"Its key was born in", string(a.Kind) + " of " + quoted(a.Manufacturer) + ", chip " + a.Chip})
	}
	return rows
}
