package ceremony

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/ceremony/calendar"
	"github.com/hanaper/hanaper/quorum"
)

// inventory is collected along a chain, from the first ceremony to the last.
type inventory struct {
	status *Status
	chain  []*verified
	// tokens and keys in the order in which they came; keys by the SHA-256 of the public half.
	tokens []*StatusToken
	keys   []*StatusKey
	certs  []*heldCert
	crls   []*heldCRL
	// shares are all share documents, by digest, with the ceremony in which they were met first.
	shares map[quorum.Digest]StatusShares
	docs   map[quorum.Digest]*quorum.Shares
}

type heldCert struct {
	StatusCert
	cert *x509.Certificate
}

type heldCRL struct {
	StatusCRL
	crl     *x509.RevocationList
	issuer  *x509.Certificate
	highest *big.Int
}

// statusOf collects what exists after a verified ceremony.
func statusOf(v *verified, name string) (*Status, error) {
	f := &inventory{chain: v.chain(), shares: map[quorum.Digest]StatusShares{}, docs: map[quorum.Digest]*quorum.Shares{}}
	s := &Status{Environment: v.script.config.Environment, Ceremony: v.script.config.Ceremony, Checkpoint: hexSHA256(v.checkpoint), Ended: formatTime(v.ended), Aborted: v.aborted,
		Tokens: []StatusToken{}, Keys: []StatusKey{}, Certificates: []StatusCert{}, CRLs: []StatusCRL{}, Uptane: []StatusUptane{}, Ends: []calendar.Entry{}, Problems: []string{},
		last: v, left: (&earlier{verified: v}).left(), uptane: map[string]*UptaneRoot{}}
	f.status = s
	s.Roster = StatusRoster{SHA256: hexSHA256(v.script.roster), Epoch: v.roster.Epoch(), Threshold: v.roster.Threshold()}
	for _, o := range v.roster.Officers() {
		s.Roster.Officers = append(s.Roster.Officers, StatusOfficer{o.Name, string(o.Role), o.DecryptionKey != nil})
	}
	for _, c := range f.chain {
		s.Ceremonies = append(s.Ceremonies, c.script.config.Ceremony)
		f.ceremony(c)
	}
	f.conclude()
	s.Withheld = f.withheldOf()
	ends, err := calendar.ReadFiles(v.files, name)
	if err != nil {
		return nil, err
	}
	s.Ends = f.noted(calendar.Merge(ends))
	f.problems()
	return s, nil
}

// ceremony takes in what one ceremony says.
func (f *inventory) ceremony(v *verified) {
	st, id := v.state(), v.script.config.Ceremony
	for _, n := range sortedKeys(v.session.infos) {
		info := v.session.infos[n]
		t := f.token(info.Serial)
		t.Label, t.Model, t.Ceremony = info.Label, info.Model, id
		for _, p := range []quorum.Purpose{quorum.PurposeUser, quorum.PurposeSO} {
			if d, err := v.script.Shares(n, p); err == nil && d != nil {
				f.document(v, v.script.pinInput(n, p), d)
				f.holds(t, d)
			}
		}
	}
	for _, n := range sortedKeys(v.script.inputs) {
		if d, err := quorum.ParseShares(v.script.inputs[n]); err == nil {
			f.document(v, n, d)
		}
	}
	for _, step := range v.script.steps {
		switch c := step.step.(type) {
		case *InitToken:
			if info, ok := v.session.infos[c.Token]; ok {
				t := f.token(info.Serial)
				t.User, t.SO = nil, nil
			}
		case *HoldSecret:
			if d := st.shares[c.Name]; d != nil {
				f.document(v, c.Name, d)
				if d.Purpose() != quorum.PurposeWrap {
					f.holds(f.token(d.TokenSerial()), d)
				}
			}
		case *CRL:
			f.crl(v, c)
		case *Certificate:
			f.certificate(v, c.Name)
		case *RootCertificate:
			f.certificate(v, c.Name)
		case *ImportCertificate:
			f.certificate(v, c.Name)
		case *TrustRepository:
			if !v.aborted {
				f.status.trust = c
				f.status.Trust = trustFacts(v, c)
			}
		case *UptaneRoot:
			if !v.aborted {
				f.status.uptane[c.Repository] = c
			}
		}
	}
	f.keysOf(v)
	for _, r := range []string{"image", "director"} {
		f.uptane(v, r)
	}
}

// pinInput is the name of the input that holds the shares of a token's PIN.
func (s *Script) pinInput(token string, p quorum.Purpose) string {
	if p == quorum.PurposeSO {
		return s.config.Tokens[token].SOShares
	}
	return s.config.Tokens[token].UserShares
}

func (f *inventory) token(serial string) *StatusToken {
	for _, t := range f.tokens {
		if t.Serial == serial {
			return t
		}
	}
	t := &StatusToken{Serial: serial, Keys: []string{}}
	f.tokens = append(f.tokens, t)
	return t
}

