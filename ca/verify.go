package ca

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

const maxChain = 4

// Verify checks a chain, leaf first, by every rule and at time now, up to one of the anchors. The chain may end with the
// anchor or with a certificate that an anchor issued. Revocation is the caller's to check.
func Verify(chain, anchors []*x509.Certificate, now time.Time, w ...Waiver) error {
	if len(chain) == 0 || slices.Contains(chain, nil) || slices.Contains(anchors, nil) {
		f := findings{subject: "chain"}
		f.add(ruleLength, "it is empty, or one of its certificates or anchors is")
		return f.err(advice.Unverified)
	}
	f := findings{subject: describe(chain[0])}
	path, ok := complete(chain, anchors)
	if !ok {
		f.add(ruleAnchor, "%s was issued by none of the %d anchors", describe(chain[len(chain)-1]), len(anchors))
		path = chain
	}
	if len(path) > maxChain {
		f.add(ruleLength, "%d certificates", len(path))
		return f.err(advice.Unverified)
	}
	for i, c := range path {
		f.subject = describe(c)
		for _, other := range path[:i] {
			if bytes.Equal(c.Raw, other.Raw) {
				f.add(ruleLength, "it stands twice")
			}
		}
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			f.add(ruleNow, "valid %s to %s, the time is %s", c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		lint(&f, c, w...)
		switch {
		case i+1 < len(path):
			checkPair(&f, c, path[i+1], w)
			checkSignature(&f, c, path[i+1])
			for _, above := range path[min(i+2, len(path)):] {
				checkAncestor(&f, c, above, w)
			}
		case isSelfIssued(c):
			checkPair(&f, c, c, w)
			checkSignature(&f, c, c)
		}
		checkDepth(&f, path, i)
	}
	return f.err(advice.Unverified)
}

// complete adds the anchor to a chain that lacks it.
func complete(chain, anchors []*x509.Certificate) ([]*x509.Certificate, bool) {
	last := chain[len(chain)-1]
	for _, a := range anchors {
		if bytes.Equal(a.Raw, last.Raw) {
			return chain, true
		}
	}
	for _, a := range anchors {
		if bytes.Equal(a.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(a) == nil {
			return append(append([]*x509.Certificate{}, chain...), a), true
		}
	}
	return chain, false
}

// checkDepth counts the CAs between path[i] and the leaf (RFC 5280, section 4.2.1.9).
func checkDepth(f *findings, path []*x509.Certificate, i int) {
	between := i - 1
	if i == 0 || limit(path[i]) < 0 {
		return
	}
	if path[0].IsCA {
		between = i // the chain ends in a CA, which counts
	}
	if between > limit(path[i]) {
		f.add(rulePathLen, "path length %d, and %d CAs below", limit(path[i]), between)
	}
}
