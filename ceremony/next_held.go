package ceremony

import (
	"crypto/x509"
	"math/big"
	"slices"
	"sort"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// tokenOf finds a token by its serial number; nil where no ceremony used one.
func (s *Status) tokenOf(serial string) *StatusToken {
	return s.findToken(func(t StatusToken) bool { return t.Serial == serial })
}

// tokenNamed finds a token by its label or its serial number, as people name it; nil where no ceremony used one.
func (s *Status) tokenNamed(name string) *StatusToken {
	return s.findToken(func(t StatusToken) bool { return t.Label == name || t.Serial == name })
}

func (s *Status) findToken(is func(StatusToken) bool) *StatusToken {
	if i := slices.IndexFunc(s.Tokens, is); i >= 0 {
		return &s.Tokens[i]
	}
	return nil
}

// heldPIN is a PIN that officers hold together.
type heldPIN struct {
	purpose quorum.Purpose
	shares  *StatusShares
}

// pins are the PINs of a token that officers hold together.
func (t StatusToken) pins() (list []heldPIN) {
	for _, p := range []heldPIN{{quorum.PurposeUser, t.User}, {quorum.PurposeSO, t.SO}} {
		if p.shares != nil {
			list = append(list, p)
		}
	}
	return list
}

// performed is the ceremony with this id, the last one or one before it.
func (s *Status) performed(id string) *verified {
	for _, v := range slices.Backward(s.last.chain()) {
		if v.script.config.Ceremony == id {
			return v
		}
	}
	return nil
}

// live gives the copy of a key that was used last, or nil where it is in no token, or only in tokens that are to be left out.
func (k StatusKey) live(s *Status) *StatusCopy {
	var best *StatusCopy
	at := -1
	for i, c := range k.Copies {
		left := s.left.keys[c.Name]
		if n := slices.Index(s.Ceremonies, c.Ceremony); !c.Left && !k.replaced(s, c) && !slices.Contains(s.without, c.Serial) && left != nil && !left.destroyed && (n > at || n == at && left.of != "") {
			best, at = &k.Copies[i], n
		}
	}
	return best
}

// replaced says whether a copy is in a token that was not used any more since the key was restored, or copied, into another one,
// whatever became of that copy: the token has died, or was put away.
func (k StatusKey) replaced(s *Status, c StatusCopy) bool {
	t := s.tokenOf(c.Serial)
	if t == nil {
		return false
	}
	used := slices.Index(s.Ceremonies, t.Ceremony)
	return slices.ContainsFunc(slices.Concat(k.Copies, k.Destroyed), func(o StatusCopy) bool {
		return o.Serial != c.Serial && slices.Index(s.Ceremonies, o.Ceremony) > used
	})
}

// keyOf finds a key by a name that it or a copy of it has had.
func (d *draft) keyOf(name string) *StatusKey {
	for i, k := range d.s.Keys {
		if slices.Contains(k.Names, name) {
			return &d.s.Keys[i]
		}
	}
	return nil
}

// importKey takes a key up, once, and gives the name of its copy; empty where it is in no token.
func (d *draft) importKey(k *StatusKey) (string, error) {
	c := k.live(d.s)
	if c == nil {
		return "", nil
	}
	if d.imported["key "+c.Name] {
		return c.Name, nil
	}
	token, err := d.token(c.Serial)
	if err != nil {
		return "", err
	}
	d.imported["key "+c.Name], d.here[c.Name] = true, true
	d.step("import-artefact", &ImportArtefact{Key: c.Name, Token: token})
	return c.Name, nil
}

// importCertificate takes a certificate up, once, those above it first.
func (d *draft) importCertificate(name string) {
	c := d.s.left.certificates[name]
	if c == nil || d.imported["certificate "+name] {
		return
	}
	if c.issuer != "" {
		d.importCertificate(c.issuer)
	}
	d.imported["certificate "+name], d.here[name] = true, true
	d.step("import-artefact", &ImportArtefact{Certificate: name})
}

// certificateOf finds a certificate by its name among those that pass.
func (d *draft) certificateOf(name, what string, passes func(StatusCert) bool) (StatusCert, error) {
	var can []string
	for i := len(d.s.Certificates) - 1; i >= 0; i-- {
		if c := d.s.Certificates[i]; passes(c) {
			if c.Name == name {
				return c, nil
			}
			can = append(can, c.Name)
		}
	}
	slices.Reverse(can)
	return StatusCert{}, advice.New(advice.Usage, "name one of "+listed(can), "%s is no %s here", show.Text(name), show.Text(what))
}

// heldBy finds a certificate by its issuer and serial.
func (d *draft) heldBy(issuer *x509.Certificate, serial *big.Int) *x509.Certificate {
	for _, c := range d.s.held {
		if string(c.cert.RawIssuer) == string(issuer.RawSubject) && c.cert.SerialNumber.Cmp(serial) == 0 {
			return c.cert
		}
	}
	return nil
}

func (d *draft) held(c StatusCert) *x509.Certificate {
	for _, h := range d.s.held {
		if h.Name == c.Name && h.Serial == c.Serial {
			return h.cert
		}
	}
	return &x509.Certificate{}
}

// issuer is a CA whose key is in a token.
type issuer struct {
	cert *certificate
	key  *StatusKey
}

// issuers are the CAs that can sign, by the name of their certificate: of several certificates of one CA the root's.
func (d *draft) issuers() []issuer {
	var list []issuer
	for _, n := range sortedKeys(d.s.left.certificates) {
		c := d.s.left.certificates[n]
		i := slices.IndexFunc(d.s.Keys, func(k StatusKey) bool { return k.Fingerprint == keyOf(c.cert) })
		if !c.cert.IsCA || c.unsigned || i < 0 || d.s.Keys[i].live(d.s) == nil || !c.cert.NotAfter.After(d.until) {
			continue
		}
		same := slices.IndexFunc(list, func(o issuer) bool {
			return o.key.Fingerprint == d.s.Keys[i].Fingerprint && string(o.cert.cert.RawSubject) == string(c.cert.RawSubject)
		})
		switch {
		case same < 0:
			list = append(list, issuer{c, &d.s.Keys[i]})
		case c.issuer == "":
			list[same].cert = c
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].cert.cert.NotBefore.Before(list[j].cert.cert.NotBefore) })
	return list
}

// issuerNamed finds a CA whose key is in a token.
func (d *draft) issuerNamed(name string) (issuer, error) {
	var can []string
	for _, i := range d.issuers() {
		if i.cert.name == name {
			return i, nil
		}
		can = append(can, i.cert.name)
	}
	return issuer{}, advice.New(advice.Usage, "name one of "+listed(can), "%s is no CA whose key is in a token and which is valid then", show.Text(name))
}

// anchors are the Fleet Roots of today whose keys are in a token.
func (d *draft) anchors() []string {
	var list []string
	for _, i := range d.issuers() {
		if d.s.trust != nil && slices.Contains(d.s.trust.Anchors, i.cert.name) {
			list = append(list, i.cert.name)
		}
	}
	return list
}

// take takes up a CA with its key.
func (d *draft) take(i issuer) error {
	if _, err := d.importKey(i.key); err != nil {
		return err
	}
	d.importCertificate(i.cert.name)
	return nil
}

// wrapFor are the shares that backups of a token's keys are made with today: those of the newest backup that opens.
func (d *draft) wrapFor(k *StatusKey) *StatusShares {
	for i := len(k.Backups) - 1; i >= 0; i-- {
		if k.Backups[i].Shares.Opens {
			return &k.Backups[i].Shares
		}
	}
	return nil
}
