package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// adminHandler answers health checks and gives figures; it listens on a loopback address.
func (g *Gateway) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		status, body := http.StatusOK, map[string]any{"status": "ok", "environment": g.settings.environment}
		if err := g.health(body); err != nil {
			status, body["status"], body["error"] = http.StatusServiceUnavailable, "failing", err.Error()
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		g.figures.write(w)
		if now := g.judge.Load(); now != nil {
			fmt.Fprintf(w, "# HELP hanaper_gateway_trust_expires_seconds When the trust view expires, Unix time.\n# TYPE hanaper_gateway_trust_expires_seconds gauge\nhanaper_gateway_trust_expires_seconds %d\n",
				now.judge.view.Expires().Unix())
		}
	})
	return mux
}

// health adds what it knows to about and says why the gateway admits nobody, if so.
func (g *Gateway) health(about map[string]any) error {
	now := g.judge.Load()
	if now == nil {
		return fmt.Errorf("%s", NoTrust.Text())
	}
	view := now.judge.view
	about["trust_expires"] = view.Expires().UTC().Format(time.RFC3339)
	about["trust_fingerprint"] = fmt.Sprintf("%x", view.Fingerprint())
	if err := g.registry.Err(); err != nil {
		return err
	}
	return view.Valid(g.now())
}
