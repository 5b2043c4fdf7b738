package gateway

import (
	"crypto/sha256"
	"crypto/x509"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// cachedJudge is the trust in force: a judge, and what it has admitted. A change of what the view says makes a new one with an
// empty cache; a view that only lives longer keeps both.
type cachedJudge struct {
	judge    *judge
	verified *lru.Cache[[32]byte, verified]
}

// verified is an admitted certificate. Refusals are not kept: whoever can make certificates up could fill the cache.
type verified struct {
	device    string
	mark      Mark
	at, until time.Time
}

// newCachedJudge makes view ready; before is the one in force, or nil.
func newCachedJudge(view View, rules Rules, before *cachedJudge) *cachedJudge {
	if before != nil && before.judge.view.Fingerprint() == view.Fingerprint() {
		j := *before.judge
		j.view = view
		return &cachedJudge{judge: &j, verified: before.verified}
	}
	cache, err := lru.New[[32]byte, verified](maxVerified)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &cachedJudge{judge: newJudge(view, rules), verified: cache}
}

// admit decides as judge.admit does, by the cache where it can; such a decision has no Path.
func (c *cachedJudge) admit(chain []*x509.Certificate, now time.Time) Decision {
	if c == nil {
		return refuse(NoTrust, "")
	}
	if len(chain) == 0 {
		return c.judge.admit(chain, now)
	}
	key := sha256.Sum256(chain[0].Raw)
	if v, ok := c.verified.Get(key); ok && now.Before(v.until) && !now.Before(v.at) && c.judge.view.Valid(now) == nil {
		return Decision{Reason: Admitted, Device: v.device, Mark: v.mark, Until: v.until}
	}
	d := c.judge.admit(chain, now)
	if d.Admitted() {
		c.verified.Add(key, verified{device: d.Device, mark: d.Mark, at: now, until: d.Until})
	}
	return d
}
