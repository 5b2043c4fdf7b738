package console

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/show"
)

// quoted is a foreign word inside a sentence of ours.
func quoted(s string) string { return show.Text(s) }

// search is the page that looks for devices.
type search struct {
	By, Query   string
	From, Until string
	Ways        []row
	Problem     *factory.Fault
	// Device is one that was found, with what is on record of it and what an operator may do.
	Device *factory.DeviceAnswer
	Rows   []row
	Doors  []door
	// Earlier says that this is not the latest certificate of the device.
	Earlier bool
	// List is a page of several, More the address of the next page.
	List   []factory.DeviceAnswer
	Listed bool
	More   string
}

// door is a way to an act.
type door struct{ Title, Address string }

// ways are the questions that lead to one device or to a list.
var ways = []row{{"id", "Device id"}, {"serial", "Serial number of a certificate"}, {"key", "SHA-256 of a public key"}, {"station", "Station"}, {"lot", "Lot"}}

// listLength is how many devices are on a page of a list.
const listLength = 100

func (k *Console) devices(v *visit) (*answer, error) {
	q := v.r.URL.Query()
	get := func(name string) string { return strings.TrimSpace(clip(q.Get(name))) }
	s := search{By: get("by"), Query: get("q"), From: get("from"), Until: get("until"), Ways: ways}
	a := &answer{template: "devices.html", title: "Devices"}
	if s.By == "" {
		s.By = "id"
	}
	if s.Query != "" {
		if err := k.search(v, &s, get("after")); err != nil {
			f := faultOf(err)
			if f.Status() >= 500 {
				return nil, err
			}
			s.Problem, a.status = f, f.Status()
		}
	}
	if d := s.Device; d != nil {
		s.Rows, a.title = deviceRows(d), "Device "+show.Text(d.DeviceID)
		now, err := k.service.Device(v.ctx, d.DeviceID)
		if err != nil {
			return nil, err
		}
		// What is done to a device is done to its latest certificate.
		if s.Earlier = now.Serial != d.Serial; v.mayAct() && !s.Earlier {
			s.Doors = doors(d)
		}
	}
	a.data = s
	return a, nil
}

// search fills in what was found.
func (k *Console) search(v *visit, s *search, after string) (err error) {
	if s.By == "id" || s.By == "serial" {
		s.Device, err = k.service.FindDevice(v.ctx, s.By, s.Query)
		return err
	}
	q := factory.DeviceQuery{After: after, Limit: listLength}
	switch s.By {
	case "key":
		q.Key = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(s.Query))
	case "station":
		q.Station = s.Query
	case "lot":
		q.Lot = s.Query
	default:
		return &factory.Fault{Code: factory.CodeRequest, Text: "there is no look-up by " + quoted(s.By), Hint: "choose one of the list"}
	}
	if q.From, err = parseTime(s.From); err != nil {
		return err
	}
	if q.Until, err = parseTime(s.Until); err != nil {
		return err
	}
	a, err := k.service.Devices(v.ctx, q)
	if err != nil {
		return err
	}
	s.List, s.Listed = a.Devices, true
	if a.Next != "" {
		s.More = Prefix + "devices?" + url.Values{"by": {s.By}, "q": {s.Query}, "from": {s.From}, "until": {s.Until}, "after": {a.Next}}.Encode()
	}
	return nil
}

// doors are the acts that make sense for a device as it stands.
func doors(d *factory.DeviceAnswer) (fit []door) {
	to := func(title, act, field string) {
		fit = append(fit, door{title, Prefix + "act/" + act + "?" + url.Values{field: {d.DeviceID}}.Encode()})
	}
	if d.Status == "issued" {
		to("Revoke it", "revoke", "device_id")
	}
	if !d.Scrapped {
		to("Let it be enrolled anew", "reissue", "device_id")
		to("Swap it with another", "swap", "a")
		to("Scrap it", "scrap", "device_id")
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
	if d.Generation > 1 {
		rows = append(rows, row{"Generation", fmt.Sprint(d.Generation)})
	}
	if d.IssuedAt != nil {
		rows = append(rows, row{"Issued", d.IssuedAt.Format(stampForm)})
	}
	rows = append(rows, row{"Valid until", d.NotAfter.Format(stampForm)})
	if d.RevokedAt != nil {
		rows = append(rows, row{"Revoked", d.RevokedAt.Format(stampForm)})
	}
	rows = append(rows, row{"SHA-256 of its key", d.KeyDigest})
	if d.Scrapped {
		rows = append(rows, row{"Scrapped", "yes: its id gets no further certificate"})
	}
	if p := d.Permit; p != nil {
		words := "with another key"
		if p.Key != "" {
			words = "with the key " + p.Key
		}
		rows = append(rows, row{"May be enrolled anew", words + "; permitted by " + quoted(p.By) + " at " + p.At.UTC().Format(stampForm)})
	}
	if a := d.Attested; a != nil {
		rows = append(rows, row{"Its key was born in", string(a.Kind) + " of " + quoted(a.Manufacturer) + ", chip " + a.Chip})
	}
	return rows
}
