package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// seenPath is where hanaperd is told which certificates devices came with, so that the one before can end.
const seenPath = "/v1/renewal/seen"

// seenCertificates are those that hanaperd is still to be told of. They are in memory only: what a restart loses is told when
// the device calls for a renewal again, and the old certificate ends at its set time in any case.
type seenCertificates struct {
	mu   sync.Mutex
	list []*x509.Certificate
	have map[[32]byte]bool
}

// add takes one in; a certificate beyond maxSeen is dropped.
func (s *seenCertificates) add(leaf *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256(leaf.Raw)
	if len(s.list) >= maxSeen || s.have[sum] {
		return
	}
	if s.have == nil {
		s.have = map[[32]byte]bool{}
	}
	s.have[sum] = true
	s.list = append(s.list, leaf)
}

// some are the first of them, at most most.
func (s *seenCertificates) some(most int) []*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*x509.Certificate{}, s.list[:min(most, len(s.list))]...)
}

// drop takes the first n out.
func (s *seenCertificates) drop(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, leaf := range s.list[:n] {
		delete(s.have, sha256.Sum256(leaf.Raw))
	}
	s.list = append([]*x509.Certificate{}, s.list[n:]...)
}

// tell tells hanaperd of what was seen, until ctx ends.
func (n *renewal) tell(ctx context.Context) {
	wait := time.NewTimer(seenEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		next := seenEvery
		for {
			told, err := n.tellSome(ctx)
			if err != nil {
				if ctx.Err() == nil {
					n.gateway.log.Warn("hanaperd was not told which renewed certificates are in use; it is tried again", "why", err)
				}
				next = seenAgain
			}
			if err != nil || !told {
				break
			}
		}
		wait.Reset(next)
	}
}

// tellSome tells of a batch, and whether there was one.
func (n *renewal) tellSome(ctx context.Context) (told bool, err error) {
	batch := n.seen.some(seenBatch)
	if len(batch) == 0 {
		return false, nil
	}
	var text bytes.Buffer
	for _, leaf := range batch {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
	}
	body, err := json.Marshal(map[string]string{"certificates": text.String()})
	if err != nil {
		return false, err
	}
	resp, err := n.call(ctx, http.MethodPost, seenPath, "application/json", body, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxRenewalAnswer))
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("hanaperd answered %d: %s", resp.StatusCode, show.Text(clip(string(said))))
	}
	n.seen.drop(len(batch))
	return true, nil
}
