package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// refusalLog writes a line for each refusal, up to a rate: an attacker must not fill the disk.
type refusalLog struct {
	log     *slog.Logger
	limit   *rate.Limiter
	dropped atomic.Int64
}

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log: log, limit: rate.NewLimiter(maxRefusalLines, maxRefusalLines)}
}

// tell logs d. proven says whether the peer has proven the certificate's key; else the device named may be somebody else.
func (l *refusalLog) tell(d Decision, chain []*x509.Certificate, peer string, proven bool) {
	if !l.limit.Allow() {
		l.dropped.Add(1)
		return
	}
	if n := l.dropped.Swap(0); n > 0 {
		l.log.Warn("refusals not logged", "count", n)
	}
	attrs := []slog.Attr{slog.String("reason", string(d.Reason)), slog.String("why", clip(d.Words())), slog.String("device", d.Device),
		slog.Bool("key_proven", proven)}
	if len(chain) > 0 && len(chain[0].Raw) <= maxLeafSize {
		c := chain[0]
		sum := sha256.Sum256(c.Raw)
		attrs = append(attrs, slog.String("issuer", clip(c.Issuer.String())), slog.String("serial", serialText(c)),
			slog.String("sha256", hex.EncodeToString(sum[:])))
	}
	if peer != "" {
		attrs = append(attrs, slog.String("peer", peer))
	}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "refused", attrs...)
}

// clip bounds what a peer without a key can have written: an issuer's name, or what a parser says of a certificate, may be
// as long as the certificate, and longer once it is quoted.
func clip(s string) string {
	if len(s) <= maxRefusalText {
		return s
	}
	return strings.ToValidUTF8(s[:maxRefusalText], "") + "..."
}

func serialText(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return ""
	}
	return c.SerialNumber.Text(16)
}
