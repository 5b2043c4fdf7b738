package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"reflect"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
)

// layoutContent checks the content and lays out its target files.
func (p *Prepared) layoutContent(c Content, k Keys) error {
	if err := checkCAs(c.Anchors, c.Intermediates, p.unsigned); err != nil {
		return usage("name the Fleet Roots and the CAs under them", "trust content: %w", err)
	}
	cas := slices.Concat(c.Anchors, c.Intermediates)
	names := map[ID]string{}
	for _, ca := range cas {
		names[IssuerID(ca)] = ca.Subject.String()
		if !ca.NotAfter.After(p.now) {
			return usage("leave it out", "trust content: %q has expired", ca.Subject)
		}
	}
	for _, pub := range k.online() {
		id, err := spkiID(pub)
		if err != nil {
			return err
		}
		if name, ok := names[id]; ok {
			return advice.New(advice.Refused, "generate the online keys in the token of hanaper-repo", "the key of CA %q is an online trust key as well", name)
		}
	}
	p.add(anchorsTarget, marshalBundle(c.Anchors))
	if len(c.Intermediates) > 0 {
		p.add(intermediatesTarget, marshalBundle(c.Intermediates))
	}
	if reflect.ValueOf(c.Policy).IsZero() {
		c.Policy = DefaultPolicy(c.Environment)
	}
	if err := c.Policy.check(); err != nil {
		return err
	}
	if c.Policy.Environment != c.Environment {
		return usage(hints[ErrEnvironment], "the gateway policy is environment %q's, not %q's", c.Policy.Environment, c.Environment)
	}
	policy, err := c.Policy.marshal()
	if err != nil {
		return err
	}
	p.add(policyTarget, policy)
	if err := p.layoutUptane(c.Uptane); err != nil {
		return err
	}
	released, err := p.layoutReleases(c.Releases, names)
	if err != nil {
		return err
	}
	return p.layoutCRLs(c, cas, names, released)
}

func (p *Prepared) layoutReleases(list []Release, names map[ID]string) (map[ID]serials, error) {
	released, err := releaseSets(list)
	if err != nil {
		return nil, usage("", "trust content: %w", err)
	}
	for _, id := range sortedIDs(released) {
		if _, ok := names[id]; !ok {
			return nil, usage("a release names the SHA-256 of its CA's SubjectPublicKeyInfo", "trust content: a release is for issuer %s, which is not named", id)
		}
	}
	if len(list) > 0 {
		data, err := marshalReleases(list)
		if err != nil {
			return nil, err
		}
		p.add(releasesTarget, data)
	}
	return released, nil
}

func (p *Prepared) layoutCRLs(content Content, cas []*x509.Certificate, names map[ID]string, released map[ID]serials) error {
	crls := map[ID]*crl{}
	for i, der := range content.CRLs {
		der, err := derCRL(der)
		var c *crl
		if err == nil {
			c, err = parseUnsignedCRL(der, cas, p.unsigned[string(der)])
		}
		if err == nil {
			err = c.checkDates(p.now, content.Policy)
		}
		if err != nil {
			return usage("", "trust content: CRL %d %w", i+1, err)
		}
		id := c.info.Issuer
		if crls[id] != nil {
			return usage("give the newest one only", "trust content: two CRLs of %q", names[id])
		}
		crls[id] = c
		p.add(crlTarget(officersCRLPrefix, id), der)
	}
	if err := content.Policy.checkRules(func(id ID) bool { return names[id] != "" }, func(id ID) bool { return crls[id] != nil }); err != nil {
		return usage("a rule names the SHA-256 of its CA's SubjectPublicKeyInfo; a frozen CRL is one of the content's", "trust content: %w", err)
	}
	if p.prev == nil {
		return nil
	}
	for _, id := range sortedIDs(p.prev.crls) {
		was, is := p.prev.crls[id], crls[id]
		if _, named := names[id]; !named {
			continue
		}
		const hint = "issue a newer CRL that keeps all entries, or name the serial in the releases"
		if is == nil {
			return advice.New(advice.Refused, hint, "the previous trust repository has a CRL of %q, this one has none", names[id])
		}
		if is.info.Number.Cmp(was.info.Number) < 0 {
			return advice.New(advice.Refused, hint, "the CRL of %q has number %v, the previous one %v", names[id], is.info.Number, was.info.Number)
		}
		if s, lost := is.serials.lacks(was.serials, released[id]); lost {
			return advice.New(advice.Refused, hint, "the CRL of %q no longer lists serial %x, which is not released", names[id], s)
		}
	}
	return nil
}

// add lays out a target file.
func (p *Prepared) add(name string, data []byte) {
	addTarget(p.targets, p.files, name, data)
}

func addTarget(m *targetsMetadata, files Files, name string, data []byte) {
	hash := sha256.Sum256(data)
	m.Signed.Targets[name] = &metadata.TargetFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": hash[:]}, Path: name}
	files[targetPath(name, hash[:])] = data
}
