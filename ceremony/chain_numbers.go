package ceremony

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// Series are the numbers of one thing that may only rise, in the order in which a chain used them.
type Series struct {
	// What has the numbers, in plain words.
	What    string       `json:"what"`
	Numbers []UsedNumber `json:"numbers"`
}

// UsedNumber is a number and the ceremony that used it.
type UsedNumber struct {
	Number   string `json:"number"`
	Ceremony string `json:"ceremony"`
	// Withdrawn is true where the ceremony was aborted: what has the number was never released.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// numbers collects what a chain numbered. It reads the artefacts and the scripts, not the state that each ceremony carries
// on from the one before: it is a second look, with other eyes than those of the steps.
type numbers struct {
	order  []string
	series map[string]*Series
	last   map[string]*big.Int
	// serials are those of certificates, by the issuer's key; the value is the certificate and its ceremony.
	serials map[string]issuedOnce
	notes   []string
}

type issuedOnce struct{ raw, ceremony string }

// numbersOf lists the numbers of a chain, and refuses one that does not rise: a CRL's by the issuer's name and key, whatever
// the certificate is called; the versions of trust and Uptane; and a serial that an issuer's key gave twice.
func numbersOf(chain []*verified) ([]Series, []string, error) {
	n := &numbers{series: map[string]*Series{}, last: map[string]*big.Int{}, serials: map[string]issuedOnce{}, notes: []string{}}
	for _, v := range chain {
		if err := n.of(v); err != nil {
			return nil, nil, err
		}
	}
	list := []Series{}
	for _, what := range n.order {
		list = append(list, *n.series[what])
	}
	return list, n.notes, nil
}

func (n *numbers) of(v *verified) error {
	st := v.session.state
	for _, step := range v.script.steps {
		var err error
		switch c := step.step.(type) {
		case *CRL:
			if issuer := st.certificates[c.Issuer]; st.crlNames[c.Name] != nil && issuer != nil {
				key := comparedName(issuer.cert.RawSubject) + "\x00" + keyOf(issuer.cert)
				err = n.use(v, "crl\x00"+key, "CRLs of "+issuer.cert.Subject.String(), big.NewInt(c.Number), true)
			}
		case *UptaneRoot:
			if !v.aborted {
				err = n.use(v, "uptane root\x00"+c.Repository, "roots of the Uptane "+c.Repository+" repository", big.NewInt(int64(c.Version)), true)
			}
		case *UptaneTargets:
			if v.state().uptane[c.Repository] != nil && v.state().uptane[c.Repository].targetsVersion >= c.Version {
				err = n.use(v, "uptane targets\x00"+c.Repository, "targets of the Uptane "+c.Repository+" repository", big.NewInt(int64(c.Version)), true)
			}
		case *Certificate:
			err = n.certificate(v, c.Name)
		case *RootCertificate:
			err = n.certificate(v, c.Name)
		case *ImportCertificate:
			err = n.certificate(v, c.Name)
		}
		if err != nil {
			return err
		}
	}
	return n.trust(v)
}

func (v *verified) state() *state { return v.session.state }

// trust takes the versions of a trust repository that this ceremony released.
func (n *numbers) trust(v *verified) error {
	made := false
	for _, path := range v.state().order {
		made = made || strings.HasPrefix(path, "trust/")
	}
	if !made || v.state().trust == nil {
		return nil
	}
	rep := v.state().trust
	if err := n.use(v, "trust targets", "targets of the trust repository", big.NewInt(rep.TargetsVersion()), true); err != nil {
		return err
	}
	// A root that says what the last one said is not signed anew.
	return n.use(v, "trust root", "roots of the trust repository", big.NewInt(rep.RootVersion()), false)
}

// use takes a number; strictly means that the same one may not come again.
func (n *numbers) use(v *verified, id, what string, number *big.Int, strictly bool) error {
	s, ok := n.series[id]
	if !ok {
		s = &Series{What: what}
		n.series[id], n.order = s, append(n.order, id)
	}
	name := show.Text(v.script.config.Ceremony)
	if last := n.last[id]; last != nil {
		c := number.Cmp(last)
		before := s.Numbers[len(s.Numbers)-1]
		if c < 0 || c == 0 && strictly {
			return damaged(scriptFile, "ceremony %s: number %s of the %s does not rise above %s, which ceremony %s used", name, number, show.Text(what), last, show.Text(before.Ceremony))
		}
		if c == 0 {
			return nil
		}
		if next := new(big.Int).Add(last, big.NewInt(1)); number.Cmp(next) > 0 {
			n.notes = append(n.notes, fmt.Sprintf("ceremony %s: number %s of the %s follows %s (ceremony %s): the numbers between are of no ceremony of this chain", name, number, show.Text(what), last, show.Text(before.Ceremony)))
		}
	}
	n.last[id] = number
	s.Numbers = append(s.Numbers, UsedNumber{number.String(), v.script.config.Ceremony, v.aborted})
	return nil
}

// certificate asks that the key of its issuer gave the serial once.
func (n *numbers) certificate(v *verified, name string) error {
	c := v.state().certificates[name]
	if c == nil || c.unsigned {
		return nil
	}
	issuer := v.state().certificates[c.issuer]
	if c.issuer == "" {
		issuer = c
	}
	if issuer == nil {
		return nil
	}
	id := keyOf(issuer.cert) + "\x00" + c.cert.SerialNumber.String()
	once, ok := n.serials[id]
	if !ok {
		n.serials[id] = issuedOnce{string(c.cert.Raw), v.script.config.Ceremony}
		return nil
	}
	if once.raw != string(c.cert.Raw) {
		return damaged(c.path(), "ceremony %s: the serial %x was given before by the same key, in ceremony %s", show.Text(v.script.config.Ceremony), c.cert.SerialNumber, show.Text(once.ceremony))
	}
	n.notes = append(n.notes, fmt.Sprintf("ceremony %s: certificate %q is the one that ceremony %s has already", show.Text(v.script.config.Ceremony), name, show.Text(once.ceremony)))
	return nil
}
