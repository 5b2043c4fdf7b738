package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// believed is what gateways are told to believe, as a view or the officers' part says it.
type believed interface {
	Anchors() []*x509.Certificate
	Intermediates() []*x509.Certificate
	Policy() trust.Policy
}

// changes tells what an import makes appear and disappear; was is nil where nothing is published yet.
func changes(was, is believed) (lines []string) {
	if was == nil {
		was = nothing{}
	}
	for _, list := range []struct {
		kind    string
		was, is []*x509.Certificate
	}{{"anchor", was.Anchors(), is.Anchors()}, {"issuing CA", was.Intermediates(), is.Intermediates()}} {
		for _, c := range list.was {
			if !slices.ContainsFunc(list.is, c.Equal) {
				lines = append(lines, fmt.Sprintf("- %s %s: its devices are refused from now on", list.kind, show.Text(c.Subject.String())))
			}
		}
		for _, c := range list.is {
			if !slices.ContainsFunc(list.was, c.Equal) {
				lines = append(lines, fmt.Sprintf("+ %s %s", list.kind, show.Text(c.Subject.String())))
			}
		}
	}
	before, after := rulesOf(was.Policy(), was), rulesOf(is.Policy(), is)
	for _, r := range before {
		if !slices.Contains(after, r) {
			lines = append(lines, "- policy: "+r)
		}
	}
	for _, r := range after {
		if !slices.Contains(before, r) {
			lines = append(lines, "+ policy: "+r)
		}
	}
	return lines
}

type nothing struct{}

func (nothing) Anchors() []*x509.Certificate       { return nil }
func (nothing) Intermediates() []*x509.Certificate { return nil }
func (nothing) Policy() trust.Policy               { return trust.Policy{} }

// rulesOf is a gateway policy in words, a line each.
func rulesOf(p trust.Policy, of believed) (lines []string) {
	for _, t := range p.KeyTypes {
		lines = append(lines, "keys of "+t)
	}
	if p.MinRSABits != 0 {
		lines = append(lines, fmt.Sprintf("RSA from %d bits", p.MinRSABits))
	}
	if p.RequireCRL {
		lines = append(lines, "each CA needs a CRL")
	}
	for _, r := range p.CRLs {
		if r.Frozen {
			lines = append(lines, "the CRL of "+nameOfCA(of, r.CA)+" is frozen")
		} else {
			lines = append(lines, fmt.Sprintf("the CRL of %s is used for %d hours after its next update", nameOfCA(of, r.CA), r.GraceHours))
		}
	}
	if p.Stage != "" {
		lines = append(lines, "stage "+p.Stage)
	}
	for _, n := range p.GatewayNames {
		lines = append(lines, "gateway "+n)
	}
	if p.RegisteredOnly {
		lines = append(lines, "only registered devices")
	}
	if s := p.SharedCredentials; s != nil {
		lines = append(lines, fmt.Sprintf("test benches may share credentials of %s until %s", nameOfCA(of, s.CA), stamp(s.Until)))
	}
	for _, l := range p.Logs {
		lines = append(lines, "issuance log "+show.Text(l.Key))
	}
	return lines
}

func nameOfCA(of believed, id string) string {
	for _, c := range slices.Concat(of.Anchors(), of.Intermediates()) {
		if trust.IssuerID(c).String() == id {
			return show.Text(c.Subject.String())
		}
	}
	return show.Text(id)
}

// listState is how gateways use the CRL of a CA: "current", or why its devices are refused, or will be.
func listState(v *trust.View, ca *x509.Certificate, now time.Time) (state string, refused bool) {
	info, ok := v.CRL(ca)
	ends := v.Policy().CRLUntil(info)
	switch {
	case !ok && !v.Policy().RequireCRL:
		return noList, true
	case !ok:
		return "none: its devices are refused", true
	case now.Before(info.NextUpdate):
		return "current", false
	case !now.Before(ends):
		return "ended: its devices are refused", true
	case ends.Year() == 9999:
		return "frozen", false
	}
	return "ended, and used until " + stamp(ends) + " by the officers' grace", false
}

const noList = "none: its devices are refused, unless the gateway's configuration says trust.crl: policy"

// warnOfLists names the CAs whose devices are refused for want of a CRL.
func warnOfLists(w io.Writer, v *trust.View, now time.Time) {
	for _, c := range slices.Concat(v.Anchors(), v.Intermediates()) {
		if state, refused := listState(v, c, now); refused {
			fmt.Fprintf(w, "hanaper-repo: warning: CRL of %s: %s. Does its CRL reach this machine ('crls' in the configuration, or 'crl add')?\n",
				show.Text(c.Subject.String()), strings.TrimSuffix(state, "."))
		}
	}
}
