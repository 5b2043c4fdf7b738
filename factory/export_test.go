package factory

// WatchExpiries has the log tell of what ends, as Run does now and then.
func (s *Service) WatchExpiries() { s.watchExpiries() }
