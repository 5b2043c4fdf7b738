package trust

import (
	"crypto"
	"crypto/x509"
	"math/big"
	"time"
)

// Content is what the officers state about an environment; Prepare checks all of it.
type Content struct {
	// Environment is the name that every metadata file of the repository carries: 1 to 64 of a-z, 0-9, '-'.
	Environment string
	// Anchors are the Fleet Roots: self-signed CA certificates, at least one.
	Anchors []*x509.Certificate
	// Intermediates are the issuing CAs, each of which chains to an anchor. Devices that keep their certificate in a
	// PKCS#11 token send only their leaf, so the gateway needs them.
	Intermediates []*x509.Certificate
	// CRLs are DER CRLs that the ceremony issued, at most one for each anchor or intermediate.
	CRLs [][]byte
	// Policy is the gateway policy; the zero value means DefaultPolicy(Environment).
	Policy Policy
	// Releases name the revoked serials that a CA's later CRLs may leave out.
	Releases []Release
	// Uptane are the roots that devices start from: files that they are provisioned with.
	Uptane UptaneRoots
	// UsedTargets is the highest version of the targets metadata that was signed and never released, by a ceremony that was
	// aborted; 0 without one. The next version is above it.
	UsedTargets int64
}

// Release allows a CA's later CRLs to leave out one serial that an earlier one revoked. A serial that the current CRL
// lists stays revoked, released or not.
type Release struct {
	// Issuer is the IssuerID of the CA.
	Issuer ID
	// Serial is the certificate's serial number, 1 to 20 octets, positive.
	Serial *big.Int
}

// Role is the set of keys that sign for a TUF role, and how many of them must.
type Role struct {
	Keys      []crypto.PublicKey
	Threshold int
}

// Keys are the keys of all roles: P-256, Ed25519 or RSA (2048 bits and more, PSS). Root and Targets are the officers';
// Snapshot, Timestamp and CRL are online. No online key may be an officers' key or the key of a CA in the content.
type Keys struct {
	Root, Targets            Role
	Snapshot, Timestamp, CRL Role
}

// Validity says until when the officers' metadata is good.
type Validity struct {
	RootExpires, TargetsExpires time.Time
}

// One is a role of one key.
func One(key crypto.PublicKey) Role { return Role{Keys: []crypto.PublicKey{key}, Threshold: 1} }
