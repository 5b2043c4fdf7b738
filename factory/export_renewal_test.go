package factory

import "context"

// EndSuperseded is one look of keepSuperseded.
func (s *Service) EndSuperseded(ctx context.Context) error { return s.endSuperseded(ctx) }