// document takes in a share document: who of today's roster can open it.
func (f *inventory) document(v *verified, name string, d *quorum.Shares) {
	if _, ok := f.shares[d.Digest()]; ok {
		return
	}
	s := StatusShares{Name: name, SHA256: d.Digest().String(), Ceremony: v.script.config.Ceremony, Threshold: d.Threshold(), Holders: []string{}, serial: d.TokenSerial()}
	s.Holders = d.Living(f.chain[len(f.chain)-1].roster)
	for _, n := range d.Holders() {
		if !slices.Contains(s.Holders, n) {
			s.Gone = append(s.Gone, n)
		}
	}
	s.Opens = len(s.Holders) >= s.Threshold
	f.shares[d.Digest()], f.docs[d.Digest()] = s, d
}

func (f *inventory) holds(t *StatusToken, d *quorum.Shares) {
	s := f.shares[d.Digest()]
	if d.Purpose() == quorum.PurposeSO {
		t.SO = &s
	} else {
		t.User = &s
	}
}

func (f *inventory) key(spki []byte) *StatusKey {
	sum := hexSHA256(spki)
	for _, k := range f.keys {
		if k.Fingerprint == sum {
			return k
		}
	}
	k := &StatusKey{Fingerprint: sum, Names: []string{}, For: []string{}, Copies: []StatusCopy{}, Backups: []StatusBackup{}, Destroyed: []StatusCopy{}}
	f.keys = append(f.keys, k)
	return k
}

// keysOf takes in where the keys of a ceremony are when it is over.
func (f *inventory) keysOf(v *verified) {
	id := v.script.config.Ceremony
	for _, n := range sortedKeys(v.state().keys) {
		own := v.state().keys[n]
		at := v.session.infos[own.token]
		c := StatusCopy{Name: own.name, Token: at.Label, Serial: at.Serial, Label: own.label, Class: own.class, Ceremony: id}
		if v.aborted && own.madeHere {
			stays := slices.ContainsFunc(v.session.stays, func(a abortedKey) bool { return a.Token == own.token && a.ID == hex.EncodeToString(own.id) })
			if !stays {
				continue
			}
			c.Left = true
		}
		k := f.key(own.spki)
		// The name that a key has while its backup is wrapped anew is no name that anybody uses.
		if k.Algorithm = own.algorithm; !slices.Contains(k.Names, n) && !(own.destroyed && strings.HasSuffix(n, unwrappedSuffix)) {
			k.Names = append(k.Names, n)
		}
		if own.purpose != "" && own.purpose != purposeCA && !slices.Contains(k.For, own.purpose) {
			k.For = append(k.For, own.purpose)
		}
		same := func(o StatusCopy) bool { return o.Serial == c.Serial && o.Label == c.Label }
		if i := slices.IndexFunc(k.Copies, same); i >= 0 {
			c.Left = c.Left || k.Copies[i].Left
			k.Copies = slices.Delete(k.Copies, i, i+1)
		}
		if own.destroyed {
			k.Destroyed = append(k.Destroyed, c)
		} else {
			k.Copies = append(k.Copies, c)
		}
	}
	if v.aborted {
		return
	}
	for _, n := range sortedKeys(v.state().backups) {
		b := v.state().backups[n]
		k := f.key(b.key.spki)
		k.Backups = slices.DeleteFunc(k.Backups, func(o StatusBackup) bool { return o.Name == n })
		f.document(v, n, b.shares) // as a rule a step or an input had it before
		for i := range k.Backups {
			if k.Backups[i].Name == b.of {
				k.Backups[i].ReplacedBy = n
			}
		}
		k.Backups = append(k.Backups, StatusBackup{Name: n, Ceremony: id, Shares: f.shares[b.shares.Digest()]})
	}
}

func (f *inventory) certificate(v *verified, name string) {
	c := v.state().certificates[name]
	if c == nil || v.aborted || c.unsigned {
		return
	}
	if slices.ContainsFunc(f.certs, func(o *heldCert) bool { return o.cert.Equal(c.cert) }) {
		return
	}
	kind := "end entity"
	switch {
	case string(c.cert.RawIssuer) == string(c.cert.RawSubject):
		kind = "root"
	case c.cert.IsCA && slices.ContainsFunc(f.certs, func(o *heldCert) bool { return o.Kind == "root" && ca.SameKey(o.cert.PublicKey, c.cert.PublicKey) }):
		kind = "cross"
	case c.cert.IsCA:
		kind = "CA"
	}
	f.certs = append(f.certs, &heldCert{StatusCert{Name: name, Subject: c.cert.Subject.String(), Issuer: c.cert.Issuer.String(), IssuedBy: c.issuer, Serial: fmt.Sprintf("%x", c.cert.SerialNumber), Kind: kind,
		NotAfter: c.cert.NotAfter.UTC(), Ceremony: v.script.config.Ceremony}, c.cert})
}

