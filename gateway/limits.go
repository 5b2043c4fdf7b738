package gateway

import "time"

// Every bound of this package.
const (
	// maxNameLength bounds a CN, in bytes (RFC 5280, appendix A: ub-common-name).
	maxNameLength = 64
	// maxLeafSize bounds a device certificate, in bytes; maxSubjectSize its subject.
	maxLeafSize    = 16 << 10
	maxSubjectSize = 4 << 10
	// maxNames bounds the entries of a device certificate's subject alternative name, of every kind.
	maxNames = 16
	// maxConstraints bounds the subtrees in a CA's name constraints.
	maxConstraints = 64
	// maxChain bounds a chain, leaf and root included.
	maxChain = 4
	// maxPaths bounds the paths from one issuing CA to the roots, and maxEdges the signatures checked to find all paths.
	maxPaths = 16
	maxEdges = 4096
	// maxSerialOctets bounds a serial number (RFC 5280, section 4.1.2.2).
	maxSerialOctets = 20
	// minRSABits and maxRSABits bound RSA keys.
	minRSABits = 2048
	maxRSABits = 8192
	// maxVerified bounds the cache of verified certificates; each entry takes about 200 bytes.
	maxVerified = 200_000
	// maxRefusalLines bounds the log lines a second about refusals; what goes beyond is counted and told.
	maxRefusalLines = 50
	// maxRefusalText bounds each text in such a line that an unproven peer can choose, in bytes before quoting.
	maxRefusalText = 512
	// maxHeadersRead bounds the connections whose PROXY protocol header is awaited, headerWait how long: a balancer sends it at once.
	maxHeadersRead = 32
	headerWait     = 5 * time.Second
	// maxRenewals bounds the renewals that wait for hanaperd at once, maxRenewalBody a request for one and maxRenewalAnswer hanaperd's
	// answer, in bytes.
	maxRenewals = 32
	// maxRenewalsOfOne bounds those of one device: one that it gave up, and one more.
	maxRenewalsOfOne = 2
	maxRenewalBody   = 32 << 10
	maxRenewalAnswer = 256 << 10
	// maxSeen bounds the certificates that hanaperd is still to be told of, seenBatch those of one call. seenEvery and seenAgain lie
	// between calls, after one that succeeded and one that did not.
	maxSeen   = 100_000
	seenBatch = 100
	seenEvery = 2 * time.Second
	seenAgain = 30 * time.Second

	defaultRenewalWait = 30 * time.Second
	defaultConnections = 20_000
	defaultOfOneDevice = 256
	// defaultHandshakes are those under way from one address: a fleet may stand behind one.
	defaultHandshakes    = 512
	defaultRequests      = 4096
	defaultOfOneRequests = 128
	defaultUpstream      = 1024
	// toldMore is how many connections beyond its bound a device may have, to be told of it.
	toldMore            = 4
	defaultHeaderBytes  = 32 << 10
	defaultBodyBytes    = 1 << 30
	defaultHeaderWait   = 10 * time.Second
	defaultIdle         = 2 * time.Minute
	defaultStall        = time.Minute
	defaultUpstreamWait = time.Minute
	// registryWait is how long a first contact waits for the registry.
	registryWait = 15 * time.Second

	// keyPoll is how often the TLS files are looked at for changes, sweepEvery how often open connections are judged
	// anew without other cause (certificates and CRLs expire).
	keyPoll    = 5 * time.Second
	sweepEvery = 5 * time.Second
)
