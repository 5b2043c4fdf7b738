package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Changes tells people what the officers' part makes appear (+) and disappear (-), and what stays with another value (~), a line each; was is nil
// where there is none yet. What other people named is shown so that it cannot pass for our own words.
func Changes(was, is *Repository) (lines []string) {
	if was == nil {
		was = &Repository{targets: is.targets, roots: is.roots}
	}
	for _, list := range []struct {
		kind    string
		was, is []*x509.Certificate
	}{{"anchor", was.anchors, is.anchors}, {"issuing CA", was.intermediates, is.intermediates}} {
		for _, c := range list.was {
			if !slices.ContainsFunc(list.is, c.Equal) {
				lines = append(lines, fmt.Sprintf("- %s %s: its devices are refused from now on (%s)", list.kind, show.Text(c.Subject.String()), certificate(c)))
			}
		}
		for _, c := range list.is {
			if !slices.ContainsFunc(list.was, c.Equal) {
				lines = append(lines, fmt.Sprintf("+ %s %s (%s)", list.kind, show.Text(c.Subject.String()), certificate(c)))
			}
		}
	}
	lines = append(lines, crlChanges(was, is)...)
	lines = append(lines, listed("release", releasesOf(was), releasesOf(is))...)
	lines = append(lines, listed("policy", rulesOf(was), rulesOf(is))...)
	return append(lines, listed("Uptane root", uptaneOf(was), uptaneOf(is))...)
}

// certificate tells two CAs of one name apart.
func certificate(c *x509.Certificate) string {
	digest := sha256.Sum256(c.Raw)
	return fmt.Sprintf("certificate %x, until %s", digest[:8], c.NotAfter.UTC().Format(time.DateOnly))
}

func listed(kind string, was, is []string) (lines []string) {
	for _, r := range was {
		if !slices.Contains(is, r) {
			lines = append(lines, "- "+kind+": "+r)
		}
	}
	for _, r := range is {
		if !slices.Contains(was, r) {
			lines = append(lines, "+ "+kind+": "+r)
		}
	}
	return lines
}

func crlChanges(was, is *Repository) (lines []string) {
	for _, id := range sortedIDs(was.crls) {
		if is.crls[id] == nil {
			lines = append(lines, "- CRL of "+was.caName(id))
		}
	}
	for _, id := range sortedIDs(is.crls) {
		now, before := is.crls[id], was.crls[id]
		due := now.info.NextUpdate.UTC().Format(time.RFC3339)
		switch {
		case before == nil:
			lines = append(lines, fmt.Sprintf("+ CRL of %s: number %v, %d revoked, next update %s", is.caName(id), now.info.Number, len(now.serials), due))
		case before.digest != now.digest:
			lines = append(lines, fmt.Sprintf("~ CRL of %s: number %v (was %v), %d revoked (was %d), next update %s", is.caName(id),
				now.info.Number, before.info.Number, len(now.serials), len(before.serials), due))
		}
	}
	return lines
}

func releasesOf(rep *Repository) (list []string) {
	for _, r := range rep.Releases() {
		list = append(list, fmt.Sprintf("serial %x of %s: no CRL need list it", r.Serial, rep.caName(r.Issuer)))
	}
	return list
}

// rulesOf is the gateway policy in words, a line each.
func rulesOf(rep *Repository) (lines []string) {
	p := rep.policy
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
		id, _ := parseID(r.CA)
		if r.Frozen {
			lines = append(lines, "the CRL of "+rep.caName(id)+" is frozen")
		} else {
			lines = append(lines, fmt.Sprintf("the CRL of %s is used for %d hours after its next update", rep.caName(id), r.GraceHours))
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
		id, _ := parseID(s.CA)
		lines = append(lines, fmt.Sprintf("test benches may share credentials of %s until %s", rep.caName(id), s.Until.Format(time.RFC3339)))
	}
	for _, l := range p.Logs {
		lines = append(lines, "issuance log "+show.Text(l.Key))
	}
	return lines
}

func uptaneOf(rep *Repository) (lines []string) {
	u := rep.uptane
	for _, one := range []struct {
		name string
		data []byte
	}{{"Director", u.Director}, {"Image repository", u.Image}} {
		if one.data == nil {
			continue
		}
		var m struct {
			Signed struct {
				Version int64  `json:"version"`
				Expires string `json:"expires"`
			} `json:"signed"`
		}
		_ = json.Unmarshal(one.data, &m) // it was parsed when it was read
		lines = append(lines, fmt.Sprintf("%s, version %s, until %s, SHA-256 %x", one.name, strconv.FormatInt(m.Signed.Version, 10), show.Text(m.Signed.Expires), sha256.Sum256(one.data)))
	}
	return lines
}

// caName is the subject of a named CA, or its id.
func (rep *Repository) caName(id ID) string {
	for _, c := range rep.cas {
		if IssuerID(c) == id {
			return show.Text(c.Subject.String())
		}
	}
	return id.String()
}
