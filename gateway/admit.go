package gateway

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/hanaper/hanaper/trust"
)

// View is what admission needs of a *trust.View.
type View interface {
	Environment() string
	// Fingerprint changes whenever anything changes by which a device could be judged otherwise, but for the clock.
	Fingerprint() [32]byte
	Anchors() []*x509.Certificate
	Intermediates() []*x509.Certificate
	Policy() trust.Policy
	Revoked(issuer *x509.Certificate, serial *big.Int) bool
	CRL(issuer *x509.Certificate) (trust.CRLInfo, bool)
	// Valid is nil as long as anything may be admitted on this view.
	Valid(now time.Time) error
	Expires() time.Time
}

var _ View = (*trust.View)(nil)

// Decision is the answer about one device certificate.
type Decision struct {
	// Reason is Admitted or why not; Detail says more, for people.
	Reason Reason
	Detail string
	// Device is the CN. In a refusal it is what the certificate claims, where that could be read: for logs only.
	Device string
	// Path is the chain found, leaf first, root last; nil in refusals and in decisions remembered.
	Path []*x509.Certificate
	// Mark says whether this is a shared credential, or a test bench that came by one.
	Mark Mark
	// Until is when the decision must be taken anew at the latest; zero in a refusal.
	Until time.Time
	// issuer and along are what an admission rests on: the device's CA, and the path from there.
	issuer *authority
	along  *path
}

// Admitted says whether the device may come in.
func (d Decision) Admitted() bool { return d.Reason == Admitted }

// Words is the decision in plain words.
func (d Decision) Words() string {
	s := d.Reason.Text()
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	return s
}

