package uptane

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// PolicyConfig is the policy file: what an organisation demands of metadata before it is signed. It is strict YAML.
type PolicyConfig struct {
	// Require is refused when it is not met; absent fields demand nothing beyond what devices demand.
	Require RulesConfig `yaml:"require"`
	// Recommend gives warnings. Absent, it is what the Uptane deployment guide recommends.
	Recommend *RulesConfig `yaml:"recommend"`
}

// RulesConfig is one set of rules.
type RulesConfig struct {
	// Roles by name: root, targets, snapshot, timestamp; delegation stands for every delegation.
	Roles map[string]RoleRules `yaml:"roles"`
	// KeyTypes are the types allowed anywhere: RSA-2048, RSA-3072, RSA-4096, Ed25519. Empty: all of them.
	KeyTypes []string `yaml:"key_types"`
	// UniqueKeys forbids that one key serves two roles.
	UniqueKeys bool `yaml:"unique_keys"`
	// HardwareIDs demands that every Image target names the hardware that it is for.
	HardwareIDs bool `yaml:"hardware_ids"`
}

// RoleRules are the rules of one role.
type RoleRules struct {
	MinThreshold int `yaml:"min_threshold"`
	MinKeys      int `yaml:"min_keys"`
	// MaxValidity is the longest time from signing to expiry, such as 1Y or 31D.
	MaxValidity string `yaml:"max_validity"`
}

// Policy is a policy file whose checks passed.
type Policy struct{ require, recommend ruleset }

type ruleset struct {
	RulesConfig
	validity map[string]Period
}

// GuideRecommendations are those of the Uptane deployment guide: keys unique across roles, root 5 of 8 for about a
// year, targets 3 of 4, delegations 1 of 2, hardware ids with every image.
func GuideRecommendations() RulesConfig {
	return RulesConfig{
		Roles: map[string]RoleRules{
			"root":       {MinThreshold: 5, MinKeys: 8, MaxValidity: "1Y1M"},
			"targets":    {MinThreshold: 3, MinKeys: 4},
			"delegation": {MinThreshold: 1, MinKeys: 2},
		},
		UniqueKeys:  true,
		HardwareIDs: true,
	}
}

// DefaultPolicy requires nothing beyond what devices require and warns where the deployment guide is not followed.
func DefaultPolicy() *Policy {
	p, err := NewPolicy(PolicyConfig{})
	if err != nil {
		panic(err) // a constant
	}
	return p
}

// ParsePolicy reads a policy file.
func ParsePolicy(name string, data []byte) (*Policy, error) {
	if len(data) > maxPolicy {
		return nil, refused(because(ErrTooLarge, "%s: policy of %d bytes is larger than %d", name, len(data), maxPolicy))
	}
	var c PolicyConfig
	if err := strict.Unmarshal(name, data, &c); err != nil {
		return nil, err
	}
	return NewPolicy(c)
}

// NewPolicy checks a policy's rules themselves.
func NewPolicy(c PolicyConfig) (*Policy, error) {
	if c.Recommend == nil {
		r := GuideRecommendations()
		c.Recommend = &r
	}
	require, err := newRuleset("require", c.Require)
	if err != nil {
		return nil, err
	}
	recommend, err := newRuleset("recommend", *c.Recommend)
	if err != nil {
		return nil, err
	}
	return &Policy{require, recommend}, nil
}

