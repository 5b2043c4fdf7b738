package trust

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"time"
)

// View is what a gateway believes: immutable, and complete only if every check passed. It is safe for concurrent use.
// Expiry is the caller's duty: ask Valid at every handshake.
type View struct{}

// Versions are the versions of the metadata that a View rests on.
type Versions struct {
	Root      int64 `json:"root"`
	Targets   int64 `json:"targets"`
	CRL       int64 `json:"crl"`
	Snapshot  int64 `json:"snapshot"`
	Timestamp int64 `json:"timestamp"`
}

// CRLInfo describes the CRL of one CA.
type CRLInfo struct {
	Issuer                 ID
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	// Entries is the number of revoked serials.
	Entries int
}

// Open verifies a whole repository, starting from pin. Expired metadata or CRLs, broken thresholds and mixed versions are
// refused. It knows no history: a reader that keeps state uses OpenAfter.
func Open(files fs.FS, pin Pin, now time.Time) (*View, error) { return nil, errors.New("not implemented") }

// OpenAfter is Open for a reader that has seen prev: it starts from prev's root, and refuses versions and CRL numbers
// that fall, metadata or CRLs that vanish, and revoked serials that vanish without a release. pin must be in the root
// chain. When nothing has changed it returns prev itself.
func OpenAfter(files fs.FS, prev *View, pin Pin, now time.Time) (*View, error) {
	return nil, errors.New("not implemented")
}

// Environment is the name in the signed metadata.
func (v *View) Environment() string { return "" }

// Versions are those of the metadata files.
func (v *View) Versions() Versions { return Versions{} }

// Fingerprint changes exactly when what the view says changes (anchors, intermediates, CRLs, policy); a timestamp that is
// signed anew leaves it as it is. Caches of verified chains are keyed by it.
func (v *View) Fingerprint() [32]byte { return [32]byte{} }

// Anchors are the Fleet Roots. The slice is the caller's, the certificates are shared.
func (v *View) Anchors() []*x509.Certificate { return nil }

// Intermediates are the issuing CAs. The slice is the caller's, the certificates are shared.
func (v *View) Intermediates() []*x509.Certificate { return nil }

// Policy is the officers' gateway policy.
func (v *View) Policy() Policy { return Policy{} }

// Revoked says whether the CRLs of this CA list the serial. It takes no lock and does not allocate.
func (v *View) Revoked(issuer *x509.Certificate, serial *big.Int) bool { return true }

// CRL describes the CRL of this CA; false if the view has none.
func (v *View) CRL(issuer *x509.Certificate) (CRLInfo, bool) { return CRLInfo{}, false }

// CRLs describes all CRLs, sorted by issuer.
func (v *View) CRLs() []CRLInfo { return nil }

// Expires is the earliest expiry of all metadata and all CRLs.
func (v *View) Expires() time.Time { return time.Time{} }

// Valid is nil until Expires, and then an error (kind Unverified) that says what has expired. Nothing may be admitted on a
// view that is not valid.
func (v *View) Valid(now time.Time) error { return errors.New("not implemented") }
