package trust

// Every bound of this package. A file, list or number beyond its bound is refused, not truncated.
const (
	// MaxRootSize and its like bound metadata files, in bytes.
	MaxRootSize      = 256 << 10
	MaxTimestampSize = 16 << 10
	MaxSnapshotSize  = 64 << 10
	MaxTargetsSize   = 1 << 20
	// MaxBundleSize bounds anchors.pem and intermediates.pem, in bytes.
	MaxBundleSize = 1 << 20
	// MaxPolicySize and MaxReleasesSize bound policy.json and releases.json, in bytes.
	MaxPolicySize   = 64 << 10
	MaxReleasesSize = 4 << 20
	// MaxUptaneRootSize bounds an Uptane root, in bytes.
	MaxUptaneRootSize = 256 << 10
	// MaxCRLSize bounds a CRL, in bytes; MaxCRLEntries the serials in it. A million entries are about 50 MB.
	MaxCRLSize    = 256 << 20
	MaxCRLEntries = 5_000_000
	// MaxCertificates bounds anchors and intermediates, each.
	MaxCertificates = 256
	// MaxTargets bounds the target files that a targets role lists.
	MaxTargets = 1024
	// MaxReleases bounds the releases.
	MaxReleases = 10_000
	// MaxKeys bounds the keys of a role, and so its signatures.
	MaxKeys = 32
	// MaxRoots bounds the roots that one opening walks through.
	MaxRoots = 1024
	// MaxVersion bounds version numbers, so that none can be driven so high that none can follow.
	MaxVersion = 1 << 31
	// MaxVersionsAhead bounds how far a draft's version is above that of the part in force: drafts that were signed and never published use some up, and
	// officers must not be had to sign the last version that there can be.
	MaxVersionsAhead = 1000
	// MaxCRLNumberOctets bounds a CRL number (RFC 5280, section 5.2.3).
	MaxCRLNumberOctets = 20
)
