package gateway

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

// Assessment is what a view means to a gateway.
type Assessment struct {
	Environment string      `json:"environment"`
	Expires     time.Time   `json:"expires"`
	Authorities []Authority `json:"authorities"`
	// Names are those by which devices may call the gateway (SNI); none means any.
	Names []string `json:"names,omitempty"`
}

// Authority is one CA of a view.
type Authority struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	// CRL is when the next CRL is due, RFC 3339, or "none".
	CRL string `json:"next_crl"`
	// State is "root", "ok", or why devices under this CA are refused.
	State string `json:"state"`
}

// Assess says which CAs of view devices can be admitted under.
func (e *EnvironmentSettings) Assess(view View, now time.Time) (Assessment, error) {
	if view.Environment() != e.name {
		return Assessment{}, advice.New(advice.Unverified, "follow the repository of this gateway's own environment",
			"the trust view is of the environment %q, not %q", view.Environment(), e.name)
	}
	names, stray := e.allowed(view.Policy().GatewayNames)
	if err := e.strayNames(stray); err != nil {
		return Assessment{}, err
	}
	a := Assessment{Names: names, Environment: view.Environment(), Expires: view.Expires().UTC()}
	j := newJudge(view, e.Rules())
	for _, list := range j.cas.bySubject {
		for _, ca := range list {
			one := Authority{Subject: ca.cert.Subject.String(), NotAfter: ca.cert.NotAfter.UTC(), CRL: "none", State: j.state(ca, now)}
			if info, ok := view.CRL(ca.cert); ok {
				one.CRL = info.NextUpdate.UTC().Format(time.RFC3339)
			}
			a.Authorities = append(a.Authorities, one)
		}
	}
	slices.SortFunc(a.Authorities, func(x, y Authority) int { return strings.Compare(x.Subject, y.Subject) })
	return a, nil
}

func (j *judge) state(ca *authority, now time.Time) string {
	info, hasCRL := j.view.CRL(ca.cert)
	ends := j.policy.CRLUntil(info)
	switch {
	case ca.fault != "":
		return "unfit: " + ca.fault
	case len(ca.paths) == 0:
		return "leads to no Fleet Root"
	case !valid(ca.cert, now):
		return "not valid now"
	case !hasCRL && j.crlRequired:
		return "no CRL: devices are refused"
	case hasCRL && (!now.Before(ends) || now.Before(info.ThisUpdate)):
		return "its CRL is not current: devices are refused"
	case hasCRL && !now.Before(info.NextUpdate):
		return "its CRL has ended, and is used until " + ends.UTC().Format(time.RFC3339) + " by the officers' rule"
	case len(ca.paths[0].certs) == 1:
		return "root"
	}
	for i, c := range ca.paths[0].certs[1:] {
		if j.view.Revoked(c, ca.paths[0].certs[i].SerialNumber) {
			return "revoked"
		}
	}
	return "ok"
}

// LookAtTrust opens the trust source as a new gateway would, and keeps nothing.
func (e *EnvironmentSettings) LookAtTrust(ctx context.Context, now func() time.Time) (*trust.View, error) {
	dir, err := os.MkdirTemp("", "hanaper-gateway-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	look := *e
	look.trust.State = dir
	f, err := look.NewFeed(now)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Refresh(ctx); err != nil {
		return nil, err
	}
	return f.Current(), nil
}

// KeptTrust is what a gateway keeps of its environment's trust.
type KeptTrust struct {
	Environment string         `json:"environment"`
	Versions    trust.Versions `json:"versions"`
	Expires     time.Time      `json:"expires"`
	// Behind: something newer was in force here, and could not be kept.
	Behind bool `json:"behind,omitempty"`
}

// KeptTrust reads the folder trust.state, also while a gateway uses it, verifies what it holds, and changes nothing.
func (e *EnvironmentSettings) KeptTrust() (KeptTrust, error) {
	pin, err := e.Pin()
	if err != nil {
		return KeptTrust{}, err
	}
	files, behind, err := feed.Kept(e.trust.State)
	if errors.Is(err, fs.ErrNotExist) {
		return KeptTrust{}, advice.New(advice.Failed, "a gateway that never reached its trust source holds no version; leave it out", "nothing is kept in %s", show.Text(e.trust.State))
	}
	if err != nil {
		return KeptTrust{}, err
	}
	view, err := trust.Recall(files, pin.Digest())
	if err != nil {
		return KeptTrust{}, err
	}
	return KeptTrust{Environment: view.Environment(), Versions: view.Versions(), Expires: view.Expires().UTC(), Behind: behind}, nil
}

// OpenTrust opens the repository in the folder dir; root is a root.json or its SHA-256.
func OpenTrust(dir, root string, now time.Time) (*trust.View, error) {
	digest := ""
	if _, err := trust.ParsePin(root); err == nil {
		digest = root
	}
	pin, err := readPin(root, digest)
	if err != nil {
		return nil, err
	}
	return trust.Open(input.Dir(dir), pin, now)
}