func newRuleset(where string, c RulesConfig) (ruleset, error) {
	r := ruleset{c, map[string]Period{}}
	for name, rr := range c.Roles {
		if name != "delegation" && !slices.Contains(Roles(), Role(name)) {
			return r, refused(because(ErrPolicy, "policy: %s: %q is neither a role nor delegation", where, name))
		}
		if rr.MinThreshold < 0 || rr.MinThreshold > MaxThreshold || rr.MinKeys < 0 || rr.MinKeys > MaxThreshold {
			return r, refused(because(ErrPolicy, "policy: %s: %s: min_threshold and min_keys must be within 0 to %d", where, show.Text(name), MaxThreshold))
		}
		if rr.MaxValidity != "" {
			p, err := ParsePeriod(rr.MaxValidity)
			if err != nil {
				return r, inside("policy: "+where+": "+name+": max_validity", err)
			}
			r.validity[name] = p
		}
	}
	for _, k := range c.KeyTypes {
		if !slices.Contains([]string{"RSA-2048", "RSA-3072", "RSA-4096", "Ed25519"}, k) {
			return r, refused(because(ErrPolicy, "policy: %s: key type %q is none of RSA-2048, RSA-3072, RSA-4096, Ed25519", where, k))
		}
	}
	return r, nil
}

// Finding is one rule that a document does not follow.
type Finding struct {
	Rule string `json:"rule"`
	Text string `json:"text"`
}

// Check holds a document against the policy before it is signed at now. The findings are recommendations that are not
// followed; the error is a requirement that is not met.
func (p *Policy) Check(doc Document, now time.Time) ([]Finding, error) {
	if broken := p.require.check(doc, now); len(broken) > 0 {
		var lines []string
		for _, f := range broken {
			lines = append(lines, f.Text)
		}
		return nil, refused(because(ErrPolicy, "the policy forbids to sign %s version %d: %s", doc.Role(), doc.Version(), show.Line(strings.Join(lines, "; "))))
	}
	findings := p.recommend.check(doc, now)
	if !doc.Expires().After(now) {
		findings = append(findings, Finding{"expiry", fmt.Sprintf("%s expires on %s, which is not in the future", doc.Role(), doc.Expires().Format(timeFormat))})
	}
	return findings, nil
}

func (r *ruleset) check(doc Document, now time.Time) []Finding {
	var out []Finding
	say := func(rule, format string, args ...any) { out = append(out, Finding{rule, fmt.Sprintf(format, args...)}) }
	if p, ok := r.validity[string(doc.Role())]; ok && doc.Expires().After(p.After(now)) {
		say("max_validity", "%s expires on %s, later than %s from now", doc.Role(), doc.Expires().Format(timeFormat), p)
	}
	rule := func(name, title string, rk RoleKeys) {
		rr := r.Roles[name]
		if rk.Threshold < rr.MinThreshold {
			say("min_threshold", "%s has threshold %d, below %d", title, rk.Threshold, rr.MinThreshold)
		}
		if len(rk.Keys) < rr.MinKeys {
			say("min_keys", "%s has %d keys, fewer than %d", title, len(rk.Keys), rr.MinKeys)
		}
		for _, k := range rk.Keys {
			if len(r.KeyTypes) > 0 && !slices.Contains(r.KeyTypes, k.Algorithm()) {
				say("key_types", "%s: key %s is %s, which is not among %s", title, k.id, k.Algorithm(), show.List(r.KeyTypes))
			}
		}
	}
	switch d := doc.(type) {
	case *Root:
		used := map[string]string{}
		for _, name := range Roles() {
			rk := d.roles[name]
			rule(string(name), string(name), rk)
			for _, k := range rk.Keys {
				if other, ok := used[k.spki]; ok && r.UniqueKeys {
					say("unique_keys", "key %s serves both %s and %s", k.id, other, name)
				}
				used[k.spki] = string(name)
			}
		}
	case *Targets:
		for _, del := range d.delegations {
			rule("delegation", "delegation "+del.Name, del.RoleKeys)
		}
		if r.HardwareIDs && d.repo == Image {
			missing := 0
			for _, t := range d.targets {
				if c, err := t.ImageCustom(); err != nil || len(c.HardwareIDs) == 0 {
					missing++
				}
			}
			if missing > 0 {
				say("hardware_ids", "%d targets name no hardware that they are for", missing)
			}
		}
	}
	return out
}
