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

// listState is how gateways use the CRL of a CA: "current", or why its devices are refused, or will be.
func listState(v *trust.View, ca *x509.Certificate, now time.Time) (state string, refused bool) {
	info, ok := v.CRL(ca)
	ends := v.Policy().CRLUntil(info)
	switch {
	case !ok && !v.Policy().RequireCRL:
		return noList, true
	case !ok:
		return "none: its devices are refused", true
	case ends.Year() == 9999:
		return "frozen", false
	case now.Before(info.NextUpdate):
		return "current", false
	case !now.Before(ends):
		return "ended: its devices are refused", true
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
