package main

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

func trustRemoveCommand() *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "remove from the draft of the officers' next part; signs nothing", ArgsUsage: "WORK",
		Description: "A CA takes its CRL, its rules and its releases with it. 'show' has the ids.\n\n" +
			"Example:\n  hanaper trust remove --from ceremony-1/trust --root 1.root.json --key-type RSA work",
		Flags: append(beginFlags(), append([]cli.Flag{
			&cli.StringSliceFlag{Name: "anchor", Usage: "a Fleet Root, PEM `FILE` or id; may be repeated"},
			&cli.StringSliceFlag{Name: "ca", Usage: "an issuing CA, PEM `FILE` or id; may be repeated"},
			&cli.StringSliceFlag{Name: "rule", Usage: "what was said about the CRL of the CA with this `ID` (grace, freeze)"},
			&cli.StringSliceFlag{Name: "release", Usage: "`CA=SERIAL` of a release"},
			&cli.StringSliceFlag{Name: "gateway-name", Usage: "a gateway's `NAME`"},
			&cli.StringSliceFlag{Name: "log", Usage: "the `ORIGIN` of an issuance log"},
			&cli.StringSliceFlag{Name: "key-type", Usage: "a `TYPE` of devices' keys"},
			&cli.BoolFlag{Name: "require-crl", Usage: "no longer ask for a CRL of every CA"},
			&cli.BoolFlag{Name: "registered-only", Usage: "admit devices that nobody registered before"},
			&cli.BoolFlag{Name: "stage", Usage: "no longer say a stage: it is production"},
			&cli.BoolFlag{Name: "shared-credentials", Usage: "end the leave for shared credentials"},
			&cli.BoolFlag{Name: "director-root", Usage: "the Uptane Director's root"},
			&cli.BoolFlag{Name: "image-root", Usage: "the Uptane Image repository's root"},
		}, expiryFlags()...)...),
		Action: func(c *cli.Context) error { return editTrust(c, removeTrust) },
	}
}

// removeTrust removes what the flags name; what is not there is a mistake.
func removeTrust(c *cli.Context, t *trust.Content) error {
	missing := func(flag, what string) error {
		return advice.New(advice.Usage, "'hanaper trust show' says what there is", "--%s %s: the draft has none such", show.Text(flag), show.Text(what))
	}
	for flag, list := range map[string]*[]*x509.Certificate{"anchor": &t.Anchors, "ca": &t.Intermediates} {
		for _, name := range c.StringSlice(flag) {
			if !dropCA(t, list, name) {
				return missing(flag, name)
			}
		}
	}
	p := &t.Policy
	for _, ca := range c.StringSlice("rule") {
		if !dropRule(t, ca) {
			return missing("rule", ca)
		}
	}
	for _, text := range c.StringSlice("release") {
		r, err := releaseOf(text)
		if err != nil {
			return err
		}
		if !drop(&t.Releases, func(o trust.Release) bool { return o.Issuer == r.Issuer && o.Serial.Cmp(r.Serial) == 0 }) {
			return missing("release", text)
		}
	}
	for flag, list := range map[string]*[]string{"gateway-name": &p.GatewayNames, "key-type": &p.KeyTypes} {
		for _, name := range c.StringSlice(flag) {
			if !drop(list, func(o string) bool { return o == name }) {
				return missing(flag, name)
			}
		}
	}
	for _, origin := range c.StringSlice("log") {
		if !drop(&p.Logs, func(l trust.PolicyLog) bool { return l.Origin == origin }) {
			return missing("log", origin)
		}
	}
	for flag, off := range map[string]func(){
		"require-crl": func() { p.RequireCRL = false }, "registered-only": func() { p.RegisteredOnly = false }, "stage": func() { p.Stage = "" },
		"shared-credentials": func() { p.SharedCredentials = nil }, "director-root": func() { t.Uptane.Director = nil }, "image-root": func() { t.Uptane.Image = nil },
	} {
		if c.Bool(flag) {
			off()
		}
	}
	return nil
}

// dropCA removes a certificate, by its file or its id, and what was said of its CA if no other certificate of it stays.
func dropCA(t *trust.Content, list *[]*x509.Certificate, name string) bool {
	gone := func(*x509.Certificate) bool { return false }
	if id, err := trust.ParseID(name); err == nil {
		gone = func(c *x509.Certificate) bool { return trust.IssuerID(c) == id }
	} else if data, err := readBounded(name); err == nil {
		der := withoutArmour(data)
		gone = func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) }
	}
	var removed []*x509.Certificate
	*list = slices.DeleteFunc(*list, func(c *x509.Certificate) bool {
		if gone(c) {
			removed = append(removed, c)
		}
		return gone(c)
	})
	for _, ca := range removed {
		id := trust.IssuerID(ca)
		if slices.ContainsFunc(slices.Concat(t.Anchors, t.Intermediates), func(c *x509.Certificate) bool { return trust.IssuerID(c) == id }) {
			continue
		}
		dropRule(t, id.String())
		drop(&t.Releases, func(r trust.Release) bool { return r.Issuer == id })
		drop(&t.CRLs, func(der []byte) bool { return signedBy(der, ca) })
		if t.Policy.SharedCredentials.IssuedBy(id) {
			t.Policy.SharedCredentials = nil
		}
	}
	return len(removed) > 0
}
