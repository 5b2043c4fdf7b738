package gateway

import (
	"encoding/json"
	"net/http"
)

// adminHandler answers health checks and gives figures; it listens on a loopback address.
func (g *Gateway) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h, status := g.Health(), http.StatusOK
		if h.Status == "failing" {
			status = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(h)
	})
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		g.figures.write(w)
		g.writeHealth(w)
		g.writeRegistry(r.Context(), w)
	})
	return mux
}
