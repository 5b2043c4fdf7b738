package factory

import "time"

// Every bound in one place. Sizes are in bytes.
const (
	// maxEnrollBody holds the JSON of one enrolment: an RSA-4096 request is 1.7 kB in PEM.
	maxEnrollBody = 32 << 10
	// maxBatchLines bounds the lines of one batch, each as long as maxEnrollBody at most.
	maxBatchLines = 10000
	// batchWidth is how many lines of one batch are in work at the same time: enough to share the store's commits and use every session of a token.
	batchWidth = 64
	// flushAt is how many bytes of answers are written together.
	flushAt = 64 << 10
	// maxRevokeBody holds the JSON of one revocation.
	maxRevokeBody = 4 << 10
	// maxTakeInBody holds the JSON of a few thousand certificates.
	maxTakeInBody = 4 << 20
	// maxOrderBody holds a signed order with its list of ids; maxActBody what an operator does to devices.
	maxOrderBody = 8 << 20
	maxActBody   = 8 << 10
	// maxPage is the longest page of a list of lots or devices, usualPage the length where none is asked for.
	maxPage, usualPage = 1000, 100
	// maxLotsKept bounds the lots that are remembered without asking the store.
	maxLotsKept = 4096
	// maxNote bounds what an operator writes beside an acceptance.
	maxNote = 1000
	// maxAnswer is what a client reads of an answer; the largest is a CRL.
	maxAnswer = 256 << 20
	// maxWord bounds hardware ids and lots, in bytes.
	maxWord = 64
	// maxHeader bounds a request's header.
	maxHeader = 16 << 10
	// maxPEM bounds certificate and CRL files read at start.
	maxPEM = 64 << 20
	// maxKept is how many entries a revocation list may have that is kept in memory as it was read: each takes about 250 bytes.
	maxKept = 300_000

	// requestTime is how long one request may take, from its first byte to the answer, waiting included.
	requestTime = 30 * time.Second
	headerTime  = 10 * time.Second
	// lingerTime is how long a connection that was ended in the middle of a body is kept for its caller to read why.
	lingerTime = time.Second
	idleTime   = 2 * time.Minute
	// retryAfter is what a caller is told to wait when the token or the store is away.
	retryAfter = 5 * time.Second
	// longestWait is the longest pause of a caller who waits by its own clock, longestRetryAfter the longest that it lets itself be told.
	longestWait       = 30 * time.Second
	longestRetryAfter = 5 * time.Minute
	// dialTime is how long a caller waits for a connection.
	dialTime = 10 * time.Second
	// failover is how long a token may take for a signature where another one can take its place.
	failover = 5 * time.Second
	// leastDays is how long a device's certificate lasts at least, where neither minimum_days nor days says less.
	leastDays = 365
	// backdate is how far before the moment of signing a device's certificate begins, for devices whose clock is slow.
	backdate = 5 * time.Minute
)

// lineTime is how long a batch waits for one line of its caller, and for its caller to read; batchTime is how long it may take in all. Tests
// set them.
var (
	lineTime  = 30 * time.Second
	batchTime = 10 * time.Minute
)
