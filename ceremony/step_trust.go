package ceremony

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// TrustRepository builds and signs the officers' half of the environment's trust repository.
type TrustRepository struct {
	// RootKeys and TargetsKeys are keys of this ceremony; all of them sign.
	RootKeys         []string `yaml:"root_keys"`
	RootThreshold    int      `yaml:"root_threshold"`
	TargetsKeys      []string `yaml:"targets_keys"`
	TargetsThreshold int      `yaml:"targets_threshold"`
	// AlsoSignedBy are root keys of the version before that this one no longer has: with them it is signed to that one's threshold.
	AlsoSignedBy []string `yaml:"also_signed_by"`
	// Snapshot, Timestamp and CRL are inputs that hold the online roles' public keys.
	Snapshot  string `yaml:"snapshot"`
	Timestamp string `yaml:"timestamp"`
	CRL       string `yaml:"crl"`
	// Anchors and Intermediates are certificates, CRLs are CRLs of this ceremony, by name.
	Anchors       []string `yaml:"anchors"`
	Intermediates []string `yaml:"intermediates"`
	CRLs          []string `yaml:"crls"`
	// RequireCRL, KeyTypes and MinRSABits are the gateway policy; what is left out is gatewayPolicy's.
	RequireCRL bool     `yaml:"require_crl"`
	KeyTypes   []string `yaml:"key_types"`
	MinRSABits int      `yaml:"min_rsa_bits"`
	// CRLRules are the CAs whose CRL gateways use beyond its next update.
	CRLRules []CRLRuleConfig `yaml:"crl_rules"`
	// Stage, GatewayNames, RegisteredOnly, SharedCredentials and Logs (verifier keys) say what the environment is: trust.Policy's.
	Stage             string        `yaml:"stage"`
	GatewayNames      []string      `yaml:"gateway_names"`
	RegisteredOnly    bool          `yaml:"registered_only"`
	SharedCredentials *SharedConfig `yaml:"shared_credentials"`
	Logs              []string      `yaml:"logs"`
	// DirectorRoot and ImageRoot are inputs: the Uptane roots that devices are provisioned with.
	DirectorRoot string `yaml:"director_root"`
	ImageRoot    string `yaml:"image_root"`
	// VersionAbove is the highest version of the targets that officers signed since the last ceremony, with `hanaper trust`.
	VersionAbove int64 `yaml:"version_above"`
	// Removes names what the last version has and this one has not: certificates and keys by their names, and fields of this step.
	Removes []string `yaml:"removes"`
	// Releases are revoked serials that later CRLs may leave out.
	Releases       []ReleaseConfig `yaml:"releases"`
	RootExpires    string          `yaml:"root_expires"`
	TargetsExpires string          `yaml:"targets_expires"`
}

// ReleaseConfig names a revoked serial by its issuer's certificate.
type ReleaseConfig struct {
	Issuer string `yaml:"issuer"`
	Serial string `yaml:"serial"`
}

// CRLRuleConfig has the CRL of a CA used for some hours after its next update, or, where the CA's key is gone, its last one as long as the CA lasts.
type CRLRuleConfig struct {
	// CA is a certificate of this ceremony.
	CA         string `yaml:"ca"`
	GraceHours int    `yaml:"grace_hours"`
	// Frozen is the input that holds the last CRL, DER or PEM.
	Frozen string `yaml:"frozen"`
}

// trustState is the officers' half as it was last signed.
type trustState struct {
	repository *trust.Repository
}

func (t *TrustRepository) people() people { return byProgram }

func (t *TrustRepository) needs(*Plan) []need { return nil }

func (t *TrustRepository) left(o *leftover, own []entry) { o.numbered(own) }

func (t *TrustRepository) used(s *Session) {
	released := int64(0)
	if last := s.script.startState().lastTrust(); last != nil {
		released = last.TargetsVersion()
	}
	s.state.trustUsed = max(s.state.trustUsed, released) + 1
}

func (t *TrustRepository) describe(s *Session) string {
	return fmt.Sprintf("build the trust repository of %q: anchors %v, intermediates %v, CRLs %v; sign its root with %v and its targets with %v, good until %s and %s",
		s.script.config.Environment, t.Anchors, t.Intermediates, t.CRLs, slices.Concat(t.RootKeys, t.AlsoSignedBy), t.TargetsKeys, t.RootExpires, t.TargetsExpires)
}

