package ceremony

import (
	"crypto"
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

func (t *TrustRepository) people() people { return byProgram }

func (t *TrustRepository) needs(*Plan) []need { return nil }

func (t *TrustRepository) left(o *leftover, own []entry) { o.numbered(own) }

func (t *TrustRepository) used(s *Session) {
	released := int64(0)
	if last := s.script.startState().trust; last != nil {
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
	if prev := s.state.trust; prev != nil {
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
	lacks, specimens := s.how.lacks(signers...), t.specimens(s)
	if lacks || specimens {
		s.trustWillSign(content, keys, v, signers)
	}
	switch {
	case specimens && s.aborted():
		return s.passOver("trust repository")
	case specimens && s.finished():
		return keys.CheckAsOf(s.format)
	case specimens:
		// What imported keys will sign has no signature yet; all else is checked before anybody is in the room.
		paths, err := trust.CheckUnsigned(s.state.trust, content, keys, v, s.script.until, t.unsigned(s))
		if err != nil {
			return refuse(RuleVersion, "%w", err)
		}
		return s.willWriteTrust(paths)
	case s.finished() && !lacks:
		return t.confirm(s, content, keys, v, signers)
	}
	return t.sign(s, content, keys, v, signers)
}

// sign signs the repository, and releases its files.
func (t *TrustRepository) sign(s *Session, content trust.Content, keys trust.Keys, v trust.Validity, signers []crypto.Signer) error {
	prepared, err := trust.Prepare(s.state.trust, content, keys, v, s.script.until)
	if err != nil && s.aborted() {
		return s.passOver("trust repository")
	}
	if err != nil {
		return refuse(RuleVersion, "%w", err)
	}
	if s.how.lacks(signers...) {
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
	s.state.trust, err = trust.OpenRepository(trust.Files(files), trust.PinRoot(files["metadata/1.root.json"]), s.script.until)
	return err
}

// willWriteTrust names, for those who review a script, the files that keys of earlier ceremonies will sign. A rehearsal writes none
// of them. No step after this one can be compared with them.
func (s *Session) willWriteTrust(paths []string) error {
	s.state.trustUnsigned = true
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
	prev := s.state.trust
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
	repository, signed, err := trust.Confirm(s.format, s.state.trust, content, keys, v, trust.Files(files), s.script.until)
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
	s.state.trust = repository
	return s.match(list, messages)
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
