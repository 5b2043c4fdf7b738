package gateway

import (
	"crypto/sha256"
	"crypto/x509"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// cachedJudge is the trust in force: a judge, and the certificates that were admitted before. What costs time is the signature of a certificate, and that does not
// become wrong: it is verified once, and known from then on under whatever trust comes. All else is judged by the trust in force: the form of the
// certificate once for each trust, dates and revocation every time.
type cachedJudge struct {
	judge *judge
	// number is that of the trust: another one says something else.
	number uint64
	// verified holds refusals never: whoever can make certificates up could fill it.
	verified *lru.Cache[[32]byte, verified]
}

// verified is a certificate that was admitted, by the SHA-256 of its DER.
type verified struct {
	// issuer is the SHA-256 of the CA's certificate by whose key its signature was found to be good.
	issuer [32]byte
	// device, mark and path hold under the trust of this number.
	number uint64
	device string
	mark   Mark
	path   *path
}

// newCachedJudge makes view ready; before is the one in force, or nil.
func newCachedJudge(view View, rules Rules, before *cachedJudge) *cachedJudge {
	if before == nil {
		cache, err := lru.New[[32]byte, verified](maxVerified)
		if err != nil {
			panic(err) // only for a size that is not positive
		}
		return &cachedJudge{judge: newJudge(view, rules), verified: cache}
	}
	if before.judge.view.Fingerprint() == view.Fingerprint() {
		j := *before.judge
		j.view = view
		return &cachedJudge{judge: &j, number: before.number, verified: before.verified}
	}
	return &cachedJudge{judge: newJudge(view, rules), number: before.number + 1, verified: before.verified}
}

// admit decides as judge.admit does, by what is known where it can; such a decision has no Path.
func (c *cachedJudge) admit(chain []*x509.Certificate, now time.Time) Decision {
	if c == nil {
		return refuse(NoTrust, "")
	}
	if len(chain) == 0 {
		return c.judge.admit(chain, now)
	}
	leaf, key := chain[0], sha256.Sum256(chain[0].Raw)
	v, known := c.verified.Get(key)
	if known && v.number == c.number && c.judge.view.Valid(now) == nil && dated(leaf, now) {
		// The name constraints of the path have been weighed, and do not change.
		if d := c.judge.marked(c.judge.current(v.path, leaf, now), v.mark, now); d.Admitted() {
			d.Device = v.device
			return d
		}
	}
	d := c.judge.admitKnown(chain, v.issuer, now)
	if d.Admitted() {
		c.verified.Add(key, verified{issuer: d.issuer.sum, number: c.number, device: d.Device, mark: d.Mark, path: d.along})
	}
	return d
}
