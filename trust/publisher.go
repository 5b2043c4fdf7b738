package trust

import (
	"crypto"
	"errors"
	"io/fs"
	"time"
)

// PublisherConfig says where the published repository lies and which online keys sign it.
type PublisherConfig struct {
	// Dir is the folder that is published: metadata/ and targets/.
	Dir string
	Pin Pin
	// Environment must be the repository's.
	Environment string
	// Snapshot, Timestamp and CRL are the online keys that the officers named.
	Snapshot, Timestamp, CRL crypto.Signer
	// Lifetimes of what they sign; 0 means 7 days, 1 day and 7 days. Each is signed anew when half of it has passed.
	SnapshotLife, TimestampLife, CRLLife time.Duration
	Now                                  func() time.Time
}

// Publisher writes the online half. One process at a time owns the folder.
type Publisher struct{}

// NewPublisher locks the folder and, if something is published in it, verifies that.
func NewPublisher(c PublisherConfig) (*Publisher, error) { return nil, errors.New("not implemented") }

// Import publishes the officers' offline half, new or newer than the one published.
func (p *Publisher) Import(offline fs.FS) error { return errors.New("not implemented") }

// AddCRL publishes a CA's CRL (DER or PEM). It may only tighten.
func (p *Publisher) AddCRL(crl []byte) error { return errors.New("not implemented") }

// Refresh signs anew what has reached half of its life.
func (p *Publisher) Refresh() error { return errors.New("not implemented") }

// Due is when Refresh will next have something to do.
func (p *Publisher) Due() time.Time { return time.Time{} }

// View is what is published; nil if nothing is.
func (p *Publisher) View() *View { return nil }

// Close releases the folder.
func (p *Publisher) Close() error { return nil }
