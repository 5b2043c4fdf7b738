package trust

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"time"
)

// Repository is a verified offline half: a root chain, the officers' targets and the files these name.
type Repository struct {
	content Content
	expires time.Time
}

// OpenRepository verifies the offline half in files against pin. The officers' metadata must not have expired at now
// (the asserted time of a ceremony, when an old one is verified).
func OpenRepository(files fs.FS, pin Pin, now time.Time) (*Repository, error) {
	return nil, errors.New("not implemented")
}

// Environment is the name in the signed metadata.
func (r *Repository) Environment() string { return r.content.Environment }

// RootVersion and TargetsVersion are the versions of the officers' metadata.
func (r *Repository) RootVersion() int64 { return 0 }

// TargetsVersion is the version of the officers' targets.
func (r *Repository) TargetsVersion() int64 { return 0 }

// Anchors are the Fleet Roots.
func (r *Repository) Anchors() []*x509.Certificate { return r.content.Anchors }

// Intermediates are the issuing CAs.
func (r *Repository) Intermediates() []*x509.Certificate { return r.content.Intermediates }

// Expires is the earliest expiry of the officers' metadata and CRLs.
func (r *Repository) Expires() time.Time { return r.expires }