func (t *TrustRepository) perform(s *Session) error {
	if s.state.trustUnsigned {
		return refuse(RuleVersion, "this script makes a version of trust before this one, with keys of earlier ceremonies: what follows it cannot be compared with it before it is signed. Make one version, or hold another ceremony")
	}
	content, err := t.content(s)
	if err != nil {
		return err
	}
	keys, signers, err := t.keys(s)
	if err != nil {
		return err
	}
	if prev := s.state.lastTrust(); prev != nil {
		var pubs []crypto.PublicKey
		for _, k := range signers {
			pubs = append(pubs, k.Public())
		}
		if err := prev.CheckSuccession(pubs...); err != nil {
			return refuse(RuleThreshold, "%w", err)
		}
	}
	var v trust.Validity
	if v.RootExpires, err = s.expiry("root_expires", t.RootExpires); err != nil {
		return err
	}
	if v.TargetsExpires, err = s.expiry("targets_expires", t.TargetsExpires); err != nil {
		return err
	}
	if err := t.compare(s, content, keys); err != nil {
		return err
	}
	if s.how.lacks(signers...) || t.specimens(s) {
		s.trustWillSign(content, keys, v, signers)
	}
	if s.finished() && !s.how.lacks(signers...) && !t.specimens(s) {
		return t.confirm(s, content, keys, v, signers)
	}
	if t.specimens(s) && s.aborted() {
		return s.passOver("trust repository")
	}
	if t.specimens(s) {
		// What imported keys will sign has no signature yet; all else is checked before anybody is in the room.
		if s.finished() {
			return keys.CheckAsOf(s.format)
		}
		paths, err := trust.CheckUnsigned(s.state.lastTrust(), content, keys, v, s.script.until, t.unsigned(s))
		if err != nil {
			return refuse(RuleVersion, "%w", err)
		}
		s.state.trustUnsigned = true
		return s.willWriteTrust(paths)
	}
	prev := s.state.lastTrust()
	prepared, err := trust.Prepare(prev, content, keys, v, s.script.until)
	if err != nil && s.aborted() {
		return s.passOver("trust repository")
	}
	if err != nil {
		return refuse(RuleVersion, "%w", err)
	}
	if s.how.lacks(signers...) {
		s.state.trustUnsigned = true
		return s.willWriteTrust(prepared.Paths())
	}
	files, err := prepared.Sign(signers...)
	if s.aborted() {
		if ok, err := s.rebuilt("trust repository", err); err != nil {
			return err
		} else if !ok {
			return s.passOver("trust repository")
		}
	} else if err != nil {
		return err
	}
	for _, n := range sortedKeys(files) {
		if err := s.artefact("trust/"+n, files[n], nil); err != nil {
			return err
		}
	}
	first := files["metadata/1.root.json"]
	repository, err := trust.OpenRepository(trust.Files(files), trust.PinRoot(first), s.script.until)
	if err != nil {
		return err
	}
	s.state.trust = &trustState{repository}
	return nil
}

