package gateway

import (
	"fmt"
	"syscall"

	"github.com/hanaper/hanaper/internal/advice"
)

// keptBack are the descriptors that are left to trust, registry, admin and log.
const keptBack = 128

// descriptors holds the limits against the number of files that this process may open (RLIMIT_NOFILE). Connections that the configuration does
// not number are as many as fit.
func (s *Settings) descriptors(may uint64) error {
	l := &s.limits
	if s.connectionsByDefault {
		l.Connections = min(defaultConnections, int(min(may, 1<<30))-l.Upstream-keptBack)
	}
	if need := l.Connections + l.Upstream + keptBack; l.Connections < 1 || uint64(need) > may {
		return advice.New(advice.Usage, fmt.Sprintf("let it open %d (LimitNOFILE in its systemd unit, or `ulimit -n`), or lower limits.connections or limits.upstream_connections", max(need, l.Upstream+keptBack+1)),
			"this process may have %d files open: too few for limits.connections %d and limits.upstream_connections %d", may, l.Connections, l.Upstream)
	}
	return nil
}

// checkDescriptors asks the system; Go has raised the soft limit to the hard one at the start.
func (s *Settings) checkDescriptors() error {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return err
	}
	return s.descriptors(r.Cur)
}
