package ceremony

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// policy takes what the last version of trust said of CAs and of the environment over into the next one, freezes the lists that are given, and leaves out
// what went with its CA or has ended. It gives comments for those who read the draft.
func (d *draft) policy(t *TrustRepository) (comments []string, err error) {
	cas := slices.Concat(t.Anchors, t.Intermediates)
	// here is the CA of today of which the last version spoke by this name; empty where it has gone.
	here := func(name string) string {
		if slices.Contains(cas, name) {
			return name
		}
		return d.sameKey(cas, name)
	}
	if comments, err = d.crlRules(t, cas, here); err != nil {
		return nil, err
	}
	releases := t.Releases
	t.Releases = nil
	for _, r := range releases {
		if r.Issuer = here(r.Issuer); r.Issuer != "" {
			t.Releases = append(t.Releases, r)
		}
	}
	if sh := t.SharedCredentials; sh != nil {
		until, _ := time.Parse(time.RFC3339, sh.Until)
		switch name := here(sh.CA); {
		case name == "" || !until.After(d.until):
			t.SharedCredentials = nil
			comments = append(comments, fmt.Sprintf("The leave for SHARED CREDENTIALS ended %s, or its CA has gone.", sh.Until))
		default:
			t.SharedCredentials = &SharedConfig{CA: name, Until: sh.Until}
		}
	}
	// The last version is above what was signed before it.
	t.VersionAbove = 0
	return comments, nil
}

// crlRules freezes the lists that are given, and takes the last version's rules for CRLs over: a list that is frozen now has no other rule.
func (d *draft) crlRules(t *TrustRepository, cas []string, here func(string) string) (comments []string, err error) {
	rules, frozen := t.CRLRules, map[string]bool{}
	t.CRLRules = nil
	for _, in := range d.n.Inputs {
		if in.Use != UseFreeze {
			continue
		}
		if err := d.isListOf(in, cas); err != nil {
			return nil, err
		}
		name := in.Name
		in.Name += "-last"
		frozen[name] = true
		t.CRLRules = append(t.CRLRules, CRLRuleConfig{CA: name, Frozen: d.pin(in)})
		comments = append(comments, fmt.Sprintf("FREEZES the last list of %s: gateways use it as long as the CA lasts. Then its key is destroyed.", name))
	}
	for _, r := range rules {
		name := here(r.CA)
		switch {
		case name == "":
			gone := d.removes([]string{d.sameKey(slices.Concat(d.s.trust.Anchors, d.s.trust.Intermediates), r.CA)}, nil)
			for _, n := range gone {
				t.Removes = append(t.Removes, "crl_rules."+n)
			}
			continue
		case frozen[name]:
			continue
		case r.Frozen != "":
			if r.Frozen, err = d.pinEarlier(r.Frozen, hexSHA256(d.trustInput(r.Frozen))); err != nil {
				return nil, err
			}
		}
		r.CA = name
		t.CRLRules = append(t.CRLRules, r)
	}
	return comments, nil
}

// sameKey gives the first of these certificates that is for the key of the one with this name, itself or another; empty where there is none.
func (d *draft) sameKey(list []string, name string) string {
	was := d.s.left.certificates[name]
	i := slices.IndexFunc(list, func(o string) bool {
		is := d.s.left.certificates[o]
		return is != nil && was != nil && ca.SameKey(is.cert.PublicKey, was.cert.PublicKey)
	})
	if i < 0 {
		return ""
	}
	return list[i]
}

// isListOf refuses a file that is not a CRL of the CA of its name, or of one that gateways do not know.
func (d *draft) isListOf(in NamedFile, cas []string) error {
	held := d.s.left.certificates[in.Name]
	if held == nil || !slices.Contains(cas, in.Name) {
		return advice.New(advice.Usage, "name one of "+listed(cas), "gateways know no CA %s", show.Text(in.Name))
	}
	list, err := x509.ParseRevocationList(derOf(in.Data))
	if err != nil {
		return advice.New(advice.Usage, "give the last list of the CA, DER or PEM", "%s is no CRL", show.Text(in.File))
	}
	if list.CheckSignatureFrom(held.cert) != nil {
		return advice.New(advice.Refused, "give the last list of that CA", "%s is not signed by %s", show.Text(in.File), show.Text(in.Name))
	}
	return nil
}