// willWriteTrust names, for those who review a script, the files that keys of earlier ceremonies will sign. A rehearsal writes none
// of them.
func (s *Session) willWriteTrust(paths []string) error {
	if !s.how.onSpecimens() {
		return nil
	}
	for _, p := range paths {
		if err := s.artefact("trust/"+p, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// compare holds the step to what it removes against the last version, and keeps the difference for people.
func (t *TrustRepository) compare(s *Session, c trust.Content, k trust.Keys) error {
	prev := s.state.lastTrust()
	gone, added := t.removed(s, prev, c, k)
	if prev != nil && !s.aborted() {
		if err := t.keepsRevoked(s, prev, c); err != nil {
			return err
		}
	}
	if prev != nil {
		d := &change{last: fmt.Sprintf("version %d of the trust repository", prev.TargetsVersion()), added: added}
		for _, g := range gone {
			d.gone = append(d.gone, g.what)
		}
		s.changes[s.step] = d
	}
	return s.namesRemovals(t.Removes, gone)
}

// trustWillSign counts the signatures that no specimen makes: each targets key signs, and each root key where the root changes.
func (s *Session) trustWillSign(c trust.Content, k trust.Keys, v trust.Validity, signers []crypto.Signer) {
	changes, err := trust.RootChanges(s.state.lastTrust(), c.Environment, k, v.RootExpires)
	for _, signer := range signers {
		own := signer.(*key)
		isRoot := slices.ContainsFunc(k.Root.Keys, func(pub crypto.PublicKey) bool { return ca.SameKey(pub, own.public) })
		if err == nil && (!isRoot || changes) {
			s.willSign(own, 1)
		}
	}
}

// lastTrust is the trust repository that was signed last; nil before the first.
func (st *state) lastTrust() *trust.Repository {
	if st.trust == nil {
		return nil
	}
	return st.trust.repository
}

// confirm holds the repository in the folder of a finished ceremony to what the step asks for.
func (t *TrustRepository) confirm(s *Session, content trust.Content, keys trust.Keys, v trust.Validity, signers []crypto.Signer) error {
	list, err := s.signatures()
	if err != nil {
		return err
	}
	files, err := s.filesBelow("trust/")
	if err != nil {
		return err
	}
	repository, signed, err := trust.Confirm(s.format, s.state.lastTrust(), content, keys, v, trust.Files(files), s.script.until)
	if err != nil {
		return s.notAsAsked("trust", err)
	}
	var messages []message
	for _, f := range signed {
		for _, g := range f.Signatures {
			at := slices.IndexFunc(signers, func(k crypto.Signer) bool { return ca.SameKey(k.Public(), g.Key) })
			if at < 0 {
				return s.notAsAsked("trust/"+f.Path, errors.New("it is signed by a key that the step does not name"))
			}
			messages = append(messages, message{"trust/" + f.Path, signers[at].(*key), f.Payload, g.Signature})
		}
	}
	s.state.trust = &trustState{repository}
	return s.match(list, messages)
}

// gatewayPolicy is what a script of version 1 leaves out of the gateway policy. It is part of that version and never
// changes, whatever another release takes by default.
func gatewayPolicy(environment string) trust.Policy {
	return trust.Policy{Format: 1, Environment: environment, KeyTypes: []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"}, MinRSABits: 2048}
}

// specimens is true where a script is validated and the content holds what an imported key would have signed.
func (t *TrustRepository) specimens(s *Session) bool {
	for _, n := range slices.Concat(t.Anchors, t.Intermediates) {
		if s.state.certificates[n].unsigned {
			return true
		}
	}
	return slices.ContainsFunc(t.CRLs, func(n string) bool { return s.state.unsignedCRLs[n] })
}

// unsigned are the specimens in the content, by their DER bytes.
func (t *TrustRepository) unsigned(s *Session) map[string]bool {
	list := map[string]bool{}
	for _, n := range slices.Concat(t.Anchors, t.Intermediates) {
		if c := s.state.certificates[n]; c.unsigned {
			list[string(c.cert.Raw)] = true
		}
	}
	for _, n := range t.CRLs {
		if s.state.unsignedCRLs[n] {
			list[string(s.state.crlNames[n].Raw)] = true
		}
	}
	return list
}

func (t *TrustRepository) content(s *Session) (trust.Content, error) {
	c := trust.Content{Environment: s.script.config.Environment, Policy: gatewayPolicy(s.script.config.Environment)}
	c.Policy.RequireCRL = t.RequireCRL
	if s.held(RuleUsed) {
		c.UsedTargets = s.state.trustUsed
	}
	if t.KeyTypes != nil {
		c.Policy.KeyTypes = t.KeyTypes
	}
	if t.MinRSABits != 0 {
		c.Policy.MinRSABits = t.MinRSABits
	}
	if len(t.Anchors) == 0 {
		return c, malformed("anchors is empty: no device could be admitted")
	}
	var err error
	if c.Anchors, err = s.certificateList(t.Anchors); err != nil {
		return c, err
	}
	if c.Intermediates, err = s.certificateList(t.Intermediates); err != nil {
		return c, err
	}
	for _, n := range t.CRLs {
		crl, ok := s.state.crlNames[n]
		if !ok {
			return c, refuse(RuleReference, "there is no CRL %q at this step", n)
		}
		c.CRLs = append(c.CRLs, crl.Raw)
	}
	for _, r := range t.CRLRules {
		if err := t.crlRule(s, &c, r); err != nil {
			return c, err
		}
	}
	if err := t.environment(s, &c); err != nil {
		return c, err
	}
	for _, r := range t.Releases {
		issuer, err := s.certificate(r.Issuer)
		if err != nil {
			return c, err
		}
		n, err := parseSerial(r.Serial)
		if err != nil {
			return c, err
		}
		c.Releases = append(c.Releases, trust.Release{Issuer: trust.IssuerID(issuer.cert), Serial: n})
	}
	return c, nil
}

func (t *TrustRepository) crlRule(s *Session, c *trust.Content, r CRLRuleConfig) error {
	issuer, err := s.certificate(r.CA)
	if err != nil {
		return err
	}
	c.Policy.CRLs = append(c.Policy.CRLs, trust.CRLRule{CA: trust.IssuerID(issuer.cert).String(), GraceHours: r.GraceHours, Frozen: r.Frozen != ""})
	if r.Frozen == "" {
		return nil
	}
	data, err := s.input(r.Frozen)
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(derOf(data))
	if err != nil || list.CheckSignatureFrom(issuer.cert) != nil {
		return refuse(RuleReference, "input %q holds no CRL that %q signed", r.Frozen, r.CA)
	}
	c.CRLs = append(c.CRLs, list.Raw)
	return nil
}

// derOf takes the armour off a CRL that has some.
func derOf(data []byte) []byte {
	if block, rest := pem.Decode(data); block != nil && block.Type == "X509 CRL" && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	return data
}

func (s *Session) certificateList(names []string) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, n := range names {
		c, err := s.certificate(n)
		if err != nil {
			return nil, err
		}
		list = append(list, c.cert)
	}
	return list, nil
}

func (t *TrustRepository) keys(s *Session) (k trust.Keys, signers []crypto.Signer, err error) {
	offline := func(role string, names []string, threshold int) (r trust.Role, err error) {
		held, err := s.roleKeys("trust "+role, names, threshold)
		for _, key := range held {
			r.Keys = append(r.Keys, key.public)
			if err == nil {
				if cerr := trust.CheckKeyAsOf(s.format, key.public); cerr != nil {
					err = refuse(RuleAlgorithm, "key %q: %w", key.name, cerr)
				}
			}
			signers = append(signers, key)
		}
		r.Threshold = threshold
		return r, err
	}
	online := func(role, name string) (trust.Role, error) {
		if name == "" {
			return trust.Role{}, malformed("%s is missing: name the input that holds the role's public key", role)
		}
		pub, err := s.publicFor(name, "trust "+role)
		if err != nil {
			return trust.Role{}, err
		}
		if err := trust.CheckKeyAsOf(s.format, pub); err != nil {
			return trust.Role{}, refuse(RuleAlgorithm, "%s: %w", show.Text(name), err)
		}
		return trust.One(pub), nil
	}
	if k.Root, err = offline("root", t.RootKeys, t.RootThreshold); err != nil {
		return
	}
	if k.Targets, err = offline("targets", t.TargetsKeys, t.TargetsThreshold); err != nil {
		return
	}
	for i, n := range t.AlsoSignedBy {
		if slices.Contains(t.RootKeys, n) || slices.Contains(t.AlsoSignedBy[:i], n) {
			return k, nil, refuse(RuleThreshold, "trust root: key %q stands twice", n)
		}
		key, kerr := s.keyFor(n, "trust root")
		if kerr != nil {
			return k, nil, kerr
		}
		signers = append(signers, key)
	}
	if k.Snapshot, err = online("snapshot", t.Snapshot); err != nil {
		return
	}
	if k.Timestamp, err = online("timestamp", t.Timestamp); err != nil {
		return
	}
	k.CRL, err = online("crl", t.CRL)
	return
}

// roleKeys gives the keys of a role that the ceremony holds, at least as many distinct ones as the threshold.
func (s *Session) roleKeys(purpose string, names []string, threshold int) ([]*key, error) {
	if threshold < 1 || threshold > len(names) {
		return nil, refuse(RuleThreshold, "%s: threshold %d with %d keys", purpose, threshold, len(names))
	}
	var keys []*key
	for i, n := range names {
		for _, other := range names[:i] {
			if other == n {
				return nil, refuse(RuleThreshold, "%s: key %q stands twice", purpose, n)
			}
		}
		k, err := s.keyFor(n, purpose)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (t *TrustRepository) shows(s *Session, v *shown) {
	s.changes[s.step].show(v)
	s.showRole(v, "root", t.RootThreshold, t.RootKeys)
	s.showRole(v, "targets", t.TargetsThreshold, t.TargetsKeys)
	for _, online := range [][2]string{{"snapshot", t.Snapshot}, {"timestamp", t.Timestamp}, {"crl", t.CRL}} {
		s.showRole(v, online[0], 1, []string{online[1]})
	}
	for _, r := range t.Releases {
		issuer, n := s.state.certificates[r.Issuer], new(big.Int)
		if _, ok := n.SetString(r.Serial, 16); ok && issuer != nil {
			v.remark("RELEASES %s: no CRL need list it from now on", show.Line(s.holderOf(n, issuer)))
		}
	}
	for _, r := range t.CRLRules {
		if r.Frozen != "" {
			v.remark("FREEZES the CRL of %s: gateways use it as long as the CA lasts, and what it does not list stays admitted unless another is published", show.Text(r.CA))
			continue
		}
		v.remark("GRACE: gateways use the CRL of %s for %d hours after its next update", show.Text(r.CA), r.GraceHours)
	}
	if t.RequireCRL {
		v.fact("gateways", "admit no device whose CA has no CRL")
	}
	t.showEnvironment(v)
}