func refuse(r Reason, format string, args ...any) Decision {
	return Decision{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// Rules are what a gateway asks beyond the officers' policy; it can only tighten.
type Rules struct {
	// CRLByPolicy takes the policy's word on whether every CA must have a CRL in the view. By default each must.
	CRLByPolicy bool
}

// Admit decides about the device that sent chain (leaf first) at now. Only the leaf is believed to be what the device
// says it is; the CAs come from the view alone. It is a pure function: same input, same answer.
func Admit(view View, chain []*x509.Certificate, now time.Time) Decision {
	return AdmitUnder(view, Rules{}, chain, now)
}

// AdmitUnder is Admit by other than the default rules.
func AdmitUnder(view View, rules Rules, chain []*x509.Certificate, now time.Time) Decision {
	if view == nil {
		return refuse(NoTrust, "")
	}
	return newJudge(view, rules).admit(chain, now)
}

// judge is a trust view made ready to decide by.
type judge struct {
	view        View
	cas         *authorities
	policy      trust.Policy
	crlRequired bool
}

func newJudge(view View, rules Rules) *judge {
	policy := view.Policy()
	return &judge{view: view, cas: findAuthorities(view), policy: policy, crlRequired: policy.RequireCRL || !rules.CRLByPolicy}
}

func (j *judge) admit(chain []*x509.Certificate, now time.Time) Decision {
	return j.admitKnown(chain, [32]byte{}, now)
}

// admitKnown is admit where the leaf's signature is known to be good by the key in a CA's certificate, whose SHA-256 is issuer.
func (j *judge) admitKnown(chain []*x509.Certificate, issuer [32]byte, now time.Time) Decision {
	if err := j.view.Valid(now); err != nil {
		return refuse(TrustExpired, "%v", err)
	}
	if len(chain) == 0 || chain[0] == nil {
		return refuse(NoCertificate, "")
	}
	leaf := chain[0]
	name, reason, detail := checkLeaf(leaf, j.policy)
	if reason != "" {
		return Decision{Reason: reason, Detail: detail, Device: claimedName(leaf)}
	}
	d := j.marked(j.decide(leaf, issuer, now), markOf(leaf), now)
	d.Device = name
	return d
}

// claimedName is the CN that a refused certificate claims, made fit for a log line.
func claimedName(c *x509.Certificate) string {
	if name, reason, _ := deviceName(c.RawSubject); reason == "" {
		return name
	}
	return ""
}

// dated says whether the certificate itself is valid at now, to the second.
func dated(leaf *x509.Certificate, now time.Time) bool {
	at := now.Truncate(time.Second)
	return !at.Before(leaf.NotBefore) && !at.After(leaf.NotAfter)
}

func (j *judge) decide(leaf *x509.Certificate, issuer [32]byte, now time.Time) Decision {
	at := now.Truncate(time.Second)
	if at.Before(leaf.NotBefore) {
		return refuse(NotYetValid, "valid from %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if at.After(leaf.NotAfter) {
		return refuse(Expired, "at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	var best Decision
	for _, ca := range j.cas.bySubject[string(leaf.RawIssuer)] {
		d := j.under(ca, leaf, issuer, now)
		if d.Admitted() {
			return d
		}
		best = d.orBetter(best)
	}
	if best.Reason == "" {
		return refuse(UnknownIssuer, "issuer %q", leaf.Issuer.String())
	}
	return best
}

// orBetter prefers the refusal that got further.
func (d Decision) orBetter(other Decision) Decision {
	if order[d.Reason] >= order[other.Reason] {
		return d
	}
	return other
}

var order = func() map[Reason]int {
	m := map[Reason]int{}
	for i, r := range Reasons() {
		m[r] = i
	}
	return m
}()

// under judges leaf as issued by ca.
func (j *judge) under(ca *authority, leaf *x509.Certificate, issuer [32]byte, now time.Time) Decision {
	if !bytes.Equal(leaf.AuthorityKeyId, ca.cert.SubjectKeyId) {
		return refuse(UnknownIssuer, "the authority key identifier is not that of %q", ca.cert.Subject.String())
	}
	if ca.fault != "" {
		return refuse(BadIssuer, "%q: %s", ca.cert.Subject.String(), ca.fault)
	}
	if len(ca.paths) == 0 {
		if ca.tooLong {
			return refuse(ChainTooLong, "more than %d certificates", maxChain)
		}
		return refuse(UnknownIssuer, "%q does not lead to a Fleet Root", ca.cert.Subject.String())
	}
	if issuer != ca.sum {
		if err := leaf.CheckSignatureFrom(ca.cert); err != nil {
			return refuse(BadSignature, "%v", err)
		}
	}
	var best Decision
	for i := range ca.paths {
		d := j.along(&ca.paths[i], leaf, now)
		if d.Admitted() {
			d.issuer, d.Path = ca, append([]*x509.Certificate{leaf}, ca.paths[i].certs...)
			return d
		}
		if i == 0 {
			best = d
		}
		best = d.orBetter(best)
	}
	return best
}

// along judges leaf by one path; its signature and form have been checked.
func (j *judge) along(p *path, leaf *x509.Certificate, now time.Time) Decision {
	if p.constrained {
		// The dates first, for verifyPath looks at them too.
		if d := j.current(p, leaf, now); !d.Admitted() && d.Reason == IssuerExpired {
			return d
		}
		if err := verifyPath(*p, leaf, now); err != nil {
			return refuse(NameConstrained, "%v", err)
		}
	}
	return j.current(p, leaf, now)
}

// current judges what the time and the CRLs say of a path and of the leaf at its end.
func (j *judge) current(p *path, leaf *x509.Certificate, now time.Time) Decision {
	until := leaf.NotAfter.Add(time.Second)
	for _, c := range p.certs {
		if !valid(c, now) {
			return refuse(IssuerExpired, "%q is valid from %s to %s", c.Subject.String(),
				c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
		}
		until = earlier(until, c.NotAfter.Add(time.Second))
	}
	serial, whose := leaf.SerialNumber, Revoked
	for i, c := range p.certs {
		crl := &p.crls[i]
		if !crl.there && j.crlRequired {
			return refuse(NoCRL, "%q", c.Subject.String())
		}
		if crl.there {
			if now.Before(crl.info.ThisUpdate) || !now.Before(crl.ends) || crl.info.Number == nil {
				return refuse(StaleCRL, "the CRL of %q is from %s, the next was due at %s", c.Subject.String(),
					crl.info.ThisUpdate.UTC().Format(time.RFC3339), crl.info.NextUpdate.UTC().Format(time.RFC3339))
			}
			until = earlier(until, crl.ends)
		}
		if j.view.Revoked(c, serial) {
			return refuse(whose, "serial %x of %q", serial, c.Subject.String())
		}
		serial, whose = c.SerialNumber, IssuerRevoked
	}
	return Decision{Reason: Admitted, Until: until, along: p}
}

// verifyPath has crypto/x509 weigh the whole path, for name constraints. Its pools hold this path and nothing else.
func verifyPath(p path, leaf *x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(p.certs[len(p.certs)-1])
	for _, c := range p.certs[:len(p.certs)-1] {
		between.AddCert(c)
	}
	// A shared credential has no usage that crypto/x509 knows: what it may be used for has been looked at.
	usage := x509.ExtKeyUsageClientAuth
	if markOf(leaf) == SharedCredential {
		usage = x509.ExtKeyUsageAny
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now.Truncate(time.Second), KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
