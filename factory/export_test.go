package factory

// WatchExpiries has the log tell of what ends, as Run does now and then.
func (s *Service) WatchExpiries() { s.watchExpiries() }

// What the client's tests ask.
var (
	ProxyFunc    = proxyFunc
	PauseBefore  = pauseBefore
	RetryAfterOf = retryAfterOf
)

// IssuerID is the name of a CA in the store.
var IssuerID = issuerID
