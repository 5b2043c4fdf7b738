package supervisor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"
)

// Knocker asks a service's own listeners for a TLS handshake. A store that answers is no sign that anybody can reach it: an accept loop that hangs,
// or has no descriptor left, is seen from outside alone.
type Knocker struct {
	mu sync.Mutex
	// from are the addresses that it has knocked from lately, and when.
	from map[string]time.Time
}

// Answers waits until the listener at address answers a handshake. Any answer will do, a refusal too, or one in clear: who asks has no certificate, and
// looks at none.
// It tries again and again, so that a listener which is only busy is not taken for one that hangs, for nine tenths of the time that ctx leaves.
func (k *Knocker) Answers(ctx context.Context, address net.Addr) error {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*9/10)
		defer cancel()
	}
	for {
		err := k.knock(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the listener at %s does not answer: %w", address, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (k *Knocker) knock(ctx context.Context, address net.Addr) error {
	conn, err := new(net.Dialer).DialContext(ctx, address.Network(), address.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	k.note(conn.LocalAddr().String())
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
	var refused *net.OpError
	var other tls.RecordHeaderError // a listener without TLS
	if errors.As(err, &refused) && refused.Op == "remote error" || errors.As(err, &other) {
		return nil
	}
	return err
}

// note remembers an address, for as long as a line about it may come.
func (k *Knocker) note(from string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from == nil {
		k.from = map[string]time.Time{}
	}
	for a, at := range k.from {
		if time.Since(at) > time.Minute {
			delete(k.from, a)
		}
	}
	k.from[from] = time.Now()
}

func (k *Knocker) knocked(message string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for a := range k.from {
		if strings.Contains(message, "handshake error from "+a+":") {
			return true
		}
	}
	return false
}

// Hush is h without the lines of net/http about handshakes that k broke off.
func (k *Knocker) Hush(h slog.Handler) slog.Handler { return hushed{h, k} }

type hushed struct {
	slog.Handler
	knocker *Knocker
}

// Handle implements slog.Handler.
func (h hushed) Handle(ctx context.Context, r slog.Record) error {
	if h.knocker.knocked(r.Message) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h hushed) WithAttrs(attrs []slog.Attr) slog.Handler {
	return hushed{h.Handler.WithAttrs(attrs), h.knocker}
}

// WithGroup implements slog.Handler.
func (h hushed) WithGroup(name string) slog.Handler {
	return hushed{h.Handler.WithGroup(name), h.knocker}
}
