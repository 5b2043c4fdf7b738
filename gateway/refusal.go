package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// refusalLog writes a line for each refusal, up to a rate: an attacker must not fill the disk.
type refusalLog struct {
	log   *slog.Logger
	limit *rate.Limiter
	// dropped counts the lines that were one too many, by reason.
	mu      sync.Mutex
	dropped map[Reason]int64
}

func newRefusalLog(log *slog.Logger) *refusalLog {
	return &refusalLog{log: log, limit: rate.NewLimiter(maxRefusalLines, maxRefusalLines), dropped: map[Reason]int64{}}
}

// tell logs d. proven says whether the peer has proven the certificate's key; else the device named may be somebody else.
func (l *refusalLog) tell(d Decision, chain []*x509.Certificate, peer string, proven bool) {
	if !l.limit.Allow() {
		l.mu.Lock()
		l.dropped[d.Reason]++
		l.mu.Unlock()
		return
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

// summarise tells what had no line of its own since it last did.
func (l *refusalLog) summarise() {
	l.mu.Lock()
	dropped := l.dropped
	l.dropped = map[Reason]int64{}
	l.mu.Unlock()
	for _, r := range slices.Sorted(maps.Keys(dropped)) {
		l.log.Warn("refused, and more of the same", "reason", string(r), "count", dropped[r])
	}
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