func (f *inventory) crl(v *verified, step *CRL) {
	crl, issuer := v.state().crlNames[step.Name], v.state().certificates[step.Issuer]
	if crl == nil || issuer == nil {
		return
	}
	i := slices.IndexFunc(f.crls, func(o *heldCRL) bool {
		return string(o.issuer.RawSubject) == string(issuer.cert.RawSubject) && ca.SameKey(o.issuer.PublicKey, issuer.cert.PublicKey)
	})
	if i < 0 {
		i = len(f.crls)
		f.crls = append(f.crls, &heldCRL{issuer: issuer.cert, highest: new(big.Int)})
	}
	c := f.crls[i]
	if c.highest.Cmp(crl.Number) < 0 {
		c.highest = crl.Number
	}
	if v.aborted {
		return
	}
	c.crl = crl
	c.StatusCRL = StatusCRL{Name: step.Name, Issuer: issuer.cert.Subject.String(), Number: crl.Number.String(), Revoked: len(crl.RevokedCertificateEntries), NextUpdate: crl.NextUpdate.UTC(), Ceremony: v.script.config.Ceremony}
}

func trustFacts(v *verified, step *TrustRepository) *StatusTrust {
	rep := v.state().trust
	t := &StatusTrust{RootVersion: rep.RootVersion(), TargetsVersion: rep.TargetsVersion(), Expires: rep.Expires().UTC(), Anchors: step.Anchors, Intermediates: step.Intermediates,
		RootKeys: UptaneRole{step.RootKeys, step.RootThreshold}.String(), TargetsKeys: UptaneRole{step.TargetsKeys, step.TargetsThreshold}.String(), Ceremony: v.script.config.Ceremony}
	if t.Intermediates == nil {
		t.Intermediates = []string{}
	}
	return t
}

func (f *inventory) uptane(v *verified, repository string) {
	u, step := v.state().uptane[repository], f.status.uptane[repository]
	if u == nil || step == nil {
		return
	}
	all := f.status.Uptane
	i := slices.IndexFunc(all, func(o StatusUptane) bool { return o.Repository == repository })
	if i < 0 {
		i, all = len(all), append(all, StatusUptane{Repository: repository})
	}
	now := StatusUptane{Repository: repository, RootVersion: u.root.Version(), TargetsVersion: u.targetsVersion, Expires: u.root.Expires().UTC(), RootKeys: step.Root.String(), Ceremony: all[i].Ceremony}
	if now.RootVersion != all[i].RootVersion {
		now.Ceremony = v.script.config.Ceremony
	}
	all[i] = now
	f.status.Uptane = all
}

// conclude joins what belongs together.
func (f *inventory) conclude() {
	s := f.status
	rep := s.last.state().trust
	in := func(list []*x509.Certificate, c *x509.Certificate) bool {
		return slices.ContainsFunc(list, func(o *x509.Certificate) bool { return o.Equal(c) })
	}
	for _, k := range f.keys {
		k.account()
		for _, c := range f.certs {
			if c.cert.IsCA && hexSHA256(c.cert.RawSubjectPublicKeyInfo) == k.Fingerprint && !slices.Contains(k.For, c.Subject) {
				k.For = append(k.For, c.Subject)
			}
		}
		for _, c := range k.Copies {
			t := f.token(c.Serial)
			t.Keys = append(t.Keys, c.Name)
		}
	}
	for _, c := range f.certs {
		c.Key = "outside"
		for _, k := range f.keys {
			if k.Fingerprint == hexSHA256(c.cert.RawSubjectPublicKeyInfo) {
				c.Key = k.State
			}
		}
		if rep != nil {
			c.Anchor, c.Published = in(rep.Anchors(), c.cert), in(rep.Intermediates(), c.cert)
		}
		for _, l := range f.crls {
			if l.crl != nil && string(l.crl.RawIssuer) == string(c.cert.RawIssuer) && string(l.crl.AuthorityKeyId) == string(c.cert.AuthorityKeyId) &&
				slices.ContainsFunc(l.crl.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(c.cert.SerialNumber) == 0 }) {
				c.Revoked = true
			}
		}
		s.Certificates = append(s.Certificates, c.StatusCert)
	}
	s.held, s.lists = f.certs, f.crls
	for _, t := range f.tokens {
		s.Tokens = append(s.Tokens, *t)
	}
	for _, k := range f.keys {
		s.Keys = append(s.Keys, *k)
	}
	for _, c := range f.crls {
		if c.Highest = c.highest.String(); c.crl != nil {
			s.CRLs = append(s.CRLs, c.StatusCRL)
		}
	}
}

// account says where a key is, after all.
func (k *StatusKey) account() {
	opens := slices.ContainsFunc(k.Backups, func(b StatusBackup) bool { return b.Shares.Opens })
	switch {
	case len(k.Copies) > 0:
		k.State = KeyInToken
	case opens:
		k.State = KeyInBackup
	case len(k.Backups) > 0:
		k.State = KeyLost
	default:
		k.State = KeyDestroyed
	}
}
