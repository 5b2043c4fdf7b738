package ceremony

import (
	"fmt"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

func (d *draft) factory() error { return d.joined(UseFactory) }

func (d *draft) anchor() error { return d.joined(UseAnchor) }

// joined is a yearly ceremony in which something of this use must join.
func (d *draft) joined(use string) error {
	if !slices.ContainsFunc(d.n.Inputs, func(f NamedFile) bool { return f.Use == use }) {
		return advice.New(advice.Usage, "give NAME=FILE with --"+use+", NAME being that of its certificate", "which %s?", show.Text(use))
	}
	return d.renew(renewal{})
}

// join certifies what joins, and takes in what CAs outside certified.
func (d *draft) join(c *renewal) error {
	above := ""
	for _, in := range d.n.Inputs {
		if in.Use == UseTrust {
			continue
		}
		if in.Use == UseFreeze {
			if d.s == nil || d.s.trust == nil {
				return advice.Wrap(advice.Refused, errNoTrust, "there is no list to freeze")
			}
			continue
		}
		if !nameForm.MatchString(in.Name) {
			return advice.New(advice.Usage, "", "name %q: use 1 to 64 of a-z, 0-9, '.' and '-'", in.Name)
		}
		base := in.Name
		if d.used[base] && in.Use != UseFactory && in.Use != UseAnchor {
			// As a renewed one is called, whose place it takes.
			base = fmt.Sprintf("%s-%d", base, d.from.Year())
		}
		name := d.name(base)
		if in.Use == UseAnchor {
			in.Name += "-pem"
			d.step("import-certificate", &ImportCertificate{Name: name, Certificate: d.pin(in), Issuer: above}, "Compare its SHA-256 with the CA outside by telephone.")
			if above == "" {
				c.anchors, above = append(c.anchors, name), name
			} else {
				c.intermediates = append(c.intermediates, name)
			}
			continue
		}
		step := &Certificate{Name: name, NotBefore: formatTime(d.from)}
		until := d.from.AddDate(1, 1, 0)
		root := "operations-root"
		switch in.Use {
		case UseFactory:
			zero := 0
			step.Profile, step.PathLength, until, root = "factory-ca", &zero, d.from.AddDate(15, 0, 0), "fleet-root"
			c.intermediates = append(c.intermediates, name)
		case UseStation:
			step.Profile, step.Station = "station", in.Name
		case UseOperator:
			step.Profile, step.Operator = "operator", in.Name
		case UsePublisher:
			step.Profile, step.Publisher = "publisher", in.Name
		case UseViewer:
			step.Profile, step.Viewer = "viewer", in.Name
		case UseGatewayClient:
			step.Profile, step.Gateway = "gateway", in.Name
		case UseServer:
			step.Profile = "server"
		case UseGateway:
			step.Profile, root = "server", "gateway-root"
		default:
			return advice.New(advice.Usage, "", "a file that joins has one of the uses %s, not %s", listed(NextUses()), show.Text(in.Use))
		}
		var err error
		if step.Issuer, until, err = d.under(root, in.Use, until); err != nil {
			return err
		}
		in.Name += "-csr"
		step.Request, step.NotAfter = d.pin(in), formatTime(until)
		d.step("certificate", step, fmt.Sprintf("For the %s %s. Compare the SHA-256 of its request with the sender by telephone.", in.Use, name))
	}
	return nil
}

// under finds the root of a profile, takes it up, and bounds until by its end.
func (d *draft) under(profile, use string, until time.Time) (string, time.Time, error) {
	if d.s == nil {
		return profile, until, nil
	}
	var can []string
	for _, i := range d.issuers() {
		if rootProfile(d.s, i.cert.name) == profile && i.cert.issuer == "" && (use != UseFactory || d.s.trust == nil || slices.Contains(d.s.trust.Anchors, i.cert.name)) {
			can = append(can, i.cert.name)
		}
	}
	name := ""
	if n := len(can); n > 0 {
		name = can[n-1]
	}
	if use == UseFactory && len(d.n.Names) == 1 && d.n.Kind == "factory" {
		name = d.n.Names[0]
	}
	i, err := d.issuerNamed(name)
	if err != nil {
		return "", until, err
	}
	if i.cert.cert.NotAfter.Before(until) {
		until = i.cert.cert.NotAfter
	}
	return name, until, d.take(i)
}
