package gateway

import (
	"strings"
)

// serverLog takes what net/http has to say. Handshakes that broke off before a decision about the device get a line like
// other refusals; the rest is of use to developers, but for panics.
type serverLog struct{ gateway *Gateway }

// brokenHandshakes are crypto/tls's words, and what they mean to us. TestHandshakeLog sees that they are current.
var brokenHandshakes = []struct {
	words  string
	reason Reason
}{
	{"client didn't provide a certificate", NoCertificate},
	{"failed to parse client certificate", BadCertificate},
	{"invalid signature by the client certificate", NotProven},
}

func (l serverLog) Write(p []byte) (int, error) {
	text := strings.TrimSuffix(string(p), "\n")
	rest, isHandshake := strings.CutPrefix(text, "http: TLS handshake error from ")
	switch {
	case strings.HasPrefix(text, "http: panic"):
		l.gateway.log.Error("a fault of the gateway", "what", text)
	case isHandshake && strings.HasSuffix(text, errRefused.Error()):
		// verify has told it.
	case isHandshake:
		peer, why, _ := strings.Cut(rest, ": ")
		for _, b := range brokenHandshakes {
			if strings.Contains(why, b.words) {
				l.gateway.refuseHandshake(refuse(b.reason, "%s", why), nil, peer)
				return len(p), nil
			}
		}
		l.gateway.log.Debug("handshake", "peer", peer, "why", why)
	default:
		l.gateway.log.Debug("connection", "what", text)
	}
	return len(p), nil
}
