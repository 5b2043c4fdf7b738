package route

import "time"

// Every bound of this package.
const (
	// maxPath bounds a route's path, in bytes; maxRoutes the routes, maxAddresses the addresses of an upstream.
	maxPath      = 256
	maxRoutes    = 64
	maxAddresses = 16
	// maxDecoded is how often a path may be decoded until nothing changes any more.
	maxDecoded = 3
	// maxResponseHead bounds an upstream's status line and header, in bytes; maxInterim its interim responses (1xx) to one request.
	maxResponseHead = 256 << 10
	maxInterim      = 8
	// idleFor is how long a connection that nobody uses is kept.
	idleFor = 90 * time.Second
	// dialWait bounds connecting and the TLS handshake; dialWaitOfMany where there is another address to try.
	dialWait       = 10 * time.Second
	dialWaitOfMany = 3 * time.Second
	// downFor is how long an address is passed over after it could not be reached; it doubles up to downAtMost.
	downFor    = time.Second
	downAtMost = 30 * time.Second
	// lastWords is how long an upstream that takes no more of a body may take to say why.
	lastWords = 2 * time.Second
	// linger is how long a device that is still sending has to read an answer that came early.
	linger = 500 * time.Millisecond
	// copySize is the buffer for a body on its way, in bytes.
	copySize = 32 << 10
	// maxTraceState bounds a tracestate in bytes and members (W3C Trace Context, section 3.3.1).
	maxTraceState   = 512
	maxTraceMembers = 32
)
