package ceremony

import (
	"fmt"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane"
)

// What a step trust-repository says of the environment as a whole. Officers may have said it between ceremonies, with hanaper trust: a ceremony does not
// know of that, and says it again.

// SharedConfig lets test benches share credentials of a CA until a time; in development only.
type SharedConfig struct {
	CA    string `yaml:"ca"`
	Until string `yaml:"until"`
}

// environment adds what the step says of the environment to the content.
func (t *TrustRepository) environment(s *Session, c *trust.Content) error {
	p := &c.Policy
	p.Stage, p.GatewayNames, p.RegisteredOnly = t.Stage, t.GatewayNames, t.RegisteredOnly
	for _, key := range t.Logs {
		v, err := journal.ParseVerifierKey(key)
		if err != nil {
			return malformed("logs: %w", err)
		}
		p.Logs = append(p.Logs, trust.PolicyLog{Origin: v.Name(), Key: key})
	}
	if sh := t.SharedCredentials; sh != nil {
		issuer, err := s.certificate(sh.CA)
		if err != nil {
			return err
		}
		until, err := time.Parse(time.RFC3339, sh.Until)
		if err != nil {
			return malformed("shared_credentials: until %s is no time, such as 2027-01-31T00:00:00Z", show.Text(sh.Until))
		}
		p.SharedCredentials = &trust.SharedCredentials{CA: trust.IssuerID(issuer.cert).String(), Until: until}
	}
	for _, root := range []struct {
		input string
		to    *[]byte
	}{{t.DirectorRoot, &c.Uptane.Director}, {t.ImageRoot, &c.Uptane.Image}} {
		if root.input == "" {
			continue
		}
		data, err := s.input(root.input)
		if err != nil {
			return err
		}
		doc, err := uptane.ParseRoot(data, uptane.Local())
		if err == nil {
			err = uptane.VerifyRoot(doc)
		}
		if err != nil {
			return refuse(RuleReference, "input %q is no Uptane root: %w", root.input, err)
		}
		*root.to = data
	}
	// What was signed between ceremonies used up versions, too.
	if t.VersionAbove < 0 || t.VersionAbove >= trust.MaxVersion {
		return malformed("version_above %d is no version", t.VersionAbove)
	}
	c.UsedTargets = max(c.UsedTargets, t.VersionAbove)
	*p = p.WithFormat()
	return nil
}

// environmentRemoved is what a policy no longer says of the environment.
func environmentRemoved(was, is trust.Policy) (gone []removal) {
	for _, n := range was.GatewayNames {
		if !slices.Contains(is.GatewayNames, n) {
			gone = append(gone, removal{"gateway_names." + n, "", fmt.Sprintf("gateway_names %s: devices do not reach the environment by it any more", show.Text(n))})
		}
	}
	if was.RegisteredOnly && !is.RegisteredOnly {
		gone = append(gone, removal{"registered_only", "", "registered_only: devices that nobody registered are admitted from now on"})
	}
	for _, l := range was.Logs {
		if !slices.ContainsFunc(is.Logs, func(o trust.PolicyLog) bool { return o.Origin == l.Origin }) {
			gone = append(gone, removal{"logs." + l.Origin, "", fmt.Sprintf("the issuance log %s: its checkpoints are published no more", show.Text(l.Origin))})
		}
	}
	if was.Production() && !is.Production() {
		gone = append(gone, removal{"stage", "", "stage: the environment is production no more"})
	}
	return gone
}

// showEnvironment tells reviewers what the step says of the environment.
func (t *TrustRepository) showEnvironment(v *shown) {
	if t.Stage != "" {
		v.fact("stage", t.Stage)
	}
	for _, n := range t.GatewayNames {
		v.fact("gateway name", n)
	}
	for _, k := range t.Logs {
		v.fact("issuance log", k)
	}
	if t.RegisteredOnly {
		v.fact("gateways", "admit only registered devices")
	}
	if t.SharedCredentials != nil {
		v.remark("SHARED CREDENTIALS: test benches may share credentials of %s until %s", show.Text(t.SharedCredentials.CA), show.Text(t.SharedCredentials.Until))
	}
	if t.VersionAbove > 0 {
		v.remark("VERSIONS up to %d were signed between ceremonies: compare what they said with what this one says", t.VersionAbove)
	}
}
