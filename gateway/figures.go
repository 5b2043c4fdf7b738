package gateway

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// figures count what the gateway does. Only what is proven is counted as a device's: refusals in the handshake come before
// the proof of the key, and are counted apart.
type figures struct {
	handshakes, resumed, requests, firstContacts atomic.Int64
	upstreamErrors, closed, connections          atomic.Int64
	renewalErrors, shared, unrouted              atomic.Int64
	refusedHandshake, refusedRequest             map[Reason]*atomic.Int64
	started                                      time.Time
}

func newFigures(now time.Time) *figures {
	f := &figures{refusedHandshake: map[Reason]*atomic.Int64{}, refusedRequest: map[Reason]*atomic.Int64{}, started: now}
	for _, r := range Reasons() {
		f.refusedHandshake[r], f.refusedRequest[r] = new(atomic.Int64), new(atomic.Int64)
	}
	return f
}

// write prints the figures in the Prometheus text format.
func (f *figures) write(w io.Writer) {
	counter := func(name, help string, v int64) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s counter\n%s %d\n", name, help, name, name, v)
	}
	counter("hanaper_gateway_handshakes_total", "Connections whose device was admitted and proved its key.", f.handshakes.Load())
	counter("hanaper_gateway_resumed_total", "Those of them that resumed a session.", f.resumed.Load())
	counter("hanaper_gateway_first_contacts_total", "Devices met for the first time.", f.firstContacts.Load())
	counter("hanaper_gateway_requests_total", "Requests of admitted devices.", f.requests.Load())
	counter("hanaper_gateway_upstream_errors_total", "Requests that the upstream did not answer.", f.upstreamErrors.Load())
	counter("hanaper_gateway_unrouted_total", "Requests of admitted devices that were refused for their path, or another fault of form, or that have no route.", f.unrouted.Load())
	counter("hanaper_gateway_renewal_errors_total", "Renewals that hanaperd did not answer, or refused to this gateway.", f.renewalErrors.Load())
	counter("hanaper_gateway_shared_credential_requests_total", "Test benches that came with a shared credential: none in production.", f.shared.Load())
	counter("hanaper_gateway_closed_total", "Open connections closed because their device lost admission.", f.closed.Load())
	fmt.Fprintf(w, "# HELP hanaper_gateway_connections Open connections.\n# TYPE hanaper_gateway_connections gauge\nhanaper_gateway_connections %d\n", f.connections.Load())
	fmt.Fprint(w, "# HELP hanaper_gateway_refused_total Refusals; in the handshake the key has not been proven.\n# TYPE hanaper_gateway_refused_total counter\n")
	for _, r := range Reasons()[1:] {
		fmt.Fprintf(w, "hanaper_gateway_refused_total{reason=%q,stage=\"handshake\"} %d\n", string(r), f.refusedHandshake[r].Load())
		fmt.Fprintf(w, "hanaper_gateway_refused_total{reason=%q,stage=\"request\"} %d\n", string(r), f.refusedRequest[r].Load())
	}
}
