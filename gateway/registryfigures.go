package gateway

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

const (
	// countTime bounds the questions of one look at the figures.
	countTime = 3 * time.Second
	// blindNote is from when on health says that acts of others are not seen.
	blindNote = 5 * time.Second
)

// writeRegistry prints the registry's figures in the Prometheus text format. Where the database does not answer there are no numbers of devices: an old
// number would look like a new one.
func (g *Gateway) writeRegistry(ctx context.Context, w io.Writer) {
	head := func(name, kind, help string) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	f := g.registry.Figures()
	head("hanaper_gateway_registry_meets_total", "counter", "First requests of connections, by what the registry made of them.")
	for _, result := range slices.Sorted(maps.Keys(f.Meets)) {
		fmt.Fprintf(w, "hanaper_gateway_registry_meets_total{result=%s} %d\n", quoteLabel(result), f.Meets[result])
	}
	head("hanaper_gateway_registry_write_failures_total", "counter", "Transactions of the registry that failed.")
	fmt.Fprintf(w, "hanaper_gateway_registry_write_failures_total %d\n", f.WritesFailed)
	head("hanaper_gateway_registry_blind_seconds", "gauge", "For how long acts of others were not seen.")
	fmt.Fprintf(w, "hanaper_gateway_registry_blind_seconds %.3f\n", f.Blind.Seconds())
	head("hanaper_gateway_registry_last_act", "gauge", "Number of the last act that this gateway has seen.")
	fmt.Fprintf(w, "hanaper_gateway_registry_last_act %d\n", f.LastAct)
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	counts, err := g.registry.Counts(ctx)
	if err != nil {
		return
	}
	head("hanaper_gateway_registry_devices", "gauge", "Devices by environment and state; of the whole registry, however many gateways share it.")
	for _, c := range counts {
		if c.State != "" {
			fmt.Fprintf(w, "hanaper_gateway_registry_devices{environment=%s,state=%s} %d\n", quoteLabel(c.Environment), quoteLabel(string(c.State)), c.N)
		}
	}
	head("hanaper_gateway_registry_flagged", "gauge", "Devices that an operator should look at, by environment and flag; of the whole registry.")
	for _, c := range counts {
		if c.Flag != "" {
			fmt.Fprintf(w, "hanaper_gateway_registry_flagged{environment=%s,flag=%s} %d\n", quoteLabel(c.Environment), quoteLabel(c.Flag), c.N)
		}
	}
}
