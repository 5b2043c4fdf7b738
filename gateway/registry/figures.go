package registry

import (
	"errors"
	"sync/atomic"

	"github.com/hanaper/hanaper/gateway"
)

// figures count what the registry does.
type figures struct {
	known, fresh, renewed, rekeyed, unchanged, refused, failedMeets, failed atomic.Int64
}

func (f *figures) count(met gateway.Met, err error) {
	switch {
	case errors.Is(err, gateway.ErrBlocked), errors.Is(err, gateway.ErrRetired), errors.Is(err, gateway.ErrNotRegistered), errors.Is(err, gateway.ErrOldKey), errors.Is(err, gateway.ErrOtherKey):
		f.refused.Add(1)
	case err != nil:
		f.failedMeets.Add(1)
	case met.New:
		f.fresh.Add(1)
	case met.Rekeyed:
		f.rekeyed.Add(1)
	case met.Renewed:
		f.renewed.Add(1)
	default:
		f.unchanged.Add(1)
	}
}

// Figures implements gateway.Registry.
func (r *Registry) Figures() gateway.RegistryFigures {
	f := &r.figures
	return gateway.RegistryFigures{
		Meets: map[string]int64{"remembered": f.known.Load(), "new": f.fresh.Load(), "renewed": f.renewed.Load(), "rekeyed": f.rekeyed.Load(),
			"unchanged": f.unchanged.Load(), "refused": f.refused.Load(), "failed": f.failedMeets.Load()},
		WritesFailed: f.failed.Load(), Blind: r.Blind(), LastAct: r.memory.number.Load(),
	}
}
